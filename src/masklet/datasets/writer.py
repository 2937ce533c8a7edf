"""What the writers of all layouts have in common: pictures in, files whole, the loss counted, runs gone on with.

Names of classes as a format can hold them, so that what is written can be read.

Pictures put where a layout has them: copied, linked, or written from pixels.

What the layouts of drawing tools have in common: an object is a mask, outlines, or both, tied together.
"""

from __future__ import annotations

import os
import re
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path, write_image
from masklet.datasets.labeled_image import LabelledObject, LabelledPicture, LayoutOptions, Loss
from masklet.datasets.write_log import Journal, Line, LogRecord
from masklet.errors import InputError, MaskletError, OutputError, StateError
from masklet.masks.polygon_simplify import trace, window_of
from masklet.masks.polygons import Ring
from masklet.writers.image_base import check_folder

__all__ = [
    "HOLDABLE",
    "NO_PIXEL",
    "LayoutWriter",
    "ShapeLayout",
    "Window",
    "Written",
    "check_name",
    "one_line",
    "picture_suffix",
    "place_picture",
    "plain",
]

_UNSPEAKABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def plain(text: str) -> str:
    """`text` without the characters that XML has no way to write.

    Example:
        >>> plain("a\\x00b")
        'ab'
    """
    return _UNSPEAKABLE.sub("", text)


def one_line(text: str) -> str:
    """`text` without breaks, for lists with a name a line.

    Example:
        >>> one_line("traffic\\nlight")
        'traffic light'
    """
    return " ".join(text.split())


FRAME_SUFFIX = ".jpg"


def picture_suffix(picture: LabelledPicture) -> str:
    """The end of its file's name: that of its file, or .jpg for a frame given as pixels."""
    return picture.path.suffix if picture.rgb is None else FRAME_SUFFIX


def place_picture(picture: LabelledPicture, target: Path, how: str) -> None:
    """Put a picture at `target`; `how` is "none", "copy" or "link" (hard where the disk is the same, else symbolic).

    Pixels are written as a JPEG of quality 95 in either case.

    Raises:
        OutputError: it cannot be written, or there are no links on this disk.
    """
    if how == "none":
        return
    if picture.rgb is not None:
        write_image(target, picture.rgb)
    elif not _is_same(picture.path, target):
        with atomic_path(target) as temporary:
            (shutil.copyfile if how == "copy" else _link)(picture.path, temporary)


def check_name(name: str) -> None:
    """Raise InputError where a name is no relative path inside the data set."""
    parts = PurePosixPath(name).parts
    inside = parts and not name.startswith("/") and ".." not in parts and PurePosixPath(name).as_posix() == name
    if not inside or "\\" in name or "\0" in name or ":" in parts[0]:
        raise InputError(
            f"{name!r} is no name of a picture; it is a relative path without suffix and without .., such as zoo/cat"
        )


def _link(source: Path, target: Path) -> None:
    with suppress(OSError):
        os.link(source.resolve(), target)
        return
    try:
        target.symlink_to(source.resolve())
    except OSError as error:
        raise OutputError(
            f"{source} cannot be linked from {target.parent} ({error.strerror or error}); choose pictures 'copy'"
        ) from error


