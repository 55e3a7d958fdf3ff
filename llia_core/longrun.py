"""A long live run in real time: sound arrives by the clock, a viewer plays at 25 frames a second, who is late?"""

import gc
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from .audio import FPS, SAMPLES_PER_FRAME
from .pipeline import Pipeline
from .session import Session

BUFFER_MS = 200.0  # that the viewer holds before it starts to play
LARGEST = 4  # frames of a live clip: longer ones would wait for their last frame's sound
BLOCK = 2 * SAMPLES_PER_FRAME  # 80 ms, as a sound card gives it


def resident_mb() -> float:
    """Memory of this process now; where /proc is missing, the most it ever had."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def paced(
    speech: Tensor, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Tensor]:
    """Blocks of `speech`, repeated, each when its last sample has sounded, for `seconds`."""
    started, total = clock(), round(seconds * FPS) * SAMPLES_PER_FRAME
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        wait = started + stop / (FPS * SAMPLES_PER_FRAME) - clock()
        if wait > 0:
            sleep(wait)
        places = torch.arange(start, stop) % len(speech)
        yield speech[places]


def live_run(
    session: Session,
    speech: Tensor,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """Frames' lateness in ms (0: on time) for a viewer that starts BUFFER_MS after the first frames and never waits.

    session: with clips of at most LARGEST frames. Returns share_on_time, percentiles of lateness, the most clips that
    waited anywhere, and resident memory after a tenth of the run and at its end.
    """
    lateness: list[float] = []
    memory: list[float] = []
    first = None
    pipeline = Pipeline(session)
    for frames in pipeline.chunks(paced(speech, seconds, clock, sleep)):
        now = clock()
        first = now if first is None else first
        due = first + BUFFER_MS / 1000
        lateness += [max(0.0, 1000 * (now - due - (len(lateness) + k) / FPS)) for k in range(len(frames))]
        if len(memory) < int(10 * len(lateness) / (seconds * FPS)):
            gc.collect()
            memory.append(resident_mb())
            report(f"{len(lateness)} frames, {memory[-1]:.0f} MB")
    values = torch.tensor(lateness or [0.0])
    percentiles = {f"late_p{p:g}_ms": float(values.quantile(p / 100)) for p in (50, 95, 99, 99.9)}
    return {
        "seconds": seconds,
        "frames": len(lateness),
        "share_on_time": float((values == 0).float().mean()),
        **percentiles,
        "late_max_ms": float(values.max()),
        "queued_most": pipeline.queued_most,
        "memory_first_mb": memory[0] if memory else resident_mb(),
        "memory_last_mb": resident_mb(),
    }
