"""A new face from a seed, for when no picture is at hand: the painter of training/synth with the sliders a user wants.

A seed draws a whole person. Sliders pull a feature from where the seed has put it towards one end; choices replace it.
What is left alone stays the seed's, so that a person can be changed one feature at a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

RANDOM = "random"
HAIR_COLOURS = {
    "black": (0.08, 0.07, 0.08), "dark brown": (0.17, 0.11, 0.08), "brown": (0.34, 0.21, 0.13),
    "auburn": (0.45, 0.20, 0.11), "red": (0.64, 0.30, 0.13), "blond": (0.80, 0.64, 0.40), "grey": (0.55, 0.55, 0.57),
    "white": (0.84, 0.84, 0.85), "pink": (0.85, 0.45, 0.60), "blue": (0.35, 0.50, 0.80),
}  # fmt: skip
EYE_COLOURS = {
    "dark brown": (0.24, 0.13, 0.07), "brown": (0.40, 0.23, 0.11), "amber": (0.54, 0.35, 0.13),
    "green": (0.33, 0.48, 0.26), "blue": (0.28, 0.50, 0.70), "grey": (0.46, 0.54, 0.60),
}  # fmt: skip
CLOTHES = {
    "white": (0.93, 0.92, 0.90), "black": (0.14, 0.15, 0.18), "grey": (0.40, 0.42, 0.46), "navy": (0.20, 0.32, 0.52),
    "teal": (0.16, 0.45, 0.58), "green": (0.30, 0.52, 0.45), "yellow": (0.92, 0.70, 0.30), "red": (0.78, 0.30, 0.27),
    "pink": (0.88, 0.60, 0.58), "purple": (0.55, 0.36, 0.56), "brown": (0.62, 0.48, 0.36),
}  # fmt: skip
BACKGROUNDS = {  # two ends of a gradient
    "sky": ((0.64, 0.82, 0.93), (0.32, 0.52, 0.80)), "mint": ((0.74, 0.90, 0.82), (0.28, 0.60, 0.60)),
    "sand": ((0.95, 0.90, 0.82), (0.80, 0.68, 0.56)), "lavender": ((0.82, 0.76, 0.94), (0.48, 0.42, 0.74)),
    "peach": ((0.98, 0.78, 0.58), (0.93, 0.50, 0.48)), "rose": ((0.98, 0.80, 0.82), (0.80, 0.46, 0.60)),
    "dusk": ((0.55, 0.72, 0.98), (0.96, 0.72, 0.80)), "forest": ((0.30, 0.52, 0.50), (0.10, 0.24, 0.30)),
    "slate": ((0.38, 0.43, 0.53), (0.16, 0.19, 0.28)), "grey": ((0.92, 0.94, 0.96), (0.70, 0.76, 0.82)),
    "white": ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), "green screen": ((0.0, 0.69, 0.25), (0.0, 0.69, 0.25)),
}  # fmt: skip
HAIR = ("bald", "buzz", "short", "side_part", "quiff", "curly", "afro", "bob", "fringe", "wavy", "long_straight", "bun")
GLASSES = ("none", "round", "square", "fine", "bold")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
CHOICES = {
    "hair": tuple(name.replace("_", " ") for name in HAIR), "hair_colour": tuple(HAIR_COLOURS),
    "eyes": tuple(EYE_COLOURS), "glasses": GLASSES, "beard": BEARDS, "clothes": tuple(CLOTHES),
    "background": tuple(BACKGROUNDS),
}  # fmt: skip
PULLS = {"face": "feminine", "age": "age", "skin": "skin"}  # slider: the painter's parameter
MIN_SIZE, MAX_SIZE = 128, 1024
# Ranges of the painter's parameters that flatter: training draws from wider ones (blue skin, paint strokes, tinted
# lenses, very strong folds), a person who is shown to friends does not.
FLATTERING = {
    "fantasy": (0.1, 1.0), "painterly": (0.3, 1.0), "age": (0.0, 0.82), "shading": (0.15, 1.0), "texture": (0.0, 0.6),
    "light_x": (0.1, 0.9), "blush": (0.0, 0.7), "eye_open": (0.3, 1.0), "nose_width": (0.0, 0.8),
    "hair_dye": (0.03, 1.0), "light_warmth": (0.15, 0.9), "head_x": (0.3, 0.7), "head_y": (0.3, 0.7),
}  # fmt: skip
FRAMES = ((0.10, 0.10, 0.12), (0.32, 0.19, 0.12), (0.20, 0.25, 0.40), (0.50, 0.16, 0.20), (0.36, 0.37, 0.40))


@dataclass(frozen=True)
class Look:
    """Sliders: face (-1 masculine to 1 feminine), age (young to old), skin (light to dark), each -1 to 1, 0 leaves it
    to the seed; smile -1 to 1. Choices: one of CHOICES[name], or "random". Raises ValueError otherwise."""

    face: float = 0.0
    age: float = 0.0
    skin: float = 0.0
    smile: float = 0.2
    hair: str = RANDOM
    hair_colour: str = RANDOM
    eyes: str = RANDOM
    glasses: str = RANDOM
    beard: str = RANDOM
    clothes: str = RANDOM
    background: str = RANDOM

    def __post_init__(self) -> None:
        for name in (*PULLS, "smile"):
            value = getattr(self, name)
            if not -1 <= value <= 1:
                raise ValueError(f"avatar slider {name} is {value}, expected -1 to 1")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value != RANDOM and value not in choices:
                raise ValueError(f"avatar has no {name} {value!r}; there are: {RANDOM}, {', '.join(choices)}")


def draw_portrait(seed: int, look: Look | None = None, size: int = 512) -> Tensor:
    """A portrait (3, size, size) in [-1, 1]; the same seed, look and size give the same picture on one machine.

    seed: any integer from 0 to 2^64 - 1. size: 128 to 1024. Raises ValueError.
    """
    from .training.synth.portrait import ANIMATION, render

    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"avatar size is {size}, expected {MIN_SIZE} to {MAX_SIZE} pixels")
    if not 0 <= seed < 2**64:
        raise ValueError(f"avatar seed is {seed}, expected 0 to 2^64 - 1")
    look = look or Look()
    animation = torch.zeros(1, len(ANIMATION))
    animation[0, ANIMATION.index("smile")] = look.smile
    animation[0, ANIMATION.index("press")] = 0.1
    return render(_person(seed, look), animation, size=size)[0]


def _person(seed: int, look: Look):
    """The Identities row of a seed under a look."""
    from .training.synth.portrait import RAW, portrait_from_sliders

    generator = torch.Generator().manual_seed(seed)
    raw = dict(zip(RAW, torch.rand(len(RAW), generator=generator).tolist(), strict=True))
    frame = FRAMES[int(raw["glasses_colour"] * 0.999 * len(FRAMES))]
    for name, (low, high) in FLATTERING.items():
        raw[name] = low + (high - low) * raw[name]
    for slider, name in PULLS.items():
        pull = getattr(look, slider)
        raw[name] += pull * ((1 - raw[name]) if pull > 0 else raw[name])
    del raw["seed"]  # of the noise in hair and skin: drawn again from the same generator
    if look.hair != RANDOM:
        raw["hair_style"] = look.hair.replace(" ", "_")
    person = portrait_from_sliders(seed, **raw)
    person.frame_rgb.copy_(torch.tensor([frame]))
    person.tint.fill_(0)
    _set_hair(person, look)
    _set_glasses(person, look.glasses)
    _set_beard(person, look.beard)
    for colour, table in ((person.iris_rgb, EYE_COLOURS.get(look.eyes)), (person.cloth_rgb, CLOTHES.get(look.clothes))):
        if table is not None:
            colour.copy_(torch.tensor([table]))
    if look.background != RANDOM:
        first, second = BACKGROUNDS[look.background]
        person.back1_rgb.copy_(torch.tensor([first]))
        person.back2_rgb.copy_(torch.tensor([second]))
        person.glow.mul_(float(first != second))  # plain ones stay plain
    return person


def _set_hair(person, look: Look) -> None:
    if look.hair_colour == RANDOM:
        return
    hair = torch.tensor([HAIR_COLOURS[look.hair_colour]])
    person.hair_rgb.copy_(hair)
    person.hair_light_rgb.copy_(hair + (1 - hair) * torch.lerp(torch.tensor([0.22, 0.20, 0.18]), hair, 0.3))
    if look.hair_colour not in ("pink", "blue"):
        person.brow_rgb.copy_(torch.lerp(hair * 0.75, person.skin_rgb * 0.35, 0.30))


def _set_glasses(person, kind: str) -> None:
    if kind == RANDOM:
        return
    person.glasses.fill_(float(kind != "none"))
    power, thick = {"round": (2.0, 0.010), "square": (4.5, 0.011), "fine": (2.8, 0.006), "bold": (3.6, 0.017)}.get(
        kind, (2.0, 0.01)
    )
    person.glass_power.fill_(power)
    person.glass_thick.fill_(thick)


def _set_beard(person, kind: str) -> None:
    if kind == RANDOM:
        return
    person.stubble.fill_(0.7 * (kind == "stubble"))
    person.moustache.fill_(float(kind in ("moustache", "goatee", "full")))
    person.goatee.fill_(float(kind == "goatee"))
    person.beard.fill_(float(kind == "full"))
