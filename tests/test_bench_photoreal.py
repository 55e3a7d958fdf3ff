"""The photoreal bench at small width: both sides run in turn on the same weights, in float and with integer layers."""

import json
import sys
from dataclasses import replace

import pytest

from scripts import bench_photoreal


@pytest.mark.parametrize("more", [[], ["--int8", "--taesd"]])
def test_both_sides_run_in_turn(monkeypatch, capsys, more) -> None:
    real = bench_photoreal.lean_config()
    denoiser = replace(real.denoiser, block_out_channels=(16, 32, 32, 32), attention_heads=4, norm_num_groups=8)
    autoencoder = replace(real.autoencoder, block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
    narrow = replace(real, denoiser=denoiser, autoencoder=autoencoder)
    monkeypatch.setattr(bench_photoreal, "lean_config", lambda: narrow)
    monkeypatch.setattr(sys, "argv", ["bench", "--size", "64", "--decode", "1", *more])
    assert bench_photoreal.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["original"].keys() == {"encode", "reference", "denoise", "decode", "a_step", "clip"}
    assert found["ours"].keys() == {"portrait", "conditions", "denoise", "decode", "a_step", "clip"}
    assert found["ratio"]["a_step"] > 0 and found["peak_gib"] > 0
