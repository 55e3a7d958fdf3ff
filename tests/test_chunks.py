import random

import pytest

from llia_core.sampling.chunks import ChunkPlanner


def plan(labels, pushes, planner=None):
    """Feed labels in pushes of these sizes (then the rest) -> the clips' lengths."""
    planner = planner or ChunkPlanner()
    clips, done, known = [], 0, 0
    for push in [*pushes, len(labels)]:
        known = min(known + push, len(labels))
        ended = known == len(labels)
        while frames := planner.next(known - done, labels[done:known], ended):
            clips.append(frames)
            done += frames
    return clips


def test_lengths_double_and_the_last_is_cut():
    assert plan([2] * 100, []) == [2, 4, 8, 16, 16, 16, 16, 16, 6]
    assert plan([2], []) == [1]
    assert plan([], []) == []


def test_a_new_state_starts_short():
    assert plan([0] * 20 + [2] * 20, []) == [2, 4, 8, 6, 2, 4, 8, 6]
    assert plan([0, 1, 0, 0, 0], []) == [1, 1, 2, 1]


def test_waits_until_a_clip_is_full():
    planner = ChunkPlanner(first=4)
    assert planner.next(0, [], False) == 0
    assert planner.next(3, [2, 2, 2], False) == 0
    assert planner.next(4, [2] * 4, False) == 4
    assert planner.next(7, [2] * 7, False) == 0
    assert planner.next(7, [2] * 5 + [1] * 2, False) == 5  # the state changes: no need to wait
    assert planner.next(2, [1] * 2, True) == 2
    assert planner.next(0, [], True) == 0


@pytest.mark.parametrize("seed", range(30))
def test_the_plan_does_not_depend_on_how_frames_arrive(seed):
    draw = random.Random(seed)
    labels = [label for _ in range(draw.randint(1, 8)) for label in [draw.randint(0, 2)] * draw.randint(1, 60)]
    whole = plan(labels, [])
    pushes = [draw.randint(0, 9) for _ in labels]
    assert plan(labels, pushes) == whole
    assert plan(labels, [1] * len(labels)) == whole
    assert sum(whole) == len(labels) and max(whole) <= 16


def test_two_hours():
    frames = 2 * 3600 * 25
    clips, planner, done = 0, ChunkPlanner(), 0
    labels = [2] * 16
    while count := planner.next(min(16, frames - done), labels[: frames - done], frames - done <= 16):
        clips, done = clips + 1, done + count
    assert done == frames and clips < frames / 15


def test_state_is_saved_and_restored():
    planner = ChunkPlanner()
    planner.next(2, [1, 1], False)
    other = ChunkPlanner()
    other.load_state_dict(planner.state_dict())
    assert other.next(20, [1] * 20, False) == planner.next(20, [1] * 20, False) == 4


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="5 to 4"):
        ChunkPlanner(first=5, largest=4)
    with pytest.raises(ValueError, match="3 frames"):
        ChunkPlanner().next(3, [0, 0], False)
