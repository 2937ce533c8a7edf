"""Monitor a run: the log (`log.csv`), sheets of predictions, and TensorBoard where it is installed.

Shapes: B clips (of images: T is 1), T frames, N objects in all, S side.
"""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet.atomic_files import current_keys, write_text
from masklet.damaged_files import damage_errors, describe_error
from masklet.errors import MaskletWarning, MissingExtraError, OutputError
from masklet.masks.drawing import Style, draw_masks, palette_color

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLogger", "append_log", "draw_prediction_sheet", "truncate_log"]

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


def append_log(path: Path, values: Mapping[str, float], logger: TensorBoardLogger | None = None) -> None:
    """Add a row to the CSV file, and the same values to TensorBoard; `values` hold `step` and `steps`.

    Raises:
        OutputError: if the file cannot be written.
    """
    try:
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(values)
            writer.writerow([value if isinstance(value, int) else f"{value:.6g}" for value in values.values()])
    except OSError as error:
        raise OutputError(f"{path} could not be written ({error.strerror or error}); make room, then resume") from error
    if logger is not None:
        logger.add_scalars(
            int(values["step"]), {name: value for name, value in values.items() if name not in ("step", "steps")}
        )


def truncate_log(path: Path, step: int) -> None:
    """Remove rows after `step`, which the run will do again, and a last line that was cut off.

    A header of an earlier version gets the current names. A damaged row is removed too, and a MaskletWarning counts
    them.

    Raises:
        OutputError: if the file cannot be read, or is no log.
    """
    if not path.exists():
        return
    try:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]
    except damage_errors() as error:
        raise OutputError(
            f"{path} cannot be read ({describe_error(error)}), so the rows of this run cannot be added: move it away, "
            "then resume"
        ) from error
    rows = [line.strip().split(",") for line in lines if line.strip()]
    if not rows:
        write_text(path, "")
        return
    header = list(current_keys(dict.fromkeys(rows[0]), "train_log"))
    if header[0] != "step":
        raise OutputError(
            f"{path} begins with {rows[0][0]!r:.40} and is no log of a run, whose first column is step: move it away, "
            "then resume"
        )
    kept = [row for row in rows[1:] if re.fullmatch(r"[0-9]{1,16}", row[0])]
    if damaged := len(rows) - 1 - len(kept):
        warnings.warn(
            f"{path} had {damaged} damaged rows, which are removed: their figures are lost, the run is not affected",
            MaskletWarning,
            stacklevel=2,
        )
    write_text(path, "".join(",".join(row) + "\n" for row in [header, *kept] if row is header or int(row[0]) <= step))


def draw_prediction_sheet(pixels_BT3SS: Tensor, gt_NTSS: Tensor, pred_NTSS: Tensor, clip_N: Tensor) -> Pixels:
    """Draw one row per clip, one column per frame: predictions filled, ground truth as white outlines.

    Pixels are uint8, masks bool, `clip_N` is the clip of each object. Large frames are downscaled. Returns RGB
    (H, W, 3).

    Example:
        >>> draw_prediction_sheet(batch.pixels_BT3SS, batch.masks_NTSS, logits > 0, batch.clip_index_N).shape
        (320, 1286, 3)
    """
    images = pixels_BT3SS.detach().cpu().permute(0, 1, 3, 4, 2).numpy()
    truth, predicted = (masks.detach().cpu().numpy() for masks in (gt_NTSS, pred_NTSS))
    clips = clip_N.detach().cpu().numpy()
    side = min(MAX_TILE_SIZE, images.shape[2])
    rows = []
    for clip, frames in enumerate(images):
        in_clip = clips == clip
        colors = [palette_color(index) for index in range(int(in_clip.sum()))]
        tiles = []
        for t, rgb in enumerate(frames):
            tile = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
            gt_colors = [GT_COLOR] * len(colors)
            for masks, shades, style in ((predicted, colors, PREDICTION_STYLE), (truth, gt_colors, GT_STYLE)):
                soft = [mask.astype(np.float32) for mask in masks[in_clip, t]]
                small = [cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) >= 0.5 for mask in soft]
                tile = draw_masks(tile, np.array(small, bool).reshape(-1, side, side), shades, style)
            tiles.append(np.pad(tile, ((0, GAP), (0, GAP), (0, 0)), constant_values=GAP_COLOR))
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows)[:-GAP, :-GAP]


class TensorBoardLogger(AbstractContextManager["TensorBoardLogger", None]):
    """A context manager that writes curves and images to a folder for `tensorboard --logdir FOLDER`.

    If the run was resumed at `resume_step`, what an earlier process wrote of later steps is hidden.

    Example:
        >>> with TensorBoardLogger("runs/mine/board", resume_step=500) as logger:
        ...     logger.add_scalars(520, {"loss": 0.31, "iou/box": 0.82})
        ...     logger.add_image(520, "predictions", sheet)

    Raises:
        MissingExtraError: if tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, *, resume_step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError.for_package("tensorboard", "board") from error
        self.writer: SummaryWriter = SummaryWriter(
            str(folder), purge_step=None if resume_step is None else resume_step + 1
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers by name; `/` in a name makes groups. NaN is skipped."""
        for name, value in values.items():
            if not math.isnan(value):
                self.writer.add_scalar(name, value, step)

    def add_image(self, step: int, name: str, rgb: npt.NDArray[np.uint8]) -> None:
        """Add an RGB image (H, W, 3)."""
        self.writer.add_image(name, rgb, step, dataformats="HWC")
