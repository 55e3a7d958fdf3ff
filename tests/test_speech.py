"""Speech features: whole == streamed, declared spans, folders of any size."""

import json

import pytest
import torch
from safetensors.torch import save_file

from llia_core.audio import SAMPLES_PER_FRAME, SampleRing, frame_count
from llia_core.importer import read_speech
from llia_core.speech import SpeechConfig, SpeechEncoder, tiny_speech_config

SMALL_BASE = {  # wav2vec2-base's layout at small width: group norm, post-norm layers
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [16] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7, "feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "hidden_dropout": 0.0,
}  # fmt: skip


@pytest.fixture(params=["tiny", "blocks"])
def encoder(request) -> SpeechEncoder:
    torch.manual_seed(0)
    config = tiny_speech_config() if request.param == "tiny" else SpeechConfig(SMALL_BASE, {}, 5, 10, 3, 3, True)
    return SpeechEncoder(config).eval()


@pytest.mark.parametrize("push", [1, 3, 7])
def test_streamed_features_equal_those_of_the_whole_file(encoder, push):
    samples = 0.1 * torch.randn(23 * SAMPLES_PER_FRAME + 400)
    whole = encoder.encode_all(samples)
    assert whole.shape == (frame_count(len(samples)), *encoder.config.shape)
    ring, parts, done = SampleRing(), [], 0
    for start in range(0, len(samples), push * SAMPLES_PER_FRAME):
        ring.push(samples[start : start + push * SAMPLES_PER_FRAME])
        ready = encoder.frames_ready(ring.total, False)
        parts.append(encoder.encode(ring, done, ready))
        done = ready
    ring.end()
    parts.append(encoder.encode(ring, done, encoder.frames_ready(ring.total, True)))
    assert (torch.cat(parts) - whole).abs().max() < 1e-4
    assert whole.std(0).max() > 1e-3


def test_nothing_beyond_the_declared_spans_is_heard(encoder):
    config = encoder.config
    samples = 0.1 * torch.randn(60 * SAMPLES_PER_FRAME)
    before = encoder.encode_all(samples)
    block = 40 // config.block
    last = (block + 1) * config.block - 1  # last frame of its block
    changed = samples.clone()
    changed[(last + 1 + config.lookahead) * SAMPLES_PER_FRAME :] = 0.5
    changed[: (block * config.block - config.context) * SAMPLES_PER_FRAME] = -0.5
    after = encoder.encode_all(changed)
    assert torch.equal(before[block * config.block : last + 1], after[block * config.block : last + 1])
    assert not torch.equal(before[last + 1 + config.block :], after[last + 1 + config.block :])


def test_a_transformers_folder_loads_and_gives_all_layers(tmp_path):
    torch.manual_seed(1)
    source = SpeechEncoder(SpeechConfig(SMALL_BASE, {}, 25, 50, 10, 3, True)).eval()
    architecture = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2Model"]}
    (tmp_path / "config.json").write_text(json.dumps(SMALL_BASE | architecture))
    weights = {f"wav2vec2.{k}": v.contiguous() for k, v in source.wav2vec.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    config, tensors = read_speech(tmp_path)
    loaded = SpeechEncoder(config).eval()
    loaded.load_state_dict(tensors)
    samples = 0.1 * torch.randn(30 * SAMPLES_PER_FRAME)
    assert loaded.encode_all(samples).shape == (30, 3, 32)
    assert torch.equal(loaded.encode_all(samples), source.encode_all(samples))


def test_hidden_states_are_those_of_transformers():
    torch.manual_seed(2)
    encoder = SpeechEncoder(SpeechConfig(SMALL_BASE, {}, 25, 0, 0, 3, False)).eval()
    # 49 tokens come out of 25 frames; without the resampling between them the numbers are transformers' own.
    samples = 0.1 * torch.randn(1, 25 * SAMPLES_PER_FRAME)
    with torch.no_grad():
        hidden = encoder.wav2vec.feature_projection(encoder.wav2vec.feature_extractor(samples).transpose(1, 2))[0]
        ours = encoder._hidden_states(hidden)
        theirs = encoder.wav2vec(samples, output_hidden_states=True).hidden_states[1:]
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < 1e-5
