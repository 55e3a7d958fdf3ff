"""Frames composed of the portrait's own pixels and what the model paints."""

from dataclasses import replace

import pytest
import torch

from llia_core.compose import Composer
from llia_core.media import read_image
from llia_core.model.load import BUNDLED
from llia_core.portrait import Portrait, prepare_portrait
from llia_core.warp import SLIDERS

STILL = torch.zeros(1, len(SLIDERS))


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare_portrait(read_image(BUNDLED.parent / "demo_portrait.png"), 192)


def parts(painted: float = 0.0) -> tuple[torch.Tensor, ...]:
    """No flow, nothing inside, and red painted over the middle of the region."""
    difference = torch.zeros(1, 3, 128, 128)
    difference[:, 0, 32:96, 32:96] = painted
    return torch.zeros(1, 2, 128, 128), torch.zeros(1, 1, 128, 128), difference


def test_where_nothing_moves_or_is_painted_the_portrait_itself_is_shown(portrait):
    frame = Composer(portrait, torch.zeros(3))(*parts(), STILL)[0]
    own = (portrait.image.permute(1, 2, 0) + 1) * 127.5
    assert (frame.float() - own).abs().max() <= 1


def test_what_is_painted_has_as_much_colour_as_the_face(portrait):
    grey = portrait.image.mean(0, keepdim=True).expand(3, -1, -1)
    drawing = replace(portrait, image=grey, region=portrait.region.mean(0, keepdim=True).expand(3, -1, -1))
    of_drawing = Composer(drawing, torch.zeros(3))(*parts(0.4), STILL)[0].float()
    of_colours = Composer(portrait, torch.zeros(3))(*parts(0.4), STILL)[0].float()
    plain = Composer(drawing, torch.zeros(3))(*parts(), STILL)[0].float()
    assert (of_drawing.amax(-1) - of_drawing.amin(-1)).max() <= 1 < (of_drawing - plain).abs().max()
    assert (of_colours - (portrait.image.permute(1, 2, 0) + 1) * 127.5)[..., 0].max() > 40
