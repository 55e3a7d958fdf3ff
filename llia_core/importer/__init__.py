"""Open weights to a photoreal model: Hallo v1's net.pth, Stable Diffusion's autoencoder, TAESD, wav2vec 2.0.

Everything is read and checked first; then a folder is written beside its place and takes the name when it is complete.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..model.autoencoder import build_autoencoder
from ..model.avatar import AvatarModel
from ..model.config import NAMED, TAESD, AutoencoderConfig, ModelConfig
from ..model.load import save_weights
from ..photoreal.model import FAST_DECODER, PARTS
from ..speech import SpeechConfig, SpeechEncoder
from .autoencoders import TINY, VAE, find_file, read_tiny, read_vae
from .files import ImportFileError, check_keys, read_json, read_tensors

__all__ = ["ImportFileError", "Sources", "convert_hallo", "find_sources"]

NET = "Hallo v1's net.pth (huggingface.co/fudan-generative-ai/hallo, hallo/net.pth)"
SPEECH = (
    "wav2vec 2.0 base (huggingface.co/facebook/wav2vec2-base-960h: config.json, model.safetensors, "
    "preprocessor_config.json)"
)
SPEECH_FILES = ("model.safetensors", "pytorch_model.bin")
HEAD = ("lm_head.weight", "lm_head.bias")  # turns features into letters: not needed
# Where the parts lie in the folder of huggingface.co/fudan-generative-ai/hallo.
LAYOUT = {
    "net": ("hallo/net.pth", "net.pth"),
    "vae": ("sd-vae-ft-mse", "vae"),
    "speech": ("wav2vec/wav2vec2-base-960h", "wav2vec2-base-960h", "wav2vec"),
    "tiny": ("taesd",),
}
OLD_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


@dataclass(frozen=True)
class Sources:
    """Files or folders of the parts; tiny may be absent."""

    net: Path
    vae: Path
    speech: Path
    tiny: Path | None = None


def find_sources(folder: Path | None, **given: Path | None) -> Sources:
    """The parts in `folder`, laid out as Hallo's page has them, unless given by name: net, vae, speech, tiny.

    Raises FileNotFoundError that names every part that is missing, with its public page.
    """
    found = {}
    for part, places in LAYOUT.items():
        tried = [] if folder is None else [Path(folder) / place for place in places]
        found[part] = given.get(part) or next((path for path in tried if path.exists()), None)
    needed = {"net": NET, "vae": VAE + " (huggingface.co/stabilityai/sd-vae-ft-mse)", "speech": SPEECH}
    missing = [
        f"  {LAYOUT[part][0]} (or --{part} PATH): {what}" for part, what in needed.items() if found[part] is None
    ]
    if missing:
        raise FileNotFoundError("\n".join([f"{folder or 'the command line'} lacks:", *missing]))
    return Sources(**{part: None if path is None else Path(path) for part, path in found.items()})


def convert_hallo(
    sources: Sources,
    output: Path,
    dtype: torch.dtype = torch.float16,
    say: Callable[[str], None] = lambda line: None,
    config: ModelConfig | None = None,
) -> Path:
    """Write the model folder `output`. config: other widths than the real ones, for tests.

    Raises FileNotFoundError, ImportFileError; FileExistsError if `output` exists. Nothing is left behind half-made.
    """
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists already: give another name, or delete it first")
    config = config or NAMED["llia-sd15"]
    speech_config, speech = read_speech(sources.speech)
    _check_speech(config, speech_config, sources.speech)
    vae = read_vae(sources.vae, config.autoencoder)
    check_keys(vae, _wanted(lambda: build_autoencoder(config.autoencoder)), sources.vae, VAE)
    tiny_config = replace(TAESD, block_out_channels=config_tiny_widths(config))
    tiny = read_tiny(sources.tiny) if sources.tiny else None
    if tiny is not None:
        check_keys(tiny, _wanted(lambda: build_autoencoder(tiny_config)), sources.tiny, TINY)
    lean, net, left_out = read_net(sources.net, config)
    say(f"{sources.net.name}: all tensors known, {len(left_out)} of modules that never run are left out")
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        origin = json.dumps({"from": "Hallo v1 (MIT)", **{k: v.name for k, v in asdict(sources).items() if v}})
        _write(partial / PARTS["model"], net, dtype, {"config": json.dumps(lean.to_dict()), "origin": origin})
        _write(partial / PARTS["vae"], vae, dtype, {"config": json.dumps(config.autoencoder.to_dict())})
        _write(partial / PARTS["speech"], speech, dtype, {"speech": json.dumps(asdict(speech_config))})
        if tiny is not None:
            _write(partial / FAST_DECODER, tiny, dtype, {"config": json.dumps(tiny_config.to_dict())})
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def config_tiny_widths(config: ModelConfig) -> tuple[int, ...]:
    """TAESD's widths; narrower beside a narrow model, which only tests have."""
    real: AutoencoderConfig = NAMED["llia-sd15"].autoencoder
    return TAESD.block_out_channels if config.autoencoder == real else config.autoencoder.block_out_channels[:1] * 4


