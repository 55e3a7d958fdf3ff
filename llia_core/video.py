"""Frames and sound to an MP4 file (PyAV), complete or not there at all."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from .audio import FPS

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


def partial_file(path: Path) -> Path:
    """Make an empty hidden file beside `path` to write into, so that the rename at the end cannot cross file systems.

    Raises OSError (FileNotFoundError, PermissionError, ...) that says why `path` cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder, expected a file name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    partial = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        partial.open("xb").close()
    except OSError as error:
        raise type(error)(error.errno, f"cannot write into folder {path.parent}: {error.strerror}") from error
    return partial


class VideoWriter:
    """MP4 (H.264, AAC, fast start) at 25 frames a second, as a context manager.

    Written to a hidden file beside `path` that takes its name when the block ends, also by Ctrl-C once a frame was
    written; after any other error nothing is left. Frame k is shown at exactly k / 25 s. Sound may be handed over ahead
    of the frames or behind them; at the end it is cut or padded with silence to the picture, within half a frame.
    An odd width or height is padded by one repeated line, which H.264 in 4:2:0 needs.
    Raises OSError if the file cannot be written, ValueError for frames or samples of another shape.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, sample_rate: int | None = None, channels: int = 1
    ) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"video size is {width}x{height}, expected at least 1x1")
        if channels not in (1, 2):
            raise ValueError(f"video sound has {channels} channels, expected 1 or 2; average them first")
        self.path, self.width, self.height = Path(path), width, height
        self.sample_rate, self.channels = sample_rate, channels
        self.frames_written = 0
        self._samples_written = 0
        self._pending: list[np.ndarray] = []  # sound that came ahead of its frames, (channels, n) each
        self._partial = partial_file(self.path)
        self._container = None
        try:
            self._open()
        except BaseException:
            self.close(keep=False)
            raise

    def _open(self) -> None:
        import av

        self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        video = self._container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "veryfast"})
        video.width, video.height = self.width + self.width % 2, self.height + self.height % 2
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.time_base = Fraction(1, FPS)
        # Said in the file, so that players need not guess: BT.709, limited range.
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        self._video, self._audio = video, None
        if self.sample_rate is None:
            return
        rate = next((rate for rate in AAC_RATES if rate >= self.sample_rate), 48000)
        layout = "mono" if self.channels == 1 else "stereo"
        self._audio = self._container.add_stream("aac", rate=rate, layout=layout)
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)

    def write(self, frames: torch.Tensor) -> None:
        """Append uint8 (n, H, W, 3) RGB frames."""
        if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[1:] != (self.height, self.width, 3):
            expected = f"uint8 (n, {self.height}, {self.width}, 3)"
            raise ValueError(f"frames are {frames.dtype} {tuple(frames.shape)}, expected {expected}")
        with self._disk_errors():
            for frame in frames.cpu().numpy():
                self._write_frame(frame)
            self._write_sound(until=self.frames_written)

    def _write_frame(self, frame: np.ndarray) -> None:
        import av

        frame = np.pad(frame, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base = self.frames_written, Fraction(1, FPS)
        self._container.mux(self._video.encode(picture))
        self.frames_written += 1

    def write_audio(self, samples: torch.Tensor) -> None:
        """Append floating-point (channels, n) or (n,) samples in [-1, 1] at the writer's sample rate."""
        if self.sample_rate is None:
            raise ValueError("this video was opened without sound: give VideoWriter a sample_rate")
        samples = samples[None] if samples.dim() == 1 else samples
        if not samples.is_floating_point() or samples.dim() != 2 or samples.shape[0] != self.channels:
            expected = f"floating point ({self.channels}, n)"
            raise ValueError(f"sound is {samples.dtype} {tuple(samples.shape)}, expected {expected}")
        self._pending.append(samples.detach().cpu().float().clamp(-1, 1).numpy())
        with self._disk_errors():
            self._write_sound(until=self.frames_written)

    def _write_sound(self, until: float) -> None:
        """Encode pending sound up to frame `until`: never ahead of the picture, so that an early stop fits."""
        if self._audio is None:
            return
        until = int(until * self.sample_rate / FPS)
        while self._pending and self._samples_written < until:
            piece = self._pending.pop(0)
            room = until - self._samples_written
            if piece.shape[1] > room:
                self._pending.insert(0, piece[:, room:])
            self._encode_sound(piece[:, :room])

    def _encode_sound(self, samples: np.ndarray) -> None:
        import av

        if samples.shape[1] == 0:
            return
        layout = "mono" if self.channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = self.sample_rate, self._samples_written
        frame.time_base = Fraction(1, self.sample_rate)
        self._samples_written += samples.shape[1]
        for converted in self._resampler.resample(frame):
            self._container.mux(self._audio.encode(converted))

    def close(self, keep: bool = True) -> None:
        """Finish: keep=True pads or cuts the sound and gives the file its name, False (or no frame yet) removes it."""
        if self._partial is None:
            return
        keep = keep and self.frames_written > 0
        try:
            if keep:
                with self._disk_errors():
                    self._finish()
                    os.replace(self._partial, self.path)
        finally:
            self._abandon()

    def _finish(self) -> None:
        if self._audio is not None:
            self._write_sound(until=self.frames_written + 0.5)  # frames = round(seconds * 25): up to half may be over
            missing = int(self.frames_written * self.sample_rate / FPS) - self._samples_written
            if missing > 0:
                self._encode_sound(np.zeros((self.channels, missing), dtype=np.float32))
            for converted in self._resampler.resample(None):
                self._container.mux(self._audio.encode(converted))
            self._container.mux(self._audio.encode(None))
        self._container.mux(self._video.encode(None))
        container, self._container = self._container, None
        container.close()

    def _abandon(self) -> None:
        """Close what is open and remove the partial file, if it was not renamed."""
        import av

        if self._partial is None:
            return
        partial, self._partial = self._partial, None
        container, self._container = self._container, None
        self._pending.clear()
        if container is not None:
            # Why it failed is being raised already, or nobody wants the file.
            with suppress(OSError, ValueError, av.FFmpegError):
                container.close()
        partial.unlink(missing_ok=True)

    @contextmanager
    def _disk_errors(self):
        """FFmpeg's errors as OSError with the file's name and the space left."""
        import av

        if self._partial is None:
            raise ValueError(f"video {self.path} is closed")
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self._abandon()
            free = shutil.disk_usage(self.path.parent).free // 2**20
            message = f"cannot write {self.path}: {error.strerror}; {free} MiB are free in {self.path.parent}"
            raise OSError(error.errno, message) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.close(keep=kind is None or issubclass(kind, KeyboardInterrupt))
