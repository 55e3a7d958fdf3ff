"""Portraits made ready: what goes into the model for open mouths, expressions, boxes and odd sizes."""

import pytest
import torch

from llia_core.expression import Expression
from llia_core.media import read_image
from llia_core.model.load import BUNDLED
from llia_core.portrait import OPEN_MOUTH, mouth_opening, prepare_portrait
from llia_core.training.synth.portrait import ANIMATION, render, sample_identities


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return read_image(BUNDLED.parent / "demo_portrait.png")


def test_shapes_and_the_place_of_the_mouth(image):
    portrait = prepare_portrait(image, 192)
    assert portrait.image.shape == (3, 192, 192) and portrait.region.shape == (3, 128, 128)
    assert portrait.masks.shape == (2, 128, 128)
    y, x = (portrait.masks[0] > 0.5).nonzero().float().mean(0) / 128 * 2 - 1
    assert abs(float(x)) < 0.1 and abs(float(y) + 0.12) < 0.12  # where the model expects the lips


def test_an_open_mouth_is_closed_first():
    animation = torch.zeros(1, len(ANIMATION))
    animation[0, 0] = 0.8
    picture = render(sample_identities(1, torch.Generator().manual_seed(4)), animation, size=256)[0]
    kept = prepare_portrait(picture, 256, close_mouth=False)
    closed = prepare_portrait(picture, 256)
    assert mouth_opening(kept.landmarks) > OPEN_MOUTH > mouth_opening(closed.landmarks)


def test_an_expression_is_carried_but_its_jaw_is_left_to_the_voice(image):
    plain = prepare_portrait(image, 192)
    smiling = prepare_portrait(image, 192, expression=Expression(smile=0.8))
    gaping = prepare_portrait(image, 192, expression=Expression(jaw=0.8))
    assert (smiling.image - plain.image).abs().max() > 0.1
    assert torch.equal(gaping.image, plain.image)


@pytest.mark.parametrize("size", [63, 65, 1026])
def test_sizes_that_cannot_be_are_refused(image, size):
    with pytest.raises(ValueError, match="64 to 1024"):
        prepare_portrait(image, size)
    with pytest.raises(ValueError, match=r"\(3, height, width\)"):
        prepare_portrait(image[:1], 128)
