"""The base of all dataset writers: images are placed, files appear complete, the loss is counted, runs resume."""

from __future__ import annotations

import os
import re
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path, write_image
from masklet.datasets.account import ObjectAccount
from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import ConversionLoss, LabeledImage, WriteOptions
from masklet.datasets.write_log import STATE_FOLDER, LogEntry, WriteLog
from masklet.errors import InputError, MaskletError, OutputError, StateError
from masklet.masks.polygon_simplify import simplify_mask, tight_crop
from masklet.masks.polygons import Ring
from masklet.writers.image_base import ensure_writable_folder
from masklet.written_files import WrittenFiles

__all__ = [
    "EMPTY_MASK_NOTE",
    "FORMAT_FEATURES",
    "MAX_CLASS_ID",
    "DatasetWriter",
    "MaskCrop",
    "ShapeDatasetWriter",
    "WriteResult",
    "check_sample_name",
    "collapse_whitespace",
    "join_path",
    "path_in_split",
    "place_image",
    "strip_xml_invalid",
]

FORMAT_FEATURES = ("overlaps", "holes", "parts", "classes", "scores", "ids")
"""The properties of objects that a format may be able to store."""
EMPTY_MASK_NOTE = "an object without any pixel left out"
UNSUPPORTED_NOTES = {"scores": "a score left out", "ids": "an id left out", "classes": "a class left out"}
MAX_CLASS_ID = 10_000
"""The highest number of a class without a name; some formats list all classes up to the highest."""
VIDEO_FRAME_SUFFIX = ".jpg"
"""The suffix of the image file of a frame given as pixels; other image files keep that of their source."""
BoolArray = npt.NDArray[np.bool_]
MaskCrop = tuple[BoolArray, int, int]
"""The pixels in the tight box of a mask, and the box's left and top."""
DatasetWriterT = TypeVar("DatasetWriterT", bound="DatasetWriter")


@dataclass
class WriteResult:
    """What was written of one image: an IoU for each object, notes, and the record that the format needs at the end.

    `is_written` says of each object whether a pixel of it is in the files.
    """

    ious: list[float] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    record: JsonObject = field(default_factory=dict)
    is_written: list[bool] = field(default_factory=list)

    def add(self, iou: float, note: str | None = None) -> None:
        """Add the next object: the IoU of its mask with what a reader gets back, and a note on what was lost."""
        self.ious.append(iou)
        self.is_written.append(iou > 0 and note != EMPTY_MASK_NOTE)
        if note is not None:
            self.notes[note] += 1


