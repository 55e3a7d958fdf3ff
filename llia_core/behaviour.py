"""What a face does besides articulating: blinks, gaze, brows, smile and head motion, driven by the state labels.

The speech tells the model the lips; the rest is not in the sound. LLIA (arXiv 2506.05806) leaves it to its labels and
training data; here it is a generator of control tracks, one row a frame, which the face warp and the model take.
Figures are from the literature on conversation where there is some: blinks every 2 to 6 s with skewed intervals
(Bentivoglio et al. 1997), lids that close twice as fast as they open (Evinger et al. 1991), fixations whose
share of aversion depends on talking or listening ("Eyes Alive", Lee, Badler and Badler, SIGGRAPH 2002).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from .audio import FPS
from .states import IDLE, LISTENING, NONE, SPEAKING

# Units of a row: blink 0 open to 1 shut; gaze -1 to 1 of the eye's range; brow and smile 0 to 1; head in degrees.
# Positive gaze_x and yaw go to the right of the picture, positive gaze_y and pitch down.
CONTROLS = ("blink_left", "blink_right", "gaze_x", "gaze_y", "brow_raise", "smile", "yaw", "pitch", "roll")
HEAD_LIMITS = np.array([4.0, 3.0, 2.0])  # yaw, pitch, roll, degrees
BLINK = (0.4, 0.92, 1.0, 0.82, 0.52, 0.26, 0.09)  # 7 frames: 2 to close, 5 to open
DOUBLE_BLINK = 0.1  # share of blinks that are followed by another at once
SWAY_HZ, SETTLE_S = 0.45, 0.35  # speed of the head's drifting; time in which the face takes up a new state's manner


@dataclass(frozen=True)
class Manner:
    """How one state looks: times in seconds, head in degrees (yaw, pitch, roll)."""

    blink_every: float  # median interval
    fixation: float  # mean time that the gaze rests
    averted: float  # share of fixations that are off the viewer
    glance: float  # how far those go, of the eye's range
    sway: tuple[float, float, float]  # standard deviation of the drifting
    nod_every: float  # mean time between nods; 0: none
    brow_every: float  # the same for brow raises
    smile: float
    pitch: float  # how the head is held: a listener's leans in a little


MANNERS = {
    IDLE: Manner(4.2, 1.9, 0.40, 0.45, (1.3, 0.6, 0.5), 0.0, 0.0, 0.04, 0.0),
    LISTENING: Manner(3.6, 2.6, 0.12, 0.22, (0.8, 0.5, 0.8), 3.5, 5.0, 0.20, 0.5),
    SPEAKING: Manner(2.9, 1.6, 0.22, 0.30, (1.6, 0.9, 0.9), 0.0, 4.0, 0.07, 0.0),
}


@dataclass
class BehaviourState:
    """Everything that lives from frame to frame; times are frame numbers."""

    frame: int = 0
    manner: list[float] = field(default_factory=lambda: [0.0] * 6)  # sway x 3, smile, pitch, turn: as it is now ...
    manner_speed: list[float] = field(default_factory=lambda: [0.0] * 6)  # ... and its change a frame
    sway: list[list[float]] = field(default_factory=lambda: [[0.0] * 4] * 3)  # three low-passes: head, smile
    beat: list[float] = field(default_factory=lambda: [0.0] * 3)  # head displaced by beats of speech, degrees
    beat_speed: list[float] = field(default_factory=lambda: [0.0] * 3)
    energy: float = 0.0  # slow mean of the speech's loudness
    last_beat: int = -FPS
    next_blink: int = FPS
    blink_start: int = -FPS
    gaze: list[float] = field(default_factory=lambda: [0.0, 0.0])
    gaze_target: list[float] = field(default_factory=lambda: [0.0, 0.0])
    next_saccade: int = 0
    nod: tuple[int, int, int, float] = (-FPS, 1, 1, 0.0)  # start, frames of a cycle, cycles, degrees
    brow: tuple[int, int, int, float] = (-FPS, 1, 1, 0.0)  # the same; height


class Behaviour:
    """Control tracks from labels and loudness; the same seed gives the same face, however the frames are cut.

    amount scales everything: 0 is still, 1 natural. Blinks shut fully from 0.5 on: half-shut eyes look sleepy.
    """

    def __init__(self, seed: int = 0, amount: float = 1.0) -> None:
        if amount < 0:
            raise ValueError(f"behaviour amount is {amount}, expected 0 (still) or more")
        self.seed, self.amount = seed, amount
        self.state = BehaviourState()

    def step(self, labels, energy) -> torch.Tensor:
        """Labels (n,) and loudness (n,) in [0, 1] (audio.frame_energy) -> float32 (n, len(CONTROLS)).

        Raises ValueError if the two differ in length or a label is unknown.
        """
        labels, energy = [int(label) for label in labels], [float(value) for value in energy]
        if len(labels) != len(energy):
            raise ValueError(f"got {len(labels)} labels and {len(energy)} energies, expected as many")
        if not set(labels) <= {IDLE, LISTENING, SPEAKING, NONE}:
            raise ValueError(f"labels are {sorted(set(labels))}, expected 0 to 3")
        rows = [self._frame(label, loud) for label, loud in zip(labels, energy, strict=True)]
        scale = torch.full((len(CONTROLS),), float(self.amount))
        scale[:2] = min(1.0, 2 * self.amount)
        return torch.tensor(np.array(rows).reshape(-1, len(CONTROLS)), dtype=torch.float32) * scale

    def state_dict(self) -> dict:
        return {"seed": self.seed, "amount": self.amount, **asdict(self.state)}

    def load_state_dict(self, state: dict) -> None:
        state = deepcopy(state)
        self.seed, self.amount = state.pop("seed"), state.pop("amount")
        self.state = BehaviourState(**state)

    def _frame(self, label: int, energy: float) -> list[float]:
        """One frame: a random stream of its own, so that nothing depends on how many came before in this call."""
        state, manner = self.state, MANNERS[IDLE if label == NONE else label]
        random = np.random.default_rng((self.seed, state.frame))
        self._settle(manner)
        sway = self._sway(random)
        self._beats(random, energy, label == SPEAKING)
        self._events(random, manner)
        gaze = self._gaze(random, manner)
        blink = self._blink(random, manner)
        nod, brow = _bump(state.nod, state.frame), _bump(state.brow, state.frame)
        breath = 0.2 * np.sin(2 * np.pi * 0.22 * state.frame / FPS)
        sway_yaw, sway_pitch, sway_roll, smile, pitch, turn = state.manner
        head = np.array([sway_yaw, sway_pitch, sway_roll]) * sway[:3] + state.beat
        head += np.array([turn, nod + pitch + breath, 0.0])
        head = HEAD_LIMITS * np.tanh(head / HEAD_LIMITS)
        smile = max(0.0, smile * (1 + 0.2 * sway[3]))
        state.frame += 1
        return [blink, blink, *gaze, brow, smile, *head.tolist()]

    def _settle(self, manner: Manner) -> None:
        """Take up a state's manner without a jump; the head turns a little, and later, where the eyes went."""
        state = self.state
        target = [*manner.sway, manner.smile, manner.pitch, 1.5 * state.gaze_target[0]]
        state.manner, state.manner_speed = _spring(state.manner, state.manner_speed, target, 3 / (SETTLE_S * FPS))

    def _sway(self, random: np.random.Generator) -> np.ndarray:
        """White noise through three equal low-passes, of standard deviation 1: (4,), three head axes and the smile."""
        state = self.state
        rate = 1 - np.exp(-2 * np.pi * SWAY_HZ / FPS)
        value, passes = random.standard_normal(4), []
        for low in state.sway:
            value = low + rate * (value - np.array(low))
            passes.append(value.tolist())
        state.sway = passes
        decay = (1 - rate) ** 2
        return value / np.sqrt(rate**6 * (1 + 4 * decay + decay**2) / (1 - decay) ** 5)

    def _beats(self, random: np.random.Generator, energy: float, speaking: bool) -> None:
        """Stressed syllables, where the loudness rises over its mean, knock the head; a spring brings it back."""
        state = self.state
        rise = energy - state.energy
        state.energy += 0.08 * rise
        if speaking and rise > 0.15 and state.frame - state.last_beat > 10:
            state.last_beat = state.frame
            strength = min(1.0, 0.3 + rise) * random.uniform(0.5, 1.0)
            knock = strength * np.array([0.35 * random.standard_normal(), 0.75, 0.25 * random.standard_normal()])
            state.beat_speed = (np.array(state.beat_speed) + knock).tolist()
        state.beat, state.beat_speed = _spring(state.beat, state.beat_speed, [0.0] * 3, 0.25)

    def _events(self, random: np.random.Generator, manner: Manner) -> None:
        """Start a nod or a brow raise now and then; one that runs is finished, whatever the state is by then."""
        state, chance = self.state, random.random(2)
        if manner.nod_every and _over(state.nod, state.frame) and chance[0] * manner.nod_every * FPS < 1:
            cycles = int(random.integers(1, 4))
            state.nod = (state.frame, int(random.integers(11, 15)), cycles, float(random.uniform(1.3, 2.4)))
        if manner.brow_every and _over(state.brow, state.frame) and chance[1] * manner.brow_every * FPS < 1:
            state.brow = (state.frame, int(random.integers(16, 32)), 1, float(random.uniform(0.2, 0.5)))

    def _gaze(self, random: np.random.Generator, manner: Manner) -> list[float]:
        """Fixations on the viewer or, for a share of them, off; saccades between them take about three frames."""
        state = self.state
        if state.frame >= state.next_saccade:
            # A face looks at the viewer first and comes back after each glance away.
            away = state.frame > 0 and np.hypot(*state.gaze_target) < 0.1 and random.random() < 2 * manner.averted
            angle, reach = random.uniform(0, 2 * np.pi), random.uniform(0.6, 1.2) * manner.glance if away else 0.03
            state.gaze_target = [float(reach * np.cos(angle)), float(0.6 * reach * np.sin(angle))]
            rest = manner.fixation * (0.6 if away else 1.0)
            state.next_saccade = state.frame + max(8, round(float(random.gamma(3, rest / 3)) * FPS))
            if away and random.random() < 0.35 and state.frame - state.blink_start > 2 * FPS:
                state.next_blink = state.frame  # large shifts often come with a blink
        state.gaze = [now + 0.6 * (target - now) for now, target in zip(state.gaze, state.gaze_target, strict=True)]
        return state.gaze

    def _blink(self, random: np.random.Generator, manner: Manner) -> float:
        state = self.state
        if state.frame >= state.next_blink:
            state.blink_start = state.frame
            interval = np.clip(manner.blink_every * np.exp(0.45 * random.standard_normal()), 1.2, 9.0)
            double = random.random() < DOUBLE_BLINK
            state.next_blink = state.frame + (len(BLINK) + 3 if double else round(float(interval) * FPS))
        since = state.frame - state.blink_start
        return BLINK[since] if since < len(BLINK) else 0.0


def _spring(place: list, speed: list, target: list, stiffness: float) -> tuple[list, list]:
    """One frame of a critically damped spring, solved exactly; stiffness in radians a frame."""
    offset, speed = np.array(place) - target, np.array(speed)
    pull, decay = speed + stiffness * offset, np.exp(-stiffness)
    return (target + (offset + pull) * decay).tolist(), ((speed - stiffness * pull) * decay).tolist()


def _bump(event: tuple, frame: int) -> float:
    """Raised cosines, each cycle a quarter lower than the one before; 0 outside the event."""
    start, period, cycles, height = event
    if not 0 <= frame - start < period * cycles:
        return 0.0
    turn = (frame - start) / period
    return float(height * 0.75 ** int(turn) * (1 - np.cos(2 * np.pi * turn)) / 2)


def _over(event: tuple, frame: int) -> bool:
    start, period, cycles, _ = event
    return frame >= start + period * cycles + FPS // 2
