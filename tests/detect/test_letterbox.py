"""Pictures of any size within the network's input, and back."""

from __future__ import annotations

import numpy as np
import pytest

from masklet.detect.letterbox import GREY, Letterbox

SIZES = [(480, 640), (640, 480), (1080, 1920), (1919, 1079), (37, 53), (640, 640), (1, 5000), (333, 1), (31, 700)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [64, 320, 640, 1024])
def test_the_longer_side_fills_the_input_and_the_shorter_is_centred(size: tuple[int, int], side: int) -> None:
    box = Letterbox.of(size, side)
    assert max(box.inner) == max(box.outer) == side
    assert all(length % 32 == 0 for length in box.outer)
    assert all(outer - inner < 32 for inner, outer in zip(box.inner, box.outer, strict=True))
    below, right = box.outer[0] - box.inner[0] - box.top, box.outer[1] - box.inner[1] - box.left
    assert below - box.top in (0, 1)
    assert right - box.left in (0, 1)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_drawn_is_the_picture_within_grey(size: tuple[int, int]) -> None:
    rgb = np.full((*size, 3), (250, 10, 20), np.uint8)
    box = Letterbox.of(size, 96)
    drawn = box.draw(rgb)
    assert drawn.shape == (*box.outer, 3)
    inside = np.zeros(box.outer, bool)
    inside[box.top : box.top + box.inner[0], box.left : box.left + box.inner[1]] = True
    assert (drawn[inside] == (250, 10, 20)).all()
    assert (drawn[~inside] == GREY).all()


def test_a_picture_that_fits_is_not_touched() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    assert np.array_equal(Letterbox.of((64, 96), 96).draw(rgb), rgb)


def test_sizes_are_rounded_up() -> None:
    assert Letterbox.of((100, 100), 33).outer == (64, 64)
    assert Letterbox.of((100, 100), 32).outer == (32, 32)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_go_and_come_back(size: tuple[int, int]) -> None:
    box = Letterbox.of(size, 320)
    height, width = size
    xyxy = np.array([[0, 0, width, height], [width * 0.2, height * 0.3, width * 0.6, height * 0.7]])
    framed = box.to_input(xyxy)
    assert framed[0].tolist() == [box.left, box.top, box.left + box.inner[1], box.top + box.inner[0]]
    np.testing.assert_allclose(box.to_picture(framed), xyxy, rtol=1e-4, atol=1e-3)


def test_boxes_are_cut_to_the_picture() -> None:
    box = Letterbox.of((50, 100), 100)
    found = box.to_picture(np.array([[-50, -50, 500, 500], [-9, -9, -5, -5]]))
    assert found.tolist() == [[0, 0, 100, 50], [0, 0, 0, 0]]
