"""What a running node and the executor share: who is running, its progress, and the wish to stop."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class InterruptProcessingException(Exception):  # ComfyUI's name
    """Raised inside a node when the user cancels the run."""


@dataclass(frozen=True)
class Running:
    """The node that the current thread executes.

    Attributes:
        report: called with (value, total) of the node's progress.
    """

    prompt_id: str
    node_id: str
    report: Callable[[float, float], None]


_running: ContextVar[Running | None] = ContextVar("running", default=None)
_interrupted = threading.Event()


@contextmanager
def running(node: Running):
    token = _running.set(node)
    try:
        yield
    finally:
        _running.reset(token)


def report_progress(value: float, total: float) -> None:
    """Tells the canvas how far the running node is. Also a place where a cancelled run stops, as in ComfyUI."""
    throw_if_interrupted()
    if (node := _running.get()) is not None:
        node.report(value, total)


def interrupt(value: bool = True) -> None:
    """Asks the running node to stop, or takes the wish back."""
    if value:
        _interrupted.set()
    else:
        _interrupted.clear()


def interrupted() -> bool:
    return _interrupted.is_set()


def throw_if_interrupted() -> None:
    """Raises InterruptProcessingException once for each wish to stop."""
    if _interrupted.is_set():
        _interrupted.clear()
        raise InterruptProcessingException("The run was cancelled")
