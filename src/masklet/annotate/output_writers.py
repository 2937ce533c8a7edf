"""Where labels go: one writer a format, and what an earlier run left there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.annotation_records import ImageAnnotation
from masklet.datasets import (
    DATASET_WRITERS,
    DatasetWriter,
    LabeledImage,
    LabeledObject,
    WriteOptions,
    open_dataset_writer,
)
from masklet.datasets.write_log import STATE_FOLDER
from masklet.errors import OutputError

__all__ = ["FormatWriters", "remove_previous_output"]

Pixels = npt.NDArray[np.uint8]

PLAIN_YOLO_OPTIONS = WriteOptions(label_folder="")
"""One text an image and nothing else: what is written where no format is named."""


class FormatWriters:
    """The writers of a run, opened when the first image comes and the names of the classes are known.

    Example:
        >>> with Shelf(Path("out"), options) as shelf:
        ...     shelf.write(record, {0: "dog"})
        >>> shelf.files
        [PosixPath('out/yolo/data.yaml'), ...]
    """

    def __init__(self, out: Path, options: AnnotateOptions) -> None:
        self.out, self.options = out, options
        self.writers: dict[str, DatasetWriter] = {}
        self._class_names: dict[int, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> FormatWriters:
        return self

    def __exit__(self, *about: object) -> None:
        self._stack.__exit__(*about)  # type: ignore[arg-type]

    @property
    def needs_frames(self) -> bool:
        """Whether frames of videos are written as images beside their labels."""
        return bool(self.options.formats)

    def write(self, record: ImageAnnotation, names: Mapping[int, str], rgb: Pixels | None = None) -> None:
        """Write the labels of one image in every format that lacks it; a failure has none. `rgb` is of a frame.

        Raises:
            OutputError: they cannot be written.
        """
        self._open(names)
        if record.failure or record.size is None:
            return
        for writer in self.writers.values():
            if not writer.has(record.name):
                writer.write(_to_labeled_image(record, rgb, scores="scores" in writer.supports))

    def is_missing(self, name: str, names: Mapping[int, str]) -> bool:
        """Whether a format has no labels of the image of this name."""
        self._open(names)
        return not all(writer.has(name) for writer in self.writers.values())

    def finalize(self, names: Mapping[int, str]) -> None:
        """Write what belongs to the data as a whole, with the names as they are known now."""
        self._open(names)
        for writer in self.writers.values():
            for number in names.keys() - self._class_names.keys():  # some detectors name a class when they meet it
                writer.register_class(number, names[number])
        self._stack.close()

    @property
    def losses(self) -> dict[str, list[str]]:
        """What each format could not hold, in sentences."""
        return {
            name: writer.loss.summary_lines() for name, writer in self.writers.items() if not writer.loss.is_lossless
        }

    @property
    def files(self) -> list[Path]:
        """What to open first of each format."""
        return [path for writer in self.writers.values() for path in _dataset_files(writer)]

    def _open(self, names: Mapping[int, str]) -> None:
        if self.writers:
            return
        self._class_names = dict(names)
        for name, folder, layout_options in _format_folders(self.out, self.options):
            opened = open_dataset_writer(name, folder, names=names, options=layout_options)
            self.writers[name] = self._stack.enter_context(opened)


def remove_previous_output(out: Path, formats: Iterable[str], names: Iterable[str]) -> None:
    """Remove what an earlier run wrote: its folders of formats, or one text for each of `names`.

    Only what it is known to have written goes; other files stay.

    Raises:
        OutputError: a folder cannot be removed.
    """
    formats = [name for name in formats if name in DATASET_WRITERS]
    for name in formats:
        if (out / name / STATE_FOLDER).is_dir():
            _remove(out / name)
    if not formats:
        for name in names:
            with suppress(OSError):
                (out / f"{name}.txt").unlink()
    with suppress(OSError):
        (out / STATE_FOLDER / "yolo.jsonl").unlink()


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(
            f"{folder} of the earlier run cannot be removed ({error.strerror or error}): check its permissions, or "
            "choose another output folder"
        ) from error


def _format_folders(out: Path, options: AnnotateOptions) -> Iterator[tuple[str, Path, WriteOptions]]:
    if not options.formats:
        yield "yolo", out, PLAIN_YOLO_OPTIONS
    for name in options.formats:
        yield name, out / name, options.write_options


def _to_labeled_image(record: ImageAnnotation, rgb: Pixels | None, *, scores: bool) -> LabeledImage:
    assert record.size is not None
    objects = tuple(
        LabeledObject(one.rle, one.class_id, one.score if scores else None, one.track_id)
        for one in record.objects
        if one.area
    )
    path, part = Path(record.path), record.split or None
    return LabeledImage(path, record.name, record.size, objects, record.frame_idx, record.video, part, rgb)


def _dataset_files(writer: DatasetWriter) -> list[Path]:
    """The files that belong to a data set as a whole; its folder where there are none."""
    whole = [
        path for path in writer.paths if path.suffix in (".json", ".yaml", ".xml") and path.parent == writer.folder
    ]
    return whole or [writer.folder]
