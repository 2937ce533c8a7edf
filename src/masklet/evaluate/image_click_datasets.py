"""Pictures to be clicked on: the sets that interactive segmentation is measured on, and any other data set.

grabcut   data_GT/ID.* with boundary_GT/ID.*: 255 is the object, 128 a place that nobody judges (50 pictures)
berkeley  images/ID.* with masks/ID.*: as grabcut (100 objects)
davis345  img/ID.* with gt/ID.* or masks/ID.*: all that is not black is the object (345 frames of DAVIS 2016)
sbd       img/ID.jpg with inst/ID.mat and lists such as val.txt: each instance is an object (needs scipy)

These are the folders in which they are handed round among the authors of such methods. Of everything else that
`open_dataset` reads each annotated frame is a picture, and each of its masks an object.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.datasets import KINDS, DataError, Entry, open_dataset
from masklet.datasets.dataset import LazyMasks, read_picture, same_size
from masklet.datasets.files import by_stem, chosen, lines_of
from masklet.errors import MissingExtraError, SourceError
from masklet.evaluate.prompts_from_masks import spread

__all__ = ["CLICK_KINDS", "ClickPicture", "Clickable", "click_pictures"]

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]
EXTRA = "sbd"
UNJUDGED = 128


@dataclass(frozen=True, eq=False)
class Clickable:
    """RGB uint8 (H, W, 3), masks bool (H, W) by number, and where they are judged; None: everywhere."""

    rgb: Pixels
    masks: Mapping[int, Mask]
    judged: Mask | None = None


class ClickPicture(Protocol):
    """A picture with objects, read when it is asked for."""

    @property
    def name(self) -> str:
        """Unique in its set."""

    def read(self) -> Clickable:
        """The picture and its objects.

        Raises:
            SourceError: a file that is missing, damaged or does not fit.
        """


@dataclass(frozen=True)
class _Frame:
    """An annotated frame of an entry of a data set."""

    name: str
    entry: Entry
    number: int

    def read(self) -> Clickable:
        """See ClickPicture."""
        [frame] = self.entry.read([self.number])
        return Clickable(frame.rgb, frame.masks)


@dataclass(frozen=True)
class _Pair:
    """A picture and the file of its masks, which `split` tells apart."""

    name: str
    picture: Path
    file: Path
    load: Callable[[Path], Codes]
    split: Callable[[Codes], tuple[Mapping[int, Mask], Mask | None]] = field(repr=False)

    def read(self) -> Clickable:
        """See ClickPicture."""
        rgb, codes = read_picture(self.picture), self.load(self.file)
        same_size(self.file, codes.shape, self.picture, rgb.shape[:2])
        return Clickable(rgb, *self.split(codes))


@dataclass(frozen=True)
class _Kind:
    """The folders of a set, the one of pictures first, and how it is opened."""

    folders: tuple[tuple[str, str], ...]
    open: Callable[[Path, Path, str | None], Sequence[ClickPicture]]
    is_known_by_them: bool = True

    def below(self, root: Path) -> tuple[Path, Path] | None:
        """The folders, where they are there."""
        pairs = [(root / pictures, root / masks) for pictures, masks in self.folders]
        return next((pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir()), None)


def click_pictures(
    root: str | Path, *, kind: str | None = None, split: str | None = None, limit: int | None = None
) -> Sequence[ClickPicture]:
    """The pictures of a set, `limit` of them at most, spread evenly.

    `kind` is a key of `CLICK_KINDS` or of `masklet.datasets.KINDS`; None: recognised by what is there (but for
    berkeley, whose folders have the names of any others). `split` is a list or a part of the data; SBD's is val.

    Example:
        >>> [picture.name for picture in click_pictures("GrabCut", limit=2)]
        ['106024', 'teddy']

    Raises:
        SourceError: no such path, kind or split, or no picture with a mask.
        MissingExtraError: SBD, and scipy is not installed.
    """
    if kind is not None and kind not in CLICK_KINDS and kind not in KINDS:
        choices = ", ".join(map(repr, [*CLICK_KINDS, *KINDS]))
        raise SourceError(f"kind={kind!r} is unknown; choose {choices}, or None to have it recognised")
    place = Path(root).expanduser()
    known = kind or next((n for n, k in CLICK_KINDS.items() if k.is_known_by_them and k.below(place)), None)
    if known in CLICK_KINDS:
        folders = CLICK_KINDS[known].below(place)
        if folders is None:
            layouts = " or ".join(f"{a}/ID.* with {b}/ID.*" for a, b in CLICK_KINDS[known].folders)
            raise SourceError(f"{root} is no folder of {known}, which has {layouts}: check the path, or the kind")
        found = CLICK_KINDS[known].open(*folders, split)
    else:
        found = _frames(place, kind, split)
    return found if limit is None else [found[i] for i in spread(len(found), limit)]


def _frames(place: Path, kind: str | None, split: str | None) -> list[ClickPicture]:
    entries = open_dataset(place, kind=kind, split=split).entries
    names = {entry.name: len(entry.frames) > 1 for entry in entries}
    return [_Frame(f"{e.name}:{n}" if names[e.name] else e.name, e, n) for e in entries for n in e.frames]


def _paired(pictures: Path, masks: Path, split: str | None, tell: _Tell) -> list[ClickPicture]:
    """Pictures with the masks of their names."""
    if split is not None:
        raise SourceError(f"{pictures.parent} has no split {split!r}, it is one set: leave split out")
    (shown, twice), (files, _) = by_stem(pictures), by_stem(masks)
    lacking = [path for stem, path in shown.items() if stem not in files]
    if lacking or twice or not shown:
        what = f"{(lacking or [twice[0].file])[0]} has no mask of its own" if shown else "there is no picture"
        raise SourceError(
            f"{pictures}: {what} ({len(shown)} pictures, {len(files)} masks); every picture has one in {masks}: "
            "unpack the set again"
        )
    return [_Pair(stem, path, files[stem], _pixels, tell) for stem, path in shown.items()]


def _open_trimap(pictures: Path, masks: Path, split: str | None) -> list[ClickPicture]:
    return _paired(pictures, masks, split, _trimap)


def _open_any(pictures: Path, masks: Path, split: str | None) -> list[ClickPicture]:
    return _paired(pictures, masks, split, _not_black)


def _open_sbd(pictures: Path, masks: Path, split: str | None) -> list[ClickPicture]:
    lists = {file.stem: file for file in sorted(pictures.parent.glob("*.txt"))}
    names = lines_of(lists[chosen(pictures.parent, split or "val", lists, "list")])
    return [_Pair(name, pictures / f"{name}.jpg", masks / f"{name}.mat", _instances, _each) for name in names]


def _pixels(file: Path) -> Codes:
    """The largest channel of a mask in any mode; a label of a palette is the colour that is seen."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as problem:
        raise DataError.of(file, f"cannot be read as a picture ({problem}); copy or unpack it again") from None
    return np.asarray(pixels.max(axis=2), np.int32)


