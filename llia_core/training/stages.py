"""The recipe of the bundled checkpoint: every stage with its settings, in one place."""

import json
from collections.abc import Callable
from pathlib import Path

from . import audio_encoder, autoencoder, consistency, rig, video
from .loop import Run

# What scale 1 stands for. docs/training.md says how long it took on which machine.
CLIPS, HELD_OUT = 2816, 96
STEPS = {"audio": 2500, "vae": 350, "rig": 4000, "video": 2400, "consistency": 300, "rollout": 150, "distill": 2000}
RATES = {"audio": 2e-3, "vae": 3e-3, "rig": 2e-3, "video": 1e-3, "consistency": 2e-4, "rollout": 1.5e-4}
RATES["distill"] = 8e-6  # as latent consistency models are distilled; the others train a small model from nothing
ORDER = ("clips", "audio", "vae", "rig", "video", "consistency", "rollout")


def run_stage(stage: str, runs: Path, scale: float, minutes: float, videos: str | None, device: str) -> None:
    """Run `stage` (or all) in the folder `runs`; whatever is there is resumed."""
    if not 0 < scale <= 100:
        raise ValueError(f"scale is {scale}, expected above 0 and up to 100")
    for name in ORDER if stage == "all" else (stage,):
        print(f"stage {name}", flush=True)
        if name == "clips":
            _clips(runs, scale, videos)
        else:
            _RUNNERS[name](_run(name, runs, scale, minutes, device), runs, scale)


def run_teacher(
    teacher: Path, runs: Path, scale: float, minutes: float, videos: str | None, device: str, size: int
) -> Path:
    """Distil a photoreal model (distill.py) in the folder `runs`; returns the folder of the few-step model."""
    from .distill import run_distillation

    run = _run("distill", runs, scale, minutes, device)
    found = Path(videos) if videos else None
    return run_distillation(run, teacher, runs / "portrait_clips", runs / "distilled", size, found)


def _run(name: str, runs: Path, scale: float, minutes: float, device: str) -> Run:
    steps = max(2, round(STEPS[name] * scale))
    every = max(1, min(300 if name == "video" else 1000 if name == "rig" else 150, steps // 2))
    return Run(
        runs / name,
        steps,
        RATES[name],
        warmup=min(100, steps // 4),
        minutes=minutes,
        save_every=every,
        device=device,
    )


def _clips(runs: Path, scale: float, videos: str | None) -> None:
    from .synth.clips import make_clips
    from .video_folder import cut_clips

    pool = max(8, round(700 * min(1.0, scale)))
    make_clips(runs / "held_out", max(4, round(HELD_OUT * min(1.0, scale))), seed=900, utterances=min(60, pool))
    if videos:
        cut_clips(Path(videos), runs / "clips")
    else:
        make_clips(runs / "clips", max(8, round(CLIPS * scale)), seed=11, utterances=pool)


def _audio(run: Run, runs: Path, scale: float) -> None:
    audio_encoder.run_stage(run, utterances=max(16, round(4000 * min(1.0, scale))), batch=32 if scale > 0.1 else 4)


def _vae(run: Run, runs: Path, scale: float) -> None:
    autoencoder.run_stage(run, runs / "clips", runs / "held_out", batch=12 if scale > 0.1 else 2)


def _rig(run: Run, runs: Path, scale: float) -> None:
    rig.run_stage(run, runs / "clips", runs / "held_out", batch=128 if scale > 0.1 else 8)


def _video(run: Run, runs: Path, scale: float) -> None:
    video.run_video(run, runs, runs / "clips", runs / "held_out", batch=10 if scale > 0.1 else 1)


def _consistency(run: Run, runs: Path, scale: float) -> None:
    consistency.run_consistency(run, runs / "video", runs / "clips", runs / "held_out", batch=8 if scale > 0.1 else 1)


def _rollout(run: Run, runs: Path, scale: float) -> None:
    start = "consistency" if (runs / "consistency" / "avatar.pt").is_file() else "video"
    consistency.run_rollout(run, runs / start, runs / "clips", runs / "held_out", batch=8 if scale > 0.1 else 1)


_RUNNERS: dict[str, Callable[[Run, Path, float], None]] = {
    "audio": _audio,
    "vae": _vae,
    "rig": _rig,
    "video": _video,
    "consistency": _consistency,
    "rollout": _rollout,
}


def export(runs: Path, output: Path) -> str:
    """The last trained stage of `runs` as a checkpoint file; returns which stage it was."""
    from ..model.load import save_model

    trained = [name for name in ("rollout", "consistency", "video") if (runs / name / "avatar.pt").is_file()]
    if not trained:
        raise FileNotFoundError(
            f"{runs} holds no trained video model; run: python -m llia_core train all --runs {runs}"
        )
    folder = runs / trained[0]
    model = video.new_avatar(runs)
    video.load_video_weights(model, folder / "avatar.pt")
    rows = (folder / "metrics.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=False))
    save_model(model, output, {"stage": trained[0], "metrics": json.dumps(last), "data": "procedural"})
    return f"{folder} at step {last['step']}"
