"""The command line as a person uses it: real files in, playable files out, one-line errors."""

import subprocess
import sys

import av
import numpy as np
import pytest
import torch

from llia_core.__main__ import main
from llia_core.doctor import report
from llia_core.media import write_image
from llia_core.model.load import BUNDLED

PORTRAIT, SPEECH = str(BUNDLED.parent / "demo_portrait.png"), BUNDLED.parent / "demo_speech.wav"


def sound(path, seconds: float, rate: int = 16_000, channels: int = 1):
    """A wav file with a cut of the bundled speech, or silence beyond it."""
    import wave

    with wave.open(str(SPEECH)) as file:
        pcm = torch.from_numpy(np.frombuffer(file.readframes(int(seconds * 16_000)), np.int16).copy())
    if rate != 16_000:
        pcm = pcm[(torch.arange(int(seconds * rate)) * 16_000 // rate).clamp(max=max(len(pcm) - 1, 0))]
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(pcm[:, None].expand(-1, channels).contiguous().numpy().tobytes())
    return str(path)


def animate(*more: str) -> int:
    return main(["animate", "--size", "64", *more])


def probe(path) -> tuple[int, float, float]:
    """Frames, seconds of picture, seconds of sound."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        stream = container.streams.audio[0]  # its duration is after the codec's padding, which players skip
        return frames, frames / 25, float(stream.duration * stream.time_base)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 6), (192_000, 2)])
def test_animate_writes_picture_and_sound_of_the_same_length(tmp_path, rate, channels, capsys):
    out = tmp_path / "out.mp4"
    audio = sound(tmp_path / "a.wav", 0.9, rate, channels)
    assert animate("--portrait", PORTRAIT, "--audio", audio, "-o", str(out)) == 0
    frames, seconds, heard = probe(out)
    assert frames == 23 and abs(heard - seconds) <= 0.06
    assert "fps" in capsys.readouterr().out


def test_states_expression_and_steps_change_the_result(tmp_path):
    audio = sound(tmp_path / "a.wav", 0.6)
    outs = [tmp_path / f"{i}.mp4" for i in range(3)]
    base = ["--portrait", PORTRAIT, "--audio", audio]
    assert animate(*base, "-o", str(outs[0])) == 0
    assert animate(*base, "-o", str(outs[1]), "--expression", "smile=0.8,brow_raise=0.5") == 0
    more = ["--states", "0-0.3 idle; 0.3- speaking", "--other", audio, "--steps", "2", "--behaviour", "0"]
    assert animate(*base, "-o", str(outs[2]), *more) == 0
    assert len({path.read_bytes() for path in outs}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--portrait": "none.png"}, "none.png"),
        ({"--audio": "none.wav"}, "none.wav"),
        ({"--audio": PORTRAIT}, "demo_portrait.png"),
        ({"--portrait": "grey.png"}, "No face found"),
        ({"--audio": "empty.wav"}, "empty"),
        ({"--audio": "short.wav"}, "shorter than half a frame"),
        ({"--states": "0-1 dancing"}, "dancing"),
        ({"--expression": "smirk=1"}, "smirk"),
        ({"--steps": "9"}, "1 to 8"),
        ({"--size": "7"}, "64 to 1024"),
        ({"--face-box": "1,2,3"}, "x0,y0,x1,y1"),
        ({"--model": "none.safetensors"}, "none.safetensors"),
        ({"-o": "nowhere/out.mp4"}, "does not exist"),
    ],
)
def test_what_cannot_work_is_said_in_a_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    write_image("grey.png", torch.full((200, 200, 3), 128, dtype=torch.uint8))
    sound("a.wav", 0.5), sound("empty.wav", 0.0), sound("short.wav", 0.01)
    before = set(tmp_path.iterdir())
    options = {"--portrait": PORTRAIT, "--audio": "a.wav", "-o": "out.mp4"} | change
    assert animate(*(word for pair in options.items() for word in pair)) == 1
    error = capsys.readouterr().err.splitlines()
    assert message in "\n".join(error) and "Traceback" not in "\n".join(error)
    assert set(tmp_path.iterdir()) == before


def test_a_face_box_works_where_no_face_is_found(tmp_path):
    picture = tmp_path / "plain.png"
    write_image(picture, torch.full((200, 200, 3), 128, dtype=torch.uint8))
    audio = sound(tmp_path / "a.wav", 0.2)
    out = str(tmp_path / "o.mp4")
    assert animate("--portrait", str(picture), "--audio", audio, "-o", out, "--face-box", "60,40,140,160") == 0


def test_interrupt_leaves_a_playable_file(tmp_path, monkeypatch):
    from llia_core import video

    original, out = video.VideoWriter.write, tmp_path / "o.mp4"

    def write_then_interrupt(self, frames):
        original(self, frames)
        if self.frames_written > 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(video.VideoWriter, "write", write_then_interrupt)
    audio = sound(tmp_path / "a.wav", 2.0)
    assert animate("--portrait", PORTRAIT, "--audio", audio, "-o", str(out)) == 130
    frames, _, heard = probe(out)
    assert 8 < frames < 50 and abs(heard - frames / 25) < 0.08
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "o.mp4"]


def test_bench_and_doctor_print_what_they_found(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main(["bench", "--size", "64", "--steps", "1", "--seconds", "1.5", "--json", str(path)]) == 0
    assert '"fps"' in path.read_text()
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "bundled checkpoint" in said and "hallo/net.pth of huggingface.co/fudan-generative-ai/hallo" in said


def test_doctor_names_what_a_photoreal_folder_lacks(tmp_path):
    (tmp_path / "hallo").mkdir()
    (tmp_path / "hallo" / "model.safetensors").touch()
    said = "\n".join(report(tmp_path))
    assert f"MISSING vae.safetensors, speech.safetensors in {tmp_path / 'hallo'}" in said and "convert hallo" in said


def test_help_of_every_command_and_nothing_heavy_at_import():
    heavy = {"torchaudio", "transformers", "av"}
    code = f"import sys, llia_core.__main__ as m; m.parser(); print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    for command in ("animate", "bench", "evaluate", "train", "convert", "doctor"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
