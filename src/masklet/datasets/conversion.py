"""From any layout that is read into any that is written: names, parts and classes are kept, the loss is counted.

Writing labelled data sets, in the layouts people have: YOLO, COCO, LabelMe, DAVIS, Pascal VOC, CVAT.

records    what is written, how, and what was lost
base       what all writers have in common
journal    what was done, so that a run that broke off is gone on with
pictures   pictures copied, linked or written
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

from masklet.datasets.dataset import Annotated, Dataset, Entry, Finding, LazyMasks, Mask, PictureFilm, Size, Still, Tag
from masklet.datasets.formats.coco import CocoLayout
from masklet.datasets.formats.cvat import CvatLayout
from masklet.datasets.formats.davis import DavisLayout
from masklet.datasets.formats.labelme import LabelmeLayout
from masklet.datasets.formats.voc import VocLayout
from masklet.datasets.formats.yolo import YoloLayout
from masklet.datasets.labeled_image import LabelledObject, LabelledPicture, LayoutOptions, Loss
from masklet.datasets.writer import LayoutWriter
from masklet.errors import InputError, OutputError

__all__ = [
    "LAYOUTS",
    "Item",
    "LabelledObject",
    "LabelledPicture",
    "LayoutOptions",
    "LayoutWriter",
    "Loss",
    "Step",
    "class_names",
    "convert",
    "items_of",
    "open_layout",
]

BATCH = 8
"""Frames of a film file that are in memory together."""
REST = "other"
"""The part of pictures that are in none, where others are."""
NO_CLASS = "object"
"""What an object without a class is called."""
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and those of its values that exchange width and height."""


@dataclass(frozen=True)
class Item:
    """One picture or frame that will be written: where it comes from, and what it will be called."""

    entry: Entry
    frame: int
    name: str
    split: str | None
    film: str | None = None

    @property
    def is_still(self) -> bool:
        """Whether it is a picture of its own."""
        return isinstance(self.entry, Still)


@dataclass(frozen=True)
class Step:
    """What became of one item: written now (`new`), there from an earlier run, or broken."""

    item: Item
    new: bool
    finding: Finding | None = None


def class_names(data: Dataset) -> dict[int, str]:
    """The classes of a data set, numbered from 0 without gaps, in the order of their own numbers.

    Example:
        >>> class_names(open_dataset("coco"))
        {0: 'person', 1: 'bicycle', ...}
    """
    return dict(enumerate(name for _, name in sorted(data.names.items())))


def items_of(data: Dataset, *, apart: bool = True, split: str | None = None, val: float = 0.0) -> list[Item]:
    """All pictures and annotated frames of a data set, with the names they will have.

    The part that a picture belongs to is kept, and taken off its name; `split` is that of pictures which have none,
    and where some have one, those without are "other". `val` is the share of pictures without a part that become
    "val", and the rest "train": a film as a whole, and always the same ones. Where two parts have pictures of one name
    and the layout does not keep them `apart`, the part stays in the name.

    Example:
        >>> [(item.name, item.split) for item in items_of(open_dataset("coco"))]
        [('000000000139', 'val2017'), ...]
    """
    splits = {
        entry.name: data.splits.get(entry.name, split) or _drawn(_film(entry, data), val) for entry in data.entries
    }
    if any(splits.values()):
        splits = {name: part or REST for name, part in splits.items()}
    short = {name: _clean(name.removeprefix(f"{part}/") if part else name) for name, part in splits.items()}
    if not apart and len(set(short.values())) < len(short):
        short = {name: _clean(name) for name in splits}
    films = {entry.name: _film(entry, data) for entry in data.entries if not isinstance(entry, Still)} | dict(
        data.films
    )
    return [
        Item(entry, frame, _name(entry, frame, short[entry.name]), splits[entry.name], films.get(entry.name))
        for entry in data.entries
        for frame in entry.frames
    ]


def convert(data: Dataset, items: Iterable[Item], writer: LayoutWriter) -> Iterator[Step]:
    """Write `items` of `data` with `writer`, which was opened with its `class_names`; a step each.

    What is there from an earlier run is not done again; what is broken is named and left out. A picture's pixels are
    not decoded. One picture is in memory at a time, of a film file `BATCH` frames.

    Example:
        >>> data = open_dataset("photos")
        >>> with open_layout("coco", "out", names=class_names(data)) as writer:
        ...     for step in convert(data, items_of(data), writer):
        ...         print(step.item.name, "written" if step.new else "was there")

    Raises:
        OutputError: a file cannot be written; what was written before stays.
    """
    classes = _Classes(data, writer)
    waiting: list[Item] = []
    seen: dict[tuple[str, str | None], Entry] = {}
    for item in items:
        if seen.setdefault((item.name, item.split), item.entry) is not item.entry:
            problem = InputError(f"{item.entry.name!r} would be called {item.name!r}, as another one is: rename one")
            yield Step(item, new=False, finding=_finding(item, problem))
            continue
        if waiting and (waiting[0].entry is not item.entry or len(waiting) == BATCH):
            yield from _written(waiting, writer, classes)
            waiting = []
        if writer.has(item.name, item.split):
            yield Step(item, new=False)
        else:
            waiting.append(item)
    yield from _written(waiting, writer, classes)


