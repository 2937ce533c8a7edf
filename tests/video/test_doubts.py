"""Which frames are doubted, on tracks whose fault is known, and what a session makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from masklet.errors import InputError, PromptError, SourceError, StateError
from masklet.video import Session
from masklet.video.doubts import Doubt, Observation, disagreements, doubt_signals, observe, rank_doubts
from masklet.video.memory_bank import FrameState

Open = Callable[..., Session]


def steady(frames: int = 40, object_id: int = 1) -> list[Observation]:
    """An object that moves three cells a frame, and of which the network is sure."""
    return [Observation(t, object_id, 0.97, 12.0, 400.0, 3.0 * t, 50.0, prompted=t == 0) for t in range(frames)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"iou": 0.2}, "uncertain mask"),
        ({"object_score": 0.0}, "unsure whether it is there"),
        ({"area": 30.0}, "changed its size"),
        ({"x": 300.0}, "jumped"),
        ({"contested": 0.9}, "shares pixels with another object"),
        ({"area": 0.0}, "reappeared"),
    ],
)
def test_a_frame_with_a_fault_comes_first_with_its_reason(fault: dict[str, float], reason: str) -> None:
    track = steady()
    track[21] = replace(track[21], **fault)
    doubt = rank_doubts(track, 1)[0]
    assert doubt.object_id == 1
    assert doubt.frame_idx in (21, 22)  # on the second it changes back
    assert any(reason in one.reasons for one in rank_doubts(track, 2))


def test_a_prompted_frame_is_not_doubted_and_resolves_what_follows() -> None:
    track = [replace(one, iou=0.5) for one in steady()]
    track[20] = replace(track[20], prompted=True)
    named = [doubt.frame_idx for doubt in rank_doubts(track)]
    assert not {0, 20} & set(named)
    assert all(abs(frame_idx - 20) > 2 for frame_idx in named[:2])


def test_neighbors_are_one_doubt_and_events_are_ranked() -> None:
    track = steady(60)
    for t in range(20, 23):
        track[t] = replace(track[t], iou=0.5)
    for t in range(45, 48):
        track[t] = replace(track[t], iou=0.1)
    assert [round(doubt.frame_idx, -1) for doubt in rank_doubts(track, 2)] in ([50, 20], [40, 20])


def test_observations_may_come_in_any_order_and_frames_may_be_missing() -> None:
    track = [one for one in steady(60) if one.frame_idx not in range(30, 40)] + steady(60, object_id=7)
    track[25] = replace(track[25], iou=0.1)
    expected = rank_doubts(track)
    assert rank_doubts(track[::-1]) == expected
    assert (expected[0].frame_idx, expected[0].object_id) == (25, 1)
    assert rank_doubts([]) == []


def test_steady_motion_is_no_jump() -> None:
    assert doubt_signals(steady())["place"][2:].max() == 0


def test_scores_are_fractions_and_a_limit_is_checked() -> None:
    track = [replace(one, iou=0.0, object_score=0.0, contested=1.0) for one in steady()]
    assert all(0 < doubt.score < 1 for doubt in rank_doubts(track))
    for limit in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="limit"):
            rank_doubts(track, limit)


def test_what_two_masks_share_is_measured_against_the_larger_one() -> None:
    masks = np.zeros((3, 10, 10), bool)
    masks[0, :, :5], masks[1, :2, :2], masks[2, :, 4:9] = True, True, True
    seen = observe(4, [1, 2, 3], masks, [0.9] * 3, [1.0] * 3, prompted=[2])
    assert [one.area for one in seen] == [50, 4, 50]
    assert [round(one.contested, 2) for one in seen] == [0.2, 0.08, 0.2]
    assert observe(4, [], masks[:0], [], []) == []
    assert (seen[0].x, seen[0].y, seen[1].prompted, seen[2].prompted) == (2.0, 4.5, True, False)


def test_the_frame_where_directions_begin_to_differ_is_doubted_most() -> None:
    full, empty = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    forward = {(t, 1): full for t in range(10)}
    backward = {(t, 1): full if t > 6 else empty for t in range(10)}
    difference = disagreements(forward, backward)
    assert max(difference, key=difference.__getitem__) == (6, 1)
    assert difference[2, 1] == 0.5
    assert disagreements({(0, 1): empty}, {(0, 1): empty}) == {(0, 1): 0}


def flat(session: Session) -> list[object]:
    """All stored values of a session, comparable."""
    values: list[object] = []

    def add(state: FrameState) -> None:
        for value in vars(state).values():
            values.append(value.float().numpy().tobytes() if isinstance(value, torch.Tensor) else value)

    for one in session.tracker.objects.values():
        values += [one.id, one.frames_unseen, sorted(one.corrected_frames), list(one.prompts.items())]
        for part in (one.bank.prompted, one.bank.tracked):
            values.append(list(part))
            for state in part.values():
                add(state)
    return values


@pytest.fixture
def tracked(session: Open, video: np.ndarray) -> Iterator[Session]:
    with session(video[:6], retain="all") as s:
        s.add_prompt(1, frame_idx=0, points=[45, 65])
        s.add_prompt(2, frame_idx=0, box=[75, 30, 125, 75])
        assert len(list(s.propagate())) == 6
        yield s


def test_a_session_names_frames_and_keeps_its_state(tracked: Session) -> None:
    before = flat(tracked)
    named = tracked.doubts(limit=2)
    assert named
    assert all(isinstance(one, Doubt) and 0 < one.frame_idx < 6 and one.object_id in (1, 2) for one in named)
    assert tracked.doubts()[: len(named)] == named
    checked = tracked.doubts(check_backward=True)
    assert checked != tracked.doubts()
    assert flat(tracked) == before


def test_a_session_without_old_frames_has_no_doubts(session: Open, video: np.ndarray) -> None:
    with session(video[:4]) as s, pytest.raises(StateError, match='retain="all"'):
        s.doubts()
    with session(video[:4], retain="all") as s:
        s.add_prompt(1, frame_idx=0, points=[45, 65])
        with pytest.raises(StateError, match="propagate"):
            s.doubts()


def test_a_swap_exchanges_later_frames_and_is_undone_by_another(tracked: Session) -> None:
    tracked.correct(2, frame_idx=4, points=[100, 50])
    before, masks = flat(tracked), {t: tracked.results_at(t).masks.data for t in range(6)}
    tracked.swap(1, 2, 3)
    for t in range(6):
        now = tracked.results_at(t)
        assert now.ids.tolist() == [1, 2]
        np.testing.assert_array_equal(now.masks.data, masks[t][::-1] if t >= 3 else masks[t])
    assert [list(one.prompts) for one in tracked.tracker.objects.values()] == [[0, 4], [0]]
    assert tracked.tracker.objects[1].corrected_frames == {4}
    tracked.swap(2, 1, 3)
    assert flat(tracked) == before


def test_tracking_continues_with_exchanged_memories(session: Open, video: np.ndarray) -> None:
    with session(video[:6], retain="all") as s:
        s.add_prompt(1, frame_idx=0, points=[45, 65])
        s.add_prompt(2, frame_idx=0, box=[75, 30, 125, 75])
        list(s.propagate(stop=5))
        s.swap(1, 2, 0)  # all of both: a swap of names
        [last] = list(s.propagate(5))
    with session(video[:6], retain="all") as s:
        s.add_prompt(2, frame_idx=0, points=[45, 65])
        s.add_prompt(1, frame_idx=0, box=[75, 30, 125, 75])
        *_, expected = s.propagate()
    order = [expected.ids.tolist().index(number) for number in last.ids.tolist()]
    np.testing.assert_array_equal(last.masks.data, expected.masks.data[order])


def test_a_swap_during_a_pass_renames_what_was_tracked_backward(session: Open, video: np.ndarray) -> None:
    with session(video[:6], retain="all") as s:
        s.add_prompt(1, frame_idx=0, points=[45, 65])
        s.add_prompt(2, frame_idx=4, box=[75, 30, 125, 75])
        s.add_prompt(3, frame_idx=4, points=[125, 75])
        passing = s.propagate(bidirectional=True)
        first = next(passing)
        s.swap(2, 3, 2)
        later = {results.frame_idx: results for results in passing}
        assert s._propagation is None
    assert first.ids.tolist() == later[1].ids.tolist() == [1, 2, 3]
    assert later[3].ids.tolist() == [1, 2, 3]


def test_an_impossible_swap_is_refused_and_changes_nothing(tracked: Session) -> None:
    before = flat(tracked)
    for arguments, error, message in (
        ((1, 9, 3), PromptError, "no object 9"),
        ((1, 1, 3), PromptError, "itself"),
        ((1, 2, 99), SourceError, "99"),
        ((1, 2, -1), InputError, "whole number"),
    ):
        with pytest.raises(error, match=message):
            tracked.swap(*arguments)
    assert flat(tracked) == before


def test_a_swap_needs_tracked_frames_and_leaves_nobody_without_prompt(session: Open, video: np.ndarray) -> None:
    with session(video[:6], retain="all") as s:
        s.add_prompt(1, frame_idx=0, points=[45, 65])
        s.add_prompt(2, frame_idx=4, box=[75, 30, 125, 75])
        with pytest.raises(StateError, match="nothing to swap"):
            s.swap(1, 2, 5)
        list(s.propagate(stop=4))
        with pytest.raises(StateError, match="no prompt"):
            s.swap(1, 2, 2)
