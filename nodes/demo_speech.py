"""LLIA Demo Speech: recordings that come with the pack, so that a workflow runs with no sound at hand."""

from __future__ import annotations

from comfy_api.latest import io

from ..llia_core.demo import RECORDINGS, read_recording
from .types import audio_from_sound, llia_schema


class DemoSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_DemoSpeech",
            display_name="LLIA Demo Speech",
            description="A synthetic voice that comes with this pack. Put Load Audio in its place for your own.",
            search_aliases=["example audio", "sample voice", "test speech"],
            inputs=[
                io.Combo.Input(
                    "recording",
                    options=list(RECORDINGS),
                    default=next(iter(RECORDINGS)),
                    tooltip="greeting: one person speaks. The two sides of the conversation fit each other in time.",
                ),
                io.Int.Input(
                    "repeat",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="How often it is said; for long videos. The greeting lasts 10 s: 360 times make an hour.",
                ),
            ],
            outputs=[io.Audio.Output("audio", tooltip="Sound, as Load Audio gives it.")],
        )

    @classmethod
    def execute(cls, recording, repeat=1) -> io.NodeOutput:
        waveform, rate = read_recording(recording)
        return io.NodeOutput(audio_from_sound(waveform.repeat(1, repeat), rate))
