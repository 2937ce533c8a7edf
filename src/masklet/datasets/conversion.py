"""From any layout that is read into any that is written: names, parts and classes are kept, the loss is counted.

Writing labeled data sets, in the layouts people have: YOLO, COCO, LabelMe, DAVIS, Pascal VOC, CVAT.

records    what is written, how, and what was lost
base       what all writers have in common
journal    what was done, so that a run that broke off is gone on with
images   images copied, linked or written
tracing    outlines that keep a promised IoU
maps       label maps, where one object hides another
naming     names of classes as a format can hold them
yolo, coco, labelme, davis, voc, cvat   the layouts, a file each
converting from any layout that is read into any that is written
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from masklet.datasets.dataset import (
    AnnotatedFrame,
    DataIssue,
    Dataset,
    FrameFolderVideo,
    ImageSample,
    LazyMasks,
    Mask,
    ObjectAttributes,
    Sample,
    Size,
)
from masklet.datasets.formats.coco import CocoDatasetWriter
from masklet.datasets.formats.cvat import CvatDatasetWriter
from masklet.datasets.formats.davis import DavisDatasetWriter
from masklet.datasets.formats.labelme import LabelmeDatasetWriter
from masklet.datasets.formats.voc import VocDatasetWriter
from masklet.datasets.formats.yolo import YoloDatasetWriter
from masklet.datasets.labeled_image import ConversionLoss, LabeledImage, LabeledObject, WriteOptions
from masklet.datasets.writer import DatasetWriter
from masklet.errors import InputError, OutputError

__all__ = [
    "DATASET_WRITERS",
    "ConversionItem",
    "ConversionLoss",
    "ConversionStep",
    "DatasetWriter",
    "LabeledImage",
    "LabeledObject",
    "WriteOptions",
    "class_names",
    "convert_dataset",
    "list_items",
    "open_dataset_writer",
]

FRAMES_PER_BATCH = 8
"""Frames of a video file that are in memory together."""
OTHER_SPLIT = "other"
"""The part of images that are in none, where others are."""
DEFAULT_CLASS_NAME = "object"
"""What an object without a class is called."""
EXIF_ORIENTATION, TRANSPOSED_ORIENTATIONS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and those of its values that exchange width and height."""


@dataclass(frozen=True)
class ConversionItem:
    """One image or frame that will be written: where it comes from, and what it will be called."""

    sample: Sample
    frame_idx: int
    name: str
    split: str | None
    video: str | None = None

    @property
    def is_single_image(self) -> bool:
        """Whether it is an image of its own."""
        return isinstance(self.sample, ImageSample)


@dataclass(frozen=True)
class ConversionStep:
    """What became of one item: written now (`new`), there from an earlier run, or broken."""

    item: ConversionItem
    is_new: bool
    issue: DataIssue | None = None


def class_names(data: Dataset) -> dict[int, str]:
    """The classes of a data set, numbered from 0 without gaps, in the order of their own numbers.

    Example:
        >>> class_names(open_dataset("coco"))
        {0: 'person', 1: 'bicycle', ...}
    """
    return dict(enumerate(name for _, name in sorted(data.names.items())))


def list_items(
    data: Dataset, *, unique_per_split: bool = True, split: str | None = None, val_fraction: float = 0.0
) -> list[ConversionItem]:
    """All images and annotated frames of a data set, with the names they will have.

    The part that an image belongs to is kept, and taken off its name; `split` is that of images which have none,
    and where some have one, those without are "other". `val` is the share of images without a part that become
    "val", and the rest "train": a video as a whole, and always the same ones. Where two parts have images of one name
    and the layout does not keep them `apart`, the part stays in the name.

    Example:
        >>> [(item.name, item.split) for item in items_of(open_dataset("coco"))]
        [('000000000139', 'val2017'), ...]
    """
    splits = {
        entry.name: data.splits.get(entry.name, split) or _draw_split(_video_name(entry, data), val_fraction)
        for entry in data.samples
    }
    if any(splits.values()):
        splits = {name: part or OTHER_SPLIT for name, part in splits.items()}
    short = {name: _safe_name(name.removeprefix(f"{part}/") if part else name) for name, part in splits.items()}
    if not unique_per_split and len(set(short.values())) < len(short):
        short = {name: _safe_name(name) for name in splits}
    videos = {
        entry.name: _video_name(entry, data) for entry in data.samples if not isinstance(entry, ImageSample)
    } | dict(data.video_names)
    return [
        ConversionItem(
            entry, frame, _item_name(entry, frame, short[entry.name]), splits[entry.name], videos.get(entry.name)
        )
        for entry in data.samples
        for frame in entry.frame_indices
    ]


