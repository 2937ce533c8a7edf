"""`Detections`, the result of every detector; `Detector`, their protocol; `DetectOptions`.

Boxes are xyxy in pixels of the original image, x to the right and y down.
Shapes: N detections, H and W of the image.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.ops import nms
from masklet.masks.rle import Rle

__all__ = [
    "ClassesLike",
    "DetectOptions",
    "Detections",
    "Detector",
    "Names",
    "Rgb",
    "clip_to_image",
    "filter_detections",
    "resolve_class_ids",
]

Rgb = npt.NDArray[np.uint8]
"""An image, (H, W, 3), red first."""
Names = Mapping[int, str]
"""Class number to name."""
ClassesLike: TypeAlias = "int | str | Sequence[int | str]"
"""Numbers or names of classes."""

MAX_LISTED_NAMES = 20
"""Class names that a message lists before it counts the rest."""


class _MaskField:
    """The field `masks`: set to an array or to run-length codes, read as an array."""

    def __get__(self, detections: Detections | None, owner: type | None = None) -> npt.NDArray[np.bool_] | None:
        if detections is None:  # the dataclass reads the field's default
            return None
        stored = detections.stored_masks
        if stored is None or isinstance(stored, np.ndarray):
            return stored
        return np.stack([rle.decode(code) for code in stored]) if stored else np.zeros((0, 0, 0), bool)

    def __set__(self, detections: Detections, masks: npt.NDArray[np.bool_] | Sequence[Rle] | None) -> None:
        detections.__dict__["stored_masks"] = masks


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The detections of one image.

    `xyxy` (N, 4) float32 original pixels, `scores` (N,) float32, `classes` (N,) int32, the keys of `names`; `masks`
    (N, H, W) bool if the detector predicts them. Masks may be given as COCO run-length codes, which take a hundredth
    of the memory: `rles` returns them unchanged, and `masks` decodes them at every access. Indexing with a number, a
    slice, or an array of numbers or bools selects rows.

    Example:
        >>> detections = Detections([[10, 20, 110, 90]], [0.9], [16], {16: "dog"})
        >>> len(detections), detections.class_name(0)
        (1, 'dog')

    Raises:
        InputError: if shapes do not match, a number is not finite, a box has x2 < x1 or y2 < y1, or a class is no
            whole number from 0 on.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    names: Names = field(default_factory=dict)
    masks: _MaskField = _MaskField()

    def __post_init__(self) -> None:
        xyxy = _to_float_array(self.xyxy, "xyxy")
        xyxy = xyxy.reshape(0, 4) if xyxy.size == 0 else xyxy
        if xyxy.ndim != 2 or xyxy.shape[1] != 4:
            raise InputError(f"xyxy of shape {xyxy.shape} must be (N, 4): a row x1, y1, x2, y2 for each detection")
        if (xyxy[:, 2:] < xyxy[:, :2]).any():
            bad = xyxy[(xyxy[:, 2:] < xyxy[:, :2]).any(1)][0].tolist()
            raise InputError(f"box {bad} is inside out: xyxy rows are x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")
        classes = _to_float_array(self.classes, "classes")
        if (classes < 0).any() or (classes != np.floor(classes)).any():
            raise InputError(f"classes {_format_value(classes)} must be whole numbers from 0 on, the keys of names")
        scores = _to_float_array(self.scores, "scores")
        for name, values in (("scores", scores), ("classes", classes)):
            if values.shape != (len(xyxy),) and not values.size == len(xyxy) == 0:
                raise InputError(
                    f"{len(xyxy)} box(es) and {name} of shape {values.shape} do not match: give one for each box"
                )
        object.__setattr__(self, "xyxy", xyxy.astype(np.float32))
        object.__setattr__(self, "scores", scores.reshape(len(xyxy)).astype(np.float32))
        object.__setattr__(self, "classes", classes.reshape(len(xyxy)).astype(np.int32))
        masks, count = self.stored_masks, len(xyxy)
        if isinstance(masks, Sequence):
            if len(masks) != count or not all(isinstance(code, dict) for code in masks):
                raise InputError(
                    f"{count} box(es) and {len(masks)} mask(s) do not match: give a run-length code for each"
                )
            object.__setattr__(self, "masks", tuple(masks))
        elif masks is not None:
            masks = np.asarray(masks)
            if masks.ndim != 3 or len(masks) != count or masks.dtype != np.bool_:
                raise InputError(
                    f"masks of shape {masks.shape} and type {masks.dtype} must be ({count}, H, W) bool, one for each "
                    "box"
                )
            object.__setattr__(self, "masks", masks)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __repr__(self) -> str:
        listed = ", ".join(f"{self.class_name(i)} {self.scores[i]:.2f}" for i in range(min(len(self), 5)))
        return f"Detections({len(self)}: {listed}{', ...' if len(self) > 5 else ''})"

    def __getitem__(self, index: int | slice | npt.ArrayLike) -> Detections:
        if not isinstance(index, (int, slice)):
            array = np.asarray(index)
            index = array if array.size else array.astype(np.intp)
        rows = np.atleast_1d(np.arange(len(self))[index])
        masks = self.stored_masks
        if masks is not None:
            masks = masks[rows] if isinstance(masks, np.ndarray) else [masks[i] for i in rows]
        return Detections(self.xyxy[rows], self.scores[rows], self.classes[rows], self.names, masks)

    @property
    def stored_masks(self) -> npt.NDArray[np.bool_] | Sequence[Rle] | None:
        """The masks as they were given: an array, run-length codes, or None."""
        stored: npt.NDArray[np.bool_] | Sequence[Rle] | None = self.__dict__["stored_masks"]
        return stored

    @property
    def rles(self) -> tuple[Rle, ...] | None:
        """The masks as COCO run-length codes, lossless."""
        if isinstance(self.stored_masks, np.ndarray):
            return tuple(rle.encode(mask) for mask in self.stored_masks)
        return None if self.stored_masks is None else tuple(self.stored_masks)

    @classmethod
    def empty(cls, names: Names | None = None) -> Detections:
        """Return detections of length zero.

        Example:
            >>> len(Detections.empty({0: "dog"}))
            0
        """
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), names or {})

    def class_name(self, index: int) -> str:
        """Return the class name of detection `index`, or its class number if `names` lacks it."""
        number = int(self.classes[index])
        return self.names.get(number, str(number))


@runtime_checkable
class Detector(Protocol):
    """The protocol of detectors: anything with `names` and `detect` is one.

    Example:
        >>> class EmptyDetector:
        ...     names = {0: "object"}
        ...     def detect(self, images):
        ...         return [Detections.empty(self.names) for _ in images]
    """

    @property
    def names(self) -> Names:
        """Class number to name; may be empty before the first image."""

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """Detect the objects of each image, (H, W, 3) uint8 RGB of any size, best score first."""


@dataclass(frozen=True)
class DetectOptions:
    """The options of a detector, under their usual names.

    Example:
        >>> DetectOptions(conf=0.4, classes=["dog", 0]).classes
        ('dog', 0)

    Raises:
        InputError: if a value is outside its range.
    """

    conf: float = 0.25
    """Lowest score."""
    iou: float = 0.45
    """Overlap above which the weaker of two boxes is dropped; ignored by detectors without non-maximum suppression."""
    imgsz: int = 640
    """Longer side that images are resized to; ignored by detectors with a fixed size."""
    max_det: int = 300
    """Most detections per image."""
    classes: Sequence[int | str] | None = None
    """Numbers or names of the classes to detect; None: all."""
    text: str | None = None
    """Phrases ended by full stops, for detectors that take text."""
    agnostic_nms: bool = False
    """Whether boxes of different classes can be the same object."""

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)!r} must be a number from 0 to 1")
        if self.imgsz < 32:
            raise InputError(f"imgsz {self.imgsz!r} must be a side in pixels, 32 or more; usual is 640")
        if self.max_det < 1:
            raise InputError(f"max_det {self.max_det!r} must be 1 or more: the most detections an image")
        if self.classes is not None:
            single = isinstance(self.classes, (int, str, np.integer))
            classes: tuple[Any, ...] = (self.classes,) if single else tuple(self.classes)
            for one in classes:
                if isinstance(one, bool) or not isinstance(one, (int, str, np.integer)) or one == "":
                    raise InputError(f"class {one!r} must be a number or a name: classes=[0, 'dog']")
            if not classes:
                raise InputError("classes is empty, which selects nothing; leave it out to have every class")
            object.__setattr__(self, "classes", tuple(one if isinstance(one, str) else int(one) for one in classes))
        if self.text is not None and not self.text.strip(" .\t\n"):
            raise InputError(f"text {self.text!r} names nothing; write phrases ended by full stops: 'a dog. a leash.'")


def resolve_class_ids(classes: ClassesLike | None, names: Names) -> frozenset[int] | None:
    """Resolve class numbers and names to numbers, names regardless of case; None (all classes) stays None.

    If the detector has no names, any number is valid.

    Example:
        >>> sorted(resolve_class_ids(["dog", 0], {0: "person", 16: "dog"}))
        [0, 16]

    Raises:
        InputError: if the detector does not have a class; the message lists those it has.
    """
    if classes is None:
        return None
    shown = ", ".join(f"{number} {name}" for number, name in list(names.items())[:MAX_LISTED_NAMES])
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    known = f"It has {shown}{more}." if names else "It has no class names; give numbers."
    ids: set[int] = set()
    for requested in (classes,) if isinstance(classes, (int, str)) else classes:
        if isinstance(requested, int):
            if names and requested not in names:
                raise InputError(f"class {requested} is unknown to this detector. {known}")
            ids.add(requested)
            continue
        matches = [number for number, name in names.items() if name.casefold() == requested.strip().casefold()]
        if not matches:
            near = difflib.get_close_matches(requested.casefold(), [name.casefold() for name in names.values()], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"class {requested!r} is unknown to this detector.{hint} {known}")
        ids.update(matches)
    return frozenset(ids)


def filter_detections(detections: Detections, options: DetectOptions, *, apply_nms: bool = False) -> Detections:
    """Select detections by the options: `classes`, a score of at least `conf`, best first, at most `max_det`.

    With `apply_nms`, also suppress the weaker of two boxes of one class (`agnostic_nms`: of any) with an IoU above
    `iou`.

    Example:
        >>> detections = Detections([[0, 0, 9, 9], [5, 5, 9, 9]], [0.9, 0.4], [0, 1], {0: "dog", 1: "cat"})
        >>> filter_detections(detections, DetectOptions(conf=0.5, classes=["dog"]))
        Detections(1: dog 0.90)
    """
    keep = detections.scores >= options.conf
    class_ids = resolve_class_ids(options.classes, detections.names)
    if class_ids is not None:
        keep &= np.isin(detections.classes, list(class_ids))
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-detections.scores[rows], kind="stable")]
    if apply_nms:
        classes = None if options.agnostic_nms else detections.classes[rows]
        rows = rows[nms(detections.xyxy[rows], detections.scores[rows], options.iou, classes=classes)]
    return detections[rows[: options.max_det]]


def clip_to_image(detections: Detections, size: tuple[int, int]) -> Detections:
    """Clip boxes to an image of (height, width); detections outside the image are removed.

    Example:
        >>> clip_to_image(Detections([[-5, -5, 10, 10]], [0.9], [0]), (480, 640)).xyxy.tolist()
        [[0.0, 0.0, 10.0, 10.0]]
    """
    height, width = size
    xyxy = np.clip(detections.xyxy, 0, np.array([width, height, width, height], np.float32))
    inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    return Detections(xyxy, detections.scores, detections.classes, detections.names, detections.stored_masks)[inside]


def _to_float_array(values: object, name: str) -> npt.NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} {_format_value(values)} must be numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} {_format_value(numbers)} must be finite numbers, without NaN or infinity")
    return numbers


def _format_value(value: object) -> str:
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 80 else text[:77] + "..."
