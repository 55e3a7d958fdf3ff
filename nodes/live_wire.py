"""What goes over the wire to a viewer: packets, the spool they are kept in, and which of them one viewer is sent next.

web/js/stream_protocol.js is the other end. No network here: live.py has the sockets.
"""

from __future__ import annotations

import io
import struct
import tempfile
import threading
from array import array
from collections import deque

from ..llia_core.stream import Chunk

# kind, turn (the viewer's seek it answers, modulo 256), state label, frame, Unix time when made, bytes that follow
PACKET = struct.Struct("<BBBxIdI")
PICTURE, SOUND = 1, 2  # JPEG; interleaved signed 16-bit samples of one frame
JPEG_QUALITY = 85

AHEAD = 75  # frames beyond what a viewer shows that it is sent at most
BATCH = 8  # frames read from the spool at once
SLOW_S = 0.5  # what is not confirmed after this long shows a slow connection or browser
LOW = 12  # frames a slow viewer must have in stock, else it is sent sound only


class Spool:
    """Records of bytes in a file without a name: it is gone when closed, also after a crash. Thread-safe."""

    def __init__(self, folder: str) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the stream
        self._offsets = array("Q", [0])
        self._lock = threading.Lock()

    def append(self, record: bytes) -> None:
        with self._lock:
            self._file.seek(self._offsets[-1])
            self._file.write(record)
            self._offsets.append(self._offsets[-1] + len(record))

    def read(self, start: int, stop: int) -> list[bytes]:
        """Records start to stop (exclusive). Raises ValueError once closed."""
        with self._lock:
            offsets = self._offsets[start : stop + 1]
            self._file.seek(offsets[0])
            data = self._file.read(offsets[-1] - offsets[0])
        return [data[a - offsets[0] : b - offsets[0]] for a, b in zip(offsets, offsets[1:])]  # noqa: B905 - pairs

    def close(self) -> None:
        with self._lock:
            self._file.close()


def encode_picture(frame) -> bytes:
    """uint8 (H, W, 3) array -> JPEG. 0.3 ms at 256 px: in the sampling thread, never on the server's event loop."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(frame).save(data, "JPEG", quality=JPEG_QUALITY)
    return data.getvalue()


def encode_chunk(chunk: Chunk, rate: int, fps: int, made: float) -> list[bytes]:
    """A record a frame: its sound packet, then its picture packet. made: Unix time.

    Frame k's sound begins at sample round(k * rate / fps) of the stream; the last frame has the rest of the chunk's.
    """
    start = chunk.start
    pcm = (chunk.sound.clamp(-1, 1) * 32767).round().short().T.contiguous().cpu().numpy()
    first = round(start * rate / fps)
    cuts = [round((start + i) * rate / fps) - first for i in range(len(chunk.frames))] + [len(pcm)]
    records = []
    for i, (frame, label) in enumerate(zip(chunk.frames.cpu().numpy(), chunk.labels, strict=True)):
        packets = ((SOUND, pcm[cuts[i] : cuts[i + 1]].tobytes()), (PICTURE, encode_picture(frame)))
        head = (0, label, start + i, made)
        records.append(b"".join(PACKET.pack(kind, *head, len(data)) + data for kind, data in packets))
    return records


def addressed(record: bytes, turn: int, with_picture: bool) -> bytes:
    """A record as it goes to one viewer: marked with its turn, without the picture if that is to be left out."""
    message = bytearray(record)
    picture = PACKET.size + PACKET.unpack_from(message)[-1]
    message[1] = message[picture + 1] = turn
    return bytes(message if with_picture else message[:picture])


class Viewer:
    """What one browser has, shows and is to be sent next. Clocks come in as arguments."""

    def __init__(self) -> None:
        self.turn = 0  # number of its last seek
        self.next = 0  # frame to be sent next
        self.position = 0  # frame it shows
        self.got = 0  # it has all frames before this one
        self.ahead = 0  # nothing before it said where it wants to begin
        self._underway: deque[tuple[int, float]] = deque()  # frame, when it was sent

    def hear(self, message: dict) -> None:
        """{"type": "seek", "frame", "turn", "ahead"} or {"type": "at", "frame", "got", "turn", "ahead"}."""
        turn, frame = int(message["turn"]) % 256, max(0, int(message["frame"]))
        if message["type"] == "seek":
            self.turn, self.next, self.got = turn, frame, frame
            self._underway.clear()
        elif turn != self.turn:
            return  # said before the seek that is answered now
        self.position = frame
        self.ahead = min(AHEAD, max(1, int(message.get("ahead", AHEAD))))
        self.got = max(self.got, min(int(message.get("got", 0)), self.next))
        while self._underway and self._underway[0][0] < self.got:
            self._underway.popleft()

    def due(self, made: int) -> range:
        """Frames to send now. Never more than AHEAD are under way, whatever the viewer says it shows."""
        stop = min(made, self.position + self.ahead, self.got + AHEAD, self.next + BATCH)
        return range(self.next, max(self.next, stop))

    def send(self, frame: int, now: float) -> bool:
        """Note that `frame` is being sent; is its picture to be sent too?"""
        slow = bool(self._underway) and now - self._underway[0][1] > SLOW_S
        self.next = frame + 1
        self._underway.append((frame, now))
        return not (slow and self.got - self.position < LOW)
