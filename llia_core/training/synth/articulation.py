"""Phonemes with times -> articulation tracks at 25 fps, the ground truth of the procedural speakers.

Each phoneme has a target and a weight per articulation parameter; targets are blended by their weights with a
Gaussian in time, after the dominance functions of Cohen & Massaro 1993 ("Modeling coarticulation in synthetic
visual speech"): a weak consonant takes the shape of its neighbours, a bilabial closes the lips whatever they do.
"""

from dataclasses import dataclass

import numpy as np

from ...audio import FPS, SAMPLE_RATE

ARTICULATION = ("jaw", "wide", "round", "press", "upper", "tuck", "tongue")
_BLEND_S = 0.036  # standard deviation of the co-articulation Gaussian
_CLOSURE_S = 0.030  # the lips of p, b, m stay together at least this long on both sides of the closure's middle
_RATE = 200  # Hz at which tracks are blended before they are sampled at video frames


@dataclass(frozen=True)
class Phoneme:
    """One phoneme of a viseme class (a key of VISEMES) from `start_s` to `stop_s`."""

    viseme: str
    start_s: float
    stop_s: float


#           jaw   wide  round press upper tuck  tongue | weights: jaw, wide/round, the rest
VISEMES = {
    "sil": ((0.00, 0.00, 0.00, 0.10, 0.00, 0.00, 0.00), (1.0, 0.6, 0.6)),
    "aa": ((0.95, 0.10, 0.00, 0.00, 0.15, 0.00, 0.00), (1.5, 1.0, 1.0)),
    "ah": ((0.60, 0.05, 0.00, 0.00, 0.10, 0.00, 0.05), (1.2, 0.8, 1.0)),
    "ae": ((0.75, 0.55, 0.00, 0.00, 0.30, 0.00, 0.10), (1.4, 1.0, 1.0)),
    "eh": ((0.52, 0.50, 0.00, 0.00, 0.25, 0.00, 0.15), (1.2, 1.0, 1.0)),
    "ih": ((0.34, 0.60, 0.00, 0.00, 0.30, 0.00, 0.20), (1.1, 1.0, 1.0)),
    "iy": ((0.24, 1.00, 0.00, 0.00, 0.40, 0.00, 0.20), (1.2, 1.5, 1.2)),
    "ao": ((0.72, -0.45, 0.50, 0.00, 0.05, 0.00, 0.00), (1.4, 1.3, 1.0)),
    "ow": ((0.50, -0.70, 0.75, 0.00, 0.00, 0.00, 0.00), (1.2, 1.5, 1.0)),
    "uw": ((0.26, -1.00, 1.00, 0.00, 0.00, 0.00, 0.00), (1.2, 1.8, 1.0)),
    "er": ((0.36, -0.30, 0.45, 0.00, 0.10, 0.00, 0.10), (1.1, 1.1, 1.0)),
    "w": ((0.16, -1.00, 1.00, 0.00, 0.00, 0.00, 0.00), (1.2, 1.8, 1.0)),
    "r": ((0.26, -0.40, 0.55, 0.00, 0.10, 0.00, 0.10), (0.9, 1.1, 0.8)),
    "y": ((0.22, 0.80, 0.00, 0.00, 0.30, 0.00, 0.20), (0.8, 1.0, 0.8)),
    "l": ((0.36, 0.15, 0.00, 0.00, 0.15, 0.00, 0.95), (0.7, 0.3, 1.5)),
    "th": ((0.26, 0.15, 0.00, 0.00, 0.20, 0.00, 1.00), (1.0, 0.4, 1.8)),
    "t": ((0.20, 0.25, 0.00, 0.00, 0.30, 0.00, 0.55), (0.7, 0.3, 1.0)),
    "s": ((0.12, 0.50, 0.00, 0.00, 0.60, 0.00, 0.10), (1.3, 0.8, 1.5)),
    "sh": ((0.18, -0.55, 0.65, 0.00, 0.65, 0.00, 0.05), (1.3, 1.4, 1.5)),
    "f": ((0.14, 0.10, 0.00, 0.00, 0.50, 1.00, 0.00), (1.6, 0.6, 2.0)),
    "m": ((0.06, 0.00, 0.00, 1.00, 0.00, 0.00, 0.00), (1.3, 0.4, 1.3)),
    "k": ((0.34, 0.10, 0.00, 0.00, 0.10, 0.00, 0.05), (0.4, 0.2, 0.5)),
}

