from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from masklet.errors import InputError
from masklet.masks import rle


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    noise = [rng.random(rng.integers(1, 40, 2)) < p for p in (0.0, 0.02, 0.3, 0.5, 0.9, 1.0) for _ in range(6)]
    y, x = np.mgrid[:700, :900]
    return [
        *noise,
        (x - 500) ** 2 + (y - 300) ** 2 < 250**2,
        np.zeros((1200, 1800), bool),
        np.ones((1500, 1500), bool),
    ]


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_decoding_gives_the_mask_back(mask: np.ndarray) -> None:
    code = rle.encode(mask)
    assert code["size"] == list(mask.shape)
    np.testing.assert_array_equal(rle.decode(code), mask)


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_the_code_is_the_one_pycocotools_writes(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode(mask)["counts"] == theirs["counts"].decode()
    np.testing.assert_array_equal(rle.decode(theirs), mask)


def test_known_codes() -> None:
    assert rle.encode(np.ones((2, 3), bool)) == {"size": [2, 3], "counts": "06"}
    assert rle.encode(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": "6"}


def test_run_lengths_in_a_list_are_read_down_the_columns() -> None:
    mask = rle.decode({"size": [2, 3], "counts": [1, 2, 3]})
    np.testing.assert_array_equal(mask, [[False, True, False], [True, False, False]])


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ({"counts": "06"}, "size None .* must be \\[height, width\\]"),
        ({"size": [2], "counts": "06"}, "size \\[2\\]"),
        ({"size": [2, 3]}, "counts None must be"),
        ({"size": [2, 3], "counts": [1.5, 4]}, "must be the text"),
        ({"size": [2, 3], "counts": "07"}, "cover 7 pixels, .* needs 6"),
        ({"size": [2, 3], "counts": [8, -2]}, "needs 6"),
        ({"size": [2, 3], "counts": "!!"}, "not a compressed run-length code"),
        ({"size": [2, 3], "counts": "0é"}, "cover .* pixels|not a compressed"),
        ({"size": [2, 3], "counts": "0P"}, "not a compressed run-length code"),
        ({"size": [2, 3], "counts": "ooooooooooooooooooooooooooooo1"}, "needs 6"),
        ({"size": [2, 3], "counts": ""}, "cover 0 pixels"),
        ({"size": [-2, -3], "counts": "06"}, "from 0 on"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "at most 2147483648 pixels"),
        ({"size": [2, 3], "counts": [10**30, 6]}, "at most 2147483648"),
    ],
)
def test_a_broken_code_is_refused(code: dict[str, Any], needed: str) -> None:
    with pytest.raises(InputError, match=needed):
        rle.decode(code)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_crop_has_the_code_of_the_full_mask(fraction: float) -> None:
    generator = np.random.default_rng(8)
    for _ in range(60):
        height, width = generator.integers(1, 7, 2).tolist()
        (top, bottom), (left, right) = (np.sort(generator.integers(0, n + 1, 2)) for n in (height, width))
        full = np.zeros((height, width), bool)
        crop = generator.random((bottom - top, right - left)) < fraction
        full[top:bottom, left:right] = crop
        assert rle.encode_crop(crop, (int(left), int(top)), (height, width)) == rle.encode(full)


def test_runs_are_those_of_the_code() -> None:
    mask = np.array([[False, True], [True, True]])
    assert rle.run_lengths(rle.encode(mask)) == [1, 3]
    np.testing.assert_array_equal(rle.decode({"size": [2, 2], "counts": rle.run_lengths(rle.encode(mask))}), mask)
