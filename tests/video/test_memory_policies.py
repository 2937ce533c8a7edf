"""Which memories each policy selects, on histories written down by hand after the papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masklet.errors import InputError, ModelError
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.results import Results
from masklet.video import AvailableMemory, MemorySelection, RecentFrames, SavedSession, Session, TrackOptions
from masklet.video.memory_policies import MEMORY_POLICIES, DistractorAwareFrames, ReliableFrames, key_weights

Open = Callable[..., Session]
POLICIES = ("sam2long", "samurai", "dam4sam")
CASES = [pytest.param(name, marks=[] if name == "samurai" else pytest.mark.slow) for name in POLICIES]
"""One of them among the fast tests."""


@dataclass(frozen=True)
class Scores:
    iou: float = 0.9
    object_score: float = 5.0
    area: int | None = 100
    box_agreement: float | None = None
    is_anchor: bool = False


def select(policy: str, frame: int, scores: dict[int, Scores], prompted: tuple[int, ...] = (0,), reverse: bool = False):
    available = AvailableMemory(prompted, tuple(f for f in scores if f not in prompted), None, scores)
    return MEMORY_POLICIES[policy].selector.select(frame, available, reverse=reverse, length=None)


def good(frames: range, **bad: Scores) -> dict[int, Scores]:
    return {f: Scores() for f in frames} | {int(name[1:]): scores for name, scores in bad.items()}


def test_sam2long_takes_the_last_six_good_frames_and_their_pointers_alone() -> None:
    scores = good(range(1, 12), f5=Scores(iou=0.2), f8=Scores(object_score=-1), f9=Scores(iou=0.3))
    seen = select("sam2long", 12, scores)
    assert seen.spatial == ((0, 0), (3, 6), (4, 5), (6, 4), (7, 3), (10, 2), (11, 1))
    assert seen.pointers == ((0, 12), (11, 1), (10, 2), (7, 3), (6, 4), (4, 5), (3, 6), (2, 7))
    assert seen.held == (1,)  # the farthest one has no pointer


def test_the_frame_before_is_always_selected() -> None:
    for policy in ("sam2long", "samurai"):
        seen = select(policy, 4, good(range(1, 4), f3=Scores(iou=0.0, object_score=-9)))
        assert seen.spatial == ((0, 0), (1, 3), (2, 2), (3, 1)), policy


def test_sam2long_looks_back_as_far_as_it_takes() -> None:
    absent = {f: Scores(object_score=-5) for f in range(20, 60)}
    seen = select("sam2long", 60, good(range(1, 20)) | absent)
    assert [frame for frame, _ in seen.spatial] == [0, 15, 16, 17, 18, 19, 59]
    assert len(seen.pointers) == 16


def test_sam2long_ranks_keys_by_the_object_score_with_the_prompt_as_ten() -> None:
    scores = {1: Scores(object_score=12), 2: Scores(object_score=3), 3: Scores(object_score=7)}
    seen = select("sam2long", 4, scores)
    assert seen.spatial == ((0, 0), (1, 3), (2, 2), (3, 1))
    np.testing.assert_allclose(seen.spatial_weights, [0.95 + 0.2 / 3, 1.05, 0.95, 0.95 + 0.1 / 3])
    assert [frame for frame, _ in seen.pointers] == [0, 3, 2]
    np.testing.assert_allclose(seen.pointer_weights, [1.05, 1.0, 0.95])
    assert key_weights([1.0], 0.95, 1.05) == (0.95,)


def test_sam2long_weights_nothing_where_there_is_one_memory() -> None:
    seen = select("sam2long", 1, {})
    assert (seen.spatial, seen.pointers) == (((0, 0),), ((0, 1),))
    assert seen.spatial_weights == seen.pointer_weights == ()


def test_samurai_leaves_out_what_disagrees_with_the_motion_and_keeps_the_pointers_of_sam2() -> None:
    scores = good(
        range(1, 20),
        f18=Scores(iou=0.5),
        f17=Scores(box_agreement=0.0),
        f16=Scores(box_agreement=0.4),
        f15=Scores(object_score=0),
    )
    seen = select("samurai", 20, scores)
    assert seen.spatial == ((0, 0), (11, 6), (12, 5), (13, 4), (14, 3), (16, 2), (19, 1))
    available = AvailableMemory((0,), range(1, 20))
    assert seen.pointers == RecentFrames().select(20, available, reverse=False, length=None).pointers
    assert seen.spatial_weights == ()


def test_dam4sam_takes_the_frame_before_and_every_fifth_visible_one() -> None:
    seen = select("dam4sam", 38, good(range(1, 38), f20=Scores(area=0), f25=Scores(object_score=-2)))
    assert seen.spatial == ((0, 0), (5, 6), (10, 5), (15, 4), (30, 3), (35, 2), (37, 1))
    assert {25, 36} & {frame for frame, _ in seen.pointers} == {36}


def test_dam4sam_starts_from_the_nearest_frame_on_which_the_object_was_visible() -> None:
    seen = select("dam4sam", 38, good(range(1, 38), f37=Scores(area=0), f36=Scores(object_score=-1)))
    assert seen.spatial == ((0, 0), (10, 6), (15, 5), (20, 4), (25, 3), (30, 2), (35, 1))


def test_dam4sam_gives_up_to_three_slots_to_anchors_without_age() -> None:
    anchor = Scores(is_anchor=True)
    seen = select("dam4sam", 38, good(range(1, 38), f7=anchor, f14=anchor, f21=anchor, f30=anchor, f37=anchor))
    assert seen.spatial == ((0, 0), (14, 0), (21, 0), (30, 0), (25, 3), (35, 2), (37, 1))
    assert [frame for frame, _ in seen.pointers[:4]] == [0, 30, 21, 14]  # however far they are
    assert len(seen.pointers) == len({frame for frame, _ in seen.pointers}) == 1 + 3 + 14


def test_dam4sam_takes_an_anchor_among_the_recent_frames_only_if_it_is_the_frame_before() -> None:
    anchor = Scores(is_anchor=True)
    anchors = {f"f{frame}": anchor for frame in (10, 15, 20, 25, 30)}
    seen = select("dam4sam", 36, good(range(1, 36), **anchors))
    assert seen.spatial == ((0, 0), (20, 0), (25, 0), (30, 0), (5, 2), (35, 1))
    seen = select("dam4sam", 31, good(range(1, 31), **anchors))
    assert seen.spatial == ((0, 0), (15, 0), (20, 0), (25, 0), (5, 2), (30, 1))


def test_backward_every_rule_is_the_mirror_image() -> None:
    scores = good(range(1, 30), f11=Scores(iou=0.1), f14=Scores(object_score=-1), f20=Scores(is_anchor=True))
    mirrored = {30 - frame: each for frame, each in scores.items()}
    for policy in POLICIES:
        forward = select(policy, 28, {f: each for f, each in scores.items() if f < 28})
        backward = select(policy, 2, {f: each for f, each in mirrored.items() if f > 2}, (30,), reverse=True)
        assert tuple((30 - frame, age) for frame, age in backward.spatial) == forward.spatial, policy
        assert tuple((30 - frame, offset) for frame, offset in backward.pointers) == forward.pointers, policy


def test_a_limit_keeps_the_weights_of_what_it_keeps() -> None:
    selection = MemorySelection(((0, 0), (1, 2), (2, 1)), ((0, 3), (2, 1)), 16, (1.05, 0.95, 1.0), (1.05, 0.95))
    assert selection.limit(3, 2, 1) == MemorySelection(((1, 2), (2, 1)), ((2, 1),), 16, (0.95, 1.0), (0.95,))


def test_whatever_will_be_selected_is_selected_all_the_time() -> None:
    """Why a bank may release what is far away and not selected: a frame that is passed over never comes back."""
    random = np.random.default_rng(5)
    for policy in POLICIES:
        scores: dict[int, Scores] = {}
        previous: set[int] = set()
        pointed: set[int] = set()
        for frame in range(1, 120):
            selection = select(policy, frame, scores)
            seen = {f for f, _ in selection.spatial}
            pointers = {f for f, _ in selection.pointers}
            assert not {f for f in seen - previous if f < frame - 6}, (policy, frame)
            assert not {f for f in pointers - pointed if f < frame - 15}, (policy, frame)
            held, absent = set(selection.held), random.random() < 0.4
            previous, pointed = seen | held, seen | held | pointers
            scores[frame] = Scores(random.random(), -3.0 if absent else 3.0, 0 if absent else 90, None, frame % 13 == 0)


# on a small network ---------------------------------------------------------------------------------------------------


def frame_key(frame: Results) -> tuple[Any, ...]:
    assert frame.masks is not None
    assert frame.object_scores is not None
    return frame.frame_idx, frame.ids.tolist(), frame.object_scores.tobytes(), frame.masks.data.tobytes()


def prompted(session: Session, frame: int = 0) -> Session:
    session.add_prompt(1, frame_idx=frame, points=[45, 65])
    session.add_prompt(2, frame_idx=frame, box=[75, 30, 125, 75])
    return session


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up network is never sure: with thresholds that it passes, every rule has something to decide."""
    from dataclasses import replace

    from masklet.video import track_options
    from masklet.video.box_motion import MotionRule
    from masklet.video.distractors import AnchorRule

    policies = dict(MEMORY_POLICIES)
    policies["samurai"] = replace(policies["samurai"], motion=MotionRule(warm_up=2, min_iou=-9.0))
    policies["dam4sam"] = replace(
        policies["dam4sam"], anchors=AnchorRule(min_iou=-9.0, area_tolerance=9.0, min_distance=2, max_agreement=1.0)
    )
    monkeypatch.setattr(track_options, "MEMORY_POLICIES", policies)


