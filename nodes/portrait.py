"""LLIA Portrait: a picture made ready to speak."""

from __future__ import annotations

from comfy_api.latest import io

from ..llia_core.face import face_mask
from ..llia_core.portrait import MAX_SIZE, MIN_SIZE, prepare_portrait
from .types import LliaPortrait, image_from_picture, llia_schema, picture_from_image


class Portrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_Portrait",
            display_name="LLIA Portrait",
            description="Finds the face, crops the picture round it and makes it ready to speak. An open mouth is "
            "closed first, since the voice shall move it.",
            search_aliases=["face crop", "face detect", "reference image", "portrait", "talking head"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="One person who looks at the viewer: photograph, painting, drawing or LLIA Avatar."
                ),
                io.Int.Input(
                    "size",
                    default=256,
                    min=MIN_SIZE,
                    max=MAX_SIZE,
                    step=2,
                    tooltip="Width and height of the video, pixels. 256 runs in real time on two CPU cores.",
                ),
                io.String.Input(
                    "face_box",
                    default="",
                    optional=True,
                    tooltip="Leave empty to find the face. Where none is found: x0, y0, x1, y1 in pixels of the "
                    "picture, from forehead to chin and from ear to ear.",
                ),
            ],
            outputs=[
                LliaPortrait.Output("llia_portrait", display_name="portrait", tooltip="For LLIA Sample."),
                io.Image.Output("crop", display_name="crop", tooltip="The picture as it will be animated."),
                io.Mask.Output("face_mask", display_name="face mask", tooltip="White where the face is in the crop."),
            ],
        )

    @classmethod
    def validate_inputs(cls, face_box="") -> bool | str:
        try:
            parse_box(face_box)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, image, size, face_box="") -> io.NodeOutput:
        portrait = prepare_portrait(picture_from_image(image), size, face_box=parse_box(face_box))
        mask = face_mask(portrait.landmarks, size, size)
        return io.NodeOutput(portrait, image_from_picture(portrait.image), mask[None])


def parse_box(text: str | None) -> tuple[float, float, float, float] | None:
    """ "x0, y0, x1, y1" -> four numbers; None for an empty text. Raises ValueError for anything else."""
    words = (text or "").replace(",", " ").split()
    if not words:
        return None
    try:
        x0, y0, x1, y1 = (float(word) for word in words)
    except ValueError:
        raise ValueError(f"The face box is {text!r}, expected x0, y0, x1, y1 in pixels, or nothing.") from None
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"The face box {text!r} is empty: x1 must be greater than x0, and y1 than y0.")
    return x0, y0, x1, y1
