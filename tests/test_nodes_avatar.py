"""Drawn portraits: what seed, sliders and choices do; and the nodes LLIA Avatar and LLIA Edit Expression in a graph."""

import subprocess
import sys

import pytest
import torch

from host.executor import Run
from host.studio import open_host
from host.validation import validate_prompt
from llia_core.drawn_portrait import CHOICES, Look, draw_portrait
from llia_core.edit_face import FacePreview, edit_face
from llia_core.expression import TEMPLATES, Expression, add_expressions
from llia_core.face import FaceLandmarker, landmarks_from_box
from llia_core.media import write_image

SMALL = 128
BACKGROUND = (slice(None), slice(0, 6), slice(0, 6))


def drawn(seed=7, size=SMALL, **look):
    return draw_portrait(seed, Look(**look), size)


def test_a_seed_is_a_person_and_another_seed_another():
    first = drawn()
    assert first.shape == (3, SMALL, SMALL) and first.min() >= -1 and first.max() <= 1
    assert torch.equal(first, drawn())
    assert all((first - drawn(seed)).abs().mean() > 0.05 for seed in (0, 8, 2**32 - 1, 2**64 - 1))


@pytest.mark.parametrize("name", ["face", "age", "skin", "smile"])
def test_sliders_act_and_zero_is_the_seeds_own(name):
    low, own, high = (drawn(size=256, **{name: value}) for value in (-1.0, 0.0, 1.0))
    assert (low - own).abs().mean() > 1e-3 or (high - own).abs().mean() > 1e-3
    assert (low - high).abs().mean() > 3e-3
    if name != "smile":
        assert torch.equal(own, drawn(size=256))


def test_the_skin_slider_goes_from_light_to_dark():
    forehead = (slice(None), slice(56, 60), slice(60, 68))
    light, dark = (float(drawn(hair="bald", skin=value)[forehead].mean()) for value in (-1.0, 1.0))
    assert light > dark + 0.6


@pytest.mark.parametrize("name", CHOICES)
def test_choices_differ_from_one_another_and_are_only_themselves(name):
    pictures = {choice: drawn(seed=21, **{name: choice}) for choice in CHOICES[name]}
    names = list(pictures)
    for one, other in zip(names, names[1:], strict=False):
        assert not torch.equal(pictures[one], pictures[other]), (one, other)
    if name != "background":
        backgrounds = [picture[BACKGROUND] for picture in pictures.values()]
        assert all(torch.equal(backgrounds[0], one) for one in backgrounds)


