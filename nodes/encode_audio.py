"""LLIA Encode Audio: a recording as the model hears it."""

from __future__ import annotations

from comfy_api.latest import io

from ..llia_core.stream import encode_speech
from .types import LliaModel, LliaSpeech, llia_schema, progress, sound_from_audio


class EncodeAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_EncodeAudio",
            display_name="LLIA Encode Audio",
            description="Encodes a voice (wav2vec 2.0 features, 25 a second). Changes further on encode nothing anew.",
            search_aliases=["wav2vec", "speech", "voice", "audio features"],
            inputs=[
                LliaModel.Input("model", tooltip="From LLIA Load Model; its speech encoder is used."),
                io.Audio.Input(
                    "audio", tooltip="The avatar's voice, any sample rate, mono or stereo, 0.02 s to hours."
                ),
            ],
            outputs=[
                LliaSpeech.Output("speech", tooltip="For LLIA Label States and LLIA Sample. Holds the sound too."),
                io.Int.Output("frames", tooltip="Frames of the video, 25 for a second of sound."),
            ],
        )

    @classmethod
    def execute(cls, model, audio) -> io.NodeOutput:
        speech = encode_speech(model, *sound_from_audio(audio), on_progress=progress())
        return io.NodeOutput(speech, speech.frames)
