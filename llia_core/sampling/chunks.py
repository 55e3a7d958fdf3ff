"""How many frames the next clip has: short at first and after a state change for latency, then longer for throughput.

LLIA (arXiv 2506.05806) trains on clips of random length so that one model makes clips of any; the schedule of lengths
is not public. Here they double from `first` to `largest`, and start again where the label changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class ChunkPlanner:
    """Plans clips from what is known so far; the plan depends on labels and total length, never on how they arrive.

    A clip is planned when all its frames are there, or the label changes within it, or the stream has ended.
    """

    first: int = 2  # frames of the first clip, and of the first one in a new state
    largest: int = 16
    size: int = 0  # frames of the clip planned last, before it was cut; 0: none yet
    label: int | None = None  # its label

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.largest:
            raise ValueError(
                f"clips of {self.first} to {self.largest} frames asked for, expected 1 <= first <= largest"
            )

    def next(self, available: int, labels: Sequence[int], ended: bool) -> int:
        """Frames of the next clip, or 0: wait for more.

        available: frames after those already planned whose sound (with lookahead) is there; labels: their labels, at
        least `available` of them; ended: no more will come, so that a shorter last clip completes the total.
        """
        if len(labels) < available:
            raise ValueError(f"{available} frames are available, but only {len(labels)} have labels")
        if available == 0:
            return 0
        fresh = self.label is None or labels[0] != self.label
        size = self.first if fresh else min(2 * self.size, self.largest)
        limit = min(size, available)
        frames = next((index for index in range(1, limit) if labels[index] != labels[0]), limit)
        # A clip cut by a change of label needs that change to be known: with all `size` frames there, it is.
        if frames == available < size and not ended:
            return 0
        self.size, self.label = size, int(labels[0])
        return frames

    def state_dict(self) -> dict:
        return {"size": self.size, "label": self.label}

    def load_state_dict(self, state: dict) -> None:
        self.size, self.label = state["size"], state["label"]
