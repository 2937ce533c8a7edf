"""A run's curves and pictures for TensorBoard, where it is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.errors import MissingExtraError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Board"]


class Board:
    """A context manager that writes to a folder which `tensorboard --logdir FOLDER` shows.

    With `resumed`, the last step that is gone on from, what an earlier process wrote of later steps is hidden.

    Example:
        >>> with Board("runs/mine/board", resumed=500) as board:
        ...     board.scalars(520, {"loss": 0.31, "iou/box": 0.82})
        ...     board.picture(520, "predictions", sheet)

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, *, resumed: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError.of("tensorboard", "board") from error
        self.writer: SummaryWriter = SummaryWriter(str(folder), purge_step=None if resumed is None else resumed + 1)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, `/` in a name makes groups; those that are not known (NaN) are left out."""
        for name, value in values.items():
            if not math.isnan(value):
                self.writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, rgb: npt.NDArray[np.uint8]) -> None:
        """A picture (H, W, 3), RGB."""
        self.writer.add_image(name, rgb, step, dataformats="HWC")
