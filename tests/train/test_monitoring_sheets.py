"""Sheets of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from masklet.atomic_files import write_image
from masklet.errors import OutputError
from masklet.masks.drawing import palette_color
from masklet.train.monitoring import GAP, GAP_COLOR, MAX_TILE_SIZE, draw_prediction_sheet

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batch(side: int = 40) -> Batch:
    """Two gray clips of three frames; the first has two objects, the second one, predicted elsewhere."""
    pixels = torch.full((2, 3, 3, side, side), 100, dtype=torch.uint8)
    truth = torch.zeros(3, 3, side, side, dtype=torch.bool)
    predicted = truth.clone()
    half = side // 2
    truth[:, :2, half:, half:] = True  # lower right; hidden in the last frame
    predicted[:, :, : half - 4, : half - 4] = True
    predicted[1] = False
    return pixels, truth, predicted, torch.tensor([0, 0, 1])


def test_rows_are_clips_and_columns_frames() -> None:
    sheet = draw_prediction_sheet(*batch())
    assert sheet.shape == (2 * 40 + GAP, 3 * 40 + 2 * GAP, 3)
    assert (sheet[40 : 40 + GAP] == GAP_COLOR).all()
    assert (sheet[:, 40 : 40 + GAP] == GAP_COLOR).all()


@pytest.mark.parametrize("clip", [0, 1])
def test_predictions_are_painted_and_the_truth_is_outlined(clip: int) -> None:
    sheet = draw_prediction_sheet(*batch()).astype(int)
    rows = slice(clip * (40 + GAP), clip * (40 + GAP) + 40)
    frames = [sheet[rows, t * (40 + GAP) : t * (40 + GAP) + 40] for t in range(3)]
    for tile in frames:
        assert np.abs(tile[8, 8] - (np.array(palette_color(0)) + 100) / 2).max() <= 1
        assert (tile[8, 30] == 100).all()
    for tile in frames[:2]:
        assert (tile[20, 30] > 200).all()
        assert (tile[30, 30] == 100).all()
    assert not (frames[2] > 200).all(-1).any(), "a hidden object has an outline"


def test_objects_of_a_clip_have_different_colors() -> None:
    pixels, truth, predicted, clip = batch()
    predicted[1, :, 24:, :16] = True
    sheet = draw_prediction_sheet(pixels, truth, predicted, clip).astype(int)
    assert np.abs(sheet[32, 8] - (np.array(palette_color(1)) + 100) / 2).max() <= 1
    assert (sheet[40 + GAP + 32, 8] == 100).all()


def test_large_frames_are_downscaled() -> None:
    assert draw_prediction_sheet(*batch(side=512)).shape == (2 * MAX_TILE_SIZE + GAP, 3 * MAX_TILE_SIZE + 2 * GAP, 3)


def test_a_clip_without_objects_is_shown_bare() -> None:
    pixels, truth, predicted, _ = batch()
    sheet = draw_prediction_sheet(pixels, truth[:1], predicted[:1], torch.tensor([1]))
    assert (sheet[:40, :40] == 100).all()
    assert not (sheet[42:, :40] == 100).all()


def test_the_sheet_is_written_atomically(tmp_path: Path) -> None:
    path = write_image(tmp_path / "predictions" / "step_000100.png", draw_prediction_sheet(*batch()))
    assert (np.asarray(Image.open(path)) == draw_prediction_sheet(*batch())).all()
    assert [found.name for found in path.parent.iterdir()] == ["step_000100.png"]
    with pytest.raises(OutputError, match=r"sheet\.txt"):
        write_image(tmp_path / "sheet.txt", draw_prediction_sheet(*batch()))