def test_a_green_screen_is_green_and_a_bald_head_bald():
    red, green, blue = drawn(background="green screen")[BACKGROUND].mean((1, 2))
    assert green > red + 0.5 and green > blue + 0.5
    top = (slice(None), slice(18, 30), slice(54, 74))
    assert (
        drawn(hair="bald", hair_colour="black")[top].mean() > drawn(hair="short", hair_colour="black")[top].mean() + 0.3
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"look": {"hair": "mohawk"}}, "no hair 'mohawk'.*afro"),
        ({"look": {"age": 1.5}}, "age is 1.5.*-1 to 1"),
        ({"look": {"smile": float("nan")}}, "smile is nan"),
        ({"size": 64}, "128 to 1024"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_errors_say_what_is_possible(arguments, said):
    with pytest.raises(ValueError, match=said):
        draw_portrait(arguments.get("seed", 0), Look(**arguments.get("look", {})), arguments.get("size", SMALL))


def test_faces_are_found_in_every_drawn_portrait():
    with FaceLandmarker() as landmarker:
        for seed in range(8):
            faces = landmarker.detect(drawn(seed, 256))
            assert len(faces) == 1, seed


def test_drawing_needs_no_package_of_the_training():
    code = (
        "import sys\n"
        "for name in ('espeakng_loader', 'diffusers', 'skimage', 'transformers', 'mediapipe', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "from llia_core.drawn_portrait import draw_portrait\n"
        "assert draw_portrait(1, size=128).shape == (3, 128, 128)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_expressions_add_up_within_their_ranges():
    total = add_expressions(TEMPLATES["laugh"], Expression(smile=0.5, jaw=-0.0, yaw=3))
    assert total.smile == 1.0 and total.jaw == TEMPLATES["laugh"].jaw and total.yaw == 3
    assert add_expressions(Expression(), Expression()).is_zero


def test_a_small_face_is_edited_in_its_place_and_leaves_no_seam():
    image = torch.zeros(3, 700, 900)
    y, x = torch.meshgrid(torch.linspace(0, 60, 700), torch.linspace(0, 80, 900), indexing="ij")
    image[0], image[1], image[2] = 0.6 * x.sin(), 0.6 * y.cos(), 0.5 * (x + y).sin()
    landmarks = landmarks_from_box((400, 300, 500, 420))
    edited = edit_face(image, landmarks, Expression(smile=1.0, yaw=8.0))
    change = (edited - image).abs().amax(0)
    assert float(change[330:400, 420:480].max()) > 0.2
    change[255:465, 345:555] = 0  # 1.6 times the face
    assert float(change.max()) < 0.05
    assert edit_face(image, landmarks, Expression()) is image
    partly = edit_face(image[:, :380, :460], landmarks, Expression(smile=1.0))  # cut off by the picture's edge
    assert partly.shape == (3, 380, 460) and bool(partly.isfinite().all())


def test_a_preview_shows_the_face_large():
    image = drawn(seed=7, size=256)
    with FaceLandmarker() as landmarker:
        preview = FacePreview(image, landmarker.detect(image)[0], 192)
    plain, smiling = preview.edit(Expression()), preview.edit(Expression(smile=1.0))
    assert plain.shape == smiling.shape == (192, 192, 3) and plain.dtype == torch.uint8
    assert float((plain.float() - smiling.float()).abs().max()) > 40


# In a graph


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    base = tmp_path_factory.mktemp("host")
    opened = open_host(base)
    write_image(base / "input" / "grey.png", torch.zeros(3, 64, 64))
    return opened


def run(host, **sliders):
    """Avatar (or a grey picture), edited: the tensors before and after, and the run."""
    server, pack = host
    zero = {name: 0.0 for name in Expression().__dict__}
    picture = sliders.pop("picture", None)
    avatar = {"seed": 3, "size": 256, "face": 0.0, "age": 0.0, "skin": 0.0, "smile": 0.2}
    source = (
        {"class_type": "LoadImage", "inputs": {"image": picture}}
        if picture
        else {"class_type": "LLIA_Avatar", "inputs": {**avatar, **{name: "random" for name in CHOICES}}}
    )
    edit = {
        "class_type": "LLIA_EditExpression",
        "inputs": {"image": ["a", 0], "template": "neutral", **zero, **sliders},
    }
    prompt = {"a": source, "e": edit}
    targets, errors = validate_prompt(prompt, pack.nodes)
    assert not errors
    done = Run("p", prompt, {}, lambda event, data: None)
    server.executor.execute(done, targets)
    cache = server.executor._cache
    results = [
        value.outputs[0]
        for value in cache.values()
        if torch.is_tensor(value.outputs[0]) and value.outputs[0].dim() == 4
    ]
    return done, results


def test_zero_sliders_pass_the_picture_unchanged_even_without_a_face(host):
    host[0].executor.forget()
    done, (before, after) = run(host)
    assert done.success and before.shape == (1, 256, 256, 3) and torch.equal(before, after)
    assert len(done.outputs["e"]["llia_face"][0]) == 64
    done, _ = run(host, picture="grey.png")
    assert done.success


def test_a_slider_edits_and_a_missing_face_is_said(host):
    host[0].executor.forget()
    done, (before, after) = run(host, smile=0.8, template="wink")
    assert done.success and after.shape == before.shape and float((after - before).abs().max()) > 0.3
    assert torch.equal(after[:, :8], before[:, :8]) and after.min() >= 0 and after.max() <= 1
    done, _ = run(host, picture="grey.png", smile=0.5)
    assert done.success is False
    message = next(data["exception_message"] for event, data in done.messages if event == "execution_error")
    assert "face" in message.lower()
