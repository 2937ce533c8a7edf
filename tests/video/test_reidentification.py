from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.video.reidentification import Appearance, AppearanceGallery

MASK = np.zeros((40, 60), bool)
MASK[8:28, 10:40] = True


def look(color: tuple[int, int, int], keys: torch.Tensor | None = None, mask: np.ndarray = MASK) -> Appearance:
    rgb = np.full((*mask.shape, 3), 127, np.uint8)
    rgb[mask] = color
    found = Appearance.of_object(rgb, mask, keys)
    assert found is not None
    return found


def test_colors_of_the_object_count_and_not_its_place_size_or_background() -> None:
    smaller = np.roll(MASK[::2, ::2], 3, axis=1)
    assert look((200, 40, 40)).similarity(look((200, 40, 40), mask=smaller)) == pytest.approx(1)
    assert look((200, 40, 40)).similarity(look((40, 40, 200))) == pytest.approx(0)


def test_half_of_the_pixels_in_common_is_half_the_similarity() -> None:
    rgb = np.full((*MASK.shape, 3), 127, np.uint8)
    rgb[MASK] = (200, 40, 40)
    rgb[8:18, 10:40] = (40, 40, 200)
    halved = Appearance.of_object(rgb, MASK)
    assert halved is not None
    assert halved.similarity(look((200, 40, 40))) == pytest.approx(0.5**0.5)


def test_keys_under_the_mask_count_as_much_as_colors() -> None:
    keys = torch.zeros(5, 8, 2)
    keys[..., 0] = 1
    inside = keys.clone()
    inside[1:4, 1:5] = torch.tensor([0.0, 1.0])
    red = (200, 40, 40)
    assert look(red, keys).similarity(look(red, keys)) == pytest.approx(1)
    assert 0.5 < look(red, keys).similarity(look(red, inside)) < 0.8
    assert look(red, keys).similarity(look(red)) == pytest.approx(1)


def test_the_most_similar_of_the_candidates_is_recognized() -> None:
    gallery = AppearanceGallery(min_similarity=0.9)
    gallery.add(1, look((200, 40, 40)))
    gallery.add(2, look((40, 40, 200)))
    assert gallery.recognize(look((40, 40, 200)), {1, 2, 3}) == 2
    assert gallery.recognize(look((40, 40, 200)), {1, 3}) is None
    assert gallery.recognize(None, {1, 2}) is None


def test_the_first_and_the_latest_appearances_are_remembered() -> None:
    gallery = AppearanceGallery(min_similarity=0.9)
    looks = [look((red, green, blue)) for red in (0, 255) for green in (0, 255) for blue in (0, 255)]
    for each in looks:
        gallery.add(1, each)
    assert [gallery.recognize(each, {1}) for each in looks] == [1, None, None, None, None, 1, 1, 1]


def test_what_is_tiny_has_no_appearance() -> None:
    tiny = np.zeros((40, 60), bool)
    tiny[:7, :9] = True
    assert Appearance.of_object(np.zeros((40, 60, 3), np.uint8), tiny) is None
