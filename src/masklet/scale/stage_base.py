"""What every stage is. It knows no model: a stage of your own runs in processes that do not import PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from masklet.scale.stage_rows import Cell, InputColumns, OutputColumns, StageInput, StageOutput, read_rows

__all__ = ["Stage"]


class Stage(ABC):
    """A step of a data pipeline."""

    columns: ClassVar[tuple[str, ...]] = ("item", "width", "height", "masks", "boxes", "scores", "ids", "error")
    """The columns that come out."""

    @abstractmethod
    def process(self, rows: Sequence[StageInput]) -> list[StageOutput]:
        """Process rows; one that fails becomes a row with an error.

        Raises:
            ModelError, MissingExtraError: if a model cannot be opened, which fails every row.
        """

    def __call__(self, batch: InputColumns) -> OutputColumns:
        """Process the rows of a batch of columns, and return the columns of the stage.

        Raises:
            InputError: if the batch has no column with pixels.
            ModelError, MissingExtraError: if a model cannot be opened, which fails every row.
        """
        return self.to_columns(self.process(read_rows(batch)))

    def to_columns(self, outputs: Sequence[StageOutput]) -> OutputColumns:
        """Return rows as the columns of the stage."""
        cells = [row.to_cells() for row in outputs]
        return {name: [row[name] for row in cells] for name in self.columns}

    def settings(self) -> dict[str, Cell]:
        """Return what the rows depend on: it is stored with them, and a run with other settings is refused."""
        return {"stage": repr(self)}

    def failed(self, name: str, reason: str) -> StageOutput:
        """Return the row of an item that failed."""
        return StageOutput(name, error=reason)
