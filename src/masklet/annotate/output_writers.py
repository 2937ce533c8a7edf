"""Where labels go: one writer a format, and what an earlier run left there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.annotation_records import Record
from masklet.datasets.conversion import (
    LAYOUTS,
    LabelledObject,
    LabelledPicture,
    LayoutOptions,
    LayoutWriter,
    open_layout,
)
from masklet.datasets.write_log import FOLDER
from masklet.errors import OutputError

__all__ = ["Shelf", "clear"]

Pixels = npt.NDArray[np.uint8]

PLAIN = LayoutOptions(folder="")
"""One text a picture and nothing else: what is written where no format is named."""


class Shelf:
    """The writers of a run, opened when the first picture comes and the names of the classes are known.

    Example:
        >>> with Shelf(Path("out"), options) as shelf:
        ...     shelf.write(record, {0: "dog"})
        >>> shelf.files
        [PosixPath('out/yolo/data.yaml'), ...]
    """

    def __init__(self, out: Path, options: AnnotateOptions) -> None:
        self.out, self.options = out, options
        self.writers: dict[str, LayoutWriter] = {}
        self._names: dict[int, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *about: object) -> None:
        self._stack.__exit__(*about)  # type: ignore[arg-type]

    @property
    def wants_pixels(self) -> bool:
        """Whether frames of films are written as pictures beside their labels."""
        return bool(self.options.formats)

    def write(self, record: Record, names: Mapping[int, str], rgb: Pixels | None = None) -> None:
        """Write the labels of one picture in every format that lacks it; a failure has none. `rgb` is of a frame.

        Raises:
            OutputError: they cannot be written.
        """
        self._open(names)
        if record.failure or record.size is None:
            return
        for writer in self.writers.values():
            if not writer.has(record.name):
                writer.write(_labelled(record, rgb, scores="scores" in writer.holds))

    def lacks(self, name: str, names: Mapping[int, str]) -> bool:
        """Whether a format has no labels of the picture of this name."""
        self._open(names)
        return not all(writer.has(name) for writer in self.writers.values())

    def finish(self, names: Mapping[int, str]) -> None:
        """Write what belongs to the data as a whole, with the names as they are known now."""
        self._open(names)
        for writer in self.writers.values():
            for number in names.keys() - self._names.keys():  # some detectors name a class when they meet it
                writer.call(number, names[number])
        self._stack.close()

    @property
    def losses(self) -> dict[str, list[str]]:
        """What each format could not hold, in sentences."""
        return {name: writer.loss.lines() for name, writer in self.writers.items() if not writer.loss.nothing}

    @property
    def files(self) -> list[Path]:
        """What to open first of each format."""
        return [path for writer in self.writers.values() for path in _first(writer)]

    def _open(self, names: Mapping[int, str]) -> None:
        if self.writers:
            return
        self._names = dict(names)
        for name, folder, layout_options in _places(self.out, self.options):
            opened = open_layout(name, folder, names=names, options=layout_options)
            self.writers[name] = self._stack.enter_context(opened)


def clear(out: Path, formats: Iterable[str], names: Iterable[str]) -> None:
    """Remove what an earlier run wrote: its folders of formats, or one text for each of `names`.

    Only what it is known to have written goes; other files stay.

    Raises:
        OutputError: a folder cannot be removed.
    """
    formats = [name for name in formats if name in LAYOUTS]
    for name in formats:
        if (out / name / FOLDER).is_dir():
            _remove(out / name)
    if not formats:
        for name in names:
            with suppress(OSError):
                (out / f"{name}.txt").unlink()
    with suppress(OSError):
        (out / FOLDER / "yolo.jsonl").unlink()


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(
            f"{folder} of the earlier run cannot be removed ({error.strerror or error}): check its permissions, or "
            "choose another output folder"
        ) from error


def _places(out: Path, options: AnnotateOptions) -> Iterator[tuple[str, Path, LayoutOptions]]:
    if not options.formats:
        yield "yolo", out, PLAIN
    for name in options.formats:
        yield name, out / name, options.layout


def _labelled(record: Record, rgb: Pixels | None, *, scores: bool) -> LabelledPicture:
    assert record.size is not None
    objects = tuple(
        LabelledObject(one.rle, one.class_id, one.score if scores else None, one.track)
        for one in record.objects
        if one.area
    )
    path, part = Path(record.path), record.part or None
    return LabelledPicture(path, record.name, record.size, objects, record.frame, record.film, part, rgb)


def _first(writer: LayoutWriter) -> list[Path]:
    """The files that belong to a data set as a whole; its folder where there are none."""
    whole = [
        path for path in writer.paths if path.suffix in (".json", ".yaml", ".xml") and path.parent == writer.folder
    ]
    return whole or [writer.folder]
