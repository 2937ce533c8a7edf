"""Ids of the trackers that supervision works with, over masklet's results and back."""

from __future__ import annotations

import numpy as np
import pytest

from masklet import SAM, Results


@pytest.fixture(autouse=True)
def _supervision() -> None:
    """Skip without supervision; not when the file is collected, which would cost 47 MB in each process."""
    pytest.importorskip("supervision")


def test_results_follow_the_ids_of_a_tracker(small_sam: SAM, small_video: np.ndarray) -> None:
    tracker = pytest.importorskip("trackers").ByteTrackTracker()
    for number, rgb in enumerate(small_video[:6]):
        left = 10 + 3 * number
        found = small_sam(rgb, bboxes=[[50, 42, 90, 60], [left, 15, left + 25, 40]])[0]
        detections = found.to_supervision()
        detections.confidence = np.array([0.8, 0.9], np.float32)
        tracked = tracker.update(detections)
        results = Results.from_supervision(tracked, rgb, frame_idx=number)
        assert np.array_equal(results.to_supervision().tracker_id, tracked.tracker_id)
        assert np.array_equal(results.masks.data, np.asarray(tracked.mask))
        assert np.array_equal(results.boxes.xyxy, tracked.xyxy)
    assert len(set(results.ids.tolist())) == 2
    assert (results.ids >= 0).all()


def test_boxes_of_detections_are_prompts_in_their_order(small_sam: SAM, square: np.ndarray) -> None:
    import supervision

    boxes = np.array([[50, 42, 90, 60], [10, 15, 35, 40]], np.float32)
    results = small_sam(square, bboxes=supervision.Detections(xyxy=boxes).xyxy)[0]
    assert results.masks.data[1, 27, 22]
    assert not results.masks.data[0, 27, 22]
