"""The live wire: packets, the spool, and what one viewer is sent."""

import io
import os

import numpy as np
import pytest
import torch
from live_server import FPS, RATE, load, make_chunk, packets
from PIL import Image

wire = load("live_wire")


def test_header_is_what_the_browser_expects():
    """web/js/stream_protocol.js reads these offsets."""
    packed = wire.PACKET.pack(wire.PICTURE, 3, 2, 70_000, 1.5, 9)
    assert packed == bytes([1, 3, 2, 0]) + (70_000).to_bytes(4, "little") + bytes.fromhex("000000000000f83f09000000")


def test_chunks_become_one_record_a_frame_with_all_of_the_sound():
    rate = 22_051  # 882.04 samples a frame: pieces of two lengths
    chunk = make_chunk(1000, 60, rate=rate)
    records = wire.encode_chunk(chunk, rate, FPS, 12.5)
    parsed = [packets(record) for record in records]
    assert [(p[0][0], p[1][0]) for p in parsed] == [(wire.SOUND, wire.PICTURE)] * 60
    assert [p[1][2:5] for p in parsed] == [(label, 1000 + i, 12.5) for i, label in enumerate(chunk.labels)]
    pieces = [np.frombuffer(sound[5], "<i2") for sound, _ in parsed]
    assert {len(piece) for piece in pieces} == {882, 883}
    starts = round(1000 * rate / FPS) + np.cumsum([0] + [len(piece) for piece in pieces[:-1]])
    assert starts.tolist() == [round((1000 + i) * rate / FPS) for i in range(60)]
    expected = (chunk.sound[0] * 32767).round().short().numpy()
    np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_stereo_is_interleaved_and_loud_sound_is_clipped():
    chunk = make_chunk(0, 1)
    sound = torch.stack([torch.full((640,), 2.0), torch.full((640,), -0.5)])
    record = wire.encode_chunk(type(chunk)(0, chunk.frames, [0], sound), RATE, FPS, 0.0)[0]
    samples = np.frombuffer(packets(record)[0][5], "<i2").reshape(-1, 2)
    assert samples.shape == (640, 2) and (samples == [32767, -16384]).all()


def test_pictures_survive_jpeg():
    gradient = torch.arange(64, dtype=torch.uint8).mul(4).view(1, 64, 1).expand(64, 64, 3).contiguous().numpy()
    data = wire.encode_picture(gradient)
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    assert data[:2] == b"\xff\xd8" and np.abs(decoded.astype(int) - gradient).max() < 12


def test_addressed_marks_the_turn_and_can_leave_the_picture_out():
    record = wire.encode_chunk(make_chunk(5, 1), RATE, FPS, 1.0)[0]
    whole = packets(wire.addressed(record, 7, True))
    assert [packet[1] for packet in whole] == [7, 7] and [p[5] for p in whole] == [p[5] for p in packets(record)]
    assert packets(wire.addressed(record, 7, False)) == whole[:1]


def test_spool_gives_back_records_and_leaves_no_file(tmp_path):
    spool = wire.Spool(str(tmp_path))
    for i in range(100):
        spool.append(bytes([i]) * i)
    assert spool.read(40, 43) == [bytes([i]) * i for i in (40, 41, 42)]
    assert os.listdir(tmp_path) == [] or os.name == "nt"
    spool.close()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError):
        spool.read(0, 1)


# What one viewer is sent


def seek(viewer, frame: int, turn: int = 0, **more) -> None:
    viewer.hear({"type": "seek", "frame": frame, "turn": turn, **more})


def at(viewer, frame: int, got: int, turn: int = 0, **more) -> None:
    viewer.hear({"type": "at", "frame": frame, "got": got, "turn": turn, **more})


def send_due(viewer, made: int, now: float) -> list[tuple[int, bool]]:
    """All that is due, as (frame, with picture)."""
    sent = []
    while due := viewer.due(made):
        sent += [(frame, viewer.send(frame, now)) for frame in due]
    return sent


def test_nothing_is_sent_before_the_viewer_says_where_it_begins():
    viewer = wire.Viewer()
    assert not viewer.due(1000)
    seek(viewer, 500)
    assert viewer.due(1000).start == 500


def test_a_viewer_is_sent_no_more_than_it_will_show_soon():
    viewer = wire.Viewer()
    seek(viewer, 0)
    assert send_due(viewer, 1000, 0.0) == [(frame, True) for frame in range(wire.AHEAD)]
    at(viewer, 10, 60)
    assert [frame for frame, _ in send_due(viewer, 1000, 0.1)] == list(range(wire.AHEAD, wire.AHEAD + 10))


def test_what_is_under_way_is_bounded_whatever_a_viewer_claims():
    viewer = wire.Viewer()
    seek(viewer, 0)
    send_due(viewer, 10_000, 0.0)
    at(viewer, 9_000, 0, ahead=10**9)  # shows what it was never sent, confirms nothing
    assert viewer.next == wire.AHEAD and not viewer.due(10_000)
    at(viewer, 9_000, 10**9)
    assert viewer.got == wire.AHEAD, "what was not sent cannot have arrived"


def test_a_slow_viewer_loses_pictures_and_keeps_its_sound():
    viewer = wire.Viewer()
    seek(viewer, 0)
    send_due(viewer, 40, 0.0)
    at(viewer, 20, 25)  # a second later little has come, and the stock is nearly used up
    late = send_due(viewer, 60, 1.0)
    assert late == [(frame, False) for frame in range(40, 60)]
    at(viewer, 30, 60)  # it caught up
    assert send_due(viewer, 70, 1.1) == [(frame, True) for frame in range(60, 70)]


def test_a_slow_viewer_with_a_good_stock_loses_nothing():
    viewer = wire.Viewer()
    seek(viewer, 0)
    send_due(viewer, 40, 0.0)
    at(viewer, 5, 30)
    assert all(picture for _, picture in send_due(viewer, 60, 1.0))


def test_a_seek_starts_afresh_and_older_reports_count_no_more():
    viewer = wire.Viewer()
    seek(viewer, 0)
    send_due(viewer, 100, 0.0)
    seek(viewer, 90, turn=257, ahead=8)
    at(viewer, 70, 75, turn=0)
    assert (viewer.turn, viewer.position, viewer.due(100)) == (1, 90, range(90, 98))


def test_an_hour_of_reports_keeps_a_viewer_small():
    viewer = wire.Viewer()
    seek(viewer, 0)
    for frame in range(0, 100_000, 50):
        send_due(viewer, frame + 50, frame / FPS)
        at(viewer, frame, viewer.next)
    assert len(viewer._underway) <= wire.AHEAD
