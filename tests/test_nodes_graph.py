"""The nodes as ComfyUI sees them: schemas, errors that say what to do, and what the graph keeps between runs."""

import copy
import inspect
import pathlib
import shutil
import sys
import wave

import pytest
import torch

from host.executor import Run
from host.studio import open_host
from host.validation import PromptError, validate_prompt
from llia_core.media import read_image
from llia_core.model.load import BUNDLED, load_model

NODE_IDS = {
    "LLIA_LoadModel", "LLIA_Avatar", "LLIA_EditExpression", "LLIA_Portrait", "LLIA_EncodeAudio", "LLIA_DemoSpeech",
    "LLIA_LabelStates", "LLIA_Sample", "LLIA_StreamingPreview", "LLIA_SaveStream",
}  # fmt: skip
GRAPH = {
    "model": {
        "class_type": "LLIA_LoadModel",
        "inputs": {"model": "llia-tiny (bundled)", "precision": "float32", "device": "default"},
    },
    "image": {"class_type": "LoadImage", "inputs": {"image": "face.png"}},
    "audio": {"class_type": "LoadAudio", "inputs": {"audio": "voice.wav"}},
    "portrait": {"class_type": "LLIA_Portrait", "inputs": {"image": ["image", 0], "size": 64}},
    "speech": {"class_type": "LLIA_EncodeAudio", "inputs": {"model": ["model", 0], "audio": ["audio", 0]}},
    "states": {
        "class_type": "LLIA_LabelStates",
        "inputs": {"speech": ["speech", 0], "hear_other": True, "timeline": ""},
    },
    "sample": {
        "class_type": "LLIA_Sample",
        "inputs": {
            "model": ["model", 0],
            "portrait": ["portrait", 0],
            "speech": ["speech", 0],
            "states": ["states", 0],
            "steps": 1,
            "seed": 0,
            "behaviour": 1.0,
            "first_chunk": 2,
            "largest_chunk": 16,
            "continuity": "carry over",
        },
    },
    "save": {"class_type": "LLIA_SaveStream", "inputs": {"stream": ["sample", 0], "filename_prefix": "video/LLIA"}},
}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The pack in the embedded host, with a picture and 0.6 s of sound in its input folder."""
    base = tmp_path_factory.mktemp("host")
    opened = open_host(base)
    shutil.copy(BUNDLED.parent / "demo_portrait.png", base / "input" / "face.png")
    with (
        wave.open(str(BUNDLED.parent / "demo_speech.wav")) as source,
        wave.open(str(base / "input" / "voice.wav"), "w") as target,
    ):
        target.setparams(source.getparams())
        target.writeframes(source.readframes(int(0.6 * source.getframerate())))
    return opened


@pytest.fixture(scope="module")
def nodes(host):
    return {node_id: node for node_id, node in host[1].nodes.items() if node_id.startswith("LLIA_")}


def changed(node, **inputs):
    prompt = copy.deepcopy(GRAPH)
    prompt[node]["inputs"] |= inputs
    return prompt


def execute(host, prompt):
    server, pack = host
    prompt = copy.deepcopy(prompt)
    targets, errors = validate_prompt(prompt, pack.nodes)
    assert not errors
    run = Run("p", prompt, {}, lambda event, data: None)
    server.executor.execute(run, targets)
    return run


def failure(run):
    assert run.success is False
    return next(data["exception_message"] for event, data in run.messages if event == "execution_error")


def test_all_nodes_are_there(nodes):
    assert set(nodes) == NODE_IDS


def test_what_the_canvas_is_told_is_complete(host, nodes):
    for node_id, node in nodes.items():
        info = host[1].info(node_id)
        assert info["display_name"].startswith("LLIA ") and info["category"] == "LLIA", node_id
        assert len(info["description"]) > 20 and "search_aliases=" in inspect.getsource(node.define_schema), node_id
        inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
        for name, (_, options) in inputs.items():
            assert options["tooltip"].endswith("."), f"{node_id}.{name}"
        for name, tooltip in zip(info["output_name"], info["output_tooltips"], strict=True):
            assert tooltip.endswith("."), f"{node_id}.{name}"
        ids = [*inputs, *(output.id for output in node.define_schema().outputs if output.id)]
        assert len(set(ids)) == len(ids), f"{node_id}: ComfyUI 0.3.64 wants ids different between inputs and outputs"


@pytest.fixture
def encoded(host, monkeypatch):
    """Sizes of the batches that the pack's speech encoder was given."""
    batches = []
    encoder = sys.modules[
        f"{host[1].module.__name__}.llia_core.speech"
    ].SpeechEncoder  # the pack's own copy of the code
    forward = encoder.forward

    def counted(self, samples):
        batches.append(len(samples))
        return forward(self, samples)

    monkeypatch.setattr(encoder, "forward", counted)
    return batches


