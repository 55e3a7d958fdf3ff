"""LLIA Edit Expression: a face moved to another expression, seen while its sliders are dragged."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..llia_core.edit_face import edit_face
from ..llia_core.expression import RANGES, TEMPLATES, Expression, add_expressions
from .expression_live import FACES
from .types import llia_schema

TOOLTIPS = {
    "smile": "Below 0: corners of the mouth down.",
    "jaw": "Opens the mouth. For stills: in a video the voice moves the jaw, and LLIA Portrait closes the mouth first.",
    "press": "Lips pressed together.",
    "pucker": "Lips as for a kiss.",
    "brow_raise": "Brows up; below 0 down.",
    "brow_furrow": "Brows drawn together.",
    "blink_left": "Closes the person's left eye, the picture's right; below 0 opens it wide.",
    "blink_right": "Closes the person's right eye, the picture's left; below 0 opens it wide.",
    "gaze_x": "Looks to the picture's right; below 0 to its left.",
    "gaze_y": "Looks down; below 0 up.",
    "yaw": "Turns the head, degrees: to the picture's right.",
    "pitch": "Turns the head, degrees: down.",
    "roll": "Tilts the head, degrees: clockwise.",
}


class EditExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_EditExpression",
            display_name="LLIA Edit Expression",
            description="Moves the largest face of a picture: smile, gaze, brows, head. The node shows it while a "
            "slider is dragged. With all sliders at 0 the picture passes unchanged.",
            search_aliases=["expression editor", "facial expression", "smile", "gaze", "head pose", "live portrait"],
            inputs=[
                io.Image.Input("image", tooltip="A picture with a face: photograph, painting, drawing or LLIA Avatar."),
                io.Combo.Input(
                    "template",
                    options=list(TEMPLATES),
                    default="neutral",
                    tooltip="An expression to begin with; the sliders add to it.",
                ),
                *(_slider(name, *limits) for name, limits in RANGES.items()),
            ],
            outputs=[io.Image.Output("edited", display_name="image", tooltip="The same picture, its face edited.")],
            is_output_node=True,  # it shows a picture: also when nothing is connected, and when nothing has changed
        )

    @classmethod
    def execute(cls, image, template, **sliders) -> io.NodeOutput:
        expression = add_expressions(TEMPLATES[template], Expression(**sliders))
        result = image
        if not expression.is_zero:
            result = image.clone()
            for index, picture in enumerate(image):
                landmarks = FACES.landmarks(_picture(picture))
                edited = edit_face(_picture(picture), landmarks, expression)
                result[index, :, :, :3] = ((edited + 1) / 2).permute(1, 2, 0).to(result)
        # With this the canvas can ask for previews where it cannot tell where the picture comes from.
        return io.NodeOutput(result, ui={"llia_face": [FACES.keep(_picture(image[0]))]})


def _picture(image: torch.Tensor) -> torch.Tensor:
    """(H, W, 3 or 4) in [0, 1] -> (3, H, W) in [-1, 1]."""
    return (image[:, :, :3].permute(2, 0, 1).float().cpu() * 2 - 1).clamp(-1, 1)


def _slider(name: str, low: float, high: float) -> io.Input:
    return io.Float.Input(
        name,
        default=0.0,
        min=low,
        max=high,
        step=0.5 if high > 1 else 0.02,
        display_mode=io.NumberDisplay.slider,
        tooltip=TOOLTIPS[name],
    )
