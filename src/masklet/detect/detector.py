"""What every detector gives, and what every detector is asked.

Boxes are xyxy in pixels of the original image, x to the right and y down.
Shapes: N detections, H and W of the image.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.ops import nms
from masklet.masks.rle import Rle

__all__ = [
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

MAX_LISTED_NAMES = 20
"""Names a message shows before it says how many more there are."""


class _MaskField:
    """The field `masks`: set to an array or to run-length codes, read as an array."""

    def __get__(self, detections: Detections | None, owner: type | None = None) -> npt.NDArray[np.bool_] | None:
        if detections is None:  # asked for the field's default
            return None
        kept = detections.stored_masks
        if kept is None or isinstance(kept, np.ndarray):
            return kept
        return np.stack([rle.decode(code) for code in kept]) if kept else np.zeros((0, 0, 0), bool)

    def __set__(self, detections: Detections, masks: npt.NDArray[np.bool_] | Sequence[Rle] | None) -> None:
        detections.__dict__["kept"] = masks


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """What a detector found in one image.

    `xyxy` (N, 4) float32 original pixels, `scores` (N,) float32, `classes` (N,) int32, numbers into `names`; `masks`
    (N, H, W) bool where the detector draws them. Masks may be given as COCO run-length codes, a hundredth of the
    memory: `rles` hands them out as they are, and `masks` draws them at every reading. Indexing with a number, a
    slice, or an array of numbers or bools picks rows.

    Example:
        >>> found = Detections([[10, 20, 110, 90]], [0.9], [16], {16: "dog"})
        >>> len(found), found.name_of(0)
        (1, 'dog')

    Raises:
        InputError: shapes that do not match each other, a number that is not finite, a box with x2 < x1 or y2 < y1, a
            class that is no whole number from 0 on.
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
        _freeze(self, "xyxy", xyxy.astype(np.float32))
        _freeze(
            self,
            "scores",
            _check_column(_to_float_array(self.scores, "scores"), len(xyxy), "scores").astype(np.float32),
        )
        _freeze(self, "classes", _check_column(classes, len(xyxy), "classes").astype(np.int32))
        if self.stored_masks is not None:
            _freeze(self, "masks", _checked_masks(self.stored_masks, len(xyxy)))

    def __len__(self) -> int:
        return len(self.xyxy)

    def __repr__(self) -> str:
        found = ", ".join(f"{self.class_name(i)} {self.scores[i]:.2f}" for i in range(min(len(self), 5)))
        return f"Detections({len(self)}: {found}{', ...' if len(self) > 5 else ''})"

    def __getitem__(self, index: int | slice | npt.ArrayLike) -> Detections:
        rows = np.atleast_1d(np.arange(len(self))[index if isinstance(index, (int, slice)) else _picked(index)])
        masks = (
            self.stored_masks[rows]
            if isinstance(self.stored_masks, np.ndarray)
            else self.stored_masks and [self.stored_masks[i] for i in rows]
        )
        return Detections(self.xyxy[rows], self.scores[rows], self.classes[rows], self.names, masks)

    @property
    def stored_masks(self) -> npt.NDArray[np.bool_] | Sequence[Rle] | None:
        """The masks as they were given: an array, run-length codes, or None."""
        kept: npt.NDArray[np.bool_] | Sequence[Rle] | None = self.__dict__["kept"]
        return kept

    @property
    def rles(self) -> tuple[Rle, ...] | None:
        """The masks as COCO run-length codes, lossless.

        Example:
            >>> found.rles[0]["size"]
            [480, 640]
        """
        if isinstance(self.stored_masks, np.ndarray):
            return tuple(rle.encode(mask) for mask in self.stored_masks)
        return None if self.stored_masks is None else tuple(self.stored_masks)

    @classmethod
    def empty(cls, names: Names | None = None) -> Detections:
        """Nothing found.

        Example:
            >>> len(Detections.empty({0: "dog"}))
            0
        """
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), names or {})

    def class_name(self, index: int) -> str:
        """The name of detection `index`; its class number where the detector has no name for it."""
        number = int(self.classes[index])
        return self.names.get(number, str(number))


@runtime_checkable
class Detector(Protocol):
    """What finds objects in images; anything with these two is one.

    Example:
        >>> class Nothing:
        ...     names = {0: "object"}
        ...     def detect(self, images):
        ...         return [Detections.empty(self.names) for _ in images]
    """

    @property
    def names(self) -> Names:
        """Class number to name; may be empty until the first image was looked at."""

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """What is in each image, (H, W, 3) uint8 RGB of any size, best score first."""


@dataclass(frozen=True)
class DetectOptions:
    """What is asked of a detector, under the names people know.

    `conf` is the lowest score, `iou` the overlap from which on the weaker of two boxes is dropped (detectors that need
    no such step ignore it), `imgsz` the longer side that images are brought to (detectors with a size of their own
    ignore it), `max_det` the most detections an image, `classes` numbers or names of the wanted classes (None: all),
    `text` phrases ended by full stops for detectors that take text, `agnostic` whether boxes of different classes count
    as the same object too.

    Example:
        >>> DetectOptions(conf=0.4, classes=["dog", 0])

    Raises:
        InputError: a value outside what is allowed.
    """

    conf: float = 0.25
    iou: float = 0.45
    imgsz: int = 640
    max_det: int = 300
    classes: tuple[int | str, ...] | None = None
    text: str | None = None
    agnostic_nms: bool = False

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)!r} must be a number from 0 to 1")
        if self.imgsz < 32:
            raise InputError(f"imgsz {self.imgsz!r} must be a side in pixels, 32 or more; usual is 640")
        if self.max_det < 1:
            raise InputError(f"max_det {self.max_det!r} must be 1 or more: the most detections an image")
        _freeze(self, "classes", _normalize_classes(self.classes))
        if self.text is not None and not self.text.strip(" .\t\n"):
            raise InputError(f"text {self.text!r} names nothing; write phrases ended by full stops: 'a dog. a leash.'")


