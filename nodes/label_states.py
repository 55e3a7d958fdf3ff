"""LLIA Label States: who speaks and who listens when."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..llia_core.audio import to_mono_16k
from ..llia_core.stream import Speech, label_states
from ..llia_core.strip import draw_states
from ..llia_core.timeline import TimelineError, parse_timeline
from .types import LliaSpeech, LliaStates, image_from_frames, llia_schema, sound_from_audio


class LabelStates(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_LabelStates",
            display_name="LLIA Label States",
            description="Says for every frame whether the avatar speaks, listens or is idle: heard from the sound, "
            "or as told by a timeline. The states change gaze, nods, blinks and head motion, and keep the mouth shut "
            "while the other person talks.",
            search_aliases=["conversation", "dialogue", "listening", "idle", "voice activity", "timeline", "turns"],
            inputs=[
                io.MultiType.Input(
                    "speech",
                    types=[LliaSpeech, io.Audio],
                    tooltip="The avatar's own voice: from LLIA Encode Audio, or any AUDIO.",
                ),
                io.Audio.Input(
                    "other",
                    optional=True,
                    tooltip="The other person's voice, starting together with the avatar's: the avatar listens to it.",
                ),
                io.Boolean.Input(
                    "hear_other",
                    default=True,
                    tooltip="The other person's voice is heard in the video too. Off: the avatar's voice alone.",
                ),
                io.String.Input(
                    "timeline",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What is known, such as: 0-1.5 listening; 1.5-6 speaking; 6- idle. Seconds or mm:ss; the "
                    "sound decides where nothing is written.",
                ),
            ],
            outputs=[
                LliaStates.Output("states", tooltip="For LLIA Sample."),
                io.Image.Output("strip", tooltip="The states over time, with both voices."),
            ],
        )

    @classmethod
    def validate_inputs(cls, timeline="") -> bool | str:
        try:
            parse_timeline(timeline or "")
        except TimelineError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, speech, hear_other=True, other=None, timeline="") -> io.NodeOutput:
        samples = speech.samples if isinstance(speech, Speech) else to_mono_16k(*sound_from_audio(speech))
        theirs = None if other is None else sound_from_audio(other)
        theirs_16k = None if theirs is None else to_mono_16k(*theirs)
        states = label_states(samples, theirs_16k, parse_timeline(timeline or ""))
        strip = draw_states(states.labels, samples, theirs_16k)
        return io.NodeOutput(replace(states, heard=theirs if hear_other else None), image_from_frames(strip[None]))
