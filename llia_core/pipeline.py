"""Stages on their own workers: while clip k is decoded, clip k + 1 is denoised and the sound of clip k + 2 is heard.

LLIA (arXiv 2506.05806) runs its UNet and VAE in parallel; here the stages of a session are four: listening (speech
encoder, labels), denoising, decoding and composing, and what the caller does with the frames. They are joined by queues
of a few clips, so that a slow stage holds up those before it and latency stays bounded. The frames are those of the
serial session, bit for bit: each stage sees the same clips in the same order.
"""

import copy
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from .session import Session

QUEUED = 2  # clips that may wait between two stages
_END = object()


class _Stopped(Exception):
    """A worker waits on a queue of a pipeline that was closed."""


class _Queue(queue.Queue):
    """A bounded queue whose waits end when `stop` is set."""

    def __init__(self, size: int, stop: threading.Event):
        super().__init__(size)
        self.stop, self.most = stop, 0

    def _put(self, item: Any) -> None:
        super()._put(item)
        self.most = max(self.most, self._qsize())

    def wait(self, action: Callable, *args: Any) -> Any:
        while not self.stop.is_set():
            try:
                return action(*args, timeout=0.05)
            except (queue.Full, queue.Empty):
                pass
        raise _Stopped


def run_stages(
    source: Iterable,
    stages: list[Callable[[Any], Any]],
    queued: int = QUEUED,
    on_end: Callable[[int], None] = lambda most: None,
) -> Iterator[Any]:
    """Items of `source` through all `stages`, each (and the source) on a worker thread of its own, in order.

    queued: items that may wait before each stage and before the reader; on_end is told how many did at most. An
    exception in a stage or in the source is raised here, after the results that came before it. Closing the generator,
    or leaving its loop, stops the workers and waits for them; a stage at work finishes its item first.
    """
    stop = threading.Event()
    queues = [_Queue(queued, stop) for _ in range(len(stages) + 1)]

    def feed(produce: Iterable, into: _Queue) -> None:
        last: Any = _END
        try:
            for item in produce:
                into.wait(into.put, (item, None))
        except _Stopped:
            return
        except BaseException as error:  # handed to the reader, who raises it
            last = error
        try:
            into.wait(into.put, (_END, None if last is _END else last))
        except _Stopped:
            return

    def work(stage: Callable, before: _Queue) -> Iterator[Any]:
        for item in _items(before):
            yield stage(item)

    produced = [source, *(work(stage, before) for stage, before in zip(stages, queues, strict=False))]
    workers = [
        threading.Thread(target=feed, args=pair, name=f"llia-{index}", daemon=True)
        for index, pair in enumerate(zip(produced, queues, strict=True))
    ]
    for worker in workers:
        worker.start()
    try:
        yield from _items(queues[-1])
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        on_end(max(one.most for one in queues))


def _items(before: _Queue) -> Iterator[Any]:
    while True:
        item, error = before.wait(before.get)
        if error is not None:
            raise error
        if item is _END:
            return
        yield item


def parse_devices(text: str) -> dict[str, str]:
    """Text such as "denoiser=cuda:0,decoder=cuda:1" -> stages and their devices; empty: none. Raises ValueError."""
    pairs = [part.partition("=") for part in text.replace(" ", "").split(",") if part]
    if not all(stage and device for stage, _, device in pairs):
        raise ValueError(f"pipeline devices are {text!r}, expected such as denoiser=cuda:0,decoder=cuda:1")
    return {stage: device for stage, _, device in pairs}


class Pipeline:
    """Runs a session's stages in parallel. devices: where stages run, such as {"denoiser": "cuda:0", "decoder":
    "cuda:1"}; the decoder is by default where the model is. queued: clips that may wait between two stages. threads: of
    torch, for each stage on a CPU; more than the machine's cores in all would slow each other down.

    A pipeline is used once; saving and restoring belong to the serial session. queued_most: the most clips that waited
    in one queue, once the pipeline has ended.
    """

    def __init__(
        self, session: Session, devices: dict[str, str] | None = None, queued: int = QUEUED, threads: int = 1
    ) -> None:
        self.session, self.queued, self.threads, self.queued_most = session, queued, threads, 0
        devices = devices or {}
        here = str(session.device)
        unknown = set(devices) - {"denoiser", "decoder"}
        if unknown:
            raise ValueError(f"pipeline stages are denoiser and decoder, got {', '.join(sorted(unknown))}")
        if torch.device(devices.get("denoiser", here)) != session.device:
            raise ValueError(f"the denoiser was asked for on {devices['denoiser']}, but the model was loaded on {here}")
        self.decoder_device = torch.device(devices.get("decoder", here))
        self.decoding = _decoding_on(session, self.decoder_device)

    def chunks(
        self,
        blocks: Iterable[Tensor],
        others: Iterable[Tensor] | None = None,
        sink: Callable[[Tensor], Any] = lambda frames: frames,
    ) -> Iterator[Any]:
        """As Session.chunks. `blocks` is read on a worker, so it may wait for a microphone. sink: what is done with
        each chunk of frames, on a worker of its own (encoding for the viewer, say); its results are what comes out.
        """
        before = torch.get_num_threads()
        stages = [
            self._on(self.session.device, self._denoise),
            self._on(self.decoder_device, self._decode),
            lambda frames: frames if frames is None else sink(frames),
        ]
        listened = self._single(self.session.clips(blocks, others))
        try:
            with closing(run_stages(listened, stages, self.queued, self._ended)) as results:
                yield from (result for result in results if result is not None)
        finally:
            torch.set_num_threads(before)

    def _ended(self, most: int) -> None:
        self.queued_most = most

    def _single(self, items: Iterator[Any]) -> Iterator[Any]:
        torch.set_num_threads(self.threads)
        yield from items

    def _denoise(self, clip: Any) -> tuple:
        return clip, self.session.denoise(clip)

    def _decode(self, denoised: tuple) -> Tensor | None:
        clip, prediction = denoised
        if prediction is None:  # a photoreal session was stopped between two denoising steps
            return None
        return self.decoding.decode(clip, _moved(prediction, self.decoder_device))

    def _on(self, device: torch.device, stage: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`stage` with its own number of threads and, on CUDA, its own stream, finished before its result moves on."""
        local = threading.local()

        def run(item: Any) -> Any:
            if not hasattr(local, "stream"):
                torch.set_num_threads(self.threads)
                local.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
            with _stream(local.stream):
                return stage(item)

        return run


@contextmanager
def _stream(stream: Any) -> Iterator[None]:
    """Work on `stream`; whatever it was given is finished when the block ends (this worker waits, others go on)."""
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        yield
    if stream is not None:
        stream.synchronize()


def _decoding_on(session: Session, device: torch.device) -> Session:
    """The session as the decoder's worker sees it: the autoencoder is on `device`, all else is shared."""
    if device == session.device:
        return session
    model = copy.copy(session.model)
    model._modules = dict(model._modules)
    for name in ("autoencoder", "fast"):
        if model._modules.get(name) is not None:
            model._modules[name] = copy.deepcopy(model._modules[name]).to(device)
    twin = copy.copy(session)
    twin.model = model
    return twin


def _moved(prediction: Any, device: torch.device) -> Any:
    """Latents, or a dataclass that holds them, with its tensors on `device`."""
    if isinstance(prediction, Tensor):
        return prediction.to(device)
    values = {f.name: getattr(prediction, f.name) for f in fields(prediction)}
    return replace(prediction, **{name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)})
