"""What people do with a session, on a small network whose weights follow from its tensors' names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from masklet import SAM
from masklet.errors import InputError, MaskletError, PromptError, StateError
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors, SelectedMasks
from masklet.results import Results
from masklet.video import LiveSession, Session, TrackOptions
from masklet.video.exclusion import apply_non_overlap

Open = Callable[..., Session]
DISC = {"points": [45, 65]}
BOX = {"box": [75, 30, 125, 75]}
RING = {"points": [125, 75]}


def prompted(session: Session) -> Session:
    session.add_prompt(1, frame_idx=0, **DISC)
    session.add_prompt(2, frame_idx=0, **BOX)
    return session


def logits(session: Session, number: int, frame: int) -> torch.Tensor:
    kept = session.tracker.objects[number].bank[frame]
    assert kept.logits_11HW is not None
    return kept.logits_11HW


def same(first: list[Results], second: list[Results]) -> None:
    assert [r.frame_idx for r in first] == [r.frame_idx for r in second]
    for one, other in zip(first, second, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_array_equal(one.masks.data, other.masks.data)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.object_scores, other.object_scores)
        assert one.states == other.states


def test_a_prompt_shows_its_mask_at_once_and_propagation_shows_the_same(session: Open, video: np.ndarray) -> None:
    with session(video) as s:
        shown = s.add_prompt(7, frame_idx=3, **DISC)
        assert shown.ids.tolist() == [7]
        assert shown.frame_idx == 3
        first = next(s.propagate())
        np.testing.assert_array_equal(first.masks.data, shown.masks.data)


@pytest.mark.slow
def test_a_stream_gives_what_the_video_gives_bit_for_bit(session: Open, video: np.ndarray, live: Any) -> None:
    with prompted(session(video)) as s:
        from_video = list(s.propagate())
    with session(iter(video)) as s:
        from_stream = list(prompted(s).propagate())
    same(from_video, from_stream)
    view: LiveSession = live()
    view.add_prompt(1, **DISC)
    view.add_prompt(2, **BOX)
    same(from_video, [view.step(rgb) for rgb in video])


def test_a_short_video_and_a_live_view_that_knows_its_length_agree(session: Open, video: np.ndarray, live: Any) -> None:
    short = video[:8]
    with prompted(session(short)) as s:
        from_video = list(s.propagate())
    view: LiveSession = live(length=8)
    view.add_prompt(1, **DISC)
    view.add_prompt(2, **BOX)
    same(from_video, [view.step(rgb) for rgb in short])


@pytest.mark.slow
def test_retaining_recent_frames_or_all_gives_the_same(session: Open, video: np.ndarray) -> None:
    with prompted(session(video, retain="recent")) as little, prompted(session(video, retain="all")) as everything:
        same(list(little.propagate()), list(everything.propagate()))


@pytest.mark.slow
def test_objects_tracked_together_equal_each_tracked_alone(session: Open, video: np.ndarray) -> None:
    with prompted(session(video, retain="all", non_overlapping=False)) as together:
        together.add_prompt(3, frame_idx=2, **RING)
        list(together.propagate())
        for number, prompt, frame in ((1, DISC, 0), (2, BOX, 0), (3, RING, 2)):
            with session(video, retain="all") as alone:
                alone.add_prompt(number, frame_idx=frame, **prompt)
                for shown in alone.propagate():
                    a, b = (logits(s, number, shown.frame_idx).float() for s in (together, alone))
                    assert (a - b).abs().max() < 1e-3 * b.std()


def test_batches_of_one_and_of_many_agree(session: Open, video: np.ndarray) -> None:
    with prompted(session(video[:6], objects_per_batch=1)) as one, prompted(session(video[:6])) as many:
        for a, b in zip(one.propagate(), many.propagate(), strict=True):
            np.testing.assert_allclose(a.object_scores, b.object_scores, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_memory_bank_does_not_grow(session: Open, video: np.ndarray) -> None:
    with prompted(session(np.concatenate([video] * 3))) as s:
        sizes = []
        for _ in s.propagate():
            banks = [one.bank for one in s.tracker.objects.values()]
            whole = [sum(k.spatial_1MHW is not None for k in bank.tracked.values()) for bank in banks]
            sizes.append((max(len(bank.tracked) for bank in banks), max(whole)))
    assert sizes[-1] == sizes[40]
    assert sizes[-1][0] <= 2 * 15 + 1
    assert sizes[-1][1] <= 2 * 6 + 1
    assert len(s.tracker.cache._features) <= s.tracker.cache.capacity


def test_objects_can_be_added_and_removed_while_tracking_runs(session: Open, video: np.ndarray) -> None:
    seen: dict[int, list[int]] = {}
    with session(video) as s:
        s.add_prompt(5, frame_idx=0, **DISC)
        for frame in s.propagate():
            seen[frame.frame_idx] = frame.ids.tolist()
            if frame.frame_idx == 6:
                s.add_prompt(9, frame_idx=6, **RING)
            if frame.frame_idx == 12:
                s.remove_object(5)
    assert [seen[t] for t in (0, 6, 7, 12, 13, 23)] == [[5], [5], [5, 9], [5, 9], [9], [9]]
    assert list(seen) == list(range(24))


def test_each_object_starts_where_it_was_prompted(session: Open, video: np.ndarray) -> None:
    with session(video) as s:
        s.add_prompt(1, frame_idx=2, **DISC)
        s.add_prompt(2, frame_idx=8, **BOX)
        ids = {frame.frame_idx: frame.ids.tolist() for frame in s.propagate()}
    assert min(ids) == 2
    assert ids[7] == [1]
    assert ids[8] == [1, 2]


@pytest.mark.slow
def test_a_bidirectional_pass_yields_every_frame_once_with_every_object(session: Open, video: np.ndarray) -> None:
    reported: list[int] = []
    with session(video) as s:
        s.add_prompt(1, frame_idx=2, **DISC)
        s.add_prompt(2, frame_idx=8, **BOX)
        frames = list(s.propagate(bidirectional=True, progress=reported.append))
    assert [frame.frame_idx for frame in frames] == list(range(24))
    assert all(frame.ids.tolist() == [1, 2] for frame in frames)
    assert reported[:9] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    with session(video, retain="all") as s:
        s.add_prompt(2, frame_idx=8, **BOX)
        back = {frame.frame_idx: frame.masks.data[0] for frame in s.propagate(reverse=True)}
    alone = [frame for frame in frames if frame.frame_idx in (3, 4, 5)]
    for frame in alone:  # the second object, propagated in reverse together with the first
        np.testing.assert_array_equal(frame.masks.data[1], back[frame.frame_idx])


def test_part_of_a_video(session: Open, video: np.ndarray) -> None:
    with prompted(session(video, retain="all")) as s:
        assert [f.frame_idx for f in s.propagate(stop=5)] == [0, 1, 2, 3, 4]
        assert [f.frame_idx for f in s.propagate(5, 8)] == [5, 6, 7]
        assert [f.frame_idx for f in s.propagate(7, 4, reverse=True)] == [7, 6, 5]
    with prompted(session(video)) as whole:
        at_once = list(whole.propagate(stop=8))
    with prompted(session(video)) as parts:
        same(at_once, [*parts.propagate(stop=5), *parts.propagate(5, 8)])


def test_a_stream_continues_where_it_stopped(session: Open, video: np.ndarray) -> None:
    with session(iter(video)) as s:
        prompted(s)
        first = [frame.frame_idx for frame in s.propagate(stop=4)]
        assert [*first, *(frame.frame_idx for frame in s.propagate())] == list(range(24))


def test_repropagating_a_correction_names_the_changed_frames(session: Open, video: np.ndarray) -> None:
    with prompted(session(video, retain="all")) as s:
        before = {f.frame_idx: f.masks.data for f in s.propagate()}
        shown = s.correct(1, frame_idx=10, points=[120, 20], labels=[0])
        assert shown.ids.tolist() == [1]
        again = {f.frame_idx: f for f in s.repropagate()}
        assert min(again) == 11
        assert s.changed_frames[1][0] == 10
        assert set(s.changed_frames) == {1}
        assert all(f.ids.tolist() == [1, 2] for f in again.values())
        for t in range(10):
            np.testing.assert_array_equal(s.results_at(t).masks.data, before[t])
        for t in range(24):
            np.testing.assert_array_equal(s.results_at(t).masks.data[1], before[t][1])
        assert list(s.repropagate()) == []


def test_repropagating_stops_where_masks_agree(session: Open, video: np.ndarray) -> None:
    with prompted(session(video, retain="all")) as s:
        list(s.propagate())
        known = s.results_at(10).masks.data[1]
        assert known.any()
        s.correct(2, frame_idx=10, mask=known)
        again = [f.frame_idx for f in s.repropagate(min_iou=0.01, patience=3)]
    assert again == [11, 12, 13]
    assert s.changed_frames == {2: [10]}


def test_corrections_as_in_sam2_are_lost_when_tracked_again(session: Open, video: np.ndarray) -> None:
    kept, lost = {}, {}
    for corrections, into in (("kept", kept), ("sam2", lost)):
        with session(video, retain="all", corrections=corrections) as s:
            s.add_prompt(1, frame_idx=0, **DISC)
            before = {f.frame_idx: f.masks.data for f in s.propagate(stop=8)}
            s.correct(1, frame_idx=4, points=[120, 20], labels=[0])
            into.update({f.frame_idx: (before[f.frame_idx], f.masks.data) for f in s.propagate(4, 8)})
    assert all((old == new).all() for old, new in lost.values())
    assert any((old != new).any() for old, new in kept.values())


def test_points_accumulate_and_a_box_replaces_them(session: Open, video: np.ndarray) -> None:
    with session(video) as s:
        s.add_prompt(1, frame_idx=0, **DISC)
        s.add_prompt(1, frame_idx=0, points=[120, 20], labels=[0])
        assert s.tracker.objects[1].prompts[0].points.labels.tolist() == [1, 0]
        s.add_prompt(1, frame_idx=0, **BOX)
        assert s.tracker.objects[1].prompts[0].points is None


@pytest.mark.slow
def test_clear_prompts_removes_a_prompt(session: Open, video: np.ndarray) -> None:
    with prompted(session(video, retain="all")) as s:
        s.add_prompt(1, frame_idx=12, **DISC)
        list(s.propagate())
        s.clear_prompts(1, frame_idx=12)
        one = s.tracker.objects[1]
        assert sorted(one.prompts) == [0]
        assert 12 in one.bank.tracked
        assert [f.frame_idx for f in s.propagate()] == list(range(24))
        s.clear_prompts(1, frame_idx=0)
        s.clear_prompts(2, frame_idx=0)
        with pytest.raises(StateError, match="nothing to track"):
            s.propagate()


def test_a_failed_prompt_leaves_everything_as_it_was(session: Open, video: np.ndarray) -> None:
    with session(video) as s:
        with pytest.raises(PromptError):
            s.add_prompt(1, frame_idx=0, points=[500, 500])
        assert s.object_ids == ()
        s.add_prompt(1, frame_idx=0, **DISC)
        with pytest.raises(PromptError):
            s.add_prompt(1, frame_idx=0, box=[5, 5, 1, 1])
        assert s.tracker.objects[1].prompts[0].box is None


def predicted(features: ImageFeatures, logits_NHW: torch.Tensor, score: float) -> MaskPrediction:
    count, channels = len(logits_NHW), features.embed_BCHW.shape[1]
    return MaskPrediction(
        logits_NHW[:, None].expand(-1, 4, -1, -1),
        torch.ones(count, 4),
        torch.full((count, 1), score),
        torch.zeros(count, 4, channels),
    )


class Overlapping(FastSAM2):
    """Predicts for object number i a logit of i + 1 everywhere, and the highest of the first one on the left."""

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        if prompts is not None:
            return super().decode(features, prompts)
        logits = torch.stack([torch.full((24, 24), i + 1.0) for i in range(len(features.embed_BCHW))])
        for i, rows in enumerate(logits):
            rows[:, :12] = 9.0 - i
        return predicted(features, logits, 1.0)


def test_non_overlapping_objects_do_not_overlap(network: FastSAM2, video: np.ndarray) -> None:
    overlapping = Overlapping(network.model)
    overlapping.matching = None
    shown = {}
    for option in (False, True):
        with prompted(Session(overlapping, open_video(video[:2]), TrackOptions(non_overlapping=option))) as s:
            shown[option] = list(s.propagate())[1].masks.data
            written = {number: logits(s, number, 1) for number in (1, 2)}
    assert shown[False].all()
    assert not shown[True].all(0).any()
    assert shown[True][0, :, :70].all()
    assert shown[True][1, :, 90:].all()
    assert written[2][..., :12].max() == -10  # what is remembered is apart too


def test_non_overlap_assigns_each_position_to_the_highest_logit() -> None:
    one, two = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[2.0, 5.0]]]])
    rest = (torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 4))
    first, second = apply_non_overlap([SelectedMasks(one, *rest), SelectedMasks(two, *rest)])
    assert first.logits_B1HW.tolist() == [[[[3.0, -10.0]]]]
    assert second.logits_B1HW.tolist() == [[[[-10.0, 5.0]]]]


def test_an_object_gives_way_only_inside_the_masks_of_those_that_it_excludes() -> None:
    rows = torch.tensor([[[[3.0, 1.0, -2.0]]], [[[2.0, 5.0, -1.0]]], [[[9.0, 9.0, -9.0]]]])
    exclusive = torch.tensor([[False, True, False], [True, False, False], [False, False, False]])
    rest = (torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 4))
    apart = apply_non_overlap([SelectedMasks(row[None], *rest) for row in rows], exclusive)
    assert [one.logits_B1HW[0, 0, 0].tolist() for one in apart] == [[3, -10, -2], [-10, 5, -1], [9, 9, -9]]


class Blinking(FastSAM2):
    """Predicts nothing on frames 4 to 9."""

    at = 0

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        if prompts is not None:
            return super().decode(features, prompts)
        self.at += 1
        return predicted(features, torch.full((1, 24, 24), 5.0), -3.0 if 4 <= self.at <= 9 else 3.0)


def test_an_object_out_of_sight_is_occluded_then_lost_and_keeps_its_id(network: FastSAM2, video: np.ndarray) -> None:
    blinking = Blinking(network.model)
    with Session(blinking, open_video(video[:13]), TrackOptions(lost_after=4)) as s:
        s.add_prompt(42, frame_idx=0, **DISC)
        frames = list(s.propagate())
    assert [f.states[0] for f in frames[1:]] == ["visible"] * 3 + ["occluded"] * 3 + ["lost"] * 3 + ["visible"] * 3
    assert all(f.ids.tolist() == [42] for f in frames)
    assert not frames[5].masks.data.any()
    assert frames[5].object_scores[0] < 0 < frames[11].object_scores[0]


@pytest.mark.parametrize("side", [1, 5, 20])
def test_a_mask_prompt_is_answered_with_itself_however_small(tracker: SAM, side: int) -> None:
    video = np.full((2, 540, 960, 3), (40, 90, 40), np.uint8)
    mask = np.zeros((540, 960), bool)
    mask[250 : 250 + side, 450 : 450 + side] = True
    with tracker.session(video) as s:
        added = s.add_prompt(1, 0, mask=mask)
        assert s.tracker.objects[1].bank.prompted[0].logits_11HW.max() > 0  # its memory has it too
        for frame in (added, next(s.propagate())):
            np.testing.assert_array_equal(frame.masks.data, mask[None])
            assert frame.states == ("visible",)
            assert frame.object_scores[0] > 0


@pytest.mark.parametrize("side", [4, 8, 12, 20])
def test_states_and_presence_of_small_objects_agree(tracker: SAM, side: int) -> None:
    rgb = np.full((1080, 1920, 3), (40, 90, 40), np.uint8)
    rgb[501 : 501 + side, 903 : 903 + side] = (230, 60, 40)
    center, box = [903 + side / 2, 501 + side / 2], [903, 501, 903 + side, 501 + side]
    square = np.zeros((1080, 1920), bool)
    square[501 : 501 + side, 903 : 903 + side] = True
    with tracker.session(np.stack([rgb, np.roll(rgb, 3, axis=1)])) as s:
        added = [s.add_prompt(1, 0, box=box), s.add_prompt(2, 0, points=center), s.add_prompt(3, 0, mask=square)]
        for frame in [*added, *s.propagate()]:
            for mask, state, presence, score in zip(
                frame.masks.data, frame.states, frame.object_scores, frame.scores, strict=True
            ):
                assert (state == "visible") == (presence > 0) == mask.any()
                assert mask.any() or score == 0
    np.testing.assert_array_equal(added[2].masks.data[0], square)


def test_a_box_within_a_cell_is_remembered_as_a_mask(
    tracker: SAM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    video = np.full((2, 540, 960, 3), (40, 90, 40), np.uint8)
    decode = FastSAM2.decode

    def sees_nothing(self: FastSAM2, *args: Any) -> Any:
        prediction = decode(self, *args)
        return replace(prediction, logits_BKHW=prediction.logits_BKHW.clamp(max=-1))

    small, large = [450, 250, 454, 253], [100, 100, 500, 500]
    monkeypatch.setattr(FastSAM2, "decode", sees_nothing)
    with tracker.session(video, corrections="sam2") as s:
        assert not s.add_prompt(1, 0, box=small).masks.data.any()  # the published tracker
    with tracker.session(video) as s:
        answer = s.add_prompt(1, 0, box=small)
        assert (answer.masks.data.sum(), answer.masks.data[0, 250:253, 450:454].sum()) == (12, 12)
        assert s.tracker.objects[1].bank.prompted[0].logits_11HW.max() > 0
        refused = s.add_prompt(2, 0, box=large)
        assert (refused.states, refused.scores[0], refused.masks.data.any()) == (("occluded",), 0, False)
        s.save(tmp_path / "s.safetensors")
    with tracker.session(video, resume=tmp_path / "s.safetensors") as s:
        np.testing.assert_array_equal(s.results_at(0).masks.data[0], answer.masks.data[0])


def test_holes_and_specks_are_cleared_from_results(network: FastSAM2, video: np.ndarray) -> None:
    mask = np.zeros((120, 160), bool)
    mask[20:100, 20:100] = True
    mask[50:65, 50:65] = False
    mask[5:20, 135:150] = True
    shown = {}
    for clean in (0, 16):
        with Session(network, open_video(video[:2]), TrackOptions(fill_hole_area=clean, corrections="sam2")) as s:
            shown[clean] = s.add_prompt(1, frame_idx=0, mask=mask).masks.data[0]
    assert not shown[0][57, 57]
    assert shown[0][12, 142]
    assert shown[16][57, 57]
    assert not shown[16][12, 142]


def test_a_missing_frame_is_skipped(session: Open, video: np.ndarray, network: FastSAM2) -> None:
    class Gap:
        """A video whose frame 3 cannot be read."""

        def __init__(self) -> None:
            self.inner = open_video(video[:8])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def __getitem__(self, index: int) -> Any:
            return self.inner[index]

        def frames(self, *args: Any, **how: Any) -> Iterator[Any]:
            return (f for f in self.inner.frames(*args, **how) if f.index != 3)

    s = Session(network, Gap(), TrackOptions())  # type: ignore[arg-type]
    s.add_prompt(1, frame_idx=0, **DISC)
    assert [f.frame_idx for f in s.propagate()] == [0, 1, 2, 4, 5, 6, 7]


def test_live_prompts_apply_to_the_last_frame(live: Any, video: np.ndarray) -> None:
    view: LiveSession = live()
    assert view.add_prompt(1, **DISC) is None
    assert view.step(video[0]).ids.tolist() == [1]
    shown = view.add_prompt(4, **RING)
    assert shown is not None
    assert shown.frame_idx == 0
    assert view.step(video[1]).ids.tolist() == [1, 4]
    view.remove_object(1)
    assert view.step(video[2]).ids.tolist() == [4]
    assert view.step(video[3]).frame_idx == 3
    view.remove_object(4)
    assert len(view.step(video[4])) == 0


def test_a_live_view_continues_after_an_error(live: Any, video: np.ndarray) -> None:
    view: LiveSession = live()
    view.add_prompt(1, points=[500, 10])
    with pytest.raises(PromptError, match="outside"):
        view.step(video[0])
    view.remove_object(1)
    view.add_prompt(1, **DISC)
    assert view.step(video[0]).frame_idx == 0
    with pytest.raises(InputError, match="one size"):
        view.step(video[0][:50])
    with pytest.raises(InputError, match="uint8"):
        view.step(video[0].astype(float))
    assert view.step(video[1]).frame_idx == 1


def test_live_views_share_the_encoding_of_a_frame(live: Any, video: np.ndarray) -> None:
    alone: LiveSession = live()
    views: list[LiveSession] = [live(), live()]
    for view in (alone, *views):
        view.add_prompt(1, **DISC)
    expected = [alone.step(rgb) for rgb in video[:3]]
    for number, rgb in enumerate(video[:3]):
        encoded = alone.encode(rgb)
        for view in views:
            view.tracker.encode_frame = None  # type: ignore[method-assign,assignment]  # it would be a TypeError
            same([view.step(rgb, encoded=encoded)], [expected[number]])
    with pytest.raises(InputError, match=r"encoded is of a frame of \(90"):
        live().step(video[0], encoded=alone.encode(video[0][:90]))


def test_a_frame_that_failed_is_not_taken_for_the_next_one(live: Any, video: np.ndarray) -> None:
    view: LiveSession = live()
    view.add_prompt(1, **DISC)
    view.add_prompt(2, points=[500, 10])
    with pytest.raises(PromptError, match="outside"):
        view.step(255 - video[0])
    view.remove_object(2)
    view.remove_object(1)
    view.add_prompt(1, **DISC)
    clean: LiveSession = live()
    clean.add_prompt(1, **DISC)
    same([view.step(video[0])], [clean.step(video[0])])


BAD: list[tuple[str, Callable[[Session], Any], type[MaskletError], str]] = [
    ("no prompt", lambda s: s.add_prompt(1, frame_idx=0), PromptError, "all None"),
    ("labels alone", lambda s: s.add_prompt(1, frame_idx=0, labels=[1]), PromptError, "without points"),
    ("an id of text", lambda s: s.add_prompt("dog", frame_idx=0, **DISC), PromptError, "whole number"),
    ("an id below 0", lambda s: s.add_prompt(-1, frame_idx=0, **DISC), PromptError, "whole number"),
    ("an id that is True", lambda s: s.add_prompt(True, frame_idx=0, **DISC), PromptError, "whole number"),
    ("an id too large", lambda s: s.add_prompt(2**31, frame_idx=0, **DISC), PromptError, "2147483647"),
    ("a frame below 0", lambda s: s.add_prompt(1, frame_idx=-1, **DISC), InputError, "0 or more"),
    ("a frame of text", lambda s: s.add_prompt(1, frame_idx="3", **DISC), InputError, "whole number"),
    ("a frame behind the end", lambda s: s.add_prompt(1, frame_idx=99, **DISC), InputError, "99"),
    ("a point outside", lambda s: s.add_prompt(1, frame_idx=0, points=[160, 10]), PromptError, "outside"),
    ("NaN", lambda s: s.add_prompt(1, frame_idx=0, points=[float("nan"), 1]), PromptError, "finite"),
    ("three numbers", lambda s: s.add_prompt(1, frame_idx=0, points=[1, 2, 3]), PromptError, "pairs"),
    ("nested too deep", lambda s: s.add_prompt(1, frame_idx=0, points=[[[1, 2]]]), PromptError, "pairs"),
    ("points of uneven length", lambda s: s.add_prompt(1, frame_idx=0, points=[[1, 2], [3]]), PromptError, "points"),
    ("too many labels", lambda s: s.add_prompt(1, frame_idx=0, points=[[1, 2]], labels=[1, 0]), PromptError, "label"),
    ("a label of 7", lambda s: s.add_prompt(1, frame_idx=0, points=[1, 2], labels=[7]), PromptError, "labels"),
    (
        "only what it is not",
        lambda s: s.add_prompt(1, frame_idx=0, points=[1, 2], labels=[0]),
        PromptError,
        "only what",
    ),
    ("a flat box", lambda s: s.add_prompt(1, frame_idx=0, box=[5, 5, 5, 9]), PromptError, "x2 <= x1"),
    ("a box of five", lambda s: s.add_prompt(1, frame_idx=0, box=[1, 2, 3, 4, 5]), PromptError, "four numbers"),
    ("a box of text", lambda s: s.add_prompt(1, frame_idx=0, box="1,2,3,4"), PromptError, "four numbers"),
    (
        "a mask of another size",
        lambda s: s.add_prompt(1, frame_idx=0, mask=np.ones((9, 9))),
        PromptError,
        "does not fit",
    ),
    ("an empty mask", lambda s: s.add_prompt(1, frame_idx=0, mask=np.zeros((120, 160))), PromptError, "marks nothing"),
    ("correcting nobody", lambda s: s.correct(8, frame_idx=0, **DISC), PromptError, "no object 8"),
    ("removing nobody", lambda s: s.remove_object(8), PromptError, "no object 8"),
    ("clearing nobody", lambda s: s.clear_prompts(8, frame_idx=0), PromptError, "no object 8"),
    ("propagating nothing", lambda s: s.propagate(), StateError, "nothing to track"),
    ("update without memory", lambda s: s.repropagate(), StateError, "retain"),
    ("what is not known", lambda s: s.results_at(3), StateError, "nothing is known"),
]


@pytest.mark.parametrize(("act", "kind", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_named(
    session: Open, video: np.ndarray, act: Callable[[Session], Any], kind: type[MaskletError], says: str
) -> None:
    with session(video[:4]) as s, pytest.raises(kind, match=says):
        act(s)


def test_bad_ranges_and_order_are_named(session: Open, video: np.ndarray) -> None:
    with prompted(session(video)) as s:
        for how, says in (
            ({"start": 5, "stop": 5}, "hold no frame"),
            ({"start": 5, "stop": 9, "reverse": True}, "hold no frame"),
            ({"reverse": True, "bidirectional": True}, "exclude"),
            ({"start": -2}, "0 or more"),
            ({"stop": 2.5}, "0 or more"),
        ):
            with pytest.raises(InputError, match=says):
                s.propagate(**how)
        with pytest.raises(PromptError, match="no prompt on frame 3"):
            s.clear_prompts(1, frame_idx=3)
    with pytest.raises(StateError, match="closed"):
        s.add_prompt(1, frame_idx=0, **DISC)
    with pytest.raises(StateError, match="closed"):
        s.propagate()


@pytest.mark.slow
def test_what_a_stream_cannot_do_is_named(session: Open, video: np.ndarray) -> None:
    with session(iter(np.concatenate([video] * 2))) as s:
        with pytest.raises(StateError, match="not come yet"):
            s.add_prompt(1, frame_idx=5, **DISC)
        s.add_prompt(1, frame_idx=0, **DISC)
        with pytest.raises(StateError, match="backwards"):
            s.propagate(reverse=True)
        with pytest.raises(StateError, match="backwards"):
            s.propagate(bidirectional=True)
        list(s.propagate(stop=40))
        with pytest.raises(StateError, match="gone by"):
            s.add_prompt(2, frame_idx=3, **DISC)
        assert s.add_prompt(2, frame_idx=39, **DISC).frame_idx == 39


@pytest.mark.parametrize(
    "option",
    [
        {"retain": "most"},
        {"fill_hole_area": -1},
        {"objects_per_batch": 0},
        {"lost_after": 1.5},
        {"corrections": "no"},
    ],
)
def test_options_are_checked(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        replace(TrackOptions(), **option)


def test_stored_masks_at_another_threshold_are_those_of_the_logits(session: Open, video: np.ndarray) -> None:
    with session(video) as one:
        usual = one.add_prompt(4, 0, points=[20, 25])
        logits = one.logits_at(4, 0)
        level = float(np.quantile(logits, 0.9))
        assert (one.results_at(0).masks.data == usual.masks.data).all()
        higher, lower = (one.results_at(0, threshold=value).masks.data for value in (level, level - 0.5))
        assert higher.sum() < lower.sum()
        above = interpolate(torch.from_numpy(logits - level)[None, None], video.shape[1:3], mode="bilinear")[0] > 0
        assert (higher == above.numpy()).mean() > 0.98  # edges follow the frame
        with pytest.raises(StateError, match="no mask of object 4 is stored on frame 2"):
            one.logits_at(4, 2)


def test_remembered_masks_continue_an_earlier_pass(session: Open, video: np.ndarray) -> None:
    with session(video, retain="all") as one:
        full = list(prompted(one).propagate(stop=10))
        expected = {number: logits(one, number, 9) for number in (1, 2)}
    distances = []
    for remembers in (False, True):
        with session(video, retain="all") as one:
            prompted(one)
            for results in full[1:9] if remembers else ():
                for number, mask in zip(results.ids.tolist(), results.masks.data, strict=True):
                    one.remember(number, results.frame_idx, mask)
            list(one.propagate(9, 10))
            assert one.tracker.objects[1].bank.tracked.keys() == ({*range(1, 10)} if remembers else {9})
            distances.append(sum(float((logits(one, n, 9) - expected[n]).abs().mean()) for n in (1, 2)))
    assert distances[1] < distances[0]


def test_what_cannot_be_remembered_is_named_and_prompts_stay(session: Open, video: np.ndarray) -> None:
    with session(video) as one:
        before = one.add_prompt(1, 0, **DISC)
        one.remember(1, 0, np.zeros(video.shape[1:3], bool))
        assert (one.results_at(0).masks.data == before.masks.data).all()
        with pytest.raises(PromptError, match="there is no object 2"):
            one.remember(2, 1, np.zeros(video.shape[1:3], bool))
        with pytest.raises(PromptError, match="does not fit frame 1"):
            one.remember(1, 1, np.zeros((4, 4), bool))
