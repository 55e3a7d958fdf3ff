"""The networks. Portrait -> ReferenceNet -> cache; noise, cache, audio, labels -> denoiser -> latents -> images."""

from .audio_projection import AudioProjection, FaceLocator, ImageProjection, audio_windows
from .autoencoder import build_autoencoder
from .avatar import Avatar, AvatarModel
from .config import NAMED, DenoiserConfig, ModelConfig
from .denoiser import Denoiser
from .reference import ReferenceCache, ReferenceUNet, build_reference_cache

__all__ = [
    "NAMED",
    "AudioProjection",
    "Avatar",
    "AvatarModel",
    "Denoiser",
    "DenoiserConfig",
    "FaceLocator",
    "ImageProjection",
    "ModelConfig",
    "ReferenceCache",
    "ReferenceUNet",
    "audio_windows",
    "build_autoencoder",
    "build_reference_cache",
]
