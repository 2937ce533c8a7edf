"""Conversion from any format that is read to any that is written; names, splits and classes are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from masklet.datasets.labeled_image import LabeledImage, LabeledObject
from masklet.datasets.writer import DatasetWriter
from masklet.errors import InputError, OutputError

__all__ = ["ConversionItem", "ConversionStep", "class_names", "convert", "list_items"]

FRAMES_PER_BATCH = 8
"""Frames of a video file that are in memory together."""
OTHER_SPLIT = "other"
"""The split of images without one, where others have one."""
DEFAULT_CLASS_NAME = "object"
"""The class of objects without one."""
EXIF_ORIENTATION, TRANSPOSED_ORIENTATIONS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and those of its values that exchange width and height."""


@dataclass(frozen=True)
class ConversionItem:
    """One image or frame to write: where it comes from, and its name, split and video in the output."""

    sample: Sample
    frame_idx: int
    name: str
    split: str | None
    video: str | None = None

    @property
    def is_single_image(self) -> bool:
        """Whether the sample is an image, not a video."""
        return isinstance(self.sample, ImageSample)


@dataclass(frozen=True)
class ConversionStep:
    """The result of one item: written now (`is_new`), there from an earlier run, or left out because of an issue."""

    item: ConversionItem
    is_new: bool
    issue: DataIssue | None = None


def class_names(data: Dataset) -> dict[int, str]:
    """Return the classes of a dataset, numbered from 0 without gaps, in the order of their own numbers.

    Example:
        >>> class_names(Dataset("coco", Path("coco"), (), names={18: "dog", 1: "person"}))
        {0: 'person', 1: 'dog'}
    """
    return dict(enumerate(name for _, name in sorted(data.names.items())))


def list_items(
    data: Dataset, *, unique_per_split: bool = True, split: str | None = None, val_fraction: float = 0.0
) -> list[ConversionItem]:
    """List all images and annotated frames of a dataset, with their names in the output.

    An image keeps its split, which is removed from its name.

    Args:
        data: the dataset to convert.
        unique_per_split: whether the output format keeps splits apart (`DatasetWriter.unique_per_split`). If not, and
            two splits have images of one name, the split stays in the name.
        split: the split of images without one; where some images have a split and `split` is None, it is "other".
        val_fraction: the fraction of images without a split that become "val", and the rest "train": all frames of a
            video together, and always the same ones.

    Example:
        >>> [(item.name, item.split) for item in list_items(open_dataset("coco"))]  # doctest: +SKIP
        [('000000000139', 'val2017'), ...]
    """

    def draw_split(name: str) -> str | None:
        """Choose train or val by a number that depends on nothing but the name."""
        if not val_fraction:
            return None
        number = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") / (1 << 64)
        return "val" if number < val_fraction else "train"

    splits = {
        sample.name: data.splits.get(sample.name, split) or draw_split(data.video_names.get(sample.name, sample.name))
        for sample in data.samples
    }
    if any(splits.values()):
        splits = {name: part or OTHER_SPLIT for name, part in splits.items()}
    short = {name: _safe_name(name.removeprefix(f"{part}/") if part else name) for name, part in splits.items()}
    if not unique_per_split and len(set(short.values())) < len(short):
        short = {name: _safe_name(name) for name in splits}
    items = []
    for sample in data.samples:
        name, source, single = short[sample.name], sample.source, isinstance(sample, ImageSample)
        video = data.video_names.get(sample.name, None if single else sample.name)
        for index in sample.frame_indices:
            frame_name = f"{index:05d}" if isinstance(source, Path) else source[index].stem
            item_name = name if single else f"{name}/{frame_name}"
            items.append(ConversionItem(sample, index, item_name, splits[sample.name], video))
    return items


