"""The model in the package: it is what its card says, and it finds things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import masklet
from helpers.reference import GOLDEN, golden_image, module_at
from masklet import SAM
from masklet.masks import iou
from masklet.registry import BUILTIN, MODELS


@pytest.fixture(scope="module")
def model() -> SAM:
    return SAM()


def disc() -> np.ndarray:
    y, x = np.mgrid[:240, :320]
    return (x - 90) ** 2 + (y - 130) ** 2 < 45**2


def test_it_is_what_its_row_says(model: SAM) -> None:
    info, card = model.info(), MODELS[BUILTIN]
    assert info.parameters == card.parameters
    assert Path(info.path).stat().st_size == card.size
    assert card.size < 20e6
    assert info.license_weights == "Apache-2.0"


def test_its_notice_and_card_travel_with_it() -> None:
    folder = Path(masklet.__file__).parent / "builtin"
    assert "Yahoo" in (folder / "NOTICE.md").read_text()
    assert "BSD-2-Clause" in (folder / "MODEL_CARD.md").read_text()


def test_it_finds_a_disc_by_its_box_and_by_a_click(model: SAM) -> None:
    by_box = model(golden_image(), bboxes=[45, 85, 135, 175])[0]
    assert iou(by_box.masks.data[0], disc()) > 0.7
    by_click = model(golden_image(), points=[90, 130], multimask=True)[0]
    assert max(iou(mask, disc()) for mask in by_click.masks.data) > 0.5


def test_a_click_on_the_background_has_low_confidence(model: SAM) -> None:
    on_disc, on_background = model(golden_image(), points=[[[90, 130]], [[20, 20]]], labels=[[1], [1]])[0]
    assert on_disc.low_confidence.tolist() == [False]
    assert on_background.low_confidence.tolist() == [True]


def test_a_rough_mask_is_made_better(model: SAM) -> None:
    rough = np.zeros((240, 320), bool)
    rough[90:170, 55:130] = True
    better = model(golden_image(), masks=rough)[0].masks.data[0]
    assert iou(better, disc()) > iou(rough, disc())


def test_it_tracks_a_cat_while_the_camera_moves(model: SAM) -> None:
    data = pytest.importorskip("skimage.data")
    photograph = data.chelsea()
    video = [photograph[:, 5 * t : 5 * t + 360] for t in range(12)]
    frames = list(model.track(video, bboxes=[0, 0, 359, 299]))
    first = frames[0].masks.data[0]
    assert first.mean() > 0.3
    for frame in frames[1:]:
        moved = 5 * frame.frame_idx
        assert iou(frame.masks.data[0][:, : 360 - moved], first[:, moved:]) > 0.7
        assert frame.states == ("visible",)


def test_an_empty_image_after_the_object_lowers_its_score(model: SAM) -> None:
    """The score of presence is read: an object that was cut away is no longer as surely there."""
    clip = module_at(GOLDEN / "portable" / "scene.py").clip(8)
    clip[4:] = 90
    presence = [float(frame.object_scores[0]) for frame in model.track(clip, bboxes=[45, 85, 135, 175])]
    assert min(presence[1:4]) > max(presence[5:])
