"""LLIA Load Model: the bundled model, or a checkpoint or photoreal model in models/llia."""

from __future__ import annotations

import os
from pathlib import PurePath

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io

from ..llia_core.model.load import PRECISIONS, load_model
from ..llia_core.photoreal.model import PARTS
from .managed import load_managed
from .types import LliaModel, llia_schema

FOLDER = "llia"  # in ComfyUI's models folder
BUNDLED = "llia-tiny (bundled)"


def register_folder() -> None:
    """Make models/llia known to ComfyUI; the folder itself need not exist."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    folder_paths.folder_names_and_paths[FOLDER][1].add(".safetensors")


def model_names() -> list[str]:
    """Files in models/llia to choose from. A photoreal model is a folder: its model.safetensors stands for it."""
    files = [PurePath(name) for name in folder_paths.get_filename_list(FOLDER)]
    folders = {file.parent for file in files if file.name == PARTS["model"]} - {PurePath(".")}
    return [str(file) for file in files if file.parent not in folders or file.name == PARTS["model"]]


def model_path(name: str) -> str:
    """Path of a name of `model_names`; of a photoreal model, its folder. Raises FileNotFoundError."""
    path = folder_paths.get_full_path_or_raise(FOLDER, name)
    is_part = PurePath(name).name == PARTS["model"] and PurePath(name).parent != PurePath(".")
    return os.path.dirname(path) if is_part else path


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_LoadModel",
            display_name="LLIA Load Model",
            description="The avatar model: the small one that comes with this pack, a checkpoint in models/llia, or a "
            "photoreal model there, converted from open weights.",
            search_aliases=["avatar model", "talking head model", "lip sync model", "checkpoint"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[BUNDLED, *model_names()],
                    default=BUNDLED,
                    tooltip="The bundled model runs in real time on a CPU. What ComfyUI's models/llia holds follows.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="float32",
                    tooltip="float32 is right for the bundled model, float16 for photoreal models on a GPU. int8 is "
                    "fast: python -m llia_core quantize makes it.",
                ),
                io.Combo.Input(
                    "device",
                    options=["default", "cpu"],
                    default="default",
                    tooltip="default: the device that ComfyUI uses.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Photoreal models only: Stable Diffusion 1.5's VAE in the place of the model's own.",
                ),
            ],
            outputs=[
                LliaModel.Output("llia_model", display_name="model", tooltip="For LLIA Encode Audio and LLIA Sample.")
            ],
        )

    @classmethod
    def execute(cls, model, precision, device, vae=None) -> io.NodeOutput:
        path = None if model == BUNDLED else model_path(model)
        target = torch.device("cpu") if device == "cpu" else comfy.model_management.get_torch_device()
        if path is not None and os.path.isdir(path):
            return io.NodeOutput(load_managed(path, target, precision, vae))
        return io.NodeOutput(load_model(path, target, precision=precision))
