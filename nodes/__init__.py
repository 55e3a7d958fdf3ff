"""The pack as ComfyUI sees it."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from .avatar import Avatar
from .demo_speech import DemoSpeech
from .edit_expression import EditExpression
from .encode_audio import EncodeAudio
from .expression_live import register_expression_routes
from .label_states import LabelStates
from .live import register_routes
from .load_model import LoadModel, register_folder
from .portrait import Portrait
from .sample import Sample
from .save_stream import SaveStream
from .streaming_preview import StreamingPreview


class LLIAExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadModel,
            EncodeAudio,
            DemoSpeech,
            Avatar,
            EditExpression,
            Portrait,
            LabelStates,
            Sample,
            StreamingPreview,
            SaveStream,
        ]


async def comfy_entrypoint() -> LLIAExtension:
    # Here, since ComfyExtension.on_load is called by no ComfyUI up to 0.8.
    register_folder()
    register_routes(PromptServer.instance.routes)
    register_expression_routes(PromptServer.instance.routes)
    return LLIAExtension()
