"""Images of any size within the network's input, and back."""

from __future__ import annotations

import numpy as np
import pytest

from masklet.detect.letterbox import PAD_COLOR, Letterbox

SIZES = [(480, 640), (640, 480), (1080, 1920), (1919, 1079), (37, 53), (640, 640), (1, 5000), (333, 1), (31, 700)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [64, 320, 640, 1024])
def test_the_longer_side_fills_the_input_and_the_shorter_is_centered(size: tuple[int, int], side: int) -> None:
    box = Letterbox.from_size(size, side)
    assert max(box.resized_size) == max(box.input_size) == side
    assert all(length % 32 == 0 for length in box.input_size)
    assert all(outer - inner < 32 for inner, outer in zip(box.resized_size, box.input_size, strict=True))
    below, right = box.input_size[0] - box.resized_size[0] - box.top, box.input_size[1] - box.resized_size[1] - box.left
    assert below - box.top in (0, 1)
    assert right - box.left in (0, 1)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_drawn_is_the_image_within_gray(size: tuple[int, int]) -> None:
    rgb = np.full((*size, 3), (250, 10, 20), np.uint8)
    box = Letterbox.from_size(size, 96)
    drawn = box.apply(rgb)
    assert drawn.shape == (*box.input_size, 3)
    inside = np.zeros(box.input_size, bool)
    inside[box.top : box.top + box.resized_size[0], box.left : box.left + box.resized_size[1]] = True
    assert (drawn[inside] == (250, 10, 20)).all()
    assert (drawn[~inside] == PAD_COLOR).all()


def test_a_image_that_fits_is_not_touched() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    assert np.array_equal(Letterbox.from_size((64, 96), 96).apply(rgb), rgb)


def test_sizes_are_rounded_up() -> None:
    assert Letterbox.from_size((100, 100), 33).input_size == (64, 64)
    assert Letterbox.from_size((100, 100), 32).input_size == (32, 32)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_go_and_come_back(size: tuple[int, int]) -> None:
    box = Letterbox.from_size(size, 320)
    height, width = size
    xyxy = np.array([[0, 0, width, height], [width * 0.2, height * 0.3, width * 0.6, height * 0.7]])
    framed = xyxy * np.array(box.scale * 2) + [box.left, box.top] * 2
    assert framed[0].tolist() == pytest.approx(
        [box.left, box.top, box.left + box.resized_size[1], box.top + box.resized_size[0]]
    )
    np.testing.assert_allclose(box.boxes_to_original(framed), xyxy, rtol=1e-4, atol=1e-3)


def test_boxes_are_cut_to_the_image() -> None:
    box = Letterbox.from_size((50, 100), 100)
    found = box.boxes_to_original(np.array([[-50, -50, 500, 500], [-9, -9, -5, -5]]))
    assert found.tolist() == [[0, 0, 100, 50], [0, 0, 0, 0]]
