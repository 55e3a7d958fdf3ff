"""What the command line does, one function a command; `arguments` are those of __main__.py."""

import json
import time
from argparse import Namespace
from pathlib import Path

import torch

STAGES = ("clips", "audio", "vae", "rig", "video", "consistency", "rollout", "all")


def animate(arguments: Namespace) -> None:
    """Portrait and sound to mp4, with a progress bar; Ctrl-C leaves a playable file of what was made."""
    from tqdm import tqdm

    from .audio import SAMPLE_RATE, frame_count, to_mono_16k
    from .media import read_audio
    from .timeline import parse_timeline
    from .video import VideoWriter

    timeline = parse_timeline(arguments.states) if arguments.states else None
    waveform, rate = read_audio(arguments.audio)
    samples = to_mono_16k(waveform, rate)
    other = _other_track(arguments.other, len(samples))
    portrait = _portrait(arguments)
    total = frame_count(len(samples))
    if total == 0:
        raise ValueError(
            f"{arguments.audio} lasts {len(samples) / SAMPLE_RATE:.3f} s: shorter than half a frame (0.02 s)"
        )
    session, source = _session(arguments, portrait, timeline)
    size, started, first = portrait.size, time.perf_counter(), None
    channels = min(2, waveform.shape[0])
    sound = waveform if waveform.shape[0] <= 2 else waveform.mean(0, keepdim=True).expand(2, -1)
    with VideoWriter(arguments.output, size, size, rate, channels) as writer, tqdm(total=total, unit="frame") as bar:
        writer.write_audio(sound)
        for frames in source.chunks(_blocks(samples), _blocks(other) if other is not None else None):
            first = first or time.perf_counter() - started
            writer.write(frames)
            bar.update(len(frames))
    seconds = time.perf_counter() - started
    print(
        f"{arguments.output}: {session.state.frame} frames of {size}x{size}, {session.state.frame / seconds:.1f} fps, "
        f"first frames after {first * 1000:.0f} ms of computing"
    )


def _session(arguments: Namespace, portrait, timeline) -> tuple:
    """The session that was asked for, and what makes its chunks: itself, or a pipeline of its stages."""
    from .model.load import load_model
    from .photoreal import open_session
    from .pipeline import Pipeline, parse_devices

    model = load_model(arguments.model, arguments.device, precision=arguments.precision)
    session = open_session(
        model, portrait, arguments.guidance, steps=arguments.steps, seed=arguments.seed, behaviour=arguments.behaviour,
        timeline=timeline,
    )  # fmt: skip
    if arguments.pipeline is None:
        return session, session
    return session, Pipeline(session, parse_devices(arguments.pipeline))


def _blocks(samples: torch.Tensor, size: int = 16_000):
    """A second at a time, as a microphone would give it: nothing is held twice."""
    return (samples[i : i + size] for i in range(0, len(samples), size))


def _other_track(path: str | None, length: int) -> torch.Tensor | None:
    if path is None:
        return None
    from .audio import to_mono_16k
    from .media import read_audio

    samples = to_mono_16k(*read_audio(path))[:length]
    return torch.nn.functional.pad(samples, (0, length - len(samples)))


def _portrait(arguments: Namespace):
    from .expression import parse_expression
    from .media import read_image
    from .portrait import prepare_portrait

    expression = parse_expression(arguments.expression) if arguments.expression else None
    box = None
    if arguments.face_box:
        try:
            box = tuple(float(v) for v in arguments.face_box.split(","))
            if len(box) != 4:
                raise ValueError
        except ValueError:
            raise ValueError(f"--face-box is {arguments.face_box!r}, expected x0,y0,x1,y1 in pixels") from None
    return prepare_portrait(read_image(arguments.portrait), arguments.size, face_box=box, expression=expression)


def bench(arguments: Namespace) -> None:
    """Speed, latency and memory as a table; with --minutes, a live run in real time."""
    from .performance import Grid, live, rows, start_up, unet_gain, write_json

    if arguments.minutes:
        found = [live(arguments.model, arguments.device, arguments.size[:1], arguments.precision[0], arguments.minutes)]
    else:
        grid = Grid(
            arguments.model, arguments.device, tuple(arguments.size), tuple(arguments.steps),
            tuple(arguments.precision), tuple(arguments.engine), arguments.seconds,
        )  # fmt: skip
        found = []
        for row in rows(grid):
            found.append(row)
            if arguments.json:  # after every row: what ends early has left something
                write_json(arguments.json, found)
        if arguments.start_up:
            if {"float32", "int8"} <= {*grid.precisions}:
                unet_gain(grid)
            start_up(grid.precisions)
    if arguments.json:
        write_json(arguments.json, found)


def quantize(arguments: Namespace) -> None:
    """A checkpoint to its INT8 form."""
    from tqdm import tqdm

    from .calibration import quantize_checkpoint

    with tqdm(unit="layer") as bar:

        def progress(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        output, report = quantize_checkpoint(
            arguments.checkpoint, arguments.output, arguments.portrait, arguments.audio, arguments.target_db, progress,
            arguments.device,
        )  # fmt: skip
    print(f"{output}: {report}")


def evaluate(arguments: Namespace) -> None:
    """Figures read from the frames, with the rendered truth and a frozen face beside them."""
    from .evaluation import evaluate_checkpoint

    figures = evaluate_checkpoint(
        arguments.model, arguments.identities, arguments.steps, arguments.minutes, arguments.speech, arguments.sheet
    )
    for name, value in figures.items():
        print(f"{name:>34}  {value:.3f}" if isinstance(value, float) else f"{name:>34}  {value}")
    _write_json(arguments.json, figures)


def _write_json(path: str | None, data: dict) -> None:
    if path:
        Path(path).write_text(json.dumps(data, indent=1) + "\n")


def train(arguments: Namespace) -> None:
    """One training stage, or all of them; with --teacher, distillation of a photoreal model."""
    from .training.stages import run_stage, run_teacher

    if arguments.teacher:
        if arguments.stage != "consistency":
            raise ValueError(f"--teacher goes with `train consistency`, not with `train {arguments.stage}`")
        made = run_teacher(
            Path(arguments.teacher), Path(arguments.runs), arguments.scale, arguments.minutes, arguments.videos,
            arguments.device, arguments.size,
        )  # fmt: skip
        print(f"{made}: few-step model, to be put into models/llia")
        return
    run_stage(
        arguments.stage, Path(arguments.runs), arguments.scale, arguments.minutes, arguments.videos, arguments.device
    )


def convert(arguments: Namespace) -> None:
    """Training results to one checkpoint file, or open weights to a folder."""
    if arguments.kind == "hallo":
        from .importer import convert_hallo, find_sources

        given = {part: getattr(arguments, part) for part in ("net", "vae", "speech", "tiny")}
        folder = Path(arguments.folder) if arguments.folder else None
        print(convert_hallo(find_sources(folder, **given), Path(arguments.output), say=print))
        return
    from .training.stages import export

    print(f"{arguments.output}: from {export(Path(arguments.runs), Path(arguments.output))}")


def doctor(arguments: Namespace) -> None:
    """What is there and what is missing."""
    from .doctor import report

    print("\n".join(report()))
