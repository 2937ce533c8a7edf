"""What a data set is to those who use it: entries (stills and films) that are read when they are needed.

Coordinates are pixels of the upright picture, x right and y down. Shapes: H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.media.image import from_file, said_size

__all__ = [
    "Annotated",
    "Choice",
    "DataError",
    "Dataset",
    "Entry",
    "Finding",
    "LazyMasks",
    "Mask",
    "PictureFilm",
    "Pixels",
    "Size",
    "Still",
    "Tag",
    "check_numbers",
    "read_picture",
    "same_size",
]

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""(height, width)."""
_AnyError = TypeVar("_AnyError", bound="DataError")


class DataError(SourceError):
    """An entry that cannot be used as it is; `file` is the one that has to be mended."""

    file: Path = Path()

    @classmethod
    def of(cls: type[_AnyError], file: Path, reason: str) -> _AnyError:
        """The error for `file`; the reason goes on in the sentence that begins with its name.

        Example:
            >>> str(DataError.of(Path("a.json"), "is empty; copy it again"))
            'a.json is empty; copy it again'
        """
        error = cls(f"{file} {reason}")
        error.file = file
        return error


@dataclass(frozen=True)
class Tag:
    """What is said of an object beside its mask; None where nothing is.

    Its class is a number (`Dataset.names` has its name) or a `label` that is the name itself, as the format has it.
    `score` is 0 to 1; `track` is the same for one thing in several pictures.

    Example:
        >>> Tag(class_id=18, score=0.75)
        Tag(class_id=18, label=None, score=0.75, track=None)
    """

    class_id: int | None = None
    label: str | None = None
    score: float | None = None
    track: int | None = None


class LazyMasks(Mapping[int, Mask]):
    """Ids and their (H, W) masks; a mask is decoded each time it is looked at, and is not kept.

    `tags` says what else is known of objects, by id; one may be missing.

    Example:
        >>> masks = LazyMasks({1: lambda: np.ones((2, 3), bool)})
        >>> list(masks), masks[1].shape
        ([1], (2, 3))
    """

    def __init__(self, decoders: Mapping[int, Callable[[], Mask]], tags: Mapping[int, Tag] | None = None) -> None:
        self._decoders = dict(decoders)
        self.tags = dict(tags or {})

    def __getitem__(self, number: int) -> Mask:
        return self._decoders[number]()

    def __iter__(self) -> Iterator[int]:
        return iter(self._decoders)

    def __len__(self) -> int:
        return len(self._decoders)

    def __contains__(self, number: object) -> bool:
        return number in self._decoders

    def __repr__(self) -> str:
        return f"LazyMasks({', '.join(map(str, self))})"


@dataclass(frozen=True, eq=False)
class Annotated:
    """One frame: its picture, uint8 RGB (H, W, 3), and its masks, object id -> bool (H, W).

    A mask is decoded when it is looked at (and then may raise `SourceError`); the ids are known without decoding.
    The objects of a still are 1 to N; an object of a film keeps its id, and is missing or empty where it is out of
    sight.

    Example:
        >>> annotated = open_dataset("stills").entries[0].read([0])[0]
        >>> annotated.rgb.shape, {number: int(mask.sum()) for number, mask in annotated.masks.items()}
        ((480, 640, 3), {1: 5120, 2: 77})
    """

    rgb: Pixels
    masks: Mapping[int, Mask]

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])

    def tag(self, number: int) -> Tag:
        """What is said of the object of this id: its class, score and track, as far as its format knows them."""
        return self.masks.tags.get(number, Tag()) if isinstance(self.masks, LazyMasks) else Tag()


