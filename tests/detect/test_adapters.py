"""The detector that needs no download."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.networks import small_network
from masklet.detect import DetectOptions
from masklet.detect.adapters import SegmentEverythingDetector
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
from masklet.image.predictor import ImagePredictor

ANY = MaskGeneratorOptions(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)


def image(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (57, 83, 3), dtype=np.uint8)


def detector(**how: Any) -> SegmentEverythingDetector:
    return SegmentEverythingDetector(ImagePredictor(small_network()), DetectOptions(**how), ANY)


def test_it_gives_what_segmenting_everything_finds() -> None:
    one = detector(conf=0.0)
    found = one.detect([image(), image(1)])
    assert len(found) == 2
    everything = generate_masks(one.predictor, image(1), ANY)
    order = np.argsort(-everything.predicted_ious, kind="stable")
    assert len(found[1]) == len(everything) > 3
    assert (found[1].xyxy == everything.xyxy[order]).all()
    assert (found[1].scores == everything.predicted_ious[order]).all()
    assert found[1].masks is not None
    assert (found[1].masks == everything.masks[order]).all()
    assert {found[1].class_name(i) for i in range(len(everything))} == {"object"}


def test_options_hold() -> None:
    everything = detector(conf=0.0).detect([image()])[0]
    middle = float(everything.scores[2])
    few = detector(conf=middle, max_det=2, classes=("object",)).detect([image()])[0]
    assert few.scores.tolist() == everything.scores[:2].tolist()
    assert few.rles == everything[:2].rles


@pytest.mark.parametrize(
    ("how", "message"), [({"text": "a dog"}, "takes no text"), ({"classes": ("dog",)}, "0 object")]
)
def test_it_does_not_know_what_things_are(how: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector(**how)