def convert_dataset(data: Dataset, items: Iterable[ConversionItem], writer: DatasetWriter) -> Iterator[ConversionStep]:
    """Write `items` of `data` with `writer`, which was opened with its `class_names`; a step each.

    What is there from an earlier run is not done again; what is broken is named and left out. An image's pixels are
    not decoded. One image is in memory at a time, of a video file `BATCH` frames.

    Example:
        >>> data = open_dataset("photos")
        >>> with open_layout("coco", "out", names=class_names(data)) as writer:
        ...     for step in convert(data, items_of(data), writer):
        ...         print(step.item.name, "written" if step.new else "was there")

    Raises:
        OutputError: a file cannot be written; what was written before stays.
    """
    classes = _ClassMapping(data, writer)
    waiting: list[ConversionItem] = []
    seen: dict[tuple[str, str | None], Sample] = {}
    for item in items:
        if seen.setdefault((item.name, item.split), item.sample) is not item.sample:
            problem = InputError(f"{item.sample.name!r} would be called {item.name!r}, as another one is: rename one")
            yield ConversionStep(item, is_new=False, issue=_to_issue(item, problem))
            continue
        if waiting and (waiting[0].sample is not item.sample or len(waiting) == FRAMES_PER_BATCH):
            yield from _write_items(waiting, writer, classes)
            waiting = []
        if writer.has(item.name, item.split):
            yield ConversionStep(item, is_new=False)
        else:
            waiting.append(item)
    yield from _write_items(waiting, writer, classes)


class _ClassMapping:
    """Numbers of the classes in what is written; one that nobody named gets the next."""

    def __init__(self, data: Dataset, writer: DatasetWriter) -> None:
        self._writer = writer
        self._has_names = bool(data.names)
        self._id_by_source_id = {number: place for place, number in enumerate(sorted(data.names))}
        self._id_by_name: dict[str, int] = {}
        for number, name in writer.names.items():
            self._id_by_name.setdefault(name, number)

    def class_id(self, attributes: ObjectAttributes) -> int:
        """The number of the class of an object."""
        if attributes.class_id is not None and attributes.class_id in self._id_by_source_id:
            return self._id_by_source_id[attributes.class_id]
        if attributes.class_id is not None and attributes.class_id >= 0 and not self._has_names:
            return attributes.class_id
        name = (
            attributes.label
            if attributes.label is not None
            else DEFAULT_CLASS_NAME
            if attributes.class_id is None
            else str(attributes.class_id)
        )
        if name not in self._id_by_name:
            self._id_by_name[name] = max(self._writer.names, default=-1) + 1
            self._writer.register_class(self._id_by_name[name], name)
        return self._id_by_name[name]


def _write_items(
    items: Sequence[ConversionItem], writer: DatasetWriter, classes: _ClassMapping
) -> Iterator[ConversionStep]:
    """Items of one entry, read and written."""
    if not items:
        return
    if isinstance(items[0].sample, (ImageSample, FrameFolderVideo)):
        for item in items:
            yield _write_item(item, None, writer, classes)
        return
    try:
        frames = items[0].sample.read([item.frame_idx for item in items])
    except InputError as problem:
        yield from (ConversionStep(item, is_new=False, issue=_to_issue(item, problem)) for item in items)
        return
    for item, annotated in zip(items, frames, strict=True):
        yield _write_item(item, annotated, writer, classes)


def _write_item(
    item: ConversionItem, annotated_frame: AnnotatedFrame | None, writer: DatasetWriter, classes: _ClassMapping
) -> ConversionStep:
    try:
        writer.write(_to_labeled_image(item, annotated_frame, classes))
    except OutputError:
        raise
    except InputError as problem:
        return ConversionStep(item, is_new=False, issue=_to_issue(item, problem))
    return ConversionStep(item, is_new=True)


