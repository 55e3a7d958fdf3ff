"""The parts of ComfyUI's Python API that our nodes import, under ComfyUI's own module names."""

import importlib
import importlib.util
import sys
from types import ModuleType

# ComfyUI's module name -> ours. Names and behaviour follow ComfyUI 0.3.64 to 0.45.
MODULES = {
    "comfy.model_management": "model_management",
    "comfy.model_patcher": "model_patcher",
    "comfy.ops": "ops",
    "comfy.utils": "utils",
    "comfy_api.latest": "latest",
    "folder_paths": "folder_paths",
    "server": "server",
}


def install() -> None:
    """Makes `import comfy_api.latest` and the like find our modules. Safe to call twice.

    Raises:
        RuntimeError: ComfyUI itself can be imported; then it must run the nodes, not this host.
    """
    if hasattr(sys.modules.get("comfy_api"), "__llia_host__"):
        return
    if importlib.util.find_spec("comfy_api") is not None:
        raise RuntimeError(
            "ComfyUI's own comfy_api is importable here. Start ComfyUI instead of the embedded host, or run the host "
            "from an environment and folder without ComfyUI."
        )
    modules = {name: importlib.import_module(f".{ours}", __name__) for name, ours in MODULES.items()}
    for name in ("comfy", "comfy_api"):
        modules[name] = ModuleType(name, f"Package of the embedded host, in place of ComfyUI's {name}.")
        modules[name].__path__ = []
        modules[name].__llia_host__ = True
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, child = name.rpartition(".")
        if package:
            setattr(modules[package], child, module)
