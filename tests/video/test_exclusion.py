"""Objects that exclude each other: who owns a cell, who may be in another, and how an absent one is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from helpers.reference import reference_model
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import MatchingConfig
from masklet.models.sam2.label_matching import recall_labels
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors
from masklet.video import Session, TrackOptions
from masklet.video.exclusion import exclusive_pairs, predict_place, share_priors, yield_to_prompted
from masklet.video.memory_bank import FrameState, MemoryBank, TrackedObject
from masklet.video.tracker import Tracker

SIZE = (20, 40)


def box_state(rows: tuple[int, int], columns: tuple[int, int], score: float = 5.0) -> FrameState:
    """An object that covers a box of cells at stride 8."""
    logits = torch.full((1, 1, 2 * SIZE[0], 2 * SIZE[1]), -8.0)
    logits[..., 2 * rows[0] : 2 * rows[1], 2 * columns[0] : 2 * columns[1]] = 8.0
    return FrameState(0.9, score, torch.zeros(1, 4), logits)


def moving(left: int, step: int, frames: int = 5, rows: tuple[int, int] = (8, 12)) -> MemoryBank:
    """An object of 4 x 4 cells that is prompted on frame 0 and moves along a row."""
    states = {t: box_state(rows, (left + step * t, left + step * t + 4)) for t in range(frames)}
    return MemoryBank({0: states.pop(0)}, states)


def box_map(rows: tuple[int, int], columns: tuple[int, int], value: float = 1.0) -> Tensor:
    found = torch.zeros(1, 1, *SIZE)
    found[..., rows[0] : rows[1], columns[0] : columns[1]] = value
    return found


def test_an_object_in_another_does_not_exclude_it_and_neighbors_do() -> None:
    whole, part, other = box_state((2, 12), (2, 12)), box_state((3, 6), (3, 6)), box_state((2, 12), (11, 20))
    banks = [MemoryBank({0: state}) for state in (whole, part, other)]
    expected = [[False, False, True], [False, False, True], [True, True, False]]
    assert exclusive_pairs(banks, 1, reverse=False).tolist() == expected
    late = [MemoryBank({0: whole}, {4: whole}), MemoryBank({4: part})]
    assert not exclusive_pairs(late, 5, reverse=False).any()
    assert not exclusive_pairs(late, 3, reverse=True).any()
    assert exclusive_pairs(late, 9, reverse=False).tolist() == [[False, False], [False, False]]
    apart = [MemoryBank({0: whole}), MemoryBank({4: part})]
    assert exclusive_pairs(apart, 5, reverse=False).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(("frame", "left"), [(5, 15), (7, 19)])
def test_a_place_moves_on_at_the_speed_of_the_last_frames(frame: int, left: int) -> None:
    place = predict_place(moving(5, 2), frame, reverse=False)
    assert place is not None
    assert place[8:12, left : left + 4].eq(1).all()
    assert not place[:, : left - 8].any()
    assert not place[:, left + 12 :].any()


def test_a_place_is_predicted_backward_too_and_not_for_an_object_long_unseen() -> None:
    bank = MemoryBank({9: box_state((8, 12), (20, 24))}, {8: box_state((8, 12), (17, 21))})
    place = predict_place(bank, 7, reverse=True)
    assert place is not None
    assert place[8:12, 14:18].eq(1).all()
    assert predict_place(bank, 1, reverse=True) is None
    absent = MemoryBank({0: box_state((8, 12), (5, 9), score=-1.0)})
    assert predict_place(absent, 1, reverse=False) is None


def test_an_object_that_is_covered_in_part_keeps_its_speed() -> None:
    bank = moving(5, 2)
    bank.tracked[5] = box_state((8, 12), (15, 17))
    place = predict_place(bank, 6, reverse=False)
    assert place is not None
    assert place[8:12, 17:19].eq(1).all()


def test_a_cell_that_two_claim_goes_to_the_one_that_is_expected_there() -> None:
    """They moved through each other: frame 8 expects the first in columns 22 to 25, the other in 10 to 13."""
    right, left = TrackedObject(1, bank=moving(6, 2, 8)), TrackedObject(7, bank=moving(26, -2, 8))
    for index in (4, 5, 6):  # where they met, one was out of sight
        left.bank.tracked[index] = replace(left.bank.tracked[index], object_score=-1.0)
    priors = {1: box_map((8, 12), (22, 26), 0.3), 7: box_map((8, 12), (22, 26), 0.6)}
    shared = share_priors(priors, [right, left], 8, reverse=False)
    assert list(shared) == [1]  # the other has no cell above one half left
    assert shared[1].shape == (1, 1, *SIZE)
    assert shared[1][..., 8:12, 22:26].sub(0.9 * 0.3 / 0.33).abs().max() < 0.01
    assert not shared[1][..., :20].any()


def test_priors_of_an_object_in_another_are_not_shared() -> None:
    whole, part = box_state((2, 12), (2, 12)), box_state((3, 6), (3, 6))
    objects = [TrackedObject(i, bank=MemoryBank({0: state})) for i, state in enumerate((whole, part))]
    priors = {0: box_map((2, 12), (2, 12), 0.9), 1: box_map((3, 6), (3, 6), 0.8)}
    shared = share_priors(priors, objects, 1, reverse=False)
    assert all(torch.equal(shared[number], priors[number]) for number in priors)


def test_a_prior_gives_way_to_an_object_that_is_prompted_on_the_frame() -> None:
    hidden, shown = moving(5, 2), MemoryBank({3: box_state((8, 12), (20, 24))})
    del hidden.tracked[3]
    objects = [TrackedObject(1, bank=hidden), TrackedObject(2, bank=shown)]
    wide = box_map((8, 12), (16, 24), 0.9)
    rest = yield_to_prompted({1: wide}, objects, 3, reverse=False)[1]
    assert rest[..., 8:12, 16:19].eq(0.9).all()
    assert rest[..., 8:12, 21:23].max() < 0.1
    assert yield_to_prompted({1: box_map((8, 12), (20, 24), 0.9)}, objects, 3, reverse=False) == {}
    assert torch.equal(yield_to_prompted({1: wide}, objects, 2, reverse=False)[1], wide)  # nothing is prompted there
    inside = [objects[0], TrackedObject(3, bank=MemoryBank({0: box_state((8, 12), (5, 9)), 3: shown.prompted[3]}))]
    assert torch.equal(yield_to_prompted({1: wide}, inside, 3, reverse=False)[1], wide)  # a part excludes nothing


@pytest.mark.parametrize("at_a_time", [1 << 22, 100])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_an_absent_object_is_found_by_its_features_anywhere(
    stride: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object has keys along one axis, what is around it along another; a second one is in reach of neither."""
    keys = torch.zeros(2, *SIZE, 3)
    keys[..., 0] = 1
    keys[0, 4:8, 2:8] = keys[1, 10:16, 30:38] = torch.tensor([0.0, 1.0, 0.0])
    monkeypatch.setattr("masklet.models.sam2.label_matching.MAX_SIMILARITIES", at_a_time)
    config = MatchingConfig(recall_neighbors=3, recall_stride=stride)
    labels = torch.zeros(2, 1, *SIZE)
    labels[0, 0, 4:8, 2:8] = 1
    prior, nothing = recall_labels(keys[1], keys[:1], labels, config)
    assert prior.shape == SIZE
    assert prior[11:15, 31:37].gt(0.6).all()
    prior[9:17, 29:39] = 0
    assert prior.max() < 0.1
    assert not nothing.any()
    [nothing] = recall_labels(torch.eye(3)[2].expand(*SIZE, 3), keys[:1], labels[1:], config)
    assert not nothing.any()