def _to_labeled_image(
    item: ConversionItem, annotated_frame: AnnotatedFrame | None, classes: _ClassMapping
) -> LabeledImage:
    source = item.sample.source
    path = source if isinstance(source, Path) else source[item.frame_idx]
    size, masks = (
        (annotated_frame.size, annotated_frame.masks)
        if annotated_frame is not None
        else _read_size_and_masks(item, path)
    )
    tags = masks.attributes if isinstance(masks, LazyMasks) else {}
    objects = []
    for number in masks:
        tag = tags.get(number, ObjectAttributes())
        track = tag.track_id if item.is_single_image else number
        objects.append(LabeledObject.from_mask(masks[number], classes.class_id(tag), tag.score, track_id=track))
    return LabeledImage(
        path=path,
        name=item.name,
        size=size,
        objects=tuple(objects),
        frame_idx=None if item.is_single_image else item.frame_idx,
        video=item.video,
        split=item.split,
        rgb=annotated_frame.rgb if annotated_frame is not None else None,
    )


def _read_size_and_masks(item: ConversionItem, path: Path) -> tuple[Size, Mapping[int, Mask]]:
    """Size and masks of an image file; its pixels stay where they are."""
    size = _upright_size(path)
    if isinstance(item.sample, ImageSample):
        return size, item.sample.masks(size)
    assert isinstance(item.sample, FrameFolderVideo)
    return size, item.sample.masks(path, size)


def _upright_size(path: Path) -> Size:
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION) in TRANSPOSED_ORIENTATIONS
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError) as problem:
        raise InputError(f"{path} cannot be read as an image ({problem}); copy or unpack it again") from None


def _to_issue(item: ConversionItem, problem: InputError) -> DataIssue:
    file: object = getattr(problem, "file", None)
    return DataIssue(item.name, file if isinstance(file, Path) else Path(item.name), str(problem))


def _draw_split(name: str, fraction: float) -> str | None:
    """train or val, by a number that depends on nothing but the name."""
    if not fraction:
        return None
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / (1 << 64)
    return "val" if number < fraction else "train"


def _video_name(sample: Sample, data: Dataset) -> str:
    """What a video is called; an image that is in none stands for itself."""
    return data.video_names.get(sample.name, sample.name)


def _item_name(sample: Sample, frame_idx: int, short_name: str) -> str:
    if isinstance(sample, ImageSample):
        return short_name
    source = sample.source
    return f"{short_name}/{frame_idx:05d}" if isinstance(source, Path) else f"{short_name}/{source[frame_idx].stem}"


def _safe_name(name: str) -> str:
    """Without what would lead out of the folder that is written."""
    parts = [part.replace(":", "_").replace("\0", "") for part in name.replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part not in ("", ".", ".."))


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
"""Every layout that is written, by name."""


def open_dataset_writer(
    data_format: str,
    out_dir: str | os.PathLike[str],
    *,
    names: Mapping[int, str] | None = None,
    options: WriteOptions | None = None,
) -> DatasetWriter:
    """A writer of layout `name` into `out_dir`, which is made and tried at once, and gone on with if it was begun.

    `names` are the classes by number, from 0 without gaps.

    Example:
        >>> with open_layout("yolo", "out", names={0: "dog"}) as writer:
        ...     writer.write(LabeledPicture(Path("photos/rex.jpg"), "rex", (480, 640), (dog,)))
        >>> writer.paths
        [PosixPath('out/labels/rex.txt'), PosixPath('out/classes.txt'), PosixPath('out/data.yaml')]

    Raises:
        InputError: no such layout, or the folder was begun with other options or class names.
        OutputError: the folder cannot be made or written, or another process writes it.
    """
    if data_format not in DATASET_WRITERS:
        near = difflib.get_close_matches(data_format, DATASET_WRITERS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise InputError(f"no layout {data_format!r} to write; layouts are {', '.join(DATASET_WRITERS)}: {hint}")
    return DATASET_WRITERS[data_format](out_dir, names or {}, options or WriteOptions())