def _instances(file: Path) -> Codes:
    """The numbers of the instances of SBD, of a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtraError.of("scipy", EXTRA) from None
    try:
        return np.asarray(loadmat(str(file))["GTinst"]["Segmentation"][0, 0].astype(np.int32))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as problem:
        raise DataError.of(file, f"is no list of instances of SBD ({problem}); copy or unpack it again") from None


_Tell = Callable[[Codes], tuple[Mapping[int, Mask], Mask | None]]


def _trimap(codes: Codes) -> tuple[Mapping[int, Mask], Mask | None]:
    return {1: codes > UNJUDGED}, codes != UNJUDGED


def _not_black(codes: Codes) -> tuple[Mapping[int, Mask], Mask | None]:
    return {1: codes > 0}, None


def _each(codes: Codes) -> tuple[Mapping[int, Mask], Mask | None]:
    def one(number: int) -> Callable[[], Mask]:
        return lambda: np.asarray(codes == number, bool)

    return LazyMasks({int(n): one(int(n)) for n in np.unique(codes) if n}), None


CLICK_KINDS: dict[str, _Kind] = {
    "grabcut": _Kind((("data_GT", "boundary_GT"),), _open_trimap),
    "berkeley": _Kind((("images", "masks"),), _open_trimap, is_known_by_them=False),
    "davis345": _Kind((("img", "gt"), ("img", "masks")), _open_any),
    "sbd": _Kind((("img", "inst"),), _open_sbd),
}
"""The sets that have a layout of their own, by name."""
