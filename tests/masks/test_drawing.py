from __future__ import annotations

import numpy as np
import pytest

from masklet.masks import drawing
from masklet.masks.drawing import Style


def gray() -> np.ndarray:
    return np.full((200, 300, 3), 128, np.uint8)


def square() -> np.ndarray:
    mask = np.zeros((1, 200, 300), bool)
    mask[0, 50:150, 100:200] = True
    return mask


def test_masks_are_tinted_and_outlined_and_the_rest_is_untouched() -> None:
    color = drawing.palette_color(0)
    painted = drawing.draw_masks(gray(), square(), [color], Style(alpha=0.5, line_width=2))
    assert painted[100, 150].tolist() == [round((128 + c) / 2 + 1e-6) for c in color]
    assert painted[50, 150].tolist() == list(color)
    assert (painted[:40] == 128).all()
    assert (painted[:, 210:] == 128).all()


def test_a_small_object_stays_visible_on_a_large_one() -> None:
    masks = np.concatenate([square(), np.ones_like(square())])
    masks[0, :, :] = False
    masks[0, 90:110, 140:160] = True
    red, blue = (255, 0, 0), (0, 0, 255)
    for order in ([0, 1], [1, 0]):
        painted = drawing.draw_masks(gray(), masks[order], [(red, blue)[i] for i in order])
        assert painted[100, 150, 0] > painted[100, 150, 2]


def test_the_image_given_is_not_changed() -> None:
    image = gray()
    boxes = np.array([[100, 50, 200, 150]], np.float32)
    drawing.draw_masks(image, square(), [(255, 0, 0)])
    drawing.draw_boxes(image, boxes, [(255, 0, 0)])
    drawing.draw_labels(image, ["cat"], boxes[:, :2], [(255, 0, 0)])
    assert (image == 128).all()


def test_boxes_run_along_the_last_pixel() -> None:
    painted = drawing.draw_boxes(
        gray(), np.array([[100, 50, 200, 150]], np.float32), [(255, 0, 0)], Style(line_width=1)
    )
    changed = np.argwhere((painted != 128).any(axis=2))
    assert changed.min(axis=0).tolist() == [50, 100]
    assert changed.max(axis=0).tolist() == [149, 199]


@pytest.mark.parametrize("anchor", [(0, 0), (295, 3), (150, 199), (-50, -50), (900, 900)])
def test_a_label_is_moved_inside(anchor: tuple[int, int]) -> None:
    painted = drawing.draw_labels(gray(), ["object 0.97"], np.array([anchor], np.float32), [(255, 0, 0)])
    red = (painted == (255, 0, 0)).all(axis=2)
    assert red.sum() > 300
    rows = np.flatnonzero(red.any(axis=1))
    assert len(rows) == rows[-1] - rows[0] + 1 > 10


def test_cutout_is_transparent_outside() -> None:
    mask = square()[0]
    mask[50, 100] = False
    cut = drawing.cutout(gray(), mask)
    assert cut.shape == (100, 100, 4)
    assert cut[0, 0].tolist() == [0, 0, 0, 0]
    assert cut[5, 5].tolist() == [128, 128, 128, 255]
    assert drawing.cutout(gray(), mask & False).shape == (1, 1, 4)


def test_the_palette_repeats() -> None:
    assert len(set(drawing.PALETTE)) == 12
    assert drawing.palette_color(13) == drawing.palette_color(1)