@pytest.mark.parametrize("policy", CASES)
def test_two_objects_save_and_resume_forward_and_backward(
    policy: str, session: Open, network: FastSAM2, video: np.ndarray, tmp_path: Path
) -> None:
    short = video[:12]
    for reverse in (False, True):
        with prompted(session(short, memory=policy), 11 if reverse else 0) as one:
            complete = [frame_key(each) for each in one.propagate(reverse=reverse)]
        with prompted(session(short, memory=policy), 11 if reverse else 0) as one:
            run = one.propagate(reverse=reverse)
            first = [frame_key(next(run)) for _ in range(6)]
            path = one.save(tmp_path / f"{policy}{reverse}.safetensors")
        saved = SavedSession.read(path)
        options = saved.options(None)
        assert options.memory == policy
        with Session(network, open_video(short), options) as again:
            again.restore_saved(saved)
            states = [state for obj in again.tracker.objects.values() for state in obj.bank.tracked.values()]
            if policy == "samurai":
                assert all(obj.motion is not None for obj in again.tracker.objects.values())
                assert any(state.box_agreement is not None for state in states)
            if policy == "dam4sam":
                assert any(state.is_anchor for state in states)
            assert first + [frame_key(each) for each in again.resume()] == complete


@pytest.mark.parametrize("policy", CASES)
def test_objects_do_not_depend_on_each_other_or_on_what_is_retained(
    policy: str, session: Open, video: np.ndarray, live: Any
) -> None:
    short = np.concatenate([video, video[::-1]])[:26]
    with prompted(session(short, memory=policy, retain="all")) as both, session(short, memory=policy) as alone:
        alone.add_prompt(2, frame_idx=0, box=[75, 30, 125, 75])
        view = live(memory=policy, length=len(short))
        view.add_prompt(2, box=[75, 30, 125, 75])
        for together, single, rgb in zip(both.propagate(), alone.propagate(), short, strict=True):
            np.testing.assert_allclose(together.object_scores[1], single.object_scores[0], rtol=1e-3, atol=1e-3)
            np.testing.assert_array_equal(single.object_scores, view.step(rgb).object_scores)
        assert len(alone.tracker.objects[2].bank.tracked) < 26


