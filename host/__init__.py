"""Embedded host: runs the node pack's workflows where ComfyUI is not installed.

ComfyUI stays the home of the nodes. This imitates just what our nodes, our workflows and ComfyUI's own web page use:
shims/ is the subset of ComfyUI's Python API, pack.py loads the nodes, workflow.py reads saved workflows, validation.py
and executor.py run them, server.py and its neighbours serve the real comfyui-frontend-package.

    python -m host serve                       # the canvas, at a loopback address
    python -m host run workflows/api/x.json    # one workflow, without a browser
"""
