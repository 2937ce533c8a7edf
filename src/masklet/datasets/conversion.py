"""Conversion from any format that is read to any that is written; names, splits and classes are kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from masklet.damaged_files import decoder_errors, describe_error, open_regular_file
from masklet.datasets.account import ObjectAccount, object_class_name
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
from masklet.datasets.writer import MAX_CLASS_ID, DatasetWriter
from masklet.errors import InputError, MaskletError, OutputError, StateError
from masklet.media.image import check_image_size, pillow_without_limit

__all__ = ["ConversionItem", "ConversionStep", "class_names", "convert", "list_items"]

FRAMES_PER_BATCH = 8
"""Frames of a video file that are in memory together."""
OTHER_SPLIT = "other"
"""The split of images without one, where others have one."""
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
    """The result of one item: written now (`is_new`), there from an earlier run, or left out because of an issue.

    `object_issues` name the objects that an image was written without.
    """

    item: ConversionItem
    is_new: bool
    issue: DataIssue | None = None
    object_issues: tuple[DataIssue, ...] = ()


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
        number = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") / (1 << 64)
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
        video = data.video_names.get(sample.name, None if single else _to_text(sample.name))
        for index in sample.frame_indices:
            frame_name = f"{index:05d}" if isinstance(source, Path) else source[index].stem
            item_name = name if single else f"{name}/{frame_name}"
            items.append(ConversionItem(sample, index, item_name, splits[sample.name], video))
    return items


def _to_text(name: str) -> str:
    """Read the bytes of a file name that are not UTF-8 as Latin-1, because no format stores them."""
    return re.sub("[\udc80-\udcff]", lambda match: chr(ord(match[0]) - 0xDC00), name)


def _safe_name(name: str) -> str:
    """Remove the parts of a name that would leave the output folder."""
    parts = [part.replace(":", "_").replace("\0", "") for part in _to_text(name).replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def convert(data: Dataset, items: Iterable[ConversionItem], writer: DatasetWriter) -> Iterator[ConversionStep]:
    """Write `items` of `data` with `writer`, which was opened with `class_names(data)`, and yield a step for each.

    Images of an earlier run are skipped; broken ones are reported and left out, and of others their broken objects.
    The pixels of image files are not decoded. One image is in memory at a time, of a video file `FRAMES_PER_BATCH`
    frames. `writer.account`, with those of the issues, balances when all steps are done.

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
            yield _failed_step(item, problem, data)
            continue
        if batch and (batch[0].sample is not item.sample or len(batch) == FRAMES_PER_BATCH):
            yield from _write_batch(data, batch, writer, classes)
            batch = []
        if writer.has(item.name, item.split):
            yield ConversionStep(item, is_new=False)
        else:
            batch.append(item)
    if batch:
        yield from _write_batch(data, batch, writer, classes)


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
        name = object_class_name({}, attributes)
        if name not in self._id_by_name:
            taken = {*self._writer.names, *self._id_by_name.values()}
            number = max(taken, default=-1) + 1
            is_free = source_id is not None and 0 <= source_id <= MAX_CLASS_ID and source_id not in taken
            if source_id is not None and is_free and not self._has_names and name == str(source_id):
                number = source_id  # without names, numbers stay what they are
            else:
                self._writer.register_class(number, name)
            self._id_by_name[name] = number
        return self._id_by_name[name]


def _failed_step(item: ConversionItem, problem: Exception, data: Dataset) -> ConversionStep:
    """Return the step of an image that cannot be written, with what its labels hold as the cost."""
    issue = DataIssue.from_error(item.name, problem, Path(item.name))
    objects = ObjectAccount.for_unread_sample(item.sample, data.names).source
    return ConversionStep(item, is_new=False, issue=replace(issue, objects=objects))


def _write_batch(
    data: Dataset, items: Sequence[ConversionItem], writer: DatasetWriter, classes: _ClassMapping
) -> Iterator[ConversionStep]:
    """Read and write items of one sample. Whatever a single one raises is the issue of that one."""
    sample = items[0].sample
    frames: Sequence[AnnotatedFrame | None] = [None] * len(items)
    has_files = sample.has_image_file if isinstance(sample, ImageSample) else isinstance(sample, FrameFolderVideo)
    if not has_files:
        try:
            frames = sample.read([item.frame_idx for item in items])
        except Exception as problem:
            yield from (_failed_step(item, problem, data) for item in items)
            return
    for item, frame in zip(items, frames, strict=True):
        try:
            image, account, issues = _to_labeled_image(data, item, frame, classes)
            writer.write(image, account)
        except (OutputError, StateError):
            raise
        except Exception as problem:
            yield _failed_step(item, problem, data)
        else:
            yield ConversionStep(item, is_new=True, object_issues=issues)


def _to_labeled_image(
    data: Dataset, item: ConversionItem, frame: AnnotatedFrame | None, classes: _ClassMapping
) -> tuple[LabeledImage, ObjectAccount, tuple[DataIssue, ...]]:
    """Build the image to write, the account of its objects, and the issues of those that cannot be used.

    Without a decoded `frame` the size is that of the image file, which is not decoded.
    """
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
    account = ObjectAccount.for_masks(masks, data.names)
    attributes: Mapping[int, ObjectAttributes] = {}
    issues = []
    if isinstance(masks, LazyMasks):
        attributes = masks.attributes
        problems = (left_out.problem for left_out in masks.left_out if left_out.problem is not None)
        issues += [DataIssue.from_error(item.name, problem, path) for problem in problems]
    objects = []
    for object_id in masks:
        known = attributes.get(object_id, ObjectAttributes())
        try:
            mask = masks[object_id]
            if mask.shape != size:
                raise InputError(f"{path}: object {object_id} has a mask of {mask.shape}, not of {size}: draw it again")
        except Exception as problem:
            name = object_class_name(data.names, known)
            account.broken[name] += 1
            issues.append(replace(DataIssue.from_error(item.name, problem, path), objects={name: 1}))
            continue
        track_id = known.track_id if item.is_single_image else object_id
        objects.append(LabeledObject.from_mask(mask, classes.class_id(known), known.score, track_id=track_id))
    image = LabeledImage(
        path=path,
        name=item.name,
        size=size,
        objects=tuple(objects),
        frame_idx=None if item.is_single_image else item.frame_idx,
        video=item.video,
        split=item.split,
        rgb=None if frame is None else frame.rgb,
    )
    return image, account, tuple(issues)


def _upright_size(path: Path) -> Size:
    """Read (height, width) from the header of an image file, with its EXIF orientation applied."""
    try:
        with pillow_without_limit(), open_regular_file(path) as file, Image.open(file) as image:
            check_image_size(image.width, image.height, str(path))
            transposed = image.getexif().get(EXIF_ORIENTATION) in TRANSPOSED_ORIENTATIONS
            return (image.width, image.height) if transposed else (image.height, image.width)
    except MaskletError:
        raise
    except decoder_errors() as problem:
        reason = describe_error(problem)
        raise InputError(f"{path} cannot be read as an image ({reason}); copy or unpack it again") from problem
