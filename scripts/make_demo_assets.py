"""Make the bundled demo portrait (procedural, an identity that training never drew) and speech (flite's voice slt)."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import torch

from llia_core.audio import SAMPLE_RATE, to_mono_16k
from llia_core.media import read_audio, write_image
from llia_core.training.synth.portrait import ANIMATION, render, sample_identities

ASSETS = Path(__file__).parent.parent / "llia_core" / "assets"
SEED = 113
TEXT = (
    "Hello! I am a portrait, and I have just learned to speak. Give me a picture and a voice, and I will move my lips "
    "in time. When nobody talks, I simply wait, and listen."
)
# A conversation: seconds of silence after the one before, who (0 the avatar, 1 the visitor), what.
VOICES = ("slt", "rms")
TURNS = (
    (0.6, 1, "Hello there! Can you hear me?"),
    (0.5, 0, "Yes, I can hear you. What would you like to know?"),
    (0.5, 1, "Do you always move like that when somebody else is talking?"),
    (0.6, 0, "I do. I look at you, I nod now and then, and I keep my mouth shut until you have finished."),
    (2.6, 1, "And in between?"),
    (0.5, 0, "In between, I wait."),
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
    write_flac(ASSETS / "demo_conversation.flac", conversation())
    return 0


def conversation() -> torch.Tensor:
    """(2, n) at 16 kHz: what the avatar says, and what the visitor says."""
    said = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        for pause, who, text in TURNS:
            file = Path(folder) / "turn.wav"
            subprocess.run(["flite", "-voice", VOICES[who], "-t", text, "-o", file], check=True)
            turn = torch.nn.functional.pad(to_mono_16k(*read_audio(file)), (round(pause * SAMPLE_RATE), 0))
            said[who].append(turn)
            said[1 - who].append(torch.zeros_like(turn))
    return torch.nn.functional.pad(torch.stack([torch.cat(side) for side in said]), (0, 2 * SAMPLE_RATE))


def write_flac(path: Path, samples: torch.Tensor) -> None:
    """(2, n) at 16 kHz as 16-bit FLAC."""
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="stereo")
        pcm = (samples.T.reshape(1, -1) * 32767).round().short().numpy()
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())
