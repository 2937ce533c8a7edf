"""An image handed to the model without a prompt: everything in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet import SAM
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks

LOOSE = MaskGeneratorOptions(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0)
NONE = MaskGeneratorOptions(points_per_side=1, pred_iou_thresh=0, stability_score_thresh=1, stability_score_offset=1e9)


@pytest.fixture(scope="module")
def model(builtin_file: Path) -> SAM:
    return SAM(builtin_file)


def test_everything_is_what_the_generator_finds(model: SAM, small_video: np.ndarray) -> None:
    [results] = model(small_video[0], everything=LOOSE)
    found = generate_masks(model.predictor, small_video[0], LOOSE)
    assert len(results) == len(found) >= 1
    assert results.masks is not None
    np.testing.assert_array_equal(results.masks.data, found.masks)
    np.testing.assert_array_equal(results.scores, found.predicted_ious)
    assert results.ids.tolist() == list(range(len(found)))
    assert (np.diff(results.scores) <= 0).all()
    assert results.names == {0: "object"}
    assert results.speed["decode"] > 0


@pytest.mark.slow
def test_crops_leave_the_image_that_the_model_knows(model: SAM, small_video: np.ndarray) -> None:
    before = model(small_video[1], points=[20, 25])[0]
    crops = MaskGeneratorOptions(points_per_side=1, crop_n_layers=1, pred_iou_thresh=0, stability_score_thresh=0)
    model(small_video[1], everything=crops)
    after = model(small_video[1], points=[20, 25])[0]
    assert before.masks is not None
    assert after.masks is not None
    np.testing.assert_array_equal(before.masks.data, after.masks.data)
    assert after.speed["preprocess"] == 0  # it was not encoded again


def test_several_images_come_one_by_one(model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    for name, rgb in zip("ab", small_video, strict=False):
        Image.fromarray(rgb).save(tmp_path / f"{name}.png")
    stream = model.stream(tmp_path, everything=LOOSE)
    assert [Path(results.path).name for results in stream] == ["a.png", "b.png"]


@pytest.mark.slow
def test_presets_are_known_by_name(model: SAM, small_video: np.ndarray) -> None:
    [results] = model(small_video[0][:16, :16], everything="fast")
    assert results.orig_shape == (16, 16)


@pytest.mark.filterwarnings("ignore::masklet.errors.MaskletWarning")
def test_nothing_found_is_an_empty_results(model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    [results] = model(small_video[0], everything=NONE)
    assert len(results) == 0
    assert results.masks is not None
    assert results.masks.data.shape == (0, *small_video[0].shape[:2])
    assert results.boxes.xyxy.shape == (0, 4)
    assert results.save(tmp_path / "x.png").is_file()
