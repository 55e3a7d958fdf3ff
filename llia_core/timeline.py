"""Who does what when, as a person or a language model writes it: "0-1.5 listening; 1.5-6 speaking; 6- idle"."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from .audio import FPS
from .states import IDLE, LISTENING, NONE, SPEAKING

WORDS = {
    IDLE: "idle idles idling silent silence quiet rest rests resting wait waits waiting still pause paused nothing",
    LISTENING: "listening listen listens listener hear hears hearing attentive attending",
    SPEAKING: "speaking speak speaks speaker talk talks talking say says saying speech voice sing sings singing",
    NONE: "none auto automatic audio sound detect",
}
LABEL_OF = {word: label for label, words in WORDS.items() for word in words.split()}
RANGE_WORDS = ("to", "until", "till", "through")
FILLERS = ("from", "at", "then", "and", "is", "state", "onwards", "on")
UNIT_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "": Fraction(1)}

TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*|//[^\n]*)
    |(?P<end>[;,\n])
    |(?P<clock>\d+(?::\d{1,2}){1,2}(?:\.\d+)?)
    |(?P<time>(?:\d+(?:\.\d+)?|\.\d+)(?:\s*(?:ms|s|secs?|seconds?|m|mins?|minutes?)(?![a-z]))?)
    |(?P<range>[-\u2010-\u2015\u2212]+>?|=>|\u2192|\.\.+|\u2026|~|\+)
    |(?P<word>[a-z_]+)
    |(?P<skip>\s+|[:=()\[\]{}"'|*])
    |(?P<bad>.)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


class TimelineError(ValueError):
    """The text cannot be read; the message shows its line with a caret under the place, and what was expected."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position = position
        start = text.rfind("\n", 0, position) + 1
        line = text[start:].split("\n", 1)[0].replace("\t", " ")
        number = text.count("\n", 0, position) + 1
        super().__init__(f"timeline, line {number}: {problem}\n  {line}\n  {' ' * (position - start)}^")


@dataclass(frozen=True)
class Span:
    """Frames from `start` to `stop` (exclusive; None: to the end) have a label; `position` is its place in the text."""

    start: int
    stop: int | None
    label: int
    position: int


@dataclass(frozen=True)
class Timeline:
    """Labels by frame. Spans are in order and do not overlap; between them the label is NONE: decide by the sound."""

    spans: tuple[Span, ...] = ()

    def label(self, frame: int) -> int:
        """IDLE, LISTENING, SPEAKING, or NONE where the text says nothing."""
        index = bisect_right(self.spans, frame, key=lambda span: span.start) - 1
        if index < 0:
            return NONE
        span = self.spans[index]
        return span.label if span.stop is None or frame < span.stop else NONE

    def apply(self, first_frame: int, heard: list[int]) -> list[int]:
        """The labels of frames from `first_frame` on: written where written, `heard` elsewhere."""
        written = (self.label(first_frame + index) for index in range(len(heard)))
        return [sound if label == NONE else label for label, sound in zip(written, heard, strict=True)]


def parse_timeline(text: str) -> Timeline:
    """Read a timeline such as "0-1.5 listening; 1.5-6 speaking; 6- idle".

    Entries are separated by ; , or a new line, and hold a time range and a state in either order. Times are seconds
    (1.5, 1.5s, 200ms, 2m) or mm:ss. A range is written with a dash, an arrow, "to" or ..; without an end it lasts until
    the next entry, or the end. # and // start a comment. Gaps are decided by the sound. Raises TimelineError for what
    cannot be read, ranges that run backwards, and overlaps.
    """
    spans, entry = [], []
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "bad":
            raise TimelineError(text, match.start(), f"expected a time, a range or a state, got {match.group()!r}")
        if kind == "end" and entry:
            spans.append(_read_entry(text, entry))
            entry = []
        elif kind not in ("end", "comment", "skip") and match.group().lower() not in FILLERS:
            entry.append(match)
    if entry:
        spans.append(_read_entry(text, entry))
    return Timeline(_in_order(text, spans))


def _read_entry(text: str, entry: list[re.Match]) -> Span:
    """Tokens between two separators -> Span; a start and a state at least."""
    times: list[Fraction | None] = []
    label, ranged = None, False
    for token in entry:
        word = token.group().lower()
        if token.lastgroup in ("time", "clock") or word in ("start", "beginning", "end"):
            if len(times) == 2 or (times and not ranged):
                raise TimelineError(text, token.start(), f"expected {'a state' if ranged else 'a dash'}, got {word!r}")
            times.append(None if word == "end" else _seconds(text, token))
        elif token.lastgroup == "range" or word in RANGE_WORDS:
            if not times and label is None:
                raise TimelineError(text, token.start(), f"expected a start time before {word!r}; times begin at 0")
            ranged = ranged or bool(times)
        elif word not in LABEL_OF:
            raise TimelineError(text, token.start(), f"expected idle, listening, speaking or auto, got {word!r}")
        elif label is not None:
            raise TimelineError(
                text, token.start(), f"expected one state in an entry, got another, {word!r}; add a ';'"
            )
        else:
            label = LABEL_OF[word]
    if not times or times[0] is None:
        raise TimelineError(text, entry[0].start(), "expected a start time, such as 1.5-6 speaking")
    if label is None:
        raise TimelineError(text, entry[-1].end(), "expected a state after the time: idle, listening, speaking or auto")
    stop = times[1] if len(times) == 2 else None
    if stop is not None and stop <= times[0]:
        raise TimelineError(text, entry[0].start(), f"expected an end after the start {float(times[0]):g} s")
    return Span(_frame(times[0]), None if stop is None else _frame(stop), label, entry[0].start())


def _seconds(text: str, token: re.Match) -> Fraction:
    word = token.group().lower()
    if word in ("start", "beginning"):
        return Fraction(0)
    if token.lastgroup == "clock":
        parts = [Fraction(part) for part in word.split(":")]
        if any(part >= 60 for part in parts[1:]):
            raise TimelineError(
                text, token.start(), f"expected minutes:seconds with less than 60 seconds, got {word!r}"
            )
        return sum((part * 60**power for power, part in enumerate(reversed(parts))), Fraction(0))
    number, unit = re.fullmatch(r"([\d.]+)\s*([a-z]*)", word).groups()
    return Fraction(number) * UNIT_SECONDS[unit if unit == "ms" else unit[:1]]


def _frame(seconds: Fraction) -> int:
    return math.floor(seconds * FPS + Fraction(1, 2))


def _in_order(text: str, spans: list[Span]) -> tuple[Span, ...]:
    """Sorted by start, without what is shorter than a frame; for an overlap the one written later is blamed."""
    spans = sorted((span for span in spans if span.start != span.stop), key=lambda span: span.start)
    for before, after in zip(spans, spans[1:], strict=False):
        if before.start == after.start or (before.stop is not None and before.stop > after.start):
            blamed = max(before, after, key=lambda span: span.position)
            raise TimelineError(text, blamed.position, "expected ranges that do not overlap, but an earlier entry does")
    return tuple(spans)