@pytest.mark.parametrize("policy", CASES)
def test_policies_differ_from_sam2_and_correct_and_repropagate(policy: str, session: Open, video: np.ndarray) -> None:
    with prompted(session(video[:14], memory=policy, retain="all")) as one, prompted(session(video[:14])) as usual:
        pairs = list(zip(one.propagate(), usual.propagate(), strict=True))
        assert any(not np.array_equal(a.object_scores, b.object_scores) for a, b in pairs)
        one.correct(1, frame_idx=7, points=[60, 60])
        assert [results.frame_idx for results in one.repropagate(patience=3)][:2] == [8, 9]


def test_a_rule_of_your_own_replaces_the_selection_of_a_policy() -> None:
    options = TrackOptions(memory="sam2long", memory_selector=RecentFrames(memories=2))
    assert options.memory_policy.selector == RecentFrames(memories=2)
    assert not options.memory_policy.weights_keys


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"memory='sam3'.*'sam2' or 'sam2long' or 'samurai' or 'dam4sam'"):
        TrackOptions(memory="sam3")  # type: ignore[arg-type]


def test_a_network_that_does_not_weight_keys_refuses_by_name(network: FastSAM2, video: np.ndarray) -> None:
    network.weights_keys = False
    with pytest.raises(ModelError, match=r"memory='sam2long'.*samurai"):
        Session(network, open_video(video), TrackOptions(memory="sam2long"))
    Session(network, open_video(video), TrackOptions(memory="samurai")).close()


def test_rules_are_values() -> None:
    assert ReliableFrames(min_iou=0.3) == ReliableFrames(min_iou=0.3) != ReliableFrames(min_iou=0.4)
    assert DistractorAwareFrames().max_distance == (6, 15)