def resolve_class_ids(classes: Sequence[int | str] | None, names: Names) -> frozenset[int] | None:
    """The wanted classes as numbers; None when all are wanted. Names are compared without regard to case.

    A number is let through where a detector has no names.

    Example:
        >>> class_numbers(["dog", 0], {0: "person", 16: "dog"})
        frozenset({0, 16})

    Raises:
        InputError: a class the detector does not have; it lists those there are.
    """
    if classes is None:
        return None
    return frozenset(number for wanted in classes for number in _resolve_class_id(wanted, names))


def filter_detections(detections: Detections, options: DetectOptions, *, apply_nms: bool = False) -> Detections:
    """Detections of the wanted classes with a score of at least `conf`, best first, at most `max_det`.

    With `apart`, of two of the same class (`agnostic`: of any) that overlap by more than `iou` the better one.

    Example:
        >>> select(found, DetectOptions(conf=0.5, classes=["dog"]))
    """
    keep = detections.scores >= options.conf
    numbers = resolve_class_ids(options.classes, detections.names)
    if numbers is not None:
        keep &= np.isin(detections.classes, list(numbers))
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-detections.scores[rows], kind="stable")]
    if apply_nms:
        kinds = None if options.agnostic_nms else detections.classes[rows]
        rows = rows[nms(detections.xyxy[rows], detections.scores[rows], options.iou, classes=kinds)]
    return detections[rows[: options.max_det]]


def clip_to_image(detections: Detections, size: tuple[int, int]) -> Detections:
    """Detections with their boxes cut to an image of (height, width); what lies outside altogether is left out.

    Example:
        >>> clipped(Detections([[-5, -5, 10, 10]], [0.9], [0]), (480, 640)).xyxy.tolist()
        [[0.0, 0.0, 10.0, 10.0]]
    """
    height, width = size
    xyxy = np.clip(detections.xyxy, 0, np.array([width, height, width, height], np.float32))
    inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    return Detections(xyxy, detections.scores, detections.classes, detections.names, detections.stored_masks)[inside]


def _resolve_class_id(requested: int | str, names: Names) -> list[int]:
    if isinstance(requested, int):
        if names and requested not in names:
            raise InputError(f"class {requested} is unknown to this detector. {_format_names(names)}")
        return [requested]
    found = [number for number, name in names.items() if name.casefold() == requested.strip().casefold()]
    if not found:
        near = difflib.get_close_matches(requested.casefold(), [name.casefold() for name in names.values()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"class {requested!r} is unknown to this detector.{hint} {_format_names(names)}")
    return found


def _format_names(names: Names) -> str:
    if not names:
        return "It has no class names; give numbers."
    shown = ", ".join(f"{number} {name}" for number, name in list(names.items())[:MAX_LISTED_NAMES])
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return f"It has {shown}{more}."


def _normalize_classes(classes: object) -> tuple[int | str, ...] | None:
    """`classes` as a tuple of ints and names; one alone is meant as a list of one."""
    if classes is None:
        return None
    given: tuple[Any, ...] = (classes,) if isinstance(classes, (int, str, np.integer)) else tuple(classes)  # type: ignore[arg-type]
    for one in given:
        if isinstance(one, bool) or not isinstance(one, (int, str, np.integer)) or one == "":
            raise InputError(f"class {one!r} must be a number or a name: classes=[0, 'dog']")
    if not given:
        raise InputError("classes is empty, which asks for nothing; leave it out to have every class")
    return tuple(one if isinstance(one, str) else int(one) for one in given)


def _to_float_array(values: object, name: str) -> npt.NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} {_format_value(values)} must be numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} {_format_value(numbers)} must be finite numbers, without NaN or infinity")
    return numbers


def _check_column(values: npt.NDArray[np.float64], count: int, name: str) -> npt.NDArray[np.float64]:
    if values.shape != (count,) and not values.size == count == 0:
        raise InputError(f"{count} box(es) and {name} of shape {values.shape} do not match: give one for each box")
    return values.reshape(count)


def _checked_masks(masks: npt.NDArray[np.bool_] | Sequence[Rle], count: int) -> npt.NDArray[np.bool_] | tuple[Rle, ...]:
    if isinstance(masks, Sequence):
        if len(masks) != count or not all(isinstance(code, dict) for code in masks):
            raise InputError(f"{count} box(es) and {len(masks)} mask(s) do not match: give a run-length code for each")
        return tuple(masks)
    masks = np.asarray(masks)
    if masks.ndim != 3 or len(masks) != count or masks.dtype != np.bool_:
        raise InputError(
            f"masks of shape {masks.shape} and type {masks.dtype} must be ({count}, H, W) bool, one for each box"
        )
    return masks


def _picked(index: npt.ArrayLike) -> npt.NDArray[Any]:
    rows = np.asarray(index)
    return rows if rows.size else rows.astype(np.intp)


def _format_value(value: object) -> str:
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _freeze(record: object, name: str, value: object) -> None:
    object.__setattr__(record, name, value)
