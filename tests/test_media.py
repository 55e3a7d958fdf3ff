import math
import resource
import struct
import wave

import av
import numpy as np
import pytest
import torch
from PIL import Image

from llia_core.media import VideoWriter, contact_sheet, read_audio, read_image, write_image

RED, BLUE = (200, 90, 40), (20, 90, 220)


def frames_of(colour, count=1, height=48, width=64):
    return torch.tensor(colour, dtype=torch.uint8).expand(count, height, width, 3)


def write_video(path, frames, sample_rate=None, seconds=0.0, channels=1):
    with VideoWriter(path, frames.shape[2], frames.shape[1], sample_rate, channels) as writer:
        if sample_rate:
            time = torch.arange(int(seconds * sample_rate)) / sample_rate
            writer.write_audio(0.5 * torch.sin(2 * torch.pi * 300 * time).repeat(channels, 1))
        for part in frames.split(7):
            writer.write(part)


def stream_seconds(path):
    with av.open(str(path)) as container:
        return [float(stream.duration * stream.time_base) for stream in container.streams]


# Pictures


def test_image_round_trip(tmp_path):
    image = torch.rand(3, 20, 30) * 2 - 1
    write_image(tmp_path / "a.png", image)
    torch.testing.assert_close(read_image(tmp_path / "a.png"), image, atol=1 / 127, rtol=0)
    write_image(tmp_path / "b.png", frames_of(RED)[0])
    assert ((read_image(tmp_path / "b.png")[:, 5, 5] + 1) * 127.5).round().tolist() == list(RED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_mode_of_a_bright_picture_is_bright(tmp_path, mode):
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "F": "tiff", "I": "tiff"}.get(mode, "png")
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((20, 20), 52000, dtype=np.uint16 if mode == "I;16" else np.int32))
    elif mode == "F":
        image = Image.fromarray(np.full((20, 20), 0.8, dtype=np.float32))
    else:
        image = Image.new("RGB", (20, 20), (255,) * 3 if mode == "1" else (204,) * 3).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.shape == (3, 20, 20) and pixels.dtype == torch.float32
    assert pixels.mean() == pytest.approx(1.0 if mode == "1" else 0.6, abs=0.02)


def test_transparent_parts_turn_grey(tmp_path):
    image = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    image.paste((0, 255, 0, 255), (0, 0, 5, 10))
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels[:, 5, 2].tolist() == [-1, 1, -1]
    assert pixels[:, 5, 8].abs().max() < 0.01


