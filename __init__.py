"""LLIA for ComfyUI: avatars that speak while they are made. The nodes are in nodes/, all they do in llia_core/."""

try:
    import comfy_api.latest  # noqa: F401
except ImportError:
    pass  # not in ComfyUI: pytest imports this file too
else:
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
