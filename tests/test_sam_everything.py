"""The face without prompts, on videos: what it is given, what it refuses. The rest is in video/test_everything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from masklet import SAM
from masklet.errors import InputError, PromptError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.masks.rle import encode
from masklet.sam import arguments
from masklet.video import AutoTrackOptions, AutoTrackStream, Detection, TrackOptions

CENTER = MaskGeneratorOptions(
    points_per_side=None,
    point_grids=[np.array([[0.25, 0.45]])],
    pred_iou_thresh=0,
    stability_score_thresh=0,
    box_nms_thresh=1,
)
"""One point, on the red square, and all its answers."""


def square(rgb: np.ndarray) -> list[Detection]:
    return [Detection(0.9, mask=rgb[..., 0] > 200, class_id=4, name="square")]


def test_everything_of_the_first_frame_is_followed(tracker: SAM, small_video: np.ndarray) -> None:
    following = tracker.track(small_video[:3], everything=CENTER, every=2, smallest=0)
    assert isinstance(following, AutoTrackStream)
    shown = list(following)
    assert [frame.frame_idx for frame in shown] == [0, 1, 2]
    assert len(following.track_history) >= 1
    assert shown[1].ids[0] == 1
    assert shown[1].states is not None
    assert shown[1].names == {0: "object"}


def test_a_finder_of_ones_own_brings_classes(tracker: SAM, small_video: np.ndarray) -> None:
    for frame in tracker._track_everything(
        small_video[:3], detector=square, track_options=TrackOptions(fill_hole_area=0)
    ):
        assert frame.ids.tolist() == [1]
        assert frame.class_name(0) == "square"


def test_frame_by_frame_is_the_finder_and_needs_no_memory(
    tracker: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SAM, "_make_batcher", None)  # whatever follows is not asked for
    monkeypatch.setattr(type(tracker._loaded.network), "supports_video", False)
    for index, frame in enumerate(tracker.track(small_video[:3], detector=square, identities=False)):
        assert frame.masks is not None
        np.testing.assert_array_equal(frame.masks.data[0], small_video[index, ..., 0] > 200)


def test_options_come_as_a_value_or_by_name(tracker: SAM, small_video: np.ndarray) -> None:
    looks: list[int] = []

    def counted(rgb: np.ndarray) -> list[Detection]:
        looks.append(1)
        return square(rgb)

    list(
        tracker._track_everything(
            small_video[:4], detector=counted, auto_options=AutoTrackOptions(detect_every=4, max_objects=3), every=2
        )
    )
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"labels": [1]}, PromptError, "labels="),
        ({"ids": [3]}, PromptError, "ids="),
        ({"frame": 2}, PromptError, "frame=2"),
        ({"both": True}, PromptError, "both=True"),
        ({"evry": 5}, InputError, "no option evry; options of following everything are every, "),
        ({"every": 0}, InputError, "every=0"),
        ({"everything": "finest"}, InputError, "finest"),
        ({"points": [20, 25], "every": 5}, PromptError, "every is for videos without prompts"),
        ({"points": [20, 25], "finder": square}, PromptError, "finder is for videos without prompts"),
    ],
)
def test_what_cannot_be_meant(
    tracker: SAM, small_video: np.ndarray, how: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        tracker.track(small_video, **how)


def test_later_looks_ask_only_where_nothing_is_followed(
    tracker: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[MaskGeneratorOptions] = []

    def recorded(predictor: object, rgb: np.ndarray, options: MaskGeneratorOptions) -> Any:
        asked.append(options)
        return SimpleNamespace(predicted_ious=[0.9], rles=[encode(rgb[..., 0] > 200)])

    monkeypatch.setattr(arguments, "generate_masks", recorded)
    find = arguments.MaskGeneratorDetector(tracker.predictor, MaskGeneratorOptions(points_per_side=4))
    half = np.zeros((2, 4), bool)
    half[:, :2] = True
    assert [found.score for found in find(small_video[0])] == [0.9]
    assert [found.score for found in find.detect_outside(small_video[0], half)] == [0.9]
    assert find.detect_outside(small_video[0], np.ones((3, 3), bool)) == []
    assert asked[0].points_per_side == 4
    [grid] = asked[1].point_grids or ()
    assert sorted(map(tuple, grid.tolist())) == [(x, y) for x in (0.625, 0.875) for y in (0.125, 0.375, 0.625, 0.875)]
    assert len(asked) == 2
    with_crops = arguments.MaskGeneratorDetector(tracker.predictor, MaskGeneratorOptions(crop_n_layers=1))
    with_crops.detect_outside(small_video[0], half)
    assert asked[2].crop_n_layers == 1
    assert asked[2].points_per_side == 32