class Entry(Protocol):
    """A still or a film with masks. Small, frozen and picklable: it holds names of files, never pixels."""

    @property
    def name(self) -> str:
        """Unique in its data set."""

    @property
    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames that carry masks, ascending, counted in `source` from 0; (0,) for a still."""

    @property
    def source(self) -> Path | tuple[Path, ...]:
        """What `masklet.media.open_video` takes: a film file, or all pictures in order, those without masks too."""

    def read(self, numbers: Sequence[int]) -> list[Annotated]:
        """The frames of these numbers, in the order asked; a film file is decoded in one pass.

        Raises:
            SourceError: a number that is not in `frames`, or a file that is missing, damaged or does not fit.
        """


@dataclass(frozen=True)
class Finding:
    """Something that is broken: in which entry, which file, and why, with the remedy.

    Example:
        >>> Finding("cat", Path("masks/cat.json"), "masks/cat.json is empty; ...")
    """

    entry: str
    file: Path
    reason: str

    @classmethod
    def of(cls, entry: str, file: Path, reason: str) -> Finding:
        """The finding that `file` is broken; the reason goes on in the sentence that begins with its name."""
        return cls(entry, file, f"{file} {reason}")


@dataclass(frozen=True)
class Dataset:
    """Entries in natural order (2 before 10), and what was found broken when it was opened.

    What `problems` names is not among the entries; what is inside pictures and masks shows when they are read
    (`masklet.datasets.check` reads them all).

    `names` are the classes by number; `splits` the parts of the data that entries belong to, such as train, and `films`
    the films that stills are frames of, by the names of entries. All are empty where nothing says it.

    Example:
        >>> data = open_dataset("DAVIS", split="2017/val")
        >>> data.kind, len(data.entries), data.entries[0].name
        ('davis', 30, 'bike-packing')
    """

    kind: str
    root: Path
    entries: tuple[Entry, ...]
    problems: tuple[Finding, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict, hash=False)
    splits: Mapping[str, str] = field(default_factory=dict, hash=False)
    films: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Choice:
    """What of a data set is wanted: one split (None: everything there is), and crowds too or not."""

    split: str | None = None
    crowds: bool = False


@dataclass(frozen=True)
class Still(ABC):
    """An entry of one picture; a format adds where its masks come from."""

    name: str
    picture: Path

    @property
    def frames(self) -> tuple[int, ...]:
        """See Entry."""
        return (0,)

    @property
    def source(self) -> tuple[Path, ...]:
        """See Entry."""
        return (self.picture,)

    def read(self, numbers: Sequence[int]) -> list[Annotated]:
        """See Entry."""
        check_numbers(self, numbers)
        if not numbers:
            return []
        rgb = read_picture(self.picture)
        annotated = Annotated(rgb, self.masks((rgb.shape[0], rgb.shape[1])))
        return [annotated] * len(numbers)

    @abstractmethod
    def masks(self, size: Size) -> Mapping[int, Mask]:
        """The masks of a picture of this size."""


@dataclass(frozen=True)
class PictureFilm(ABC):
    """An entry whose frames are the pictures of a folder; a format adds where their masks come from."""

    name: str
    folder: Path
    pictures: tuple[str, ...]
    """Names in `folder`, in order, those without masks too."""
    frames: tuple[int, ...]
    """See Entry."""

    @property
    def source(self) -> tuple[Path, ...]:
        """See Entry."""
        return tuple(self.folder / name for name in self.pictures)

    def read(self, numbers: Sequence[int]) -> list[Annotated]:
        """See Entry."""
        check_numbers(self, numbers)
        return [self._frame(self.folder / self.pictures[number]) for number in numbers]

    def _frame(self, picture: Path) -> Annotated:
        rgb = read_picture(picture)
        return Annotated(rgb, self.masks(picture, (rgb.shape[0], rgb.shape[1])))

    @abstractmethod
    def masks(self, picture: Path, size: Size) -> Mapping[int, Mask]:
        """The masks of this picture, which is of this size."""


def check_numbers(entry: Entry, numbers: Sequence[int]) -> None:
    """Raise SourceError where a number is not among the annotated frames of `entry`."""
    unknown = set(numbers).difference(entry.frames)
    if unknown:
        some = ", ".join(map(str, entry.frames[:4])) + (" ..." if len(entry.frames) > 4 else "")
        raise SourceError(
            f"{entry.name!r} has no masks for frame {min(unknown)}; its annotated frames are {some} "
            f"({len(entry.frames)} in all): choose among these (entry.frames)"
        )


def read_picture(path: Path) -> Pixels:
    """RGB (H, W, 3), upright (its EXIF orientation applied).

    Raises:
        DataError: missing, damaged, or no picture.
    """
    try:
        return from_file(str(path)).rgb
    except SourceError as problem:
        error = DataError(str(problem))
        error.file = path
        raise error from problem


def same_size(file: Path, size: Sequence[int], picture: Path, expected: Sequence[int], what: str = "") -> None:
    """Raise DataError where an annotation (`file`, or `what` in it) is not of the size of its picture."""
    if tuple(size) != tuple(expected):
        raise DataError.of(
            file,
            f"{what and f'({what}) '}is {said_size(size)} and {picture.name} is {said_size(expected)} (upright); a "
            "picture and its masks have one size: make the mask anew, or scale the one to the other",
        )
