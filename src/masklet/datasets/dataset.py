"""What a data set is to those who use it: entries (stills and videos) that are read when they are needed.

Coordinates are pixels of the upright image, x right and y down. Shapes: H height, W width.
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
from masklet.media.image import format_size, from_file

__all__ = [
    "AnnotatedFrame",
    "DataError",
    "DataIssue",
    "Dataset",
    "FrameFolderVideo",
    "ImageSample",
    "LazyMasks",
    "Mask",
    "ObjectAttributes",
    "Pixels",
    "ReadOptions",
    "Sample",
    "Size",
    "check_frame_indices",
    "check_same_size",
    "read_image",
]

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""(height, width)."""
_DataErrorT = TypeVar("_DataErrorT", bound="DataError")


class DataError(SourceError):
    """An entry that cannot be used as it is; `file` is the one that has to be mended."""

    file: Path = Path()

    @classmethod
    def for_file(cls: type[_DataErrorT], file: Path, reason: str) -> _DataErrorT:
        """The error for `file`; the reason goes on in the sentence that begins with its name.

        Example:
            >>> str(DataError.of(Path("a.json"), "is empty; copy it again"))
            'a.json is empty; copy it again'
        """
        error = cls(f"{file} {reason}")
        error.file = file
        return error


@dataclass(frozen=True)
class ObjectAttributes:
    """What is said of an object beside its mask; None where nothing is.

    Its class is a number (`Dataset.names` has its name) or a `label` that is the name itself, as the format has it.
    `score` is 0 to 1; `track` is the same for one thing in several images.

    Example:
        >>> Tag(class_id=18, score=0.75)
        Tag(class_id=18, label=None, score=0.75, track=None)
    """

    class_id: int | None = None
    label: str | None = None
    score: float | None = None
    track_id: int | None = None


class LazyMasks(Mapping[int, Mask]):
    """Ids and their (H, W) masks; a mask is decoded each time it is looked at, and is not kept.

    `tags` says what else is known of objects, by id; one may be missing.

    Example:
        >>> masks = LazyMasks({1: lambda: np.ones((2, 3), bool)})
        >>> list(masks), masks[1].shape
        ([1], (2, 3))
    """

    def __init__(
        self, decoders: Mapping[int, Callable[[], Mask]], attributes: Mapping[int, ObjectAttributes] | None = None
    ) -> None:
        self._decoders = dict(decoders)
        self.attributes = dict(attributes or {})

    def __getitem__(self, object_id: int) -> Mask:
        return self._decoders[object_id]()

    def __iter__(self) -> Iterator[int]:
        return iter(self._decoders)

    def __len__(self) -> int:
        return len(self._decoders)

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._decoders

    def __repr__(self) -> str:
        return f"LazyMasks({', '.join(map(str, self))})"


@dataclass(frozen=True, eq=False)
class AnnotatedFrame:
    """One frame: its image, uint8 RGB (H, W, 3), and its masks, object id -> bool (H, W).

    A mask is decoded when it is looked at (and then may raise `SourceError`); the ids are known without decoding.
    The objects of a still are 1 to N; an object of a video keeps its id, and is missing or empty where it is out of
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

    def attributes(self, object_id: int) -> ObjectAttributes:
        """What is said of the object of this id: its class, score and track, as far as its format knows them."""
        return (
            self.masks.attributes.get(object_id, ObjectAttributes())
            if isinstance(self.masks, LazyMasks)
            else ObjectAttributes()
        )


class Sample(Protocol):
    """A still or a video with masks. Small, frozen and picklable: it holds names of files, never pixels."""

    @property
    def name(self) -> str:
        """Unique in its data set."""

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Numbers of the frames that carry masks, ascending, counted in `source` from 0; (0,) for a still."""

    @property
    def source(self) -> Path | tuple[Path, ...]:
        """What `masklet.media.open_video` takes: a video file, or all images in order, those without masks too."""

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """The frames of these numbers, in the order asked; a video file is decoded in one pass.

        Raises:
            SourceError: a number that is not in `frames`, or a file that is missing, damaged or does not fit.
        """


@dataclass(frozen=True)
class DataIssue:
    """Something that is broken: in which entry, which file, and why, with the remedy.

    Example:
        >>> Finding("cat", Path("masks/cat.json"), "masks/cat.json is empty; ...")
    """

    sample: str
    file: Path
    reason: str

    @classmethod
    def for_file(cls, sample: str, file: Path, reason: str) -> DataIssue:
        """The finding that `file` is broken; the reason goes on in the sentence that begins with its name."""
        return cls(sample, file, f"{file} {reason}")


