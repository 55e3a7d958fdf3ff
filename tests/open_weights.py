"""Files named and laid out as the public ones, narrow and random: what the importer and the photoreal tests start
from."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from llia_core.model import NAMED, AvatarModel, ModelConfig

REAL = NAMED["llia-sd15"]
VAE_WIDTHS = (8, 16, 16, 24)


def narrow_config() -> ModelConfig:
    """llia-sd15's topology at small width; hears 2 layers of 16 channels."""
    denoiser = replace(
        REAL.denoiser,
        block_out_channels=(16, 24, 32, 32),
        attention_heads=4,
        norm_num_groups=8,
        cross_attention_dim=24,
        audio_attention_dim=20,
    )
    return replace(
        REAL,
        denoiser=denoiser,
        audio_projection=replace(
            REAL.audio_projection, layers=2, channels=16, intermediate_dim=12, tokens=6, token_channels=20
        ),
        face_locator=replace(REAL.face_locator, channels=(4, 6, 8, 8)),
        image_projection=replace(REAL.image_projection, embed_dim=10, tokens=2, token_channels=24),
        autoencoder=replace(REAL.autoencoder, block_out_channels=VAE_WIDTHS, norm_num_groups=4),
    )


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter random, also those that start at zero; norms near one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        spread = 0.3 / max(1.0, float(parameter[0].numel()) ** 0.5) * 3 if parameter.ndim > 1 else 0.1
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return module.requires_grad_(False)


def make_net(path: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    """net.pth with the original's keys (no state labels); returns its tensors."""
    model = randomise(AvatarModel(config), 1)
    weights = {k: v for k, v in model.state_dict().items() if "class_embedding" not in k}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)
    return weights


def make_vae(folder: Path, config: ModelConfig) -> torch.nn.Module:
    """A diffusers folder of a KL autoencoder; returns diffusers' module."""
    import diffusers

    torch.manual_seed(2)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=config.autoencoder.block_out_channels,
        layers_per_block=2,
        norm_num_groups=config.autoencoder.norm_num_groups,
    ).requires_grad_(False)
    vae.save_pretrained(folder)
    return vae


def make_speech(folder: Path, hidden: int = 16, layers: int = 2, convolutions: int = 8) -> torch.nn.Module:
    """A transformers folder of wav2vec 2.0 with its letter head, as the public one has; returns transformers'
    module."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(3)
    config = Wav2Vec2Config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=2 * hidden,
        conv_dim=[convolutions] * 7, num_conv_pos_embedding_groups=4, num_conv_pos_embeddings=16, vocab_size=8,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config).eval().requires_grad_(False)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return model


def make_tiny(folder: Path, config: ModelConfig) -> torch.nn.Module:
    """A diffusers folder of TAESD; returns diffusers' module."""
    import diffusers

    torch.manual_seed(4)
    widths = config.autoencoder.block_out_channels[:1] * 4
    tiny = diffusers.AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)
    tiny.requires_grad_(False).save_pretrained(folder)
    return tiny


def make_page(folder: Path, config: ModelConfig | None = None, tiny: bool = True) -> Path:
    """The whole folder, laid out as Hallo's page has it."""
    config = config or narrow_config()
    make_net(folder / "hallo" / "net.pth", config)
    make_vae(folder / "sd-vae-ft-mse", config)
    make_speech(folder / "wav2vec" / "wav2vec2-base-960h")
    if tiny:
        make_tiny(folder / "taesd", config)
    return folder