def test_a_fine_search_where_a_coarse_one_finds_something_gives_what_a_fine_one_gives_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, *keys = normalize(torch.randn(3, 12, 16, 8, generator=generator), dim=-1)
    labels = torch.zeros(2, 2, 12, 16)
    labels[0, :, 3:7, 2:9] = labels[1, 1, 8:11, 10:15] = 1
    config = MatchingConfig(recall_stride=2)
    found = recall_labels(query, torch.stack(keys), labels, config)
    monkeypatch.setattr("masklet.models.sam2.label_matching.MIN_COARSE_LABEL", -1.0)
    everywhere = recall_labels(query, torch.stack(keys), labels, config)
    searched = found.any(0)
    assert 10 < int(searched.sum()) < 150
    torch.testing.assert_close(found[:, searched], everywhere[:, searched], atol=1e-6, rtol=0)
    monkeypatch.setattr("masklet.models.sam2.label_matching.MIN_COARSE_LABEL", 2.0)
    assert not recall_labels(query, torch.stack(keys), labels, config).any()


def rectangle(y1: int, y2: int, x1: int, x2: int) -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize(("option", "excludes"), [(None, True), (True, True), (False, False)])
def test_priors_of_tracked_objects_are_shared_unless_they_may_overlap(
    option: bool | None,
    excludes: bool,
    session: Callable[..., Session],
    video: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each claims the entire frame; the sum over both is 1 only where they exclude each other."""
    with session(video[:3], non_overlapping=option) as opened:
        opened.add_prompt(1, 0, mask=rectangle(30, 70, 20, 80))
        opened.add_prompt(2, 0, mask=rectangle(30, 70, 80, 140))
        seen: list[dict[int, Tensor]] = []
        predict = Tracker._predict_masks

        def match(self: Tracker, index: int, objects: list[TrackedObject], reverse: bool) -> Any:
            return {one.id: torch.ones(1, 1, *self.keys[index].shape[:2]) for one in objects}, {}

        def watch(self: Tracker, *args: Any) -> Any:
            seen.append(args[4])
            return predict(self, *args)

        monkeypatch.setattr(Tracker, "match_labels", match)
        monkeypatch.setattr(Tracker, "_predict_masks", watch)
        list(opened.propagate())
    total = sum(seen[1].values(), torch.zeros(()))
    assert total.unique().sub(1.0 if excludes else 2.0).abs().max() < 1e-5


def test_one_object_is_tracked_alike_with_and_without_exclusion(
    session: Callable[..., Session], video: np.ndarray
) -> None:
    shown = []
    for option in (None, False):
        with session(video[:5], non_overlapping=option) as opened:
            opened.add_prompt(1, 0, mask=rectangle(30, 60, 20, 70))
            shown.append([(frame.masks.data.tobytes(), frame.object_scores.tobytes()) for frame in opened.propagate()])
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("option", "inner", "overlap"),
    [
        (None, (30, 70, 90, 140), False),
        (False, (30, 70, 90, 140), True),
        (None, (40, 60, 30, 60), True),  # a part: prompted inside the other
        (True, (40, 60, 30, 60), False),
    ],
)
def test_objects_of_a_published_model_exclude_each_other_unless_one_is_a_part(
    option: bool | None, inner: tuple[int, int, int, int], overlap: bool, video: np.ndarray
) -> None:
    """Both are predicted everywhere; which is more certain where does not matter."""

    class Everywhere(FastSAM2):
        def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
            prediction = super().decode(features, prompts)
            if prompts is not None:
                return prediction
            logits_BKHW = (
                prediction.logits_BKHW.abs() + torch.arange(1.0, 1 + len(features.embed_BCHW))[:, None, None, None]
            )
            return replace(
                prediction, logits_BKHW=logits_BKHW, object_score_B1=torch.ones_like(prediction.object_score_B1)
            )

    network = Everywhere(reference_model("sam2.1_hiera_tiny", 64, "v", small_trunk=True))
    with Session(network, open_video(video[:2]), TrackOptions(non_overlapping=option, fill_hole_area=0)) as opened:
        opened.add_prompt(1, 0, mask=rectangle(30, 70, 20, 80))
        opened.add_prompt(2, 0, mask=rectangle(*inner))
        [_, frame] = opened.propagate()
        remembered = [one.bank.tracked[1].logits_11HW > 0 for one in opened.tracker.objects.values()]
    assert bool((remembered[0] & remembered[1]).any()) == overlap
    assert bool(frame.masks.data.all(0).any()) == overlap
    assert (remembered[0] | remembered[1]).all()  # each place belongs to one of them


def test_only_an_absent_object_is_searched_for_and_only_outside_of_others(
    session: Callable[..., Session], video: np.ndarray
) -> None:
    keys = torch.zeros(2, *SIZE, 3)
    keys[..., 0] = 1
    keys[0, 4:8, 2:8] = keys[1, 10:16, 30:38] = torch.tensor([0.0, 1.0, 0.0])
    with session(video[:3]) as opened:
        tracker = opened.tracker
        tracker.keys = {0: keys[0], 2: keys[1]}
        bank = MemoryBank({0: box_state((4, 8), (2, 8))}, {1: box_state((4, 8), (2, 8), score=-1.0)})
        one = TrackedObject(1, bank=bank)
        assert tracker.recall_labels(2, [one], False, {})[1][0, 0, 11:15, 31:37].gt(0.6).all()
        assert tracker.recall_labels(2, [one], False, {1: box_map((0, 1), (0, 1))}) == {}
        assert tracker.recall_labels(2, [one], False, {5: box_map((9, 17), (29, 39))}) == {}
        bank.tracked[1] = box_state((4, 8), (2, 8))
        assert tracker.recall_labels(2, [one], False, {}) == {}
        bank.tracked.pop(1)
        assert tracker.recall_labels(2, [one], False, {}) == {}


class Unseeing(FastSAM2):
    """Sees no object from memory, and one in the upper half of the frame where there is a prior."""

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        prediction = super().decode(features, prompts)
        return prediction if prompts is not None else replace(prediction, object_score_B1=torch.full((1, 1), -3.0))

    def decode_prior(self, features: ImageFeatures, prior_B1HW: Tensor) -> MaskPrediction:
        prediction = super().decode_prior(features, prior_B1HW)
        logits = torch.full_like(prediction.logits_BKHW, -6.0)
        logits[..., : logits.shape[2] // 2, :] = 6.0
        return replace(prediction, logits_BKHW=logits, object_score_B1=torch.full((1, 1), 3.0))


def test_a_recalled_object_is_visible_though_memory_does_not_see_it(
    network: FastSAM2, video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "match_labels", lambda *_: ({}, {}))
    monkeypatch.setattr(Tracker, "recall_labels", lambda *_: {})
    with Session(Unseeing(network.model), open_video(video[:3]), TrackOptions()) as opened:
        opened.add_prompt(1, 0, mask=rectangle(30, 60, 20, 70))
        assert [frame.states[0] for frame in opened.propagate()] == ["visible", "occluded", "occluded"]
        height, width = opened.tracker.keys[1].shape[:2]
        prior = torch.ones(1, 1, height, width)
        monkeypatch.setattr(Tracker, "recall_labels", lambda _, at, objects, *__: {one.id: prior for one in objects})
        shown = list(opened.propagate())
        assert [frame.states[0] for frame in shown] == ["visible"] * 3
        assert shown[1].masks.data[0, :56].all()
        assert not shown[1].masks.data[0, 64:].any()
        label = opened.tracker.objects[1].bank.label(1)
        assert label[0, 0, 0].min() > 0.99
        assert 0.5 <= label[0, 0, -1].max() < 0.51


class Scored(Unseeing):
    """Sees an object from memory in the lower half, and with a prior in the upper one, with given scores."""

    memory_score = prior_score = 0.0

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        prediction = super().decode(features, prompts)
        logits = torch.full_like(prediction.logits_BKHW, -6.0)
        logits[..., logits.shape[2] // 2 :, :] = 6.0
        return replace(prediction, logits_BKHW=logits, object_score_B1=torch.full((1, 1), self.memory_score))

    def decode_prior(self, features: ImageFeatures, prior_B1HW: Tensor) -> MaskPrediction:
        prediction = super().decode_prior(features, prior_B1HW)
        return replace(prediction, object_score_B1=torch.full((1, 1), self.prior_score))


@pytest.mark.parametrize(
    ("prior_cells", "recalled", "known_cells", "memory_score", "prior_score", "shown"),
    [
        (0, False, 40.0, 3.9, 0.0, None),  # searched for in vain
        (0, False, 40.0, 4.1, 0.0, "lower"),
        (0, False, 3.9, 3.9, 0.0, "lower"),  # labels of small objects fade
        (0, False, None, 0.1, 0.0, "lower"),  # it was not searched for
        (0, False, 40.0, -0.1, 0.0, None),
        (40, False, 40.0, 0.1, 0.1, "upper"),
        (20, False, 40.0, -0.1, 1.1, "upper"),  # memory does not decide
        (20, False, 40.0, -0.1, 0.9, None),
        (19, False, 40.0, -0.1, 1.1, None),
        (40, False, None, -0.1, 1.1, None),
        (40, False, 40.0, 0.1, -0.1, "lower"),
        (40, True, 40.0, 3.9, 0.1, "upper"),
        (40, True, 40.0, 3.9, -0.1, None),
        (40, True, 40.0, -0.1, 0.1, "upper"),
    ],
)
def test_labels_decide_with_memory_whether_an_object_is_there(
    prior_cells: int,
    recalled: bool,
    known_cells: float | None,
    memory_score: float,
    prior_score: float,
    shown: str | None,
    network: FastSAM2,
    video: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = Scored(network.model)
    with Session(scored, open_video(video[:2]), TrackOptions(fill_hole_area=0)) as opened:
        opened.add_prompt(1, 0, mask=rectangle(30, 60, 20, 70))
        scored.memory_score, scored.prior_score = memory_score, prior_score
        height, width = opened.tracker.network.frame_input_size(video.shape[1:3])
        prior = torch.zeros(1, 1, height // 8, width // 8)
        prior.view(-1)[:prior_cells] = 1
        known = {} if known_cells is None else {1: known_cells}

        def priors(_: Tracker, index: int, objects: list[TrackedObject], *__: Any) -> dict[int, Tensor]:
            return {one.id: prior for one in objects} if prior_cells else {}

        monkeypatch.setattr(Tracker, "match_labels", lambda *args: ({} if recalled else priors(*args), known))
        monkeypatch.setattr(Tracker, "recall_labels", priors if recalled else lambda *_: {})
        [_, frame] = opened.propagate()
    mask, middle = frame.masks.data[0], video.shape[1] // 2
    assert frame.states[0] == ("occluded" if shown is None else "visible")
    assert [bool(half.mean() > 0.8) for half in (mask[:middle], mask[middle:])] == [shown == "upper", shown == "lower"]
    assert (frame.object_scores[0] > 0) == (shown is not None)
