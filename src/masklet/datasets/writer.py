"""What the writers of all layouts have in common: images in, files whole, the loss counted, runs gone on with.

Names of classes as a format can hold them, so that what is written can be read.

Images put where a layout has them: copied, linked, or written from pixels.

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
from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import ConversionLoss, LabeledImage, LabeledObject, WriteOptions
from masklet.datasets.write_log import LogEntry, WriteLog
from masklet.errors import InputError, MaskletError, OutputError, StateError
from masklet.masks.polygon_simplify import simplify_mask, tight_crop
from masklet.masks.polygons import Ring
from masklet.writers.image_base import ensure_writable_folder

__all__ = [
    "EMPTY_MASK_NOTE",
    "FORMAT_FEATURES",
    "DatasetWriter",
    "MaskCrop",
    "ShapeDatasetWriter",
    "WriteResult",
    "check_sample_name",
    "collapse_whitespace",
    "image_suffix",
    "place_image",
    "strip_xml_invalid",
]

_XML_INVALID = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def strip_xml_invalid(text: str) -> str:
    """`text` without the characters that XML has no way to write.

    Example:
        >>> plain("a\\x00b")
        'ab'
    """
    return _XML_INVALID.sub("", text)


def collapse_whitespace(text: str) -> str:
    """`text` without breaks, for lists with a name a line.

    Example:
        >>> one_line("traffic\\nlight")
        'traffic light'
    """
    return " ".join(text.split())


VIDEO_FRAME_SUFFIX = ".jpg"


def image_suffix(image: LabeledImage) -> str:
    """The end of its file's name: that of its file, or .jpg for a frame given as pixels."""
    return image.path.suffix if image.rgb is None else VIDEO_FRAME_SUFFIX


def place_image(image: LabeledImage, target: Path, mode: str) -> None:
    """Put an image at `target`; `how` is "none", "copy" or "link" (hard where the disk is the same, else symbolic).

    Pixels are written as a JPEG of quality 95 in either case.

    Raises:
        OutputError: it cannot be written, or there are no links on this disk.
    """
    if mode == "none":
        return
    if image.rgb is not None:
        write_image(target, image.rgb)
    elif not _is_same(image.path, target):
        with atomic_path(target) as temporary:
            (shutil.copyfile if mode == "copy" else _link)(image.path, temporary)


def check_sample_name(name: str) -> None:
    """Raise InputError where a name is no relative path inside the data set."""
    parts = PurePosixPath(name).parts
    inside = parts and not name.startswith("/") and ".." not in parts and PurePosixPath(name).as_posix() == name
    if not inside or "\\" in name or "\0" in name or ":" in parts[0]:
        raise InputError(
            f"{name!r} is no name of an image; it is a relative path without suffix and without .., such as zoo/cat"
        )


def _link(source: Path, target: Path) -> None:
    with suppress(OSError):
        os.link(source.resolve(), target)
        return
    try:
        target.symlink_to(source.resolve())
    except OSError as error:
        raise OutputError(
            f"{source} cannot be linked from {target.parent} ({error.strerror or error}); choose images 'copy'"
        ) from error