def _safe_name(name: str) -> str:
    """Remove the parts of a name that would leave the output folder."""
    parts = [part.replace(":", "_").replace("\0", "") for part in name.replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def convert(data: Dataset, items: Iterable[ConversionItem], writer: DatasetWriter) -> Iterator[ConversionStep]:
    """Write `items` of `data` with `writer`, which was opened with `class_names(data)`, and yield a step for each.

    Images of an earlier run are skipped; broken ones are reported and left out. The pixels of image files are not
    decoded. One image is in memory at a time, of a video file `FRAMES_PER_BATCH` frames.

    Raises:
        OutputError: if a file cannot be written; what was written before stays.

    Example:
        >>> data = open_dataset("photos")  # doctest: +SKIP
        >>> with open_dataset_writer("coco", "out", names=class_names(data)) as writer:  # doctest: +SKIP
        ...     for step in convert(data, list_items(data), writer):
        ...         print(step.item.name, "written" if step.is_new else "skipped")
    """
    classes = _ClassMapping(data, writer)
    batch: list[ConversionItem] = []
    owners: dict[tuple[str, str | None], Sample] = {}
    for item in items:
        if owners.setdefault((item.name, item.split), item.sample) is not item.sample:
            problem = InputError(f"{item.sample.name!r} would be called {item.name!r}, as another one is: rename one")
            yield _failed_step(item, problem)
            continue
        if batch and (batch[0].sample is not item.sample or len(batch) == FRAMES_PER_BATCH):
            yield from _write_batch(batch, writer, classes)
            batch = []
        if writer.has(item.name, item.split):
            yield ConversionStep(item, is_new=False)
        else:
            batch.append(item)
    if batch:
        yield from _write_batch(batch, writer, classes)


class _ClassMapping:
    """Class numbers in the output; a class without a name gets the next free number."""

    def __init__(self, data: Dataset, writer: DatasetWriter) -> None:
        self._writer = writer
        self._has_names = bool(data.names)
        self._id_by_source_id = {source_id: new_id for new_id, source_id in enumerate(sorted(data.names))}
        self._id_by_name: dict[str, int] = {}
        for class_id, name in writer.names.items():
            self._id_by_name.setdefault(name, class_id)

    def class_id(self, attributes: ObjectAttributes) -> int:
        """Return the class number of an object."""
        source_id = attributes.class_id
        if source_id is not None and source_id in self._id_by_source_id:
            return self._id_by_source_id[source_id]
        if source_id is not None and source_id >= 0 and not self._has_names:
            return source_id
        name = attributes.label
        if name is None:
            name = DEFAULT_CLASS_NAME if source_id is None else str(source_id)
        if name not in self._id_by_name:
            self._id_by_name[name] = max(self._writer.names, default=-1) + 1
            self._writer.register_class(self._id_by_name[name], name)
        return self._id_by_name[name]


def _failed_step(item: ConversionItem, problem: InputError) -> ConversionStep:
    return ConversionStep(item, is_new=False, issue=DataIssue.from_error(item.name, problem, Path(item.name)))


def _write_batch(
    items: Sequence[ConversionItem], writer: DatasetWriter, classes: _ClassMapping
) -> Iterator[ConversionStep]:
    """Read and write items of one sample."""
    sample = items[0].sample
    frames: Sequence[AnnotatedFrame | None] = [None] * len(items)
    if not isinstance(sample, (ImageSample, FrameFolderVideo)):
        try:
            frames = sample.read([item.frame_idx for item in items])
        except InputError as problem:
            yield from (_failed_step(item, problem) for item in items)
            return
    for item, frame in zip(items, frames, strict=True):
        try:
            writer.write(_to_labeled_image(item, frame, classes))
        except OutputError:
            raise
        except InputError as problem:
            yield _failed_step(item, problem)
        else:
            yield ConversionStep(item, is_new=True)


def _to_labeled_image(item: ConversionItem, frame: AnnotatedFrame | None, classes: _ClassMapping) -> LabeledImage:
    """Build the image to write. Without a decoded `frame` the size is that of the image file, which is not decoded."""
    sample, source = item.sample, item.sample.source
    path = source if isinstance(source, Path) else source[item.frame_idx]
    size = _upright_size(path) if frame is None else frame.size
    masks: Mapping[int, Mask]
    if frame is not None:
        masks = frame.masks
    elif isinstance(sample, ImageSample):
        masks = sample.masks(size)
    else:
        assert isinstance(sample, FrameFolderVideo)
        masks = sample.masks(path, size)
    attributes = masks.attributes if isinstance(masks, LazyMasks) else {}
    objects = []
    for object_id in masks:
        known = attributes.get(object_id, ObjectAttributes())
        track_id = known.track_id if item.is_single_image else object_id
        objects.append(
            LabeledObject.from_mask(masks[object_id], classes.class_id(known), known.score, track_id=track_id)
        )
    return LabeledImage(
        path=path,
        name=item.name,
        size=size,
        objects=tuple(objects),
        frame_idx=None if item.is_single_image else item.frame_idx,
        video=item.video,
        split=item.split,
        rgb=None if frame is None else frame.rgb,
    )


def _upright_size(path: Path) -> Size:
    """Read (height, width) from the header of an image file, with its EXIF orientation applied."""
    try:
        with Image.open(path) as image:
            transposed = image.getexif().get(EXIF_ORIENTATION) in TRANSPOSED_ORIENTATIONS
            return (image.width, image.height) if transposed else (image.height, image.width)
    except (OSError, SyntaxError, ValueError) as problem:
        raise InputError(f"{path} cannot be read as an image ({problem}); copy or unpack it again") from None