@dataclass(frozen=True)
class Dataset:
    """Entries in natural order (2 before 10), and what was found broken when it was opened.

    What `problems` names is not among the entries; what is inside images and masks shows when they are read
    (`masklet.datasets.check` reads them all).

    `names` are the classes by number; `splits` the parts of the data that entries belong to, such as train, and `videos`
    the videos that stills are frames of, by the names of entries. All are empty where nothing says it.

    Example:
        >>> data = open_dataset("DAVIS", split="2017/val")
        >>> data.kind, len(data.entries), data.entries[0].name
        ('davis', 30, 'bike-packing')
    """  # noqa: E501

    data_format: str
    root: Path
    samples: tuple[Sample, ...]
    issues: tuple[DataIssue, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict, hash=False)
    splits: Mapping[str, str] = field(default_factory=dict, hash=False)
    video_names: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ReadOptions:
    """What of a data set is wanted: one split (None: everything there is), and crowds too or not."""

    split: str | None = None
    include_crowds: bool = False


@dataclass(frozen=True)
class ImageSample(ABC):
    """An entry of one image; a format adds where its masks come from."""

    name: str
    image_path: Path

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """See Entry."""
        return (0,)

    @property
    def source(self) -> tuple[Path, ...]:
        """See Entry."""
        return (self.image_path,)

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See Entry."""
        check_frame_indices(self, frame_indices)
        if not frame_indices:
            return []
        rgb = read_image(self.image_path)
        annotated = AnnotatedFrame(rgb, self.masks((rgb.shape[0], rgb.shape[1])))
        return [annotated] * len(frame_indices)

    @abstractmethod
    def masks(self, size: Size) -> Mapping[int, Mask]:
        """The masks of an image of this size."""


@dataclass(frozen=True)
class FrameFolderVideo(ABC):
    """An entry whose frames are the images of a folder; a format adds where their masks come from."""

    name: str
    folder: Path
    image_names: tuple[str, ...]
    """Names in `folder`, in order, those without masks too."""
    frame_indices: tuple[int, ...]
    """See Entry."""

    @property
    def source(self) -> tuple[Path, ...]:
        """See Entry."""
        return tuple(self.folder / name for name in self.image_names)

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See Entry."""
        check_frame_indices(self, frame_indices)
        return [self._read_frame(self.folder / self.image_names[number]) for number in frame_indices]

    def _read_frame(self, image_path: Path) -> AnnotatedFrame:
        rgb = read_image(image_path)
        return AnnotatedFrame(rgb, self.masks(image_path, (rgb.shape[0], rgb.shape[1])))

    @abstractmethod
    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """The masks of this image, which is of this size."""


def check_frame_indices(sample: Sample, frame_indices: Sequence[int]) -> None:
    """Raise SourceError where a number is not among the annotated frames of `entry`."""
    unknown = set(frame_indices).difference(sample.frame_indices)
    if unknown:
        some = ", ".join(map(str, sample.frame_indices[:4])) + (" ..." if len(sample.frame_indices) > 4 else "")
        raise SourceError(
            f"{sample.name!r} has no masks for frame {min(unknown)}; its annotated frames are {some} "
            f"({len(sample.frame_indices)} in all): choose among these (entry.frames)"
        )


def read_image(path: Path) -> Pixels:
    """RGB (H, W, 3), upright (its EXIF orientation applied).

    Raises:
        DataError: missing, damaged, or no image.
    """
    try:
        return from_file(str(path)).rgb
    except SourceError as problem:
        error = DataError(str(problem))
        error.file = path
        raise error from problem


def check_same_size(
    file: Path, size: Sequence[int], image_path: Path, expected: Sequence[int], description: str = ""
) -> None:
    """Raise DataError where an annotation (`file`, or `what` in it) is not of the size of its image."""
    if tuple(size) != tuple(expected):
        raise DataError.for_file(
            file,
            f"{description and f'({description}) '}is {format_size(size)} and {image_path.name} is {format_size(expected)} (upright); a "  # noqa: E501
            "image and its masks have one size: make the mask anew, or scale the one to the other",
        )