def read_net(path: Path, config: ModelConfig) -> tuple[ModelConfig, dict[str, Tensor], list[str]]:
    """Tensors of net.pth; the config without the motion modules that Hallo holds but never runs, and their names."""
    weights = read_tensors(path, NET)
    if all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    label = "denoising_unet.class_embedding.weight"
    wanted = _wanted(lambda: AvatarModel(config))
    zeros = torch.zeros(wanted[label].shape)
    check_keys({label: zeros} | weights, wanted, path, NET)
    denoiser = config.denoiser
    runs = tuple(
        has and not idle for has, idle in zip(denoiser.motion_levels, denoiser.idle_motion_levels, strict=True)
    )
    lean = replace(denoiser, motion_levels=runs, idle_motion_levels=(False,) * len(runs))
    lean_config = replace(config, denoiser=lean)
    kept = _wanted(lambda: AvatarModel(lean_config))
    left_out = sorted(set(weights) - set(kept))
    return lean_config, {key: weights.get(key, zeros) for key in kept}, left_out


def read_speech(path: Path) -> tuple[SpeechConfig, dict[str, Tensor]]:
    """wav2vec 2.0 of a transformers folder: our config and its tensors in our names. Raises as read_tensors does."""
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} lacks config.json, expected {SPEECH}")
    wav2vec = {
        k: v for k, v in read_json(path / "config.json").items() if k not in ("architectures", "transformers_version")
    }
    if wav2vec.get("model_type") != "wav2vec2":
        raise ImportFileError(f"{path / 'config.json'} is of a {wav2vec.get('model_type')!r} model, expected {SPEECH}")
    file = find_file(path, SPEECH_FILES, SPEECH)
    preprocessor = path / "preprocessor_config.json"
    normalize = read_json(preprocessor).get("do_normalize", True) if preprocessor.is_file() else True
    # Blocks of a second that hear two seconds before and 0.4 s after them.
    config = SpeechConfig(
        wav2vec, block=25, context=50, lookahead=10, layers=wav2vec["num_hidden_layers"], normalize=bool(normalize)
    )
    weights = read_tensors(file, SPEECH)
    renamed = {_speech_name(key): value for key, value in weights.items() if key not in HEAD}
    wanted = SpeechEncoder(config).state_dict()
    mask = "wav2vec.masked_spec_embed"  # of training; some files lack it
    if mask in wanted:
        renamed.setdefault(mask, torch.zeros_like(wanted[mask]))
    check_keys(renamed, wanted, file, SPEECH)
    return config, renamed


def _speech_name(key: str) -> str:
    head, _, last = key.rpartition(".")
    return "wav2vec." + f"{head}.{OLD_NORM.get(last, last)}".removeprefix(".").removeprefix("wav2vec2.")


def _check_speech(config: ModelConfig, speech: SpeechConfig, path: Path) -> None:
    wanted, got = (config.audio_projection.layers, config.audio_projection.channels), speech.shape
    if got != wanted:
        raise ImportFileError(
            f"{path} has {got[0]} layers of {got[1]} channels, but the model hears {wanted[0]} of {wanted[1]}: "
            f"expected {SPEECH}"
        )


def _wanted(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Names and shapes that a module has, without making its tensors."""
    with torch.device("meta"):
        return build().state_dict()


def _write(path: Path, weights: dict[str, Tensor], dtype: torch.dtype, metadata: dict[str, str]) -> None:
    converted = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    save_weights(converted, metadata, path)
