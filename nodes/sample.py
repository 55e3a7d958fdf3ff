"""LLIA Sample: the recipe of a video."""

from __future__ import annotations

from comfy_api.latest import io

from ..llia_core.photoreal import GUIDANCE
from ..llia_core.stream import Stream, label_states
from .types import LliaModel, LliaPortrait, LliaSpeech, LliaStates, LliaStream, llia_schema

CARRY, FRESH = "carry over", "fresh"


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_Sample",
            display_name="LLIA Sample",
            description="Joins model, portrait, speech and states to a stream. Nothing is computed here: frames are "
            "sampled when LLIA Streaming Preview or LLIA Save Stream reads it, and leave as soon as they are made.",
            search_aliases=["talking head", "lip sync", "animate portrait", "avatar video", "sampler"],
            inputs=[
                LliaModel.Input("model", tooltip="From LLIA Load Model."),
                LliaPortrait.Input("portrait", tooltip="From LLIA Portrait."),
                LliaSpeech.Input("speech", tooltip="From LLIA Encode Audio, with the same model."),
                LliaStates.Input(
                    "states", optional=True, tooltip="From LLIA Label States. Without: speaking or idle, by the sound."
                ),
                *_settings(),
                *_chunks(),
            ],
            outputs=[LliaStream.Output("stream", tooltip="For LLIA Streaming Preview and LLIA Save Stream.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        portrait,
        speech,
        steps,
        seed,
        first_chunk,
        largest_chunk,
        continuity,
        behaviour,
        states=None,
        guidance=GUIDANCE,
    ) -> io.NodeOutput:
        stream = Stream(
            model,
            portrait,
            speech,
            states or label_states(speech.samples),
            steps=steps,
            seed=seed,
            first=first_chunk,
            largest=largest_chunk,
            behaviour=behaviour,
            carry=continuity == CARRY,
            guidance=guidance,
        )
        return io.NodeOutput(stream)


def _settings() -> list[io.Input]:
    return [
        io.Int.Input(
            "steps",
            default=1,
            min=1,
            max=50,
            tooltip="Denoising steps. The bundled model needs 1. Photoreal models: 8 to 12, distilled ones 1 to 8.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**32 - 1,
            control_after_generate=True,
            tooltip="Noise, and when the avatar blinks, nods and looks away.",
        ),
        io.Float.Input(
            "behaviour",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            display_mode=io.NumberDisplay.slider,
            tooltip="Blinks, gaze, nods and head motion: 0 still, 1 natural.",
        ),
    ]


def _chunks() -> list[io.Input]:
    return [
        io.Int.Input(
            "first_chunk",
            default=2,
            min=1,
            max=64,
            tooltip="Frames made before the first picture is shown: few for a quick start.",
        ),
        io.Int.Input(
            "largest_chunk",
            default=16,
            min=1,
            max=64,
            tooltip="Frames made at once later on: many for speed, few for a quick Cancel.",
        ),
        io.Combo.Input(
            "continuity",
            options=[CARRY, FRESH],
            default=CARRY,
            tooltip="carry over: each chunk remembers the frames before it, so that chunk sizes change nothing. fresh: "
            "each begins anew, which shows where they join.",
        ),
        io.Float.Input(
            "guidance",
            default=GUIDANCE,
            min=1.0,
            max=10.0,
            step=0.1,
            optional=True,
            tooltip="Photoreal models that are not distilled: how closely voice and portrait are followed. 1: half the "
            "work, less likeness.",
        ),
    ]
