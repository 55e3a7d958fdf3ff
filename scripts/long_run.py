"""Length and memory of a long session: python -m scripts.long_run [--minutes 30] [--plan-hours 2]

Plans two hours of sound without making pictures, then runs a real session and prints resident memory every minute.
"""

import argparse
import resource
import time
from pathlib import Path

import torch

from llia_core.audio import FPS, SAMPLE_RATE, frame_count
from llia_core.benchmark import demo_samples, machine_name
from llia_core.evaluation import portrait_case
from llia_core.model.load import load_model
from llia_core.sampling.chunks import ChunkPlanner
from llia_core.session import Session
from llia_core.states import StateLabeller


def resident_mb() -> float:
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plan(hours: float, speech: torch.Tensor) -> tuple[int, int]:
    """(frames planned, frames expected) for `hours` of sound given a minute at a time."""
    planner, labeller, labels, planned, samples = ChunkPlanner(), StateLabeller(), [], 0, 0
    for _ in range(round(hours * 60)):
        labels += labeller.push(speech)
        samples += len(speech)
        while count := planner.next(len(labels), labels, False):
            labels, planned = labels[count:], planned + count
    labels += labeller.finish()
    while count := planner.next(len(labels), labels, True):
        labels, planned = labels[count:], planned + count
    return planned, frame_count(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--plan-hours", type=float, default=2.0)
    options = parser.parse_args()
    print(machine_name())
    minute = demo_samples(60.0)
    started = time.perf_counter()
    planned, expected = plan(options.plan_hours, minute)
    seconds = time.perf_counter() - started
    print(f"{options.plan_hours:g} h planned: {planned} frames, expected {expected}, {seconds:.1f} s")
    session = Session(load_model(), portrait_case(minute).portrait)
    made, started = 0, time.perf_counter()
    for k in range(options.minutes):
        for block in minute.split(SAMPLE_RATE):
            made += len(session.push(block))
        seconds = time.perf_counter() - started
        print(f"minute {k + 1}: {made} frames, {made / seconds:.1f} fps, {resident_mb():.0f} MB resident", flush=True)
    made += len(session.finish())
    print(f"{made} frames, expected {options.minutes * 60 * FPS}")


if __name__ == "__main__":
    main()