def _is_same(source: Path, target: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(source, target)
    return False


HOLDABLE = ("overlaps", "holes", "parts", "classes", "scores", "ids")
"""What a layout may be able to hold of objects."""
NO_PIXEL = "an object without any pixel left out"
"""A note on what was written."""
AnyWriter = TypeVar("AnyWriter", bound="LayoutWriter")
Bools = npt.NDArray[np.bool_]


@dataclass
class Written:
    """What became of the objects of one picture: an IoU each, what is worth a note, and what the end needs again."""

    ious: list[float] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    record: LogRecord = field(default_factory=dict)


class LayoutWriter(ABC):
    """Writes labelled pictures into one folder, in one layout; a context manager.

    Files appear whole or not at all. A folder that an earlier run left is gone on with: `has` says what is there. What
    belongs to the data set as a whole is written when the block ends, also after an error: then of what came before.

    Example:
        >>> with open_layout("coco", "out", names={0: "dog"}) as writer:
        ...     for picture in pictures:
        ...         if not writer.has(picture.name):
        ...             writer.write(picture)
        >>> writer.loss.mean
        1.0

    Raises:
        InputError: the folder was written with other options or class names.
        OutputError: the folder cannot be made or written, or another process writes it.
    """

    layout: ClassVar[str]
    about: ClassVar[str]
    """Its files in one line."""
    holds: ClassVar[frozenset[str]]
    """Which of `HOLDABLE` it can hold."""
    apart: ClassVar[bool] = True
    """Whether two parts of the data, such as train and val, may have pictures of the same name."""

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: LayoutOptions) -> None:
        self.folder, self.options = Path(out_dir), options
        self.paths: list[Path] = []
        check_folder(self.folder)
        self._journal = Journal(self.folder, self.layout, self._asked(), names, self._is_there, apart=self.apart)
        self._open = True

    def __enter__(self: AnyWriter) -> AnyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*((MaskletError,) if error is not None else ())):  # the first reason is the one to tell
            self.close()

    @property
    def names(self) -> Mapping[int, str]:
        """Class names by number; a class that nobody named is called by its number."""
        named = {number: str(number) for number in self._journal.counts} | self._journal.names
        return MappingProxyType(dict(sorted(named.items())))

    @property
    def counts(self) -> Mapping[int, int]:
        """Objects by class, those of earlier runs too."""
        return MappingProxyType(dict(sorted(self._journal.counts.items())))

    @property
    def pictures(self) -> int:
        """How many are there, those of earlier runs too."""
        return len(self._journal)

    @property
    def loss(self) -> Loss:
        """What was lost so far, in earlier runs too."""
        return self._journal.loss

    def has(self, name: str, split: str | None = None) -> bool:
        """Whether a picture of this name is there, from this run or an earlier one; in this split, if one is named."""
        return self._journal.has(name, split)

    def call(self, number: int, name: str) -> None:
        """Give a class its name that `names` did not have when the writer was opened.

        Raises:
            InputError: the class has another name.
        """
        self._journal.call(number, name)

    def write(self, picture: LabelledPicture) -> None:
        """Write one picture with its objects.

        Raises:
            InputError: a name that is there already or cannot be one, a mask of another size, a negative class.
            OutputError: a file cannot be written; what was written before stays.
            StateError: the writer is closed.
        """
        self._check(picture)
        file = self._picture_file(picture) + picture_suffix(picture)
        written = self._write(picture, file)
        place_picture(picture, self.folder / file, self.options.pictures)
        written.notes.update(self._unheld(picture.objects))
        self._journal.append(
            Line(
                name=picture.name,
                file=file,
                split=picture.split,
                size=picture.size,
                classes=tuple(thing.class_id for thing in picture.objects),
                loss=Loss.of(picture.name, written.ious, written.notes),
                record=written.record,
            )
        )

    def close(self) -> None:
        """Write what belongs to the data set as a whole, and let go of the folder."""
        if not self._open:
            return
        self._open = False
        try:
            if self.pictures:
                self._finish()
        finally:
            self._journal.close()

    @abstractmethod
    def _picture_file(self, picture: LabelledPicture) -> str:
        """Where the picture is in this layout, relative to the folder, without suffix."""

    @abstractmethod
    def _write(self, picture: LabelledPicture, file: str) -> Written:
        """Write the files of one picture, which is (or would be) at `file`."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what belongs to the data set as a whole."""

    def _asked(self) -> LogRecord:
        """The options on which the outcome depends."""
        return {"pictures": self.options.pictures, **dict(self.options.asked)}

    def _is_there(self, line: Line) -> bool:
        """Whether the files of a picture that was done are there still."""
        return self.options.pictures == "none" or (self.folder / line.file).exists()

    def _lines(self, split: str | None) -> Iterator[Line]:
        """What is known of the pictures of one part (None: of no part)."""
        return self._journal.lines(split)

    def _name_of(self, class_id: int) -> str:
        return self._journal.names.get(class_id, str(class_id))

    def _unheld(self, objects: tuple[LabelledObject, ...]) -> Counter[str]:
        """What is said of objects and has no place here."""
        said = {
            "scores": sum(thing.score is not None for thing in objects),
            "ids": sum(thing.id is not None for thing in objects),
            "classes": sum(thing.class_id != 0 for thing in objects),
        }
        words = {"scores": "a score left out", "ids": "an id left out", "classes": "a class left out"}
        return Counter({words[what]: n for what, n in said.items() if n and what not in self.holds})

    def _check(self, picture: LabelledPicture) -> None:
        if not self._open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; pictures are written inside its with "
                "block: open it again to go on"
            )
        check_name(picture.name)
        if picture.split is not None:
            check_name(picture.split)
        if not self._journal.room_for(picture.name, picture.split):
            raise InputError(
                f"there is a picture {picture.name!r} in {self.folder} already; names (without suffix) are unique: "
                "rename one of the two, or ask `has` before writing"
            )
        for thing in picture.objects:
            if tuple(thing.rle["size"]) != tuple(picture.size) or thing.class_id < 0:
                raise InputError(
                    f"an object of {picture.name!r} has a mask of size {thing.rle['size']} and class {thing.class_id}; "
                    f"the picture is {list(picture.size)} (height, width) and classes count from 0: hand in such"
                )


Window = tuple[Bools, int, int]
"""What is in the tight box of a mask, and the box's left and top."""


class ShapeLayout(LayoutWriter):
    """Writes shapes: "rle" a mask, "polygon" outlines that keep `min_iou`, "both" a mask and exact outlines."""

    def _asked(self) -> LogRecord:
        shape = self.options.segmentation
        promised = self.options.min_iou if shape == "polygon" else None
        return {**super()._asked(), "segmentation": shape, "min_iou": promised}

    def _drawn(self, mask: Bools, written: Written) -> tuple[list[Window], tuple[Ring, ...]]:
        """The mask (H, W) as a shape, if it is to be one, and its outlines; none of either without any pixel.

        How much of the mask they keep is noted in `written`.
        """
        left, top, crop = window_of(mask)
        if not crop.size:
            written.ious.append(1.0)
            written.notes[NO_PIXEL] += 1
            return [], ()
        how = self.options.segmentation
        outline = None if how == "rle" else trace(mask, self.options.min_iou if how == "polygon" else 1.0)
        if outline is None:
            written.ious.append(1.0)
            return [(crop, left, top)], ()
        written.ious.append(outline.iou if how == "polygon" else 1.0)
        return [] if how == "polygon" else [(crop, left, top)], outline.rings