class _Classes:
    """Numbers of the classes in what is written; one that nobody named gets the next."""

    def __init__(self, data: Dataset, writer: LayoutWriter) -> None:
        self._writer = writer
        self._named = bool(data.names)
        self._of_number = {number: place for place, number in enumerate(sorted(data.names))}
        self._of_name: dict[str, int] = {}
        for number, name in writer.names.items():
            self._of_name.setdefault(name, number)

    def number(self, tag: Tag) -> int:
        """The number of the class of an object."""
        if tag.class_id is not None and tag.class_id in self._of_number:
            return self._of_number[tag.class_id]
        if tag.class_id is not None and tag.class_id >= 0 and not self._named:
            return tag.class_id
        name = tag.label if tag.label is not None else NO_CLASS if tag.class_id is None else str(tag.class_id)
        if name not in self._of_name:
            self._of_name[name] = max(self._writer.names, default=-1) + 1
            self._writer.call(self._of_name[name], name)
        return self._of_name[name]


def _written(items: Sequence[Item], writer: LayoutWriter, classes: _Classes) -> Iterator[Step]:
    """Items of one entry, read and written."""
    if not items:
        return
    if isinstance(items[0].entry, (Still, PictureFilm)):
        for item in items:
            yield _attempt(item, None, writer, classes)
        return
    try:
        frames = items[0].entry.read([item.frame for item in items])
    except InputError as problem:
        yield from (Step(item, new=False, finding=_finding(item, problem)) for item in items)
        return
    for item, annotated in zip(items, frames, strict=True):
        yield _attempt(item, annotated, writer, classes)


def _attempt(item: Item, annotated: Annotated | None, writer: LayoutWriter, classes: _Classes) -> Step:
    try:
        writer.write(_picture(item, annotated, classes))
    except OutputError:
        raise
    except InputError as problem:
        return Step(item, new=False, finding=_finding(item, problem))
    return Step(item, new=True)


def _picture(item: Item, annotated: Annotated | None, classes: _Classes) -> LabelledPicture:
    source = item.entry.source
    path = source if isinstance(source, Path) else source[item.frame]
    size, masks = (annotated.size, annotated.masks) if annotated is not None else _looked_at(item, path)
    tags = masks.tags if isinstance(masks, LazyMasks) else {}
    objects = []
    for number in masks:
        tag = tags.get(number, Tag())
        track = tag.track if item.is_still else number
        objects.append(LabelledObject.of(masks[number], classes.number(tag), tag.score, id=track))
    return LabelledPicture(
        path=path,
        name=item.name,
        size=size,
        objects=tuple(objects),
        frame=None if item.is_still else item.frame,
        film=item.film,
        split=item.split,
        rgb=annotated.rgb if annotated is not None else None,
    )


def _looked_at(item: Item, path: Path) -> tuple[Size, Mapping[int, Mask]]:
    """Size and masks of a picture file; its pixels stay where they are."""
    size = _upright_size(path)
    if isinstance(item.entry, Still):
        return size, item.entry.masks(size)
    assert isinstance(item.entry, PictureFilm)
    return size, item.entry.masks(path, size)


def _upright_size(path: Path) -> Size:
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION) in TURNED
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError) as problem:
        raise InputError(f"{path} cannot be read as a picture ({problem}); copy or unpack it again") from None


def _finding(item: Item, problem: InputError) -> Finding:
    file: object = getattr(problem, "file", None)
    return Finding(item.name, file if isinstance(file, Path) else Path(item.name), str(problem))


def _drawn(name: str, share: float) -> str | None:
    """train or val, by a number that depends on nothing but the name."""
    if not share:
        return None
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / (1 << 64)
    return "val" if number < share else "train"


def _film(entry: Entry, data: Dataset) -> str:
    """What a film is called; a picture that is in none stands for itself."""
    return data.films.get(entry.name, entry.name)


def _name(entry: Entry, frame: int, short: str) -> str:
    if isinstance(entry, Still):
        return short
    source = entry.source
    return f"{short}/{frame:05d}" if isinstance(source, Path) else f"{short}/{source[frame].stem}"


def _clean(name: str) -> str:
    """Without what would lead out of the folder that is written."""
    parts = [part.replace(":", "_").replace("\0", "") for part in name.replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part not in ("", ".", ".."))


LAYOUTS = MappingProxyType[str, type[LayoutWriter]](
    {writer.layout: writer for writer in (YoloLayout, CocoLayout, LabelmeLayout, DavisLayout, VocLayout, CvatLayout)}
)
"""Every layout that is written, by name."""


def open_layout(
    name: str,
    out_dir: str | os.PathLike[str],
    *,
    names: Mapping[int, str] | None = None,
    options: LayoutOptions | None = None,
) -> LayoutWriter:
    """A writer of layout `name` into `out_dir`, which is made and tried at once, and gone on with if it was begun.

    `names` are the classes by number, from 0 without gaps.

    Example:
        >>> with open_layout("yolo", "out", names={0: "dog"}) as writer:
        ...     writer.write(LabelledPicture(Path("photos/rex.jpg"), "rex", (480, 640), (dog,)))
        >>> writer.paths
        [PosixPath('out/labels/rex.txt'), PosixPath('out/classes.txt'), PosixPath('out/data.yaml')]

    Raises:
        InputError: no such layout, or the folder was begun with other options or class names.
        OutputError: the folder cannot be made or written, or another process writes it.
    """
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise InputError(f"no layout {name!r} to write; layouts are {', '.join(LAYOUTS)}: {hint}")
    return LAYOUTS[name](out_dir, names or {}, options or LayoutOptions())
