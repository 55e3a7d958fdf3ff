"""Make the bundled demo portrait (procedural, an identity that training never drew) and speech (flite's voice slt)."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from llia_core.media import write_image
from llia_core.training.synth.portrait import ANIMATION, render, sample_identities

ASSETS = Path(__file__).parent.parent / "llia_core" / "assets"
SEED = 113
TEXT = (
    "Hello! I am a portrait, and I have just learned to speak. Give me a picture and a voice, and I will move my lips "
    "in time. When nobody talks, I simply wait, and listen."
)


def main() -> int:
    animation = torch.zeros(1, len(ANIMATION))
    animation[0, ANIMATION.index("smile")] = 0.15
    identity = sample_identities(1, torch.Generator().manual_seed(SEED))
    picture = ((render(identity, animation, size=512)[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    write_image(ASSETS / "demo_portrait.png", picture.permute(1, 2, 0))
    if shutil.which("flite") is None:
        print("flite is not installed: the demo speech was left as it is", file=sys.stderr)
        return 1
    subprocess.run(["flite", "-voice", "slt", "-t", TEXT, "-o", ASSETS / "demo_speech.wav"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
