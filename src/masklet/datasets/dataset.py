"""The dataset types: samples (images and videos with masks) that are read on demand.

Coordinates are pixels of the upright image, x right and y down. Shapes: H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import MaskletError, SourceError
from masklet.media.image import format_size, from_file

__all__ = [
    "AnnotatedFrame",
    "DataError",
    "DataIssue",
    "Dataset",
    "DatasetReader",
    "FrameFolderVideo",
    "ImageSample",
    "LazyMasks",
    "LeftOutObject",
    "Mask",
    "ObjectAttributes",
    "Pixels",
    "ReadOptions",
    "ReadableMasks",
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


class DataError(SourceError):
    """Data of a sample that cannot be used; `file` is the file to fix."""

    file: Path = Path()

    @classmethod
    def for_file(cls, file: Path, reason: str) -> DataError:
        """Build the error for `file`. The message is the path followed by `reason`.

        Example:
            >>> str(DataError.for_file(Path("a.json"), "is empty; copy it again"))
            'a.json is empty; copy it again'
        """
        return cls.from_error(file, SourceError(f"{file} {reason}"))

    @classmethod
    def from_error(cls, file: Path, error: SourceError) -> DataError:
        """Build the error for `file` from another one, whose message already names the file."""
        data_error = cls(str(error))
        data_error.file = file
        return data_error


@dataclass(frozen=True)
class ObjectAttributes:
    """The annotations of an object besides its mask; None where the dataset has none.

    The class is a number (its name is in `Dataset.names`), or a `label`, the name itself, depending on the format.
    `score` is 0 to 1. `track_id` is the same for one object in several images.

    Example:
        >>> ObjectAttributes(class_id=18, score=0.75)
        ObjectAttributes(class_id=18, label=None, score=0.75, track_id=None)
    """

    class_id: int | None = None
    label: str | None = None
    score: float | None = None
    track_id: int | None = None


@dataclass(frozen=True)
class LeftOutObject:
    """An object that the source holds and a rule of the reader leaves out, such as `iscrowd` of COCO.

    `problem` names the object where it is a fault of the source rather than a choice: it is reported as an issue.

    Example:
        >>> LeftOutObject("iscrowd", ObjectAttributes(class_id=1)).rule
        'iscrowd'
    """

    rule: str
    attributes: ObjectAttributes = ObjectAttributes()
    problem: SourceError | None = None


class LazyMasks(Mapping[int, Mask]):
    """Object ids and their (H, W) masks. A mask is decoded at each access and not cached.

    The ids are all objects of the source, those that cannot be decoded too: their access raises `DataError`, and costs
    no other object. `attributes` has the other annotations of objects by id; ids may be missing there. `left_out` are
    the objects that the source holds besides: a rule of the reader leaves them out.

    `num_records` counts what the source holds, where it was read and before anything was sorted out: items, lines,
    elements or labels, of which `num_merged` are further parts of objects. `ObjectAccount` compares; None: not counted.

    Example:
        >>> masks = LazyMasks({1: lambda: np.ones((2, 3), bool)})
        >>> list(masks), masks[1].shape
        ([1], (2, 3))
    """

    def __init__(
        self,
        decoders: Mapping[int, Callable[[], Mask]],
        attributes: Mapping[int, ObjectAttributes] | None = None,
        left_out: Sequence[LeftOutObject] = (),
        *,
        num_records: int | None = None,
        num_merged: int = 0,
    ) -> None:
        self._decoders = dict(decoders)
        self.attributes = dict(attributes or {})
        self.left_out = tuple(left_out)
        self.num_records, self.num_merged = num_records, num_merged

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


class ReadableMasks(Mapping[int, Mask]):
    """The masks of a frame, of `size`, where an object that cannot be decoded is empty instead of an error.

    `problems` has what was wrong with the objects that were accessed so far, by id.

    Example:
        >>> masks = ReadableMasks({1: np.ones((2, 3), bool)}, (2, 3))
        >>> masks[1].any(), masks.problems
        (np.True_, {})
    """

    def __init__(self, masks: Mapping[int, Mask], size: Size) -> None:
        self._masks, self._size = masks, size
        self.problems: dict[int, str] = {}

    def __getitem__(self, object_id: int) -> Mask:
        try:
            return self._masks[object_id]
        except KeyError:
            raise
        except Exception as problem:
            is_known = isinstance(problem, MaskletError)
            self.problems[object_id] = str(problem) if is_known else f"{type(problem).__name__}: {problem}"
            return np.zeros(self._size, bool)

    def __iter__(self) -> Iterator[int]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._masks


@dataclass(frozen=True, eq=False)
class AnnotatedFrame:
    """One frame: its image, uint8 RGB (H, W, 3), and its masks, object id -> bool (H, W).

    A mask is decoded at each access, which may raise `SourceError`; the ids are known without decoding. The objects
    of an image are 1 to N. An object of a video keeps its id, and is missing or empty where it is out of sight.

    Example:
        >>> frame = open_dataset("photos").samples[0].read([0])[0]  # doctest: +SKIP
        >>> frame.rgb.shape, {object_id: int(mask.sum()) for object_id, mask in frame.masks.items()}  # doctest: +SKIP
        ((480, 640, 3), {1: 5120, 2: 77})
    """

    rgb: Pixels
    masks: Mapping[int, Mask]

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])

    def attributes(self, object_id: int) -> ObjectAttributes:
        """Return the class, score and track id of an object, as far as the format has them."""
        known = self.masks.attributes if isinstance(self.masks, LazyMasks) else {}
        return known.get(object_id, ObjectAttributes())


class Sample(Protocol):
    """An image or a video with masks. Small, frozen and picklable: it holds file names, never pixels."""

    @property
    def name(self) -> str:
        """Unique in its dataset."""

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Indices of the annotated frames, ascending, counted in `source` from 0; (0,) for an image."""

    @property
    def source(self) -> Path | tuple[Path, ...]:
        """The source that `masklet.media.open_video` takes: a video file, or all images in order, annotated or not."""

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """Read the frames at these indices, in the order given; a video file is decoded in one pass.

        Raises:
            SourceError: if an index is not in `frame_indices`, or a file is missing, damaged or does not fit.
        """


