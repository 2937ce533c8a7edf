"""The tables of formats, and `open_dataset` and `open_dataset_writer`, which choose one of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from masklet.damaged_files import open_regular_file
from masklet.datasets.dataset import Dataset, DatasetReader, ReadOptions
from masklet.datasets.files import files_in
from masklet.datasets.formats.coco import CocoDatasetReader, CocoDatasetWriter
from masklet.datasets.formats.cvat import CvatDatasetReader, CvatDatasetWriter
from masklet.datasets.formats.davis import DavisDatasetReader, DavisDatasetWriter
from masklet.datasets.formats.labelme import LabelmeDatasetReader, LabelmeDatasetWriter
from masklet.datasets.formats.native import NativeDatasetReader
from masklet.datasets.formats.png_masks import PngMaskDatasetReader, PngMaskSample
from masklet.datasets.formats.sa1b import Sa1bDatasetReader
from masklet.datasets.formats.sav import SavDatasetReader
from masklet.datasets.formats.voc import VocDatasetReader, VocDatasetWriter
from masklet.datasets.formats.yolo import YoloDatasetReader, YoloDatasetWriter, YoloSample
from masklet.datasets.labeled_image import WriteOptions
from masklet.datasets.writer import DatasetWriter
from masklet.errors import InputError, SourceError
from masklet.media.image_source import missing_path_message

__all__ = ["DATASET_READERS", "DATASET_WRITERS", "open_dataset", "open_dataset_writer"]

DATASET_READERS = MappingProxyType[str, type[DatasetReader]](
    {
        reader.data_format: reader
        for reader in (
            NativeDatasetReader,
            DavisDatasetReader,
            SavDatasetReader,
            Sa1bDatasetReader,
            CocoDatasetReader,
            YoloDatasetReader,
            PngMaskDatasetReader,
            VocDatasetReader,
            LabelmeDatasetReader,
            CvatDatasetReader,
        )
    }
)
"""Every format that can be read, by name. Where several match a path, the one that explains most images is used."""
DATASET_WRITERS = MappingProxyType[str, type[DatasetWriter]](
    {
        writer.data_format: writer
        for writer in (
            YoloDatasetWriter,
            CocoDatasetWriter,
            LabelmeDatasetWriter,
            DavisDatasetWriter,
            VocDatasetWriter,
            CvatDatasetWriter,
        )
    }
)
"""Every format that can be written, by name."""
UNMISTAKABLE_FORMATS = ("davis", "sav", "sa1b")
"""Formats whose folders look like no other one, so that a large dataset is not searched for others."""
VIA_WORDS = (b'"_via_img_metadata"', b'"shape_attributes"', b"region_shape_attributes")
"""Keys of a project of the VGG Image Annotator, one of its list of images, and a column of its CSV."""
MAX_PROBED_FILES, HEAD_BYTES = 20, 1 << 14
"""Files of a folder of no known format, and bytes of each, that are searched for what else it is."""
CLEAR_MAJORITY = 2
"""How many times as many images the recognized format explains as any other."""
EARLIER_FORMAT_NAMES = {"stills": "native"}
"""Names of formats before 0.1.0, which are still accepted."""


def open_dataset(
    path: str | os.PathLike[str],
    *,
    data_format: str | None = None,
    split: str | None = None,
    include_crowds: bool = False,
) -> Dataset:
    """Open images or videos with masks, in any format of `DATASET_READERS`.

    Nothing is decoded: a sample is read on demand.

    Args:
        path: a folder or file.
        data_format: a key of `DATASET_READERS`; None: detected from the files. "native" was called "stills" earlier,
            which is still accepted.
        split: a part of the data, such as train; None: all of it.
        include_crowds: read the regions that COCO calls crowds too.

    Raises:
        SourceError: if there is no such path, format or split, nothing there can be read, or two formats are there.
            Problems of single samples are in `Dataset.issues`, or raised by `Sample.read`.

    Example:
        >>> data = open_dataset("coco", split="val2017")  # doctest: +SKIP
        >>> frame = data.samples[0].read([0])[0]  # doctest: +SKIP
        >>> frame.rgb.shape, list(frame.masks)  # doctest: +SKIP
        ((426, 640, 3), [1, 2, 3])
    """
    name = EARLIER_FORMAT_NAMES.get(data_format or "", data_format)
    if name is not None and name not in DATASET_READERS:
        raise SourceError(
            f"data_format={data_format!r} is unknown; choose {', '.join(map(repr, DATASET_READERS))}, or None to have "
            "it detected"
        )
    root = Path(path).expanduser()
    if not root.exists():
        raise SourceError(missing_path_message(str(path), "data set"))
    options = ReadOptions(split, include_crowds)
    if name is None:
        matching = _matching_formats(root)
        if not matching or root.is_file():
            _refuse_via(root)
        if len(matching) > 1:
            return _open_most_likely(root, matching, options)
        name = next(iter(matching), None)
    if name is None:
        known = "".join(f"\n  {name:<7} {reader.description}" for name, reader in DATASET_READERS.items())
        raise SourceError(
            f"{root} is not a dataset of a known format; check the path, or choose one of these (data_format):{known}"
        )
    return DATASET_READERS[name].open(root, options)


def _matching_formats(root: Path) -> list[str]:
    """Return the formats that match a path; only the first one, if its folders are unmistakable."""
    matching: list[str] = []
    for name, reader in DATASET_READERS.items():
        if reader.matches(root):
            matching.append(name)
            if name in UNMISTAKABLE_FORMATS and len(matching) == 1:
                break
    return matching


def _refuse_via(path: Path) -> None:
    """Check that a file, or a folder of no known format, is no project of the VGG Image Annotator.

    Raises:
        SourceError: if it is; the message says how it is exported.
    """
    files = [path] if path.is_file() else files_in(path, (".json", ".csv"))[:MAX_PROBED_FILES]
    for file in files:
        head = b""
        with suppress(OSError), open_regular_file(file) as stream:  # what is wrong with it shows when it is read
            head = stream.read(HEAD_BYTES)
        if any(word in head for word in VIA_WORDS):
            raise SourceError(
                f"{file} is a project of VIA, which is not read; export as COCO in VIA, and open that file"
            )


def _open_most_likely(root: Path, matching: Sequence[str], options: ReadOptions) -> Dataset:
    """Open the format that explains the labels of most images.

    Raises:
        SourceError: if another one explains more than half as many, or none can be opened.
    """
    opened: dict[str, Dataset] = {}
    problems: list[SourceError] = []
    explained: dict[str, set[Path]] = {}
    for name in matching:
        try:
            opened[name] = DATASET_READERS[name].open(root, options)
        except SourceError as problem:
            problems.append(problem)
            continue
        explained[name] = {
            path
            for sample in opened[name].samples
            if not isinstance(sample, YoloSample) or sample.label_path.exists()
            for path in (sample.source if isinstance(sample.source, tuple) else (sample.source,))
        }
    if not opened:
        raise problems[0]
    if "labelme" in opened and "png" in opened:  # masklet writes ID_mask.png beside the images that it is given
        mine = (sample for sample in opened["png"].samples if isinstance(sample, PngMaskSample) and sample.is_suffixed)
        explained["png"] -= explained["labelme"].intersection(sample.image_path for sample in mine)
    ranked = sorted(opened, key=lambda name: -len(explained[name]))
    first, second = ranked[0], ranked[min(1, len(ranked) - 1)]
    if first != second and len(explained[second]) * CLEAR_MAJORITY > len(explained[first]):
        raise SourceError(
            f"{root} has labels of two formats: {first} for {len(explained[first])} images and {second} for "
            f"{len(explained[second])}; one of them is read: say which (--data-format {first}, or data_format="
            f"{first!r} in Python)"
        )
    return opened[first]


def open_dataset_writer(
    data_format: str,
    out_dir: str | os.PathLike[str],
    *,
    names: Mapping[int, str] | None = None,
    options: WriteOptions | None = None,
) -> DatasetWriter:
    """Open a writer of a format of `DATASET_WRITERS` into `out_dir`, which is made, or resumed if it was begun.

    `names` are the classes by number, from 0 without gaps.

    Raises:
        InputError: if there is no such format, or the folder was begun with other options or class names.
        OutputError: if the folder cannot be made or written, or another process writes it.

    Example:
        >>> with open_dataset_writer("yolo", "out", names={0: "dog"}) as writer:  # doctest: +SKIP
        ...     writer.write(LabeledImage(Path("photos/rex.jpg"), "rex", (480, 640), (dog,)))
        >>> writer.paths  # doctest: +SKIP
        [PosixPath('out/labels/rex.txt'), PosixPath('out/classes.txt'), PosixPath('out/data.yaml')]
    """
    if data_format not in DATASET_WRITERS:
        near = difflib.get_close_matches(data_format, DATASET_WRITERS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise InputError(f"no format {data_format!r} to write; formats are {', '.join(DATASET_WRITERS)}: {hint}")
    return DATASET_WRITERS[data_format](out_dir, names or {}, options or WriteOptions())
