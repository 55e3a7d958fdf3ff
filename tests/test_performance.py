"""The bench table: stable keys, figures that add up, every model and engine, reasons for what is left out."""

import json

import pytest
import torch

from llia_core import benchmark, performance
from llia_core.__main__ import main
from llia_core.performance import Grid, rows
from llia_core.quantization import Int8
from llia_core.roofline import Rates, Work, count_work
from tests.open_weights import narrow_config

KEYS = {
    "model", "resolution", "steps", "precision", "engine", "device", "fps", "first_frame_ms", "algorithmic_ms",
    "compute_ms", "stage_ms", "peak_memory_mb", "roofline_share",
}  # fmt: skip


def test_rows_have_stable_keys_and_add_up(tmp_path):
    path = tmp_path / "bench.json"
    command = ["bench", "--size", "64", "--steps", "1", "--seconds", "1.5"]
    assert main([*command, "--precision", "int8", "--engine", "serial", "--json", str(path)]) == 0
    (integer,) = json.loads(path.read_text())
    assert integer["precision"] == "int8" and integer["roofline_share"] > 0.01
    assert main([*command, "--precision", "float32", "--engine", "serial", "pipeline", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [row["engine"] for row in found] == ["serial", "pipeline"]
    for row in found:
        assert row.keys() >= KEYS and row["stage_ms"].keys() == {"speech", "denoiser", "decoder", "viewer"}
        assert (row["model"], row["resolution"], row["steps"], row["precision"]) == ("llia-tiny", 64, 1, "float32")
        waits = row["algorithmic_ms"] + row["compute_ms"] + row["presentation_ms"]
        assert row["first_frame_ms"] == pytest.approx(waits) and row["algorithmic_ms"] == 240
        assert row["fps"] > 1 and row["peak_memory_mb"] > 100
        # Not bounded by 1: other work may have held up the measuring of the limits.
        floor = row["roofline_floor_ms"]
        assert floor.keys() == {"denoiser", "decoder"} and min(floor.values()) > 0
        share = sum(floor.values()) / (row["stage_ms"]["denoiser"] + row["stage_ms"]["decoder"])
        assert row["roofline_share"] == pytest.approx(share) and share > 0.01
        assert "cores" in row["machine"]


@pytest.fixture
def narrow(monkeypatch):
    """llia-sd15 at small width, in short measurements."""
    monkeypatch.setitem(performance.NAMED, "llia-sd15", narrow_config())
    monkeypatch.setitem(performance.LIVE_CLIP, "llia-sd15", (4, 4))
    monkeypatch.setattr(benchmark, "WARM_UP_SECONDS", 0.3)
    monkeypatch.setattr(benchmark, "FIRST_FRAME_RUNS", 1)


def photoreal(steps: tuple[int, ...], precision: str) -> list[dict]:
    grid = Grid("sd15", sizes=(64,), steps=steps, precisions=(precision,), engines=("serial",), seconds=0.5)
    return list(rows(grid, lambda line: None))


def test_photoreal_rows_have_random_weights_and_need_no_files(narrow):
    (row,) = photoreal((1,), "int8")
    assert row.keys() >= KEYS and (row["model"], row["steps"], row["precision"]) == ("llia-sd15", 1, "int8")
    assert row["fps"] > 0 and row["stage_ms"]["denoiser"] > 0


def test_more_steps_than_distilled_weights_take_stand_for_undistilled_ones(narrow, monkeypatch):
    monkeypatch.setattr(performance, "measure", lambda session, *rest: {"sampling": session.model.config.sampling})
    monkeypatch.setattr(performance, "session_work", lambda session, samples: {})
    monkeypatch.setattr(performance, "line", str)
    assert [row["sampling"] for row in photoreal((1, 10), "float32")] == ["consistency", "ddim"]


def test_the_unet_alone_is_timed_in_both_precisions():
    said: list[str] = []
    found = performance.unet_gain(Grid(), size=64, runs=1, say=said.append)
    assert found.keys() == {"float32", "int8"} and min(found.values()) > 0 and "times" in said[0]


def test_what_cannot_run_is_said():
    said: list[str] = []
    grid = Grid(sizes=(64,), steps=(1,), precisions=("bfloat16",), seconds=1.2)
    assert not list(rows(grid, said.append))
    assert any("left out bfloat16" in line for line in said)
    with pytest.raises(ValueError, match="engines are"):
        next(rows(Grid(engines=("warp",))))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA GPU"):
            next(rows(Grid(device="cuda")))


def test_work_is_counted():
    layer, x = Int8.Linear(64, 32, bias=False), torch.randn(10, 64)
    work = count_work(lambda: layer(x), [layer])
    assert work.operations == 2 * 10 * 64 * 32 and work.bytes == 4 * (64 * 32 + 10 * 64 + 10 * 32)
    rates = Rates({"float32": 1e9, "int8": 4e9}, 1e6)
    assert Work(2e9, 1e6).floor_s(rates, "float32") == 2 and Work(2e9, 1e6).floor_s(rates, "int8") == 1
