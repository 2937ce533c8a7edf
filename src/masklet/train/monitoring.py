"""Sheets of predictions: what the network makes of the images it learns from, to be looked at.

Shapes: B clips (of stills: T is 1), T frames, N objects in all, S side.

A run's curves and images for TensorBoard, where it is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet.atomic_files import write_image
from masklet.errors import MissingExtraError
from masklet.masks.drawing import Style, draw_masks, palette_color

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLogger", "draw_prediction_sheet", "save_prediction_sheet"]

Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

MAX_TILE_SIZE = 320
"""Longest side of a frame in a sheet, pixels."""
GAP = 2
GAP_COLOR = 24
"""Pixels between frames, and their gray."""
GT_COLOR = (255, 255, 255)
PREDICTION_STYLE = Style(alpha=0.5, line_width=1)
GT_STYLE = Style(alpha=0.0, line_width=1)


def save_prediction_sheet(
    pixels_BT3SS: Tensor, gt_NTSS: Tensor, pred_NTSS: Tensor, clip_N: Tensor, path: str | Path
) -> Path:
    """Write `draw_sheet` of the same tensors to `path`, atomically, and return the path.

    Example:
        >>> prediction_sheet(batch.pixels_BT3SS, batch.masks_NTSS, logits > 0, batch.clip_N, "step_000100.png")

    Raises:
        OutputError: the file cannot be written.
    """
    return write_image(path, draw_prediction_sheet(pixels_BT3SS, gt_NTSS, pred_NTSS, clip_N))


def draw_prediction_sheet(pixels_BT3SS: Tensor, gt_NTSS: Tensor, pred_NTSS: Tensor, clip_N: Tensor) -> Pixels:
    """One row a clip, one column a frame: predictions painted, the truth as white outlines; RGB (H, W, 3).

    Pixels are uint8, masks bool, `clip_N` says which clip each object is in; large frames are made smaller.

    Example:
        >>> draw_sheet(batch.pixels_BT3SS, batch.masks_NTSS, logits > 0, batch.clip_N).shape
        (320, 1286, 3)
    """
    images = pixels_BT3SS.detach().cpu().permute(0, 1, 3, 4, 2).numpy()
    truth, predicted = (masks.detach().cpu().numpy() for masks in (gt_NTSS, pred_NTSS))
    clips = clip_N.detach().cpu().numpy()
    rows = []
    for clip, frames in enumerate(images):
        own = clips == clip
        tiles = [_draw_tile(rgb, truth[own, t], predicted[own, t]) for t, rgb in enumerate(frames)]
        rows.append(_concat_with_gap(tiles, axis=1))
    return _concat_with_gap(rows, axis=0)


def _draw_tile(rgb_SS3: Pixels, gt_NSS: Masks, pred_NSS: Masks) -> Pixels:
    side = min(MAX_TILE_SIZE, rgb_SS3.shape[0])
    small = cv2.resize(rgb_SS3, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
    colors = [palette_color(index) for index in range(len(gt_NSS))]
    painted = draw_masks(small, _downscale_masks(pred_NSS, side), colors, PREDICTION_STYLE)
    return draw_masks(painted, _downscale_masks(gt_NSS, side), [GT_COLOR] * len(gt_NSS), GT_STYLE)


def _downscale_masks(masks_NSS: Masks, side: int) -> Masks:
    shrunk = [cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) for mask in masks_NSS]
    return np.stack(shrunk) >= 0.5 if shrunk else np.zeros((0, side, side), np.bool_)


def _concat_with_gap(tiles: list[Pixels], axis: int) -> Pixels:
    """Side by side (axis 1) or one below the other (axis 0), with a gap after each but the last."""
    shape = list(tiles[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, GAP_COLOR, np.uint8)
    parts = [part for tile in tiles for part in (tile, gap)][:-1]
    return np.concatenate(parts, axis=axis)


class TensorBoardLogger:
    """A context manager that writes to a folder which `tensorboard --logdir FOLDER` shows.

    With `resumed`, the last step that is gone on from, what an earlier process wrote of later steps is hidden.

    Example:
        >>> with Board("runs/mine/board", resumed=500) as board:
        ...     board.scalars(520, {"loss": 0.31, "iou/box": 0.82})
        ...     board.image(520, "predictions", sheet)

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, *, resume_step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError.for_package("tensorboard", "board") from error
        self.writer: SummaryWriter = SummaryWriter(
            str(folder), purge_step=None if resume_step is None else resume_step + 1
        )

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, `/` in a name makes groups; those that are not known (NaN) are left out."""
        for name, value in values.items():
            if not math.isnan(value):
                self.writer.add_scalar(name, value, step)

    def add_image(self, step: int, name: str, rgb: npt.NDArray[np.uint8]) -> None:
        """An image (H, W, 3), RGB."""
        self.writer.add_image(name, rgb, step, dataformats="HWC")
