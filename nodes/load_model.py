"""LLIA Load Model: the bundled model, or a checkpoint in models/llia."""

from __future__ import annotations

import os

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io

from ..llia_core.model.load import load_model
from .types import LliaModel, llia_schema

FOLDER = "llia"  # in ComfyUI's models folder
BUNDLED = "llia-tiny (bundled)"
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def register_folder() -> None:
    """Make models/llia known to ComfyUI; the folder itself need not exist."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    folder_paths.folder_names_and_paths[FOLDER][1].add(".safetensors")


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_LoadModel",
            display_name="LLIA Load Model",
            description="The avatar model: the small one that comes with this pack, or a checkpoint in models/llia.",
            search_aliases=["avatar model", "talking head model", "lip sync model", "checkpoint"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[BUNDLED, *folder_paths.get_filename_list(FOLDER)],
                    default=BUNDLED,
                    tooltip="The bundled model runs in real time on a CPU. Files in ComfyUI's models/llia follow it.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="float32",
                    tooltip="float32 is right for the bundled model. The others suit GPUs; a CPU is slower with them.",
                ),
                io.Combo.Input(
                    "device",
                    options=["default", "cpu"],
                    default="default",
                    tooltip="default: the device that ComfyUI uses.",
                ),
            ],
            outputs=[
                LliaModel.Output("llia_model", display_name="model", tooltip="For LLIA Encode Audio and LLIA Sample.")
            ],
        )

    @classmethod
    def execute(cls, model, precision, device) -> io.NodeOutput:
        path = None if model == BUNDLED else folder_paths.get_full_path_or_raise(FOLDER, model)
        target = torch.device("cpu") if device == "cpu" else comfy.model_management.get_torch_device()
        return io.NodeOutput(load_model(path, target).to(PRECISIONS[precision]))