class DatasetWriter(ABC):
    """Writes labeled images into one folder, in one format; a context manager.

    Files appear complete or not at all. A folder of an earlier run is resumed: `has` says which images are there. The
    files of the dataset as a whole are written when the block ends, also after an error: then for what came before.
    Files that masklet did not write, or that a person changed since, are kept, unless the options say `overwrite`.

    Example:
        >>> with open_dataset_writer("coco", "out", names={0: "dog"}) as writer:  # doctest: +SKIP
        ...     for image in images:
        ...         if not writer.has(image.name):
        ...             writer.write(image)
        >>> writer.loss.mean  # doctest: +SKIP
        1.0

    Raises:
        InputError: if the folder was written with other options or class names.
        OutputError: if the folder cannot be made or written, another process writes it, or a file of the dataset as a
            whole is somebody else's.
    """

    data_format: ClassVar[str]
    description: ClassVar[str]
    """The files of the format, in one line."""
    supports: ClassVar[frozenset[str]]
    """The `FORMAT_FEATURES` that the format stores."""
    unique_per_split: ClassVar[bool] = True
    """Whether two splits, such as train and val, may have images of the same name."""
    dataset_files: ClassVar[tuple[str, ...]] = ()
    """The files of the dataset as a whole; with a star where the name of a split stands."""
    names_are_text: ClassVar[bool] = False
    """Whether the format has no way to write names with bytes that are no text."""

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: WriteOptions) -> None:
        self.folder, self.options = Path(out_dir), options
        self.paths: list[Path] = []
        ensure_writable_folder(self.folder)
        record = f"{STATE_FOLDER}/{self.data_format}_files.sqlite"
        self._files = WrittenFiles(self.folder, overwrite=options.overwrite, database=record)
        self._check_dataset_files()
        self._log = WriteLog(
            self.folder,
            self.data_format,
            {"images": options.images, **dict(options.resume_options), **self._format_options()},
            names,
            self._resume_entry,
            unique_per_split=self.unique_per_split,
        )
        self._is_open = True

    def __enter__(self: DatasetWriterT) -> DatasetWriterT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*((MaskletError,) if error is not None else ())):  # the first error is the one to report
            self.close()

    @property
    def names(self) -> Mapping[int, str]:
        """Class names by number; a class without a name is called by its number."""
        named = {number: str(number) for number in self._log.counts} | self._log.names
        return MappingProxyType(dict(sorted(named.items())))

    @property
    def counts(self) -> Mapping[int, int]:
        """Number of objects by class, with those of earlier runs."""
        return MappingProxyType(dict(sorted(self._log.counts.items())))

    @property
    def num_images(self) -> int:
        """Number of images, with those of earlier runs."""
        return len(self._log)

    @property
    def loss(self) -> ConversionLoss:
        """The loss so far, with that of earlier runs."""
        return self._log.loss

    @property
    def account(self) -> ObjectAccount:
        """What the sources of the images held, and what of it is written, with earlier runs."""
        return self._log.account

    def has(self, name: str, split: str | None = None) -> bool:
        """Return whether an image of this name is there, from this run or an earlier one; in `split`, if given."""
        return self._log.has(name, split)

    def register_class(self, class_id: int, name: str) -> None:
        """Name a class that was not in `names` when the writer was opened.

        Raises:
            InputError: if the class has another name.
        """
        self._log.register_class(class_id, name)

    def write(self, image: LabeledImage, account: ObjectAccount | None = None) -> None:
        """Write one image with its objects.

        `account` is what the source holds of the image, where this is more than the objects.

        Raises:
            InputError: if the name is taken or invalid, a mask has another size, or a class is negative.
            OutputError: if a file cannot be written; what was written before stays.
            StateError: if the writer is closed.
        """
        self._check(image)
        file = self._image_file(image) + (image.path.suffix if image.rgb is None else VIDEO_FRAME_SUFFIX)
        with self._files.protect():
            result = self._write(image, file, self._annotation_files(image.name, image.split, file))
            place_image(image, self.folder / file, self.options.images)
        unsupported = {
            "scores": sum(obj.score is not None for obj in image.objects),
            "ids": sum(obj.track_id is not None for obj in image.objects),
            "classes": sum(obj.class_id != 0 for obj in image.objects),
        }
        for feature, count in unsupported.items():
            if count and feature not in self.supports:
                result.notes[UNSUPPORTED_NOTES[feature]] += count
        names = [self._class_name(obj.class_id) for obj in image.objects]
        counted = replace(
            account or ObjectAccount(source=Counter(names)),
            written=Counter(name for name, written in zip(names, result.is_written, strict=True) if written),
        )
        self._log.append(
            LogEntry(
                name=image.name,
                file=file,
                split=image.split,
                size=image.size,
                classes=tuple(obj.class_id for obj in image.objects),
                loss=ConversionLoss.from_ious(image.name, result.ious, result.notes),
                record=result.record,
                account=counted.to_json(),
            )
        )

    def close(self) -> None:
        """Write the files of the dataset as a whole, and unlock the folder."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self.num_images:
                with self._files.protect():
                    self._finish()
        finally:
            self._files.close()
            self._log.close()

    def check_target(self, image: LabeledImage) -> None:
        """Check before a run that no annotation file of an image, whose objects do not matter, is somebody else's.

        Raises:
            OutputError: if one is; the message names it.
        """
        file = self._image_file(image) + (image.path.suffix if image.rgb is None else VIDEO_FRAME_SUFFIX)
        if not self.has(image.name, image.split):
            self._files.check(*self._annotation_files(image.name, image.split, file))

    def _check_dataset_files(self) -> None:
        """Check that the files of the dataset as a whole are as masklet wrote them, so that they can be written again.

        A file beside those of a split, which this run may not have, is only in question if masklet wrote it. A folder
        of a version that kept no record is taken as it is.
        """
        if not self._files.database.exists() and list((self.folder / STATE_FOLDER).glob(f"{self.data_format}.*l*")):
            self._files.record_existing(path for one in self.dataset_files for path in self.folder.glob(one))
        for pattern in self.dataset_files:
            if "*" not in pattern:
                self._files.check(self.folder / pattern)
                continue
            self._files.check(*(path for path in self.folder.glob(pattern) if self._files.knows(path)))

    @abstractmethod
    def _image_file(self, image: LabeledImage) -> str:
        """Return the path of the image in this format, relative to the folder, without suffix."""

    @abstractmethod
    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        """Write the annotations of one image, which is (or would be) at `file`, to its annotation files."""

    @abstractmethod
    def _finish(self) -> None:
        """Write the files of the dataset as a whole."""

    def _format_options(self) -> JsonObject:
        """Return the options of this format that must be equal when a run resumes."""
        return {}

    def _annotation_files(self, name: str, split: str | None, file: str) -> Sequence[Path]:
        """Return the annotation files that one image has, the image being at `file`."""
        return ()

    def _resume_entry(self, entry: LogEntry) -> bool:
        """Return whether the files of an image of an earlier run are still there."""
        image_exists = self.options.images == "none" or (self.folder / entry.file).exists()
        return image_exists and all(
            file.exists() for file in self._annotation_files(entry.name, entry.split, entry.file)
        )

    def _class_name(self, class_id: int) -> str:
        return self._log.names.get(class_id, str(class_id))

    def _names_without_gaps(self) -> list[str]:
        """Class names from 0 to the highest number; one that is not used is called by its number."""
        return [self.names.get(number, str(number)) for number in range(max(self.names, default=-1) + 1)]

    def _check(self, image: LabeledImage) -> None:
        if not self._is_open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; images are written inside its with "
                "block: open it again to resume"
            )
        check_sample_name(image.name)
        if image.split is not None:
            check_sample_name(image.split)
        if self.names_are_text and any("\ud800" <= letter <= "\udfff" for letter in image.name):
            raise InputError(
                f"{image.name!r} has bytes that are no text, which {self.data_format} cannot store: rename the image, "
                "or write coco or yolo"
            )
        if not self._log.can_add(image.name, image.split):
            raise InputError(
                f"there is an image {image.name!r} in {self.folder} already; names (without suffix) are unique: "
                "rename one of the two, or call `has` before writing"
            )
        for obj in image.objects:
            if obj.class_id > MAX_CLASS_ID and obj.class_id not in self._log.names:
                raise InputError(
                    f"an object of {image.name!r} has class {obj.class_id}, which has no name; classes count from 0 "
                    f"without gaps, and those without a name go up to {MAX_CLASS_ID}: renumber or name it"
                )
            if tuple(obj.rle["size"]) != tuple(image.size) or obj.class_id < 0:
                raise InputError(
                    f"an object of {image.name!r} has a mask of size {obj.rle['size']} and class {obj.class_id}; "
                    f"the image is {list(image.size)} (height, width) and classes count from 0: pass such"
                )


class ShapeDatasetWriter(DatasetWriter):
    """A format of shapes for drawing tools.

    "rle" writes a mask, "polygon" outlines that keep `min_iou`, "both" a mask and exact outlines, tied together.
    """

    def _format_options(self) -> JsonObject:
        mode = self.options.segmentation
        return {"segmentation": mode, "min_iou": self.options.min_iou if mode == "polygon" else None}

    def _to_shapes(self, mask: BoolArray, result: WriteResult) -> tuple[list[MaskCrop], tuple[Ring, ...]]:
        """Split a mask (H, W) into at most one crop and its outlines; an empty mask has neither.

        What they keep of the mask is added to `result`.
        """
        left, top, crop = tight_crop(mask)
        if not crop.size:
            result.add(1.0, EMPTY_MASK_NOTE)
            return [], ()
        mode = self.options.segmentation
        outline = None if mode == "rle" else simplify_mask(mask, self.options.min_iou if mode == "polygon" else 1.0)
        if outline is None:
            result.add(1.0)
            return [(crop, left, top)], ()
        result.add(outline.iou if mode == "polygon" else 1.0)
        return [] if mode == "polygon" else [(crop, left, top)], outline.rings


def check_sample_name(name: str) -> None:
    """Check that `name` is a relative path inside the dataset.

    Raises:
        InputError: if it is not.

    Example:
        >>> check_sample_name("zoo/cat")
    """
    parts = PurePosixPath(name).parts
    inside = parts and not name.startswith("/") and ".." not in parts and PurePosixPath(name).as_posix() == name
    if not inside or "\\" in name or "\0" in name or ":" in parts[0]:
        raise InputError(
            f"{name!r} is no name of an image; it is a relative path without suffix and without .., such as zoo/cat"
        )


def place_image(image: LabeledImage, target: Path, mode: str) -> None:
    """Put an image file at `target`. `mode` is "none", "copy" or "link" (hard on the same disk, else symbolic).

    Pixels are written as a JPEG of quality 95 in either case.

    Raises:
        OutputError: if it cannot be written, or the disk has no links.
    """
    if mode == "none":
        return
    if image.rgb is not None:
        write_image(target, image.rgb)
        return
    with suppress(OSError):
        if os.path.samefile(image.path, target):
            return
    with atomic_path(target) as temporary:
        if mode == "copy":
            shutil.copyfile(image.path, temporary)
            return
        source = image.path.resolve()
        with suppress(OSError):
            os.link(source, temporary)
            return
        try:
            temporary.symlink_to(source)
        except OSError as error:
            raise OutputError(
                f"{image.path} cannot be linked from {target.parent} ({error.strerror or error}); choose images 'copy'"
            ) from error


def join_path(*parts: str | None) -> str:
    """Join the parts of a path that are not empty.

    Example:
        >>> join_path("images", None, "zoo/cat")
        'images/zoo/cat'
    """
    return "/".join(part for part in parts if part)


def path_in_split(entry: LogEntry) -> str:
    """Return the path of an image relative to images/[SPLIT/], the folder of the images of its split."""
    return entry.file.removeprefix(f"{join_path('images', entry.split)}/")


def strip_xml_invalid(text: str) -> str:
    r"""Remove the characters that XML cannot store.

    Example:
        >>> strip_xml_invalid("a\x00b")
        'ab'
    """
    return re.sub("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]", "", text)


def collapse_whitespace(text: str) -> str:
    r"""Replace line breaks and repeated spaces by one space, for lists with one name a line.

    Example:
        >>> collapse_whitespace("traffic\nlight")
        'traffic light'
    """
    return " ".join(text.split())
