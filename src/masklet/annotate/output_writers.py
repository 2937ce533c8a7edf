"""The label files of a run: one writer per format, and the removal of an earlier run."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.annotation_records import ImageAnnotation
from masklet.annotate.inputs import InputFile
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
"""The default without formats: one YOLO-seg text per image."""


class FormatWriters:
    """The writers of a run, opened at the first image, when the class names are known.

    Files of somebody else are kept, unless `overwrite`; labels of the images of `inputs` are checked at the first one.

    Example:
        >>> with FormatWriters(Path("out"), options) as writers:  # doctest: +SKIP
        ...     writers.write(record, {0: "dog"})
        >>> writers.files  # doctest: +SKIP
        [PosixPath('out/yolo/data.yaml'), ...]
    """

    def __init__(
        self, out: Path, options: AnnotateOptions, *, overwrite: bool = False, inputs: Iterable[InputFile] = ()
    ) -> None:
        self.out, self.options, self.overwrite, self.inputs = out, options, overwrite, inputs
        self.writers: dict[str, DatasetWriter] = {}
        self._class_names: dict[int, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> FormatWriters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, record: ImageAnnotation, names: Mapping[int, str], rgb: Pixels | None = None) -> None:
        """Write the labels of one image in every format that lacks them; a failure has none.

        `rgb` is the image of a video frame, (H, W, 3).

        Raises:
            OutputError: if they cannot be written.
        """
        self.open(names)
        if record.failure or record.size is None:
            return
        for writer in self.writers.values():
            if not writer.has(record.name):
                has_scores = "scores" in writer.supports
                objects = tuple(
                    LabeledObject(one.rle, one.class_id, one.score if has_scores else None, one.track_id)
                    for one in record.objects
                    if one.area
                )
                path, split = Path(record.path), record.split or None
                writer.write(
                    LabeledImage(path, record.name, record.size, objects, record.frame_idx, record.video, split, rgb)
                )

    def is_missing(self, name: str, names: Mapping[int, str]) -> bool:
        """Whether a format lacks the labels of the image of this name."""
        self.open(names)
        return not all(writer.has(name) for writer in self.writers.values())

    def finalize(self, names: Mapping[int, str]) -> None:
        """Write the files of each dataset, with the class names known by now."""
        self.open(names)
        for writer in self.writers.values():
            for class_id in names.keys() - self._class_names.keys():  # named only when first detected
                writer.register_class(class_id, names[class_id])
        self._stack.close()

    @property
    def losses(self) -> dict[str, list[str]]:
        """Sentences about what each format could not represent."""
        return {
            name: writer.loss.summary_lines() for name, writer in self.writers.items() if not writer.loss.is_lossless
        }

    @property
    def written(self) -> dict[str, int]:
        """Number of objects in the labels of each format, with those of earlier runs."""
        return {name: sum(writer.account.written.values()) for name, writer in self.writers.items()}

    @property
    def files(self) -> list[Path]:
        """The files to open first of each format: those of the entire dataset, or its folder if there are none."""
        files: list[Path] = []
        for writer in self.writers.values():
            of_dataset = [path for path in writer.paths if path.suffix in (".json", ".yaml", ".xml")]
            files += [path for path in of_dataset if path.parent == writer.folder] or [writer.folder]
        return files

    def open(self, names: Mapping[int, str]) -> None:
        """Open the writers, if they are not open yet; their files are checked.

        Raises:
            OutputError: if a file of somebody else has the name of an output.
        """
        if self.writers:
            return
        self._class_names = dict(names)
        formats = [(name, self.out / name, self.options.write_options) for name in self.options.formats]
        for name, folder, write_options in formats or [("yolo", self.out, PLAIN_YOLO_OPTIONS)]:
            options = replace(write_options, overwrite=self.overwrite)
            writer = self._stack.enter_context(open_dataset_writer(name, folder, names=names, options=options))
            for item in self.inputs:
                if not item.is_video:
                    writer.check_target(LabeledImage(Path(item.path), item.name, (1, 1), (), split=item.split or None))
            self.writers[name] = writer


def remove_previous_output(out: Path, formats: Iterable[str], names: Iterable[str]) -> None:
    """Remove the labels of an earlier run: the folders of its formats, or one text for each of `names`.

    Other files stay.

    Raises:
        OutputError: if a folder cannot be removed.
    """
    formats = [name for name in formats if name in DATASET_WRITERS]
    for name in formats:
        folder = out / name
        try:
            if (folder / STATE_FOLDER).is_dir():
                shutil.rmtree(folder)
        except OSError as error:
            raise OutputError(
                f"{folder} of the earlier run cannot be removed ({error.strerror or error}): check its permissions, or "
                "choose another output folder"
            ) from error
    if not formats:
        for name in names:
            with suppress(OSError):
                (out / f"{name}.txt").unlink()
    with suppress(OSError):
        for path in (out / STATE_FOLDER).glob("yolo*"):  # the log of the writer, and its record of files
            path.unlink()