@dataclass(frozen=True)
class DataIssue:
    """Something broken in a dataset: the sample, the file, and the reason with its remedy.

    `objects` counts the objects that are lost by it, by class name, as far as they are known.

    Example:
        >>> DataIssue.for_file("cat", Path("masks/cat.json"), "is empty; copy it again").reason
        'masks/cat.json is empty; copy it again'
    """

    sample: str
    file: Path
    reason: str
    objects: Mapping[str, int] = field(default_factory=dict, hash=False)

    @classmethod
    def for_file(cls, sample: str, file: Path, reason: str) -> DataIssue:
        """Build the issue that `file` is broken. The text is the path followed by `reason`."""
        return cls(sample, file, f"{file} {reason}")

    @classmethod
    def from_error(cls, sample: str, error: Exception, file: Path = Path()) -> DataIssue:
        """Build the issue from an error; `file` is used where the error is not a `DataError`.

        The text of an error that is none of masklet's gets the name of the file and the kind of error.
        """
        reason = str(error)
        if not isinstance(error, MaskletError):
            kind = f"{type(error).__name__}: {error}".removesuffix(": ")
            reason = f"{file} cannot be used ({kind}); repair or remove it, and report the error"
        return cls(sample, error.file if isinstance(error, DataError) else file, reason)


@dataclass(frozen=True)
class Dataset:
    """Samples in natural order (2 before 10), and the issues found when the dataset was opened.

    A sample with an issue is not in `samples`. Errors inside images and masks show when they are read
    (`masklet.datasets.check_dataset` reads them all).

    `names` are the classes by number, `splits` the split of a sample such as train, and `video_names` the video an
    image is a frame of; the last two by sample name. `left_out` counts the objects that a rule leaves out, by rule, as
    far as the format knows them before anything is read. All are empty where the format has nothing of the kind.
    `count_elsewhere` reads the labels of images that are no samples, such as boxes of Pascal VOC without a map, and
    returns the number of objects by rule and class.

    Example:
        >>> data = open_dataset("DAVIS", split="2017/val")  # doctest: +SKIP
        >>> data.data_format, len(data.samples), data.samples[0].name  # doctest: +SKIP
        ('davis', 30, 'bike-packing')
    """

    data_format: str
    root: Path
    samples: tuple[Sample, ...]
    issues: tuple[DataIssue, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict, hash=False)
    splits: Mapping[str, str] = field(default_factory=dict, hash=False)
    video_names: Mapping[str, str] = field(default_factory=dict, hash=False)
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)
    count_elsewhere: Callable[[], Mapping[str, Mapping[str, int]]] | None = field(default=None, compare=False)

    @property
    def left_out_summary(self) -> str:
        """Describe in one line what `left_out` counts; empty if nothing is left out.

        Example:
            >>> Dataset("coco", Path("coco"), (), left_out={"iscrowd": 2}).left_out_summary
            'coco: 2 objects are left out: 2 (iscrowd)'
        """
        if not self.left_out:
            return ""
        rules = ", ".join(f"{count} ({rule})" for rule, count in sorted(self.left_out.items()))
        return f"{self.root}: {sum(self.left_out.values())} objects are left out: {rules}"