def test_exif_turns_the_picture_upright(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise: bright on top
    image.save(tmp_path / "a.jpg", exif=exif)
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == (3, 40, 20)
    assert pixels[:, :15].mean() > 0.9 and pixels[:, 25:].mean() < -0.9


def test_tiny_and_huge_pictures(tmp_path):
    Image.new("RGB", (16, 16), RED).save(tmp_path / "tiny.png")
    assert read_image(tmp_path / "tiny.png").shape == (3, 16, 16)
    stripes = np.zeros((100, 8000), dtype=np.uint8)
    stripes[:, ::2] = 255  # finer than the result: antialiased to grey, not to bars
    Image.fromarray(stripes).save(tmp_path / "huge.png")
    pixels = read_image(tmp_path / "huge.png")
    assert pixels.shape == (3, 26, 2048) or pixels.shape == (3, 25, 2048)
    assert pixels.abs().max() < 0.1


@pytest.mark.parametrize("read", [read_image, read_audio])
def test_unreadable_files_are_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match="none.xyz"):
        read(tmp_path / "none.xyz")
    with pytest.raises(ValueError, match="folder"):
        read(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty.png.*0 bytes"):
        read(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("not a picture and not a sound" * 50)
    with pytest.raises(ValueError, match=r"text.png.*(convert it|no sound track)"):
        read(tmp_path / "text.png")


def test_broken_picture_is_named(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(ValueError, match="half.png"):
        read_image(tmp_path / "half.png")


def test_contact_sheet_keeps_order():
    frames = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 4, 6, 3)
    sheet = contact_sheet(frames, columns=3, gap=2)
    assert sheet.shape == (12, 24, 3)
    assert [int(sheet[row, column, 0]) for row, column in ((0, 0), (0, 8), (0, 16), (6, 0), (6, 8))] == [0, 1, 2, 3, 4]
    assert sheet[6, 16, 0] == 255


# Sound


@pytest.mark.parametrize(("width", "channels", "rate"), [(1, 1, 8000), (2, 2, 44100), (3, 6, 48000), (4, 1, 192000)])
def test_wav_of_any_depth(tmp_path, width, channels, rate):
    values = [round(0.5 * (2 ** (8 * width - 1) - 1) * math.sin(index / 20)) for index in range(1000)]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        offset = 128 if width == 1 else 0
        packed = [(value + offset).to_bytes(width, "little", signed=width > 1) * channels for value in values]
        file.writeframes(b"".join(packed))
    waveform, sample_rate = read_audio(tmp_path / "a.wav")
    assert waveform.shape == (channels, 1000) and waveform.dtype == torch.float32 and sample_rate == rate
    truth = 0.5 * torch.sin(torch.arange(1000) / 20)
    assert (waveform - truth).abs().max() < 2.0 / 2 ** (8 * width - 1) + 1e-4


def test_video_without_sound_and_sound_without_samples(tmp_path):
    write_video(tmp_path / "a.mp4", frames_of(RED, 3))
    with pytest.raises(ValueError, match="no sound track"):
        read_audio(tmp_path / "a.mp4")
    header = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36, b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", 0)
    (tmp_path / "b.wav").write_bytes(header)
    with pytest.raises(ValueError, match=r"b\.wav"):
        read_audio(tmp_path / "b.wav")


# Video


def test_frames_have_exact_times_and_true_colours(tmp_path):
    write_video(tmp_path / "a.mp4", torch.cat([frames_of(RED, 12), frames_of(BLUE, 13)]))
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [(frame.pts * frame.time_base * 25, frame.to_ndarray(format="rgb24")) for frame in container.decode()]
    assert [time for time, _ in frames] == list(range(25))
    for (_, picture), colour in zip((frames[0], frames[24]), (RED, BLUE), strict=True):
        assert np.abs(picture.reshape(-1, 3).mean(axis=0) - colour).max() < 4


@pytest.mark.parametrize(
    ("frames", "rate", "seconds", "channels"),
    [(25, 16000, 1.0, 1), (33, 44100, 1.319, 2), (3, 16000, 0.1, 1), (20, 22255, 30.0, 1), (40, 192000, 0.0, 2)],
)
def test_sound_is_as_long_as_the_picture(tmp_path, frames, rate, seconds, channels):
    write_video(tmp_path / "a.mp4", frames_of(RED, frames), rate, seconds, channels)
    video, sound = stream_seconds(tmp_path / "a.mp4")
    assert video == pytest.approx(frames / 25, abs=1e-6)
    assert abs(video - sound) <= 0.5 / 25 + 1e-3


def test_sound_is_in_time(tmp_path):
    clicks = torch.zeros(32_000)
    clicks[16_000:16_160] = torch.sin(torch.arange(160) / 5)
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 16_000) as writer:
        writer.write(frames_of(RED, 50))
        writer.write_audio(clicks)
    waveform, _ = read_audio(tmp_path / "a.mp4")
    loudest = waveform[0].square().unfold(0, 160, 1).sum(dim=1).argmax()
    assert abs(int(loudest) - 16_000) < 100


def test_odd_sizes_are_padded(tmp_path):
    write_video(tmp_path / "a.mp4", frames_of(RED, 2, 47, 65))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (66, 48)


def test_ctrl_c_leaves_what_was_made_and_an_error_leaves_nothing(tmp_path):
    def stop_with(error, path):
        with pytest.raises(type(error)), VideoWriter(path, 64, 48, 16_000) as writer:
            writer.write_audio(torch.zeros(160_000))
            writer.write(frames_of(RED, 10))
            raise error

    stop_with(KeyboardInterrupt(), tmp_path / "stopped.mp4")
    assert stream_seconds(tmp_path / "stopped.mp4") == pytest.approx([0.4, 0.4], abs=0.021)
    stop_with(RuntimeError("model failed"), tmp_path / "failed.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.mp4"]


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path):
    (tmp_path / "a.mp4").write_text("older")
    with VideoWriter(tmp_path / "a.mp4", 64, 48) as writer:
        writer.write(frames_of(RED, 2))
        assert (tmp_path / "a.mp4").read_text() == "older"
    assert (tmp_path / "a.mp4").stat().st_size > 500
    with VideoWriter(tmp_path / "none.mp4", 64, 48):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        VideoWriter(tmp_path / "none" / "a.mp4", 64, 48)
    with pytest.raises(IsADirectoryError, match="folder"):
        VideoWriter(tmp_path, 64, 48)


def test_full_disk_is_named_and_leaves_nothing(tmp_path):
    noise = torch.randint(0, 255, (30, 256, 256, 3), dtype=torch.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # stands in for a full disk: writing on fails
    try:
        with (
            pytest.raises(OSError, match=r"cannot write .*a\.mp4.*MiB are free"),
            VideoWriter(tmp_path / "a.mp4", 256, 256) as writer,
        ):
            writer.write(noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_and_samples_are_named(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, 16_000, 2) as writer:
        with pytest.raises(ValueError, match=r"\(1, 64, 48, 3\)"):
            writer.write(frames_of(RED, 1, 64, 48))
        with pytest.raises(ValueError, match="float32"):
            writer.write(frames_of(RED).float())
        with pytest.raises(ValueError, match=r"\(1, 100\)"):
            writer.write_audio(torch.zeros(100))
    with pytest.raises(ValueError, match="closed"):
        writer.write(frames_of(RED))
    with VideoWriter(tmp_path / "b.mp4", 64, 48) as silent, pytest.raises(ValueError, match="sample_rate"):
        silent.write_audio(torch.zeros(100))
