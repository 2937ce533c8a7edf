"""Pascal VOC: SegmentationObject/ID.png says which object a pixel is of, SegmentationClass/ID.png of which class.

Pictures are in JPEGImages, boxes in Annotations/ID.xml, the parts of the data in ImageSets/Segmentation. Both kinds of
map have a palette, or are coloured with it; 0 is background and 255 a border that belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.datasets.base import Choice, DataError, Dataset, Finding, LazyMasks, Mask, Size, Still, Tag, same_size
from masklet.datasets.gathering import gathered, sources_in
from masklet.datasets.labels import label_masks, read_labels
from masklet.datasets.listing import PICTURE_SUFFIXES, any_file, chosen, files_in, in_order, is_split, lines_of
from masklet.datasets.xmls import read_xml
from masklet.errors import SourceError
from masklet.formats.palette import davis_palette

__all__ = ["CLASSES", "VocStill", "is_voc", "open_voc"]

Labels = npt.NDArray[np.uint8]
PICTURES, OBJECTS, KINDS, BOXES, LISTS = (
    "JPEGImages", "SegmentationObject", "SegmentationClass", "Annotations", "ImageSets/Segmentation",
)  # fmt: skip
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Those of the challenge: 1 is aeroplane, in maps without a labelmap.txt."""
VOID = 255


