"""The pipeline: the serial session's frames, bounded queues, back-pressure, clean stops, errors of every stage."""

import threading
import time

import pytest
import torch

from llia_core.benchmark import demo_samples
from llia_core.longrun import BLOCK, LARGEST, live_run, paced
from llia_core.pipeline import QUEUED, Pipeline, parse_devices, run_stages
from llia_core.session import Session
from tests.test_session import SIZE, model, portrait, speech  # noqa: F401 (fixtures)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("llia-")]


def test_items_come_through_all_stages_in_order():
    assert list(run_stages(range(50), [lambda x: x + 1, lambda x: 2 * x])) == [2 * (x + 1) for x in range(50)]
    assert list(run_stages([], [lambda x: x])) == [] and not workers()


def test_stages_work_at_the_same_time():
    """Each stage waits for the other to be at work on another item; run one after the other they would wait forever."""
    meeting = threading.Barrier(2, timeout=20)

    def first(item: int) -> int:
        if item > 0:
            meeting.wait()
        return item

    def second(item: int) -> int:
        if item < 3:
            meeting.wait()
        return item

    assert list(run_stages(range(4), [first, second])) == [0, 1, 2, 3]


def test_a_slow_reader_holds_the_source_up():
    drawn = []

    def source():
        for item in range(100):
            drawn.append(item)
            yield item

    most = []
    results = run_stages(source(), [lambda x: x], queued=2, on_end=most.append)
    assert next(results) == 0
    settled = -1
    while settled != len(drawn):  # until nothing moves any more
        settled = len(drawn)
        time.sleep(0.2)
    # One was read; two wait in each of two queues; the stage and the source hold one each.
    assert settled <= 1 + 2 * 2 + 2
    results.close()
    assert most == [2] and not workers()


@pytest.mark.parametrize("place", ["source", "first", "second"])
def test_an_exception_ends_the_stream_with_that_exception(place):
    def source():
        yield from range(3)
        if place == "source":
            raise KeyError("source")

    def stage(name: str):
        def run(item: int) -> int:
            if name == place and item == 2:
                raise ArithmeticError(name)
            return item

        return run

    seen = []
    with pytest.raises((KeyError, ArithmeticError), match=place):
        for item in run_stages(source(), [stage("first"), stage("second")]):
            seen.append(item)
    assert seen == ([0, 1, 2] if place == "source" else [0, 1]) and not workers()


@pytest.mark.parametrize("steps", [1, 2])
def test_frames_are_those_of_the_serial_session(model, portrait, steps):  # noqa: F811
    samples = speech(2.2)
    session = Session(model, portrait, steps)
    before = torch.get_num_threads()
    blocks = list(samples.split(16_000))
    torch.set_num_threads(1)  # as each worker has it: more threads add up in another order
    serial = list(session.chunks(blocks))
    torch.set_num_threads(before)
    session.reset()
    pipeline = Pipeline(session)
    parallel = list(pipeline.chunks(blocks))
    assert [len(chunk) for chunk in parallel] == [len(chunk) for chunk in serial]
    assert torch.equal(torch.cat(parallel), torch.cat(serial))
    assert 1 <= pipeline.queued_most <= QUEUED and torch.get_num_threads() == before and not workers()


def test_the_sink_runs_on_a_worker_of_its_own(model, portrait):  # noqa: F811
    names = set()

    def count(frames: torch.Tensor) -> int:
        names.add(threading.current_thread().name)
        return len(frames)

    assert sum(Pipeline(Session(model, portrait)).chunks([speech(0.6)], sink=count)) == 15
    assert names == {"llia-3"}


def test_leaving_early_stops_all_workers(model, portrait):  # noqa: F811
    chunks = Pipeline(Session(model, portrait)).chunks([speech(2.2)])
    next(chunks)
    chunks.close()
    assert not workers()


def test_an_error_of_the_model_ends_the_pipeline(model, portrait, monkeypatch):  # noqa: F811
    session = Session(model, portrait)
    monkeypatch.setattr(session, "decode", lambda clip, made: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(Pipeline(session).chunks([speech(0.6)]))
    assert not workers()


def test_unknown_or_impossible_devices_are_refused(model, portrait):  # noqa: F811
    session = Session(model, portrait)
    with pytest.raises(ValueError, match="listener"):
        Pipeline(session, {"listener": "cpu"})
    with pytest.raises(ValueError, match="denoiser was asked for on meta"):
        Pipeline(session, {"denoiser": "meta"})


def test_devices_are_written_as_on_the_command_line():
    assert parse_devices("denoiser=cuda:0, decoder=cuda:1") == {"denoiser": "cuda:0", "decoder": "cuda:1"}
    assert parse_devices("") == {}
    for text in ("decoder", "=cpu", "decoder="):
        with pytest.raises(ValueError, match="expected such as"):
            parse_devices(text)


def test_the_decoder_can_live_elsewhere(model, portrait):  # noqa: F811
    """No second device here: "meta" has no values, but shows that autoencoder and latents, and they alone, moved."""
    session = Session(model, portrait)
    pipeline = Pipeline(session, {"decoder": "meta"})
    assert {p.device.type for p in pipeline.decoding.model.autoencoder.parameters()} == {"meta"}
    assert {p.device.type for p in session.model.parameters()} == {"cpu"}
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        list(pipeline.chunks([speech(0.3)]))


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now, self.lock = 0.0, threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


def test_sound_is_paced_by_the_clock():
    clock, times = Clock(), []
    blocks = []
    for block in paced(demo_samples(0.3), 1.0, clock, clock.sleep):
        times.append(clock.now)
        blocks.append(block)
    assert torch.cat(blocks).shape == (16_000,)
    assert times[:2] == pytest.approx([BLOCK / 16_000, 2 * BLOCK / 16_000]) and times[-1] == pytest.approx(1.0)


def test_a_live_run_counts_who_is_late(model, portrait):  # noqa: F811
    """On a clock that only the sound moves, computing takes no time: nobody is late. With frames held back, all are."""
    clock = Clock()
    session = Session(model, portrait, largest=LARGEST)
    found = live_run(session, speech(1.0), 2.0, clock, clock.sleep)
    assert found["frames"] == 50 and found["queued_most"] <= QUEUED and found["memory_last_mb"] > 0
    session.reset()
    decode, slow = session.decode, Clock()

    def late(clip, made):
        slow.sleep(1.0)
        return decode(clip, made)

    session.decode = late
    held = live_run(session, speech(1.0), 2.0, slow, slow.sleep)
    assert held["share_on_time"] < 0.5 and held["late_max_ms"] > 1000 and portrait.size == SIZE
