"""llia-sd15, the paper's geometry: whole pictures from a Stable Diffusion 1.5 UNet with Hallo v1's open weights."""

from .model import Photoreal, load_photoreal
from .session import GUIDANCE, PARITY, PhotorealSession, Settings, open_session

__all__ = ["GUIDANCE", "PARITY", "Photoreal", "PhotorealSession", "Settings", "load_photoreal", "open_session"]