@dataclass(frozen=True)
class VocStill(Still):
    """A picture, the map of its objects, and (where they are) the map of their classes and the XML."""

    objects: Path
    kinds: Path
    boxes: Path
    colors: Path
    """The labelmap.txt, which says how classes are coloured; it need not be there."""

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still. Objects keep the order of their values in the map, from 1."""
        labels = _read_map(self.objects, davis_palette())
        same_size(self.objects, labels.shape, self.picture, size)
        found = label_masks(labels, sole=False)
        tags = self._tags(labels, list(found))
        return LazyMasks(
            {n: (lambda value=value: found[value]) for n, value in enumerate(found, 1)},  # type: ignore[misc]
            {n: tags[value] for n, value in enumerate(found, 1)},
        )

    def _tags(self, labels: Labels, values: list[int]) -> dict[int, Tag]:
        """The class of each object: what most of its pixels are of, or else what the XML says of it."""
        if self.kinds.exists():
            kinds = _read_map(self.kinds, _colors(self.colors))
            same_size(self.kinds, kinds.shape, self.objects, labels.shape)
            return {value: _tag(kinds[labels == value]) for value in values}
        said = self._said() if self.boxes.exists() else []
        return {value: Tag(label=said[value - 1] if value <= len(said) else None) for value in values}

    def _said(self) -> list[str | None]:
        return [thing.findtext("name") for thing in read_xml(self.boxes).iter("object")]


def is_voc(path: Path) -> bool:
    """Whether a folder, or one directly below it, has JPEGImages and SegmentationObject, or boxes in XML."""
    try:
        return bool(sources_in(path, _is_source, None, "folder"))
    except SourceError:
        return False


def open_voc(path: Path, choice: Choice) -> Dataset:
    """The pictures of a VOC tree that have a map of objects; a split is a list of ImageSets/Segmentation.

    Classes are those of labelmap.txt, or else the twenty of the challenge.

    Example:
        >>> open_voc(Path("VOCdevkit/VOC2012"), Choice("val")).entries[0].name
        '2007_000033'

    Raises:
        SourceError: no map of objects, no picture of one, or no such split.
    """
    sources = sources_in(path, _is_source, None, "folder")
    if len(sources) > 1:
        raise SourceError(f"{path} has {len(sources)} VOC trees, such as {sources[0].name}: name one of them")
    root = sources[0] if sources else path
    if not any_file(root / OBJECTS, "**/*.png"):
        raise SourceError(
            f"{path} has boxes only, no masks; allowed are {PICTURES}/ID.jpg with {OBJECTS}/ID.png: add them"
        )
    lists = {file.stem: lines_of(file) for file in files_in(root / LISTS, (".txt",))}
    wanted = None if choice.split is None else set(lists[chosen(path, choice.split, lists, "split")])
    allowed = f"{PICTURES}/ID.jpg with {OBJECTS}/ID.png: check the path"
    data = gathered("voc", path, [_of_tree(root, wanted)], "no pictures with masks", allowed)
    parts = {name: part for part, names in lists.items() if is_split(part) for name in names}
    splits = {entry.name: parts[entry.name] for entry in data.entries if entry.name in parts}
    return Dataset("voc", path, data.entries, data.problems, _names(root / "labelmap.txt"), splits)


def _is_source(folder: Path) -> bool:
    if not (folder / PICTURES).is_dir():
        return False
    return (folder / OBJECTS).is_dir() or any_file(folder / BOXES, "*.xml")


def _of_tree(root: Path, wanted: set[str] | None) -> tuple[list[VocStill], list[Finding]]:
    entries: list[VocStill] = []
    problems: list[Finding] = []
    maps = {file.relative_to(root / OBJECTS).with_suffix("").as_posix(): file for file in _below(root / OBJECTS)}
    for name, file in maps.items():
        if wanted is not None and name not in wanted:
            continue
        picture = next((p for s in PICTURE_SUFFIXES if (p := root / PICTURES / f"{name}{s}").is_file()), None)
        if picture is None:
            problems.append(Finding.of(name, file, f"has no picture of its name in {PICTURES}: add it"))
        else:
            kinds, boxes = root / KINDS / f"{name}.png", root / BOXES / f"{name}.xml"
            entries.append(VocStill(name, picture, file, kinds, boxes, root / "labelmap.txt"))
    lacking = sorted((wanted or set()) - set(maps))
    gone = [Finding.of(name, root / OBJECTS / f"{name}.png", "is listed and not there: add it") for name in lacking]
    return entries, problems + gone


def _below(folder: Path) -> list[Path]:
    return in_order(file for file in folder.rglob("*.png") if not file.name.startswith("."))


def _names(file: Path) -> dict[int, str]:
    """Classes by number, background left out: those of labelmap.txt, or the twenty."""
    names = [line.split(":")[0] for line in lines_of(file) if not line.startswith("#")] if file.is_file() else CLASSES
    return dict(enumerate(name for name in names if name != "background"))


def _colors(file: Path) -> Labels:
    """The colour of each value, (N, 3), as labelmap.txt says, or else the palette of VOC."""
    if not file.is_file():
        return davis_palette()
    said = [line.split(":")[1].split(",") for line in lines_of(file) if not line.startswith("#") and ":" in line]
    try:
        return np.array([[int(n) for n in color] for color in said], np.uint8).reshape(-1, 3)
    except (ValueError, OverflowError) as problem:
        raise DataError.of(
            file, f"has a colour that is none ({problem}); a line is name:red,green,blue::: mend it"
        ) from problem


def _read_map(path: Path, colors: Labels) -> Labels:
    """Values of a map with a palette, or of one that is painted in these colours; another colour is of nobody."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA"):
                return read_labels(path)
            rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError, ValueError, EOFError) as problem:
        raise DataError.of(path, f"cannot be read as a picture ({problem}); copy or unpack it again") from None
    weights = np.array([1 << 16, 1 << 8, 1])
    codes, known = rgb @ weights, colors.astype(np.int64) @ weights
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], codes).clip(0, len(known) - 1)
    return np.where(known[order][place] == codes, order[place], VOID).astype(np.uint8)


def _tag(kinds: Labels) -> Tag:
    """The class that most of these pixels are of, the border left out."""
    counts = np.bincount(kinds, minlength=VOID + 1)
    counts[[0, VOID]] = 0
    return Tag(class_id=int(counts.argmax()) - 1 if counts.any() else None)
