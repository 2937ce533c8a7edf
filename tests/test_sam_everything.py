"""`SAM.track` without prompts: its arguments and errors. The rest is in video/test_auto_tracker."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from masklet import SAM
from masklet.errors import InputError, PromptError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.masks.rle import encode
from masklet.sam import model as sam_model
from masklet.sam import video
from masklet.sam.arguments import USED_WITH, AutoTrackKeywords, FinetuneKeywords, TrackKeywords
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


def test_everything_of_the_first_frame_is_tracked(tracker: SAM, small_video: np.ndarray) -> None:
    stream = tracker.track(small_video[:3], everything=CENTER, detect_every=2, min_area=0)
    assert isinstance(stream, AutoTrackStream)
    frames = list(stream)
    assert [frame.frame_idx for frame in frames] == [0, 1, 2]
    assert len(stream.track_history) >= 1
    assert frames[1].ids[0] == 1
    assert frames[1].states is not None
    assert frames[1].names == {0: "object"}


def test_a_custom_detector_brings_classes(tracker: SAM, small_video: np.ndarray) -> None:
    for frame in tracker.track(small_video[:3], detector=square, options=TrackOptions(fill_hole_area=0)):
        assert frame.ids.tolist() == [1]
        assert frame.class_name(0) == "square"


def test_without_identities_frames_are_the_detections_and_need_no_memory(
    tracker: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam_model, "make_video_network", None)  # the tracker is not used
    monkeypatch.setattr(tracker._loaded.network, "supports_video", False)
    for index, frame in enumerate(tracker.track(small_video[:3], detector=square, identities=False)):
        assert frame.masks is not None
        np.testing.assert_array_equal(frame.masks.data[0], small_video[index, ..., 0] > 200)


def test_options_come_as_a_value_or_by_name(tracker: SAM, small_video: np.ndarray) -> None:
    calls: list[int] = []

    def counted(rgb: np.ndarray) -> list[Detection]:
        calls.append(1)
        return square(rgb)

    list(
        tracker.track(
            small_video[:4],
            detector=counted,
            auto_options=AutoTrackOptions(detect_every=4, max_objects=3),
            detect_every=2,
        )
    )
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"labels": [1]}, PromptError, "labels="),
        ({"object_ids": [3]}, PromptError, "object_ids="),
        ({"frame_idx": 2}, PromptError, "frame_idx=2"),
        ({"bidirectional": True}, PromptError, "bidirectional=True"),
        ({"evry": 5}, InputError, "evry=5 is no keyword of this call; it takes source, points, .*detect_every"),
        ({"detect_every": 0}, InputError, "detect_every=0"),
        ({"everything": "finest"}, InputError, "finest"),
        ({"points": [20, 25], "detect_every": 5}, PromptError, "detect_every=5 is for use without prompts"),
        ({"points": [20, 25], "detector": square}, PromptError, "detector=.* is for use without prompts"),
        ({"points": [20, 25], "start": 1}, PromptError, "start=1 is for use without prompts"),
    ],
)
def test_invalid_options(
    tracker: SAM, small_video: np.ndarray, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        tracker.track(small_video, **options)


def test_later_detections_use_only_points_outside_tracks(
    tracker: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[MaskGeneratorOptions] = []

    def recorded(predictor: object, rgb: np.ndarray, options: MaskGeneratorOptions) -> Any:
        used.append(options)
        return SimpleNamespace(predicted_ious=[0.9], rles=[encode(rgb[..., 0] > 200)])

    monkeypatch.setattr(video, "generate_masks", recorded)
    detector = video.MaskGeneratorDetector(tracker.predictor, MaskGeneratorOptions(points_per_side=4))
    half = np.zeros((2, 4), bool)
    half[:, :2] = True
    assert [detection.score for detection in detector(small_video[0])] == [0.9]
    assert [detection.score for detection in detector.detect_outside(small_video[0], half)] == [0.9]
    assert detector.detect_outside(small_video[0], np.ones((3, 3), bool)) == []
    assert used[0].points_per_side == 4
    [grid] = used[1].point_grids or ()
    assert sorted(map(tuple, grid.tolist())) == [(x, y) for x in (0.625, 0.875) for y in (0.125, 0.375, 0.625, 0.875)]
    assert len(used) == 2
    with_crops = video.MaskGeneratorDetector(tracker.predictor, MaskGeneratorOptions(crop_n_layers=1))
    with_crops.detect_outside(small_video[0], half)
    assert used[2].crop_n_layers == 1
    assert used[2].points_per_side == 32


def test_keywords_are_the_fields_of_the_options() -> None:
    from masklet.train.finetune import FinetuneOptions

    assert set(TrackKeywords.__annotations__) == {field.name for field in fields(TrackOptions)}
    assert set(AutoTrackKeywords.__annotations__) == {field.name for field in fields(AutoTrackOptions)}
    assert set(FinetuneKeywords.__annotations__) == {field.name for field in fields(FinetuneOptions)} - {
        "epochs",
        "steps",
    }
    assert all(USED_WITH[name] == "unprompted" for name in AutoTrackKeywords.__annotations__)
