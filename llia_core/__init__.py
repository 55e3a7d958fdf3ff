"""Speech and one portrait go in, frames come out, in a stream.

    session = Session(load_model(), prepare_portrait(read_image("me.jpg")))
    frames = session.push(samples)      # as often as sound arrives
    frames = session.finish()

session.py is the data flow; docs/model.md says how the model works.
"""

from .expression import Expression, parse_expression
from .media import read_audio, read_image
from .model.load import load_model
from .portrait import Portrait, prepare_portrait
from .session import Session
from .timeline import Timeline, parse_timeline
from .video import VideoWriter

__all__ = [
    "Expression",
    "Portrait",
    "Session",
    "Timeline",
    "VideoWriter",
    "load_model",
    "parse_expression",
    "parse_timeline",
    "prepare_portrait",
    "read_audio",
    "read_image",
]
