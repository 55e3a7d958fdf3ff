"""Loads the node pack from its folder, as ComfyUI loads a folder in custom_nodes."""

import asyncio
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .core_nodes import NODES
from .shims import install
from .shims.io import ComfyNode

FOLDER = Path(__file__).resolve().parent.parent
NAME = "llia"  # the folder's name in custom_nodes, which addresses on the server contain


@dataclass(frozen=True)
class Pack:
    """The loaded pack.

    Attributes:
        nodes: id -> class, those of this host's core included.
        web: folder of the canvas extension.
    """

    folder: Path
    name: str
    module: ModuleType
    nodes: dict[str, type[ComfyNode]]
    web: Path

    def info(self, node_id: str) -> dict:
        """The node's entry in /object_info."""
        node = self.nodes[node_id]
        ours = f"{node.__module__}.".startswith(f"{self.module.__name__}.")
        return node.GET_SCHEMA().info(f"custom_nodes.{self.name}" if ours else "nodes")


def load_pack(folder: Path = FOLDER) -> Pack:
    """Imports the folder as a package under a name made of its path, so that only relative imports work in it.

    A server.PromptServer must exist: the pack adds its routes while it loads.

    Raises:
        RuntimeError: ComfyUI is installed here (then it must run the pack), or the pack has no entry point.
    """
    install()
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "comfy_entrypoint"):
        raise RuntimeError(f"{folder / '__init__.py'} has no comfy_entrypoint")
    classes = asyncio.run(_node_list(module))
    nodes = {cls.GET_SCHEMA().node_id: cls for cls in [*NODES, *classes]}
    return Pack(folder, NAME, module, nodes, (folder / getattr(module, "WEB_DIRECTORY", "web")).resolve())


async def _node_list(module: ModuleType) -> list[type[ComfyNode]]:
    extension = module.comfy_entrypoint()
    if asyncio.iscoroutine(extension):
        extension = await extension
    return await extension.get_node_list()
