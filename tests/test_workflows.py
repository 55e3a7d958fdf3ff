"""The example workflows: both forms agree, lie well on the canvas, and run to their end."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from host.executor import Run
from host.studio import open_host
from host.validation import validate_prompt
from host.workflow import read_prompt
from llia_core.importer import convert_hallo, find_sources
from tests.open_weights import make_page, narrow_config

FOLDER = Path(__file__).parent.parent / "workflows"
PHOTOREAL = "photoreal_portrait"  # its picture is words: nobody's weights are here to make one with
NAMES = ["conversation", "expression_into_video", "long_video", PHOTOREAL, "talking_portrait"]
CORE = {"LoadImage", "LoadAudio", "SaveVideo", "PreviewImage", "MarkdownNote"}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return open_host(tmp_path_factory.mktemp("host"))


@pytest.fixture
def short_sound(host, monkeypatch):
    """Recordings of a second, as the workflows take longer ones."""
    demo = sys.modules[f"{host[1].module.__name__}.nodes.demo_speech"]
    read = demo.read_recording

    def first_second(name):
        waveform, rate = read(name)
        return waveform[:, :rate], rate

    monkeypatch.setattr(demo, "read_recording", first_second)


def api_prompt(name):
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def canvas_form(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_no_other_files():
    assert sorted(file.stem for file in FOLDER.glob("*.json")) == NAMES
    assert sorted(file.stem for file in (FOLDER / "api").glob("*.json")) == NAMES
    assert sorted(file.stem for file in FOLDER.glob("*.jpg")) == NAMES


def test_the_photoreal_workflow_says_where_its_weights_are():
    loader = next(node for node in canvas_form(PHOTOREAL)["nodes"] if node["type"] == "LLIA_LoadModel")
    (model,) = loader["properties"]["models"]
    assert model["name"] in loader["widgets_values"] and model["directory"] == "llia"
    assert model["url"].startswith("https://huggingface.co/")


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_agree(host, name):
    drawn = read_prompt(FOLDER / f"{name}.json", host[1])
    assert drawn == {i: {"class_type": n["class_type"], "inputs": n["inputs"]} for i, n in api_prompt(name).items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_canvas_form_is_complete(host, name):
    workflow = canvas_form(name)
    assert workflow["version"] == 0.4 and workflow["last_node_id"] == max(node["id"] for node in workflow["nodes"])
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, slot, target, index, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][slot]["links"] and nodes[target]["inputs"][index]["link"] == number
        assert nodes[source]["outputs"][slot]["type"] in kind.split(",")
    for node in nodes.values():
        assert node["type"] in CORE or node["type"].startswith("LLIA_"), "workflows must open in every ComfyUI"
        if node["type"] != "MarkdownNote":
            assert {i["name"] for i in node["inputs"]} == set(
                host[1].info(node["type"])["input_order"]["required"]
            ) | set(host[1].info(node["type"])["input_order"].get("optional", [])), (
                "run python -m scripts.make_workflows"
            )


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_overlap(name):
    boxes = []
    for node in canvas_form(name)["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes.append((x, y - 30, x + width, y + height))  # with the title bar
    for index, a in enumerate(boxes):
        for b in boxes[:index]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], f"{a} and {b}"


@pytest.fixture(scope="module")
def narrow_hallo(host, tmp_path_factory):
    """A converted model at a fraction of the real width, in models/llia/hallo."""
    page = make_page(tmp_path_factory.mktemp("page"))
    models = Path(sys.modules["folder_paths"].base_path) / "models" / "llia"
    models.mkdir(parents=True)
    return convert_hallo(find_sources(page), models / "hallo", config=narrow_config())


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(host, short_sound, narrow_hallo, name):
    server, pack = host
    prompt = {i: {"class_type": n["class_type"], "inputs": dict(n["inputs"])} for i, n in api_prompt(name).items()}
    if name == PHOTOREAL:  # 512 pixels and 10 guided steps would take minutes even at this width
        for node in prompt.values():
            node["inputs"] |= {"LLIA_Portrait": {"size": 64}, "LLIA_Sample": {"steps": 1}}.get(node["class_type"], {})
    targets, errors = validate_prompt(prompt, pack.nodes)
    assert not errors
    server.executor.forget()  # the last one has nodes in common with this
    run = Run("p", prompt, {}, lambda event, data: None)
    server.executor.execute(run, targets)
    assert run.success, run.messages[-1]
    assert set(run.executed) == set(prompt)
    base = Path(sys.modules["folder_paths"].base_path)
    video = max(base.rglob("*.mp4"), key=lambda file: file.stat().st_mtime)
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == (75 if name == "long_video" else 25)
        container.seek(0)
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert 0.1 < np.abs(sound).max() <= 1.1 or name == "conversation"  # there the first second is nearly silent
    saved = [
        file["type"] for node in run.outputs.values() for file in node.get("images", []) if "mp4" in file["filename"]
    ]
    assert saved == (["output"] if name in ("talking_portrait", "long_video", PHOTOREAL) else [])