def test_the_graph_keeps_what_it_can(host, encoded):
    """Changing what comes after the audio encodes nothing anew; changing what comes before does."""
    host[0].executor.forget()
    first = execute(host, GRAPH)
    window = load_model().speech.config.window
    assert first.success and sum(encoded) == 15 + 2 * 2 + window  # frames, margins, and the window of silence
    assert first.outputs["save"]["images"][0]["filename"].endswith(".mp4")
    encoded.clear()
    for prompt in (
        changed("sample", steps=2),
        changed("sample", behaviour=0.5, seed=7),
        changed("states", timeline="0- idle"),
        changed("portrait", size=80),
        changed("save", filename_prefix="video/other"),
    ):
        run = execute(host, prompt)
        assert run.success and "save" in run.executed and not {"model", "audio", "speech"} & set(run.executed)
    assert encoded == []
    assert execute(host, changed("model", device="cpu")).success
    assert encoded


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_precisions(host, precision):
    assert execute(host, changed("model", precision=precision)).success


def test_audio_alone_is_labelled(host):
    prompt = {
        "audio": GRAPH["audio"],
        "states": {"class_type": "LLIA_LabelStates", "inputs": {"speech": ["audio", 0], "hear_other": True}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["states", 1]}},
    }
    assert execute(host, prompt).success


@pytest.mark.parametrize(
    "node, inputs, words",
    [
        ("states", {"timeline": "0-2 dancing"}, "expected idle, listening, speaking or auto"),
        ("portrait", {"face_box": "1,2,3"}, "expected x0, y0, x1, y1"),
        ("portrait", {"face_box": "9 9 3 3"}, "is empty"),
        ("portrait", {"size": 4096}, "bigger than max"),
        ("model", {"model": "nobody.safetensors"}, "not in list"),
    ],
)
def test_bad_settings_are_refused_before_the_run(host, node, inputs, words):
    with pytest.raises(PromptError) as caught:
        validate_prompt(changed(node, **inputs), host[1].nodes)
    assert words in str(caught.value.node_errors)


def test_errors_say_what_to_do(host):
    assert "raise the largest" in failure(execute(host, changed("sample", first_chunk=9, largest_chunk=3)))
    prompt = changed("sample")
    prompt["other"] = {"class_type": "LLIA_DemoSpeech", "inputs": {"recording": "greeting", "repeat": 1}}
    prompt["states"]["inputs"]["speech"] = ["other", 0]
    assert "label the same recording" in failure(execute(host, prompt))


def test_a_picture_without_a_face(host, nodes):
    with pytest.raises(RuntimeError, match="face box"):
        nodes["LLIA_Portrait"].execute(torch.full((1, 128, 128, 3), 0.5), 64)
    portrait, crop, mask = nodes["LLIA_Portrait"].execute(torch.rand(1, 128, 160, 4), 64, "40,20,100,110").args
    assert crop.shape == (1, 64, 64, 3) and crop.min() >= 0 and crop.max() <= 1
    assert mask.shape == (1, 64, 64) and 0.2 < mask.mean() < 0.9 and portrait.size == 64


def test_batches_and_silent_videos_are_refused(nodes):
    with pytest.raises(ValueError, match="ImageFromBatch"):
        nodes["LLIA_Portrait"].execute(torch.zeros(3, 64, 64, 3), 64)
    model = nodes["LLIA_LoadModel"].execute("llia-tiny (bundled)", "float32", "default").args[0]
    for audio, words in (
        (None, "no sound"),
        ({"waveform": torch.zeros(2, 1, 16000), "sample_rate": 16000}, "one recording"),
        ({"waveform": torch.zeros(1, 1, 100), "sample_rate": 16000}, "longer recording"),
    ):
        with pytest.raises(ValueError, match=words):
            nodes["LLIA_EncodeAudio"].execute(model, audio)


def test_models_in_the_folder_are_listed(host, nodes):
    folder = pathlib.Path(sys.modules["folder_paths"].models_dir) / "llia"
    folder.mkdir(parents=True)
    (folder / "mine.safetensors").write_bytes(b"not a checkpoint")
    (folder / "notes.txt").write_text("no model")
    assert "['llia-tiny (bundled)', 'mine.safetensors']" in str(host[1].info("LLIA_LoadModel")["input"])
    with pytest.raises(RuntimeError, match="mine.safetensors is not a safetensors file"):
        nodes["LLIA_LoadModel"].execute("mine.safetensors", "float32", "cpu")


def test_what_the_conversion_loses():
    """IMAGE and back: nothing more than 8 bits."""
    types = sys.modules[next(name for name in sys.modules if name.endswith(".nodes.types"))]
    picture = read_image(BUNDLED.parent / "demo_portrait.png")
    assert (types.picture_from_image(types.image_from_picture(picture)) - picture).abs().max() < 1e-6