@dataclass(frozen=True)
class ReadOptions:
    """The part of a dataset to read: one split (None: all of it), and whether to include COCO crowds."""

    split: str | None = None
    include_crowds: bool = False


class DatasetReader(ABC):
    """Recognizes and opens one format. `masklet.datasets.DATASET_READERS` lists all of them."""

    data_format: ClassVar[str]
    description: ClassVar[str]
    """The files of the format, in one line."""

    @classmethod
    @abstractmethod
    def matches(cls, path: Path) -> bool:
        """Return whether `path` is a dataset of this format."""

    @classmethod
    @abstractmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """List the samples below `path` without decoding any.

        Raises:
            SourceError: if `path` holds no sample of this format, or has no such split.
        """


@dataclass(frozen=True)
class ImageSample(ABC):
    """A sample of one image; a format adds where the masks come from."""

    name: str
    image_path: Path
    has_image_file: ClassVar[bool] = True
    """Whether `image_path` is an image; if not, only `read` has the pixels."""

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """See `Sample`."""
        return (0,)

    @property
    def source(self) -> tuple[Path, ...]:
        """See `Sample`."""
        return (self.image_path,)

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See `Sample`."""
        check_frame_indices(self, frame_indices)
        if not frame_indices:
            return []
        rgb = read_image(self.image_path)
        return [AnnotatedFrame(rgb, self.masks((rgb.shape[0], rgb.shape[1])))] * len(frame_indices)

    @abstractmethod
    def masks(self, size: Size) -> Mapping[int, Mask]:
        """Return the masks of the image, which has this size."""


@dataclass(frozen=True)
class FrameFolderVideo(ABC):
    """A video whose frames are the images of a folder; a format adds where the masks come from."""

    name: str
    folder: Path
    image_names: tuple[str, ...]
    """File names in `folder`, in order, annotated or not."""
    frame_indices: tuple[int, ...]
    """See `Sample`."""

    @property
    def source(self) -> tuple[Path, ...]:
        """See `Sample`."""
        return tuple(self.folder / name for name in self.image_names)

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See `Sample`."""
        check_frame_indices(self, frame_indices)
        frames = []
        for index in frame_indices:
            image_path = self.folder / self.image_names[index]
            rgb = read_image(image_path)
            frames.append(AnnotatedFrame(rgb, self.masks(image_path, (rgb.shape[0], rgb.shape[1]))))
        return frames

    @abstractmethod
    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """Return the masks of the frame at `image_path`, which has this size."""


def check_frame_indices(sample: Sample, frame_indices: Sequence[int]) -> None:
    """Check that every index is an annotated frame of `sample`.

    Raises:
        SourceError: if one is not.
    """
    unknown = set(frame_indices).difference(sample.frame_indices)
    if unknown:
        some = ", ".join(map(str, sample.frame_indices[:4])) + (" ..." if len(sample.frame_indices) > 4 else "")
        raise SourceError(
            f"{sample.name!r} has no masks for frame {min(unknown)}; its annotated frames are {some} "
            f"({len(sample.frame_indices)} in all): choose among these (sample.frame_indices)"
        )


def read_image(path: Path) -> Pixels:
    """Read an image as RGB (H, W, 3), upright (its EXIF orientation applied).

    Raises:
        DataError: if the file is missing, damaged or not an image.
    """
    try:
        return from_file(str(path)).rgb
    except SourceError as problem:
        raise DataError.from_error(path, problem) from problem


def check_same_size(
    file: Path, size: Sequence[int], image_path: Path, expected: Sequence[int], description: str = ""
) -> None:
    """Check that an annotation (`file`, or the `description` in it) has the (height, width) of its image.

    Raises:
        DataError: if it has another size.
    """
    if tuple(size) != tuple(expected):
        part = f"({description}) " if description else ""
        raise DataError.for_file(
            file,
            f"{part}is {format_size(size)} and {image_path.name} is {format_size(expected)} (upright); an image and "
            "its masks have the same size: redraw the mask, or scale one of the two",
        )