def _is_same(source: Path, target: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(source, target)
    return False


FORMAT_FEATURES = ("overlaps", "holes", "parts", "classes", "scores", "ids")
"""What a layout may be able to hold of objects."""
EMPTY_MASK_NOTE = "an object without any pixel left out"
"""A note on what was written."""
DatasetWriterT = TypeVar("DatasetWriterT", bound="DatasetWriter")
Bools = npt.NDArray[np.bool_]


@dataclass
class WriteResult:
    """What became of the objects of one image: an IoU each, what is worth a note, and what the end needs again."""

    ious: list[float] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    record: JsonObject = field(default_factory=dict)


class DatasetWriter(ABC):
    """Writes labeled images into one folder, in one layout; a context manager.

    Files appear whole or not at all. A folder that an earlier run left is gone on with: `has` says what is there. What
    belongs to the data set as a whole is written when the block ends, also after an error: then of what came before.

    Example:
        >>> with open_layout("coco", "out", names={0: "dog"}) as writer:
        ...     for image in images:
        ...         if not writer.has(image.name):
        ...             writer.write(image)
        >>> writer.loss.mean
        1.0

    Raises:
        InputError: the folder was written with other options or class names.
        OutputError: the folder cannot be made or written, or another process writes it.
    """

    data_format: ClassVar[str]
    description: ClassVar[str]
    """Its files in one line."""
    supports: ClassVar[frozenset[str]]
    """Which of `HOLDABLE` it can hold."""
    unique_per_split: ClassVar[bool] = True
    """Whether two parts of the data, such as train and val, may have images of the same name."""

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: WriteOptions) -> None:
        self.folder, self.options = Path(out_dir), options
        self.paths: list[Path] = []
        ensure_writable_folder(self.folder)
        self._log = WriteLog(
            self.folder,
            self.data_format,
            self._output_options(),
            names,
            self._files_exist,
            unique_per_split=self.unique_per_split,
        )
        self._is_open = True

    def __enter__(self: DatasetWriterT) -> DatasetWriterT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*((MaskletError,) if error is not None else ())):  # the first reason is the one to tell
            self.close()

    @property
    def names(self) -> Mapping[int, str]:
        """Class names by number; a class that nobody named is called by its number."""
        named = {number: str(number) for number in self._log.counts} | self._log.names
        return MappingProxyType(dict(sorted(named.items())))

    @property
    def counts(self) -> Mapping[int, int]:
        """Objects by class, those of earlier runs too."""
        return MappingProxyType(dict(sorted(self._log.counts.items())))

    @property
    def num_images(self) -> int:
        """How many are there, those of earlier runs too."""
        return len(self._log)

    @property
    def loss(self) -> ConversionLoss:
        """What was lost so far, in earlier runs too."""
        return self._log.loss

    def has(self, name: str, split: str | None = None) -> bool:
        """Whether an image of this name is there, from this run or an earlier one; in this split, if one is named."""
        return self._log.has(name, split)

    def register_class(self, class_id: int, name: str) -> None:
        """Give a class its name that `names` did not have when the writer was opened.

        Raises:
            InputError: the class has another name.
        """
        self._log.register_class(class_id, name)

    def write(self, image: LabeledImage) -> None:
        """Write one image with its objects.

        Raises:
            InputError: a name that is there already or cannot be one, a mask of another size, a negative class.
            OutputError: a file cannot be written; what was written before stays.
            StateError: the writer is closed.
        """
        self._check(image)
        file = self._image_file(image) + image_suffix(image)
        written = self._write(image, file)
        place_image(image, self.folder / file, self.options.images)
        written.notes.update(self._unsupported_attributes(image.objects))
        self._log.append(
            LogEntry(
                name=image.name,
                file=file,
                split=image.split,
                size=image.size,
                classes=tuple(thing.class_id for thing in image.objects),
                loss=ConversionLoss.from_ious(image.name, written.ious, written.notes),
                record=written.record,
            )
        )

    def close(self) -> None:
        """Write what belongs to the data set as a whole, and let go of the folder."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self.num_images:
                self._finish()
        finally:
            self._log.close()

    @abstractmethod
    def _image_file(self, image: LabeledImage) -> str:
        """Where the image is in this layout, relative to the folder, without suffix."""

    @abstractmethod
    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        """Write the files of one image, which is (or would be) at `file`."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what belongs to the data set as a whole."""

    def _output_options(self) -> JsonObject:
        """The options on which the outcome depends."""
        return {"pictures": self.options.images, **dict(self.options.resume_options)}

    def _files_exist(self, entry: LogEntry) -> bool:
        """Whether the files of an image that was done are there still."""
        return self.options.images == "none" or (self.folder / entry.file).exists()

    def _log_entries(self, split: str | None) -> Iterator[LogEntry]:
        """What is known of the images of one part (None: of no part)."""
        return self._log.entries(split)

    def _class_name(self, class_id: int) -> str:
        return self._log.names.get(class_id, str(class_id))

    def _unsupported_attributes(self, objects: tuple[LabeledObject, ...]) -> Counter[str]:
        """What is said of objects and has no place here."""
        said = {
            "scores": sum(thing.score is not None for thing in objects),
            "ids": sum(thing.track_id is not None for thing in objects),
            "classes": sum(thing.class_id != 0 for thing in objects),
        }
        words = {"scores": "a score left out", "ids": "an id left out", "classes": "a class left out"}
        return Counter({words[what]: n for what, n in said.items() if n and what not in self.supports})

    def _check(self, image: LabeledImage) -> None:
        if not self._is_open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; images are written inside its with "
                "block: open it again to go on"
            )
        check_sample_name(image.name)
        if image.split is not None:
            check_sample_name(image.split)
        if not self._log.can_add(image.name, image.split):
            raise InputError(
                f"there is an image {image.name!r} in {self.folder} already; names (without suffix) are unique: "
                "rename one of the two, or ask `has` before writing"
            )
        for thing in image.objects:
            if tuple(thing.rle["size"]) != tuple(image.size) or thing.class_id < 0:
                raise InputError(
                    f"an object of {image.name!r} has a mask of size {thing.rle['size']} and class {thing.class_id}; "
                    f"the image is {list(image.size)} (height, width) and classes count from 0: hand in such"
                )


MaskCrop = tuple[Bools, int, int]
"""What is in the tight box of a mask, and the box's left and top."""


class ShapeDatasetWriter(DatasetWriter):
    """Writes shapes: "rle" a mask, "polygon" outlines that keep `min_iou`, "both" a mask and exact outlines."""

    def _output_options(self) -> JsonObject:
        shape = self.options.segmentation
        promised = self.options.min_iou if shape == "polygon" else None
        return {**super()._output_options(), "segmentation": shape, "min_iou": promised}

    def _to_shapes(self, mask: Bools, result: WriteResult) -> tuple[list[MaskCrop], tuple[Ring, ...]]:
        """The mask (H, W) as a shape, if it is to be one, and its outlines; none of either without any pixel.

        How much of the mask they keep is noted in `written`.
        """
        left, top, crop = tight_crop(mask)
        if not crop.size:
            result.ious.append(1.0)
            result.notes[EMPTY_MASK_NOTE] += 1
            return [], ()
        how = self.options.segmentation
        outline = None if how == "rle" else simplify_mask(mask, self.options.min_iou if how == "polygon" else 1.0)
        if outline is None:
            result.ious.append(1.0)
            return [(crop, left, top)], ()
        result.ious.append(outline.iou if how == "polygon" else 1.0)
        return [] if how == "polygon" else [(crop, left, top)], outline.rings
