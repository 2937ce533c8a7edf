"""The rows of a stage: what its input columns hold of one item, and what becomes the row of its output columns.

Columns are what Ray Data, Spark and Dask hand to a function: a dictionary from names to lists or arrays of one length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from masklet.damaged_files import decoder_errors
from masklet.errors import InputError, SourceError
from masklet.masks.ops import masks_to_boxes
from masklet.masks.rle import Rle, encode
from masklet.media import SourceImage
from masklet.media.image import fetch_image, from_array, from_bytes, from_file
from masklet.results import Results

__all__ = [
    "BATCH_COLUMNS",
    "PROMPT_COLUMNS",
    "SOURCE_COLUMNS",
    "Cell",
    "InputColumns",
    "ObjectMask",
    "OutputColumns",
    "StageInput",
    "StageOutput",
    "object_masks",
    "read_rows",
]

Cell: TypeAlias = "str | bytes | int | float | npt.NDArray[np.generic] | Sequence[Cell] | None"
"""One value of a column."""
InputColumns: TypeAlias = "Mapping[str, Sequence[Cell] | npt.NDArray[np.generic]]"
OutputColumns: TypeAlias = "dict[str, list[Cell]]"

SOURCE_COLUMNS = ("path", "bytes", "image")
"""Where the pixels of a row come from: a file or address, the content of a file, or an array."""
PROMPT_COLUMNS = ("points", "labels", "bboxes", "object_ids", "frame_idx")
BATCH_COLUMNS = ("item", *SOURCE_COLUMNS, *PROMPT_COLUMNS)


@dataclass(frozen=True, eq=False)
class StageInput:
    """One row that goes into a stage.

    Args:
        name: The item.
        path: A file or an http address; empty if the row has its pixels.
        content: The bytes of a file.
        pixels: An image (H, W, 3), or for videos the frames (T, H, W, 3), RGB uint8.
        prompts: By column; nested lists as `SAM` takes them.
    """

    name: str
    path: str = ""
    content: bytes | None = None
    pixels: npt.NDArray[np.generic] | None = None
    prompts: Mapping[str, Cell] = field(default_factory=dict)

    def read_image(self) -> SourceImage:
        """Read the image.

        Raises:
            SourceError: if there is none, or it cannot be read.
        """
        if self.pixels is not None:
            return from_array(self.pixels, self.name)
        if self.content is not None:
            return from_bytes(self.content, self.name)
        if not self.path:
            raise SourceError(f"{self.name!r} has no image: give one of {', '.join(SOURCE_COLUMNS)}")
        return fetch_image(self.path) if self.path.startswith(("http://", "https://")) else from_file(self.path)


@dataclass(frozen=True)
class ObjectMask:
    """One mask of an item; `box` is xyxy in pixels, `frame_idx` is 0 on an image."""

    rle: Rle
    box: tuple[float, ...]
    score: float
    id: int
    class_id: int = 0
    frame_idx: int = 0


@dataclass(frozen=True)
class StageOutput:
    """One row that comes out of a stage; `size` is (height, width), zeros if the item failed.

    Example:
        >>> row = StageOutput("a.jpg", (2, 3), (ObjectMask(Rle(size=[2, 3], counts="06"), (0, 0, 3, 2), 0.9, 0),))
        >>> columns = row.to_cells()
        >>> columns["masks"], columns["boxes"], columns["error"]
        (['{"size":[2,3],"counts":"06"}'], [[0, 0, 3, 2]], '')
    """

    name: str
    size: tuple[int, int] = (0, 0)
    objects: tuple[ObjectMask, ...] = ()
    error: str = ""
    extra: Mapping[str, Cell] = field(default_factory=dict)
    """Further columns of the stage."""

    def to_cells(self) -> dict[str, Cell]:
        """Return the value of each column."""
        return {
            "item": self.name,
            "height": self.size[0],
            "width": self.size[1],
            "masks": [json.dumps(one.rle, separators=(",", ":")) for one in self.objects],
            "boxes": [list(one.box) for one in self.objects],
            "scores": [one.score for one in self.objects],
            "ids": [one.id for one in self.objects],
            **self.extra,
            "error": self.error,
        }


def read_rows(columns: InputColumns) -> list[StageInput]:
    """Read the rows of input columns.

    `item` is the name of a row, else its path is. A path may be empty where a row has `bytes` or an `image`. Prompts
    are nested lists, arrays, or JSON.

    Example:
        >>> read_rows({"path": ["a.jpg"], "points": ["[[3, 4]]"]})[0].prompts
        {'points': [[3, 4]]}

    Raises:
        InputError: if there is no column with pixels, or two columns have different lengths.
    """
    known = {name: column for name, column in columns.items() if name in BATCH_COLUMNS}
    if not any(name in known for name in SOURCE_COLUMNS) or ("item" not in known and "path" not in known):
        raise InputError(
            f"columns {', '.join(columns) or 'none'} have no images: a stage reads item and one of "
            f"{', '.join(SOURCE_COLUMNS)}; rename a column, or read files with their paths"
        )
    lengths = {name: len(column) for name, column in known.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns have different lengths, {lengths}: each has one value for every row")
    return [_read_row({name: known[name][row] for name in known}) for row in range(next(iter(lengths.values())))]


def _read_row(cells: Mapping[str, Cell]) -> StageInput:
    content, pixels = cells.get("bytes"), cells.get("image")
    path = cells.get("path")
    name = cells.get("item")
    return StageInput(
        str(path if name is None else name),
        "" if path is None else str(path),
        None if content is None else bytes(cast(bytes, content)),
        None if pixels is None else np.asarray(pixels),
        {column: prompt for column in PROMPT_COLUMNS if (prompt := _plain(cells.get(column))) is not None},
    )


def _plain(cell: Cell) -> Cell:
    """Return nested lists of plain numbers: engines make arrays of arrays of them, and tables hold JSON."""
    if isinstance(cell, str):
        try:
            return cast(Cell, json.loads(cell)) if cell else None
        except decoder_errors():
            return cell  # the parser of prompts names it in the row's error
    if isinstance(cell, (np.ndarray, np.generic)):
        cell = cast(Cell, cell.tolist())
    return [_plain(one) for one in cell] if isinstance(cell, (list, tuple)) else cell


def object_masks(results: Results) -> tuple[ObjectMask, ...]:
    """Return the masks of an image or a frame that are not empty, with their tight boxes."""
    masks = () if results.masks is None else results.masks.data
    return tuple(
        ObjectMask(
            encode(mask),
            tuple(masks_to_boxes(mask[None])[0].tolist()),
            round(float(results.scores[row]), 4),
            int(results.ids[row]),
            int(results.classes[row]),
            results.frame_idx or 0,
        )
        for row, mask in enumerate(masks)
        if mask.any()
    )
