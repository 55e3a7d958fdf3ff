"""LLIA Avatar: a new face from a seed."""

from __future__ import annotations

from comfy_api.latest import io

from ..llia_core.drawn_portrait import CHOICES, MAX_SIZE, MIN_SIZE, RANDOM, Look, draw_portrait
from .types import image_from_picture, llia_schema

SLIDERS = {  # name: (default, tooltip)
    "face": (0.0, "-1 masculine, 1 feminine; 0 leaves it to the seed."),
    "age": (0.0, "-1 young, 1 old; 0 leaves it to the seed."),
    "skin": (0.0, "-1 light, 1 dark; 0 leaves it to the seed. Hair and eyes go with it."),
    "smile": (0.2, "-1 corners of the mouth down, 1 broad smile."),
}
TOOLTIPS = {
    "hair": "Hair style.",
    "hair_colour": "Hair colour.",
    "eyes": "Colour of the eyes.",
    "glasses": "Shape of the glasses.",
    "beard": "Beard, on any face.",
    "clothes": "Colour of the clothes.",
    "background": "Background. Green screen is one plain green.",
}


class Avatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return llia_schema(
            node_id="LLIA_Avatar",
            display_name="LLIA Avatar",
            description="Draws a new person, so that nobody's picture is needed. The seed decides all that is left at "
            "0 or random.",
            search_aliases=["avatar", "face generator", "portrait generator", "character", "random face", "person"],
            inputs=[
                io.Int.Input(
                    "seed", default=7, min=0, max=2**32 - 1, control_after_generate=False, tooltip="Who it is."
                ),
                *(_slider(name, *about) for name, about in SLIDERS.items()),
                *(
                    io.Combo.Input(
                        name,
                        options=[RANDOM, *choices],
                        default=RANDOM,
                        tooltip=f"{TOOLTIPS[name]} Random leaves it to the seed.",
                    )
                    for name, choices in CHOICES.items()
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=MIN_SIZE,
                    max=MAX_SIZE,
                    step=64,
                    tooltip="Width and height of the picture, pixels.",
                ),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The portrait, for LLIA Portrait.")],
        )

    @classmethod
    def execute(cls, seed, size, **look) -> io.NodeOutput:
        return io.NodeOutput(image_from_picture(draw_portrait(seed, Look(**look), size)))


def _slider(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=-1.0,
        max=1.0,
        step=0.05,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
    )