# ARPAbet (flite) and IPA (espeak-ng) symbols; two classes are the halves of a diphthong.
_ARPABET = {
    **{k: ("aa",) for k in ("aa",)}, **{k: ("ah",) for k in ("ah", "ax")}, "ae": ("ae",), "eh": ("eh",), "ih": ("ih",),
    "iy": ("iy",), "ao": ("ao",), "ow": ("ao", "uw"), "uw": ("uw",), "uh": ("ow",), "er": ("er",), "axr": ("er",),
    "ay": ("aa", "ih"), "aw": ("aa", "uw"), "oy": ("ao", "ih"), "ey": ("eh", "iy"), "w": ("w",), "wh": ("w",),
    "r": ("r",), "y": ("y",), "l": ("l",), "el": ("l",), "th": ("th",), "dh": ("th",), "pau": ("sil",),
    **{k: ("t",) for k in ("t", "d", "n", "en", "dx")}, **{k: ("s",) for k in ("s", "z")},
    **{k: ("sh",) for k in ("sh", "zh", "ch", "jh")}, **{k: ("f",) for k in ("f", "v")},
    **{k: ("m",) for k in ("p", "b", "m", "em")}, **{k: ("k",) for k in ("k", "g", "ng", "hh", "hv")},
}  # fmt: skip
_IPA = {
    "a": "aa", "\u0251": "aa", "\u0252": "ao", "\u0250": "ah", "\u028c": "ah", "\u0259": "ah", "\u00e6": "ae",
    "\u025b": "eh", "e": "eh", "\u025c": "er", "\u025d": "er", "\u025a": "er", "\u026a": "ih", "i": "iy",
    "\u0268": "ih", "\u1d7b": "ih", "\u0254": "ao", "o": "ow", "\u028a": "ow", "u": "uw", "\u0289": "uw", "y": "uw",
    "\u00f8": "ow", "\u0153": "er", "w": "w", "\u0265": "w", "r": "r", "\u0279": "r", "\u027e": "t", "\u0281": "k",
    "j": "y", "\u028e": "y", "l": "l", "\u026b": "l", "\u03b8": "th", "\u00f0": "th", "t": "t", "d": "t", "n": "t",
    "\u0272": "t", "\u0294": "k", "s": "s", "z": "s", "\u0283": "sh", "\u0292": "sh", "\u00e7": "y", "\u0255": "sh",
    "f": "f", "v": "f", "p": "m", "b": "m", "m": "m", "\u03b2": "m", "k": "k", "g": "k", "\u0261": "k", "\u014b": "k",
    "h": "k", "x": "k", "\u0263": "k", "\u0282": "sh", "q": "k", "c": "k",
}  # fmt: skip


def visemes_of(symbol: str, alphabet: str) -> tuple[str, ...]:
    """Viseme classes of one phoneme symbol (`arpabet` or `ipa`), in order; silence for marks and pauses."""
    if alphabet == "arpabet":
        return _ARPABET.get(symbol, ("k",))
    return tuple(_IPA[c] for c in symbol if c in _IPA) or ("sil",)


def articulation_track(phonemes: list[Phoneme], frames: int, samples: np.ndarray | None = None) -> np.ndarray:
    """Articulation at the middle of every video frame, (frames, 7) in the order and ranges of ARTICULATION.

    `samples` (16 kHz) scales the jaw by the local loudness, as louder speech opens wider.
    """
    ticks = (np.arange(int(frames * _RATE / FPS) + 1) + 0.5) / _RATE
    top, bottom = np.zeros((len(ticks), 7)), np.full((len(ticks), 7), 1e-6)
    closure = np.zeros(len(ticks))
    for phoneme in phonemes:
        target, (w_jaw, w_lips, w_rest) = VISEMES[phoneme.viseme]
        weight = np.array((w_jaw, w_lips, w_lips, w_rest, w_rest, w_rest, w_rest))
        share = _smooth_interval(ticks, phoneme.start_s, phoneme.stop_s)[:, None] * weight
        top += share * np.array(target)
        bottom += share
        if phoneme.viseme == "m":
            middle = 0.5 * (phoneme.start_s + phoneme.stop_s)
            half = max(_CLOSURE_S, 0.4 * (phoneme.stop_s - phoneme.start_s))
            closure = np.maximum(closure, np.clip((half + 0.02 - np.abs(ticks - middle)) / 0.03, 0, 1))
    track = top / bottom
    track[:, 3] = np.maximum(track[:, 3], closure)
    if samples is not None:
        track[:, 0] *= _loudness_gain(samples, ticks)
    at_frames = np.clip(((np.arange(frames) + 0.5) / FPS * _RATE).astype(int), 0, len(ticks) - 1)
    return np.clip(track[at_frames], (0, -1, 0, 0, 0, 0, 0), 1).astype(np.float32)


def _smooth_interval(ticks: np.ndarray, start: float, stop: float) -> np.ndarray:
    """The indicator of [start, stop] convolved with the co-articulation Gaussian (logistic approximation)."""
    steep = 1.702 / _BLEND_S
    rise = 1 / (1 + np.exp(-np.clip((ticks - start) * steep, -40, 40)))
    fall = 1 / (1 + np.exp(-np.clip((stop - ticks) * steep, -40, 40)))
    return rise * fall


def _loudness_gain(samples: np.ndarray, ticks: np.ndarray) -> np.ndarray:
    """0.55 to 1.15 by the 80 ms RMS relative to the utterance's own loud parts."""
    window = int(0.08 * SAMPLE_RATE)
    power = np.convolve(np.square(samples, dtype=np.float64), np.ones(window) / window, mode="same")
    rms = np.sqrt(power[np.clip((ticks * SAMPLE_RATE).astype(int), 0, len(power) - 1)])
    loud = np.percentile(rms, 92) + 1e-6
    return np.clip(0.5 + 0.6 * rms / loud, 0.5, 1.15)
