"""Label maps as PNG files: what is written is read back, in the colors that tools expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.errors import OutputError
from masklet.masks.label_map import davis_palette, save_label_map

LABELS = np.array([[0, 1, 2], [3, 200, 255]], np.uint8)


def test_a_label_map_is_an_indexed_png(tmp_path: Path) -> None:
    path = save_label_map(tmp_path / "new" / "00000.png", LABELS, davis_palette())
    assert path == tmp_path / "new" / "00000.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), LABELS)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), davis_palette()[LABELS])


def test_without_a_palette_it_is_gray(tmp_path: Path) -> None:
    with Image.open(save_label_map(tmp_path / "a.png", LABELS, None)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), LABELS)


def test_labels_above_255_have_16_bits_and_no_palette(tmp_path: Path) -> None:
    labels = LABELS.astype(np.uint16) * 200
    with Image.open(save_label_map(tmp_path / "a.png", labels, davis_palette())) as image:
        assert image.mode.startswith("I")
        np.testing.assert_array_equal(np.asarray(image), labels)


def test_other_types_are_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="uint8 or uint16"):
        save_label_map(tmp_path / "a.png", LABELS.astype(np.int64), davis_palette())  # type: ignore[arg-type]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.png could not be written"):
        save_label_map(tmp_path / "file" / "a.png", LABELS, davis_palette())


def test_the_palette_is_the_one_of_voc() -> None:
    assert davis_palette()[[0, 1, 2, 15, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [224, 224, 192]
    ]  # fmt: skip
