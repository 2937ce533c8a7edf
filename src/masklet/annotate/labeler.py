"""A detector and a segmenting model at work: pictures in, records out. One of these lives in every worker.

Boxes are xyxy in pixels of the original picture. Shapes: N objects, H and W of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.annotation_models import Models
from masklet.annotate.annotation_records import Corners, Found, Record
from masklet.annotate.events import BatchDone, FrameDone, ItemDone
from masklet.annotate.inputs import Item
from masklet.annotate.videos import film_steps
from masklet.detect.detector import Detections
from masklet.errors import InputError, SourceError
from masklet.masks.ops import from_masks
from masklet.masks.rle import Rle, decode, encode
from masklet.media.image import Picture, from_file

__all__ = ["Finder"]

Bools = npt.NDArray[np.bool_]

PIXELS_AT_ONCE = 1 << 26
"""Of masks at full size in memory at a time."""
MOST_AT_ONCE = 32
LEAST_SIDE = 2.0
"""Pixels; a thinner box is widened, so that it can be asked about."""


class Finder:
    """What one process annotates with, the models opened when the first picture has been read.

    Example:
        >>> finder = Finder(AnnotateOptions("everything"))
        >>> for step in finder.steps(list_items("photos")[:4], Path("out")):
        ...     print([done.objects for done in step.done])
        [12, 3, 0, 7]
    """

    def __init__(self, options: AnnotateOptions) -> None:
        self._models = Models(options)

    def steps(self, items: Sequence[Item], scratch: Path) -> Iterator[FrameDone | BatchDone]:
        """What is in these pictures, or in this film alone; those that cannot be read say why.

        `scratch` is a folder for what a film needs on the way.

        Raises:
            MaskletError: a model that cannot be had, or a detector without the classes that are wanted.
        """
        if items[0].is_film:
            assert len(items) == 1, "a film is a batch of its own"
            yield from film_steps(self._models, items[0], scratch)
        else:
            yield self._pictures(items)

    def _pictures(self, items: Sequence[Item]) -> BatchDone:
        stamps = [item.stamp() for item in items]
        read = [_read(item) for item in items]
        pictures = [picture for picture in read if isinstance(picture, Picture)]
        found = iter(self._detected(pictures))
        records = [
            _failed(item, one) if isinstance(one, str) else self._record(item, one, next(found))
            for item, one in zip(items, read, strict=True)
        ]
        done = tuple(ItemDone.of(*row) for row in zip(items, stamps, records, strict=True))
        return BatchDone(done, self._models.names)

    def _objects(self, rgb: npt.NDArray[np.uint8], found: Detections) -> tuple[Found, ...]:
        """The detections in a picture with their masks."""
        if not len(found):
            return ()
        codes = found.rles if self._models.draws else None
        if codes is None:
            return tuple(self._segmented(rgb, found))
        _check_sizes(codes, rgb)
        ious = found.scores if self._models.options.sees_everything else None
        return tuple(
            _object(found, row, code, decode(code), None if ious is None else ious[row])
            for row, code in enumerate(codes)
        )

    def _record(self, item: Item, picture: Picture, found: Detections | str) -> Record:
        if isinstance(found, str):
            return _failed(item, found)
        if len(found) and found.kept is None:
            self._models.segmenter  # noqa: B018 - a model that cannot be had is no fault of this picture
        try:
            return Record(item.name, item.path, picture.size, self._objects(picture.rgb, found), item.part)
        except InputError as error:
            return _failed(item, f"{item.path}: {error}")

    def _detected(self, pictures: Sequence[Picture]) -> list[Detections | str]:
        """What the detector found in each picture, or why it could not look at it: one does not spoil the others."""
        if not pictures:
            return []
        self._models.open()
        try:
            return [*self._models.detect([picture.rgb for picture in pictures])]
        except InputError as error:
            self._models.check_classes()
            if len(pictures) == 1:
                return [f"{pictures[0].path}: {error}"]
            return [one for picture in pictures for one in self._detected([picture])]

    def _segmented(self, rgb: npt.NDArray[np.uint8], found: Detections) -> Iterator[Found]:
        """Masks for the detector's boxes, the picture encoded once, some at a time."""
        predictor = self._models.segmenter.predictor
        predictor.set_image(rgb)
        size = rgb.shape[0], rgb.shape[1]
        boxes = _askable(found.xyxy, size)
        some = max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))
        for start in range(0, len(found), some):
            answer = predictor.predict(boxes=boxes[start : start + some]).best
            for row, mask in enumerate(answer.masks[:, 0]):
                yield _object(found, start + row, encode(mask), mask, answer.scores[row, 0])
        predictor.forget()


def _read(item: Item) -> Picture | str:
    try:
        return from_file(item.path)
    except SourceError as error:
        return str(error)


def _failed(item: Item, reason: str) -> Record:
    return Record(item.name, item.path, None, part=item.part, failure=reason)


def _check_sizes(codes: Sequence[Rle], rgb: npt.NDArray[np.uint8]) -> None:
    wrong = next((code["size"] for code in codes if tuple(code["size"]) != rgb.shape[:2]), None)
    if wrong is not None:
        raise InputError(
            f"the detector drew a mask of {wrong} for a picture of {list(rgb.shape[:2])} (height, width): masks are as "
            "large as the picture, or leave detector_masks out to have them drawn"
        )


def _object(found: Detections, row: int, code: Rle, mask: Bools, iou: np.float32 | None) -> Found:
    """A detection with its mask (H, W), which `code` holds."""
    return Found(
        int(found.classes[row]),
        _rounded(found.scores[row]),
        _corners(found.xyxy[row]),
        code,
        int(np.count_nonzero(mask)),
        _corners(from_masks(mask[None])[0]),
        None if iou is None else _rounded(iou),
    )


def _askable(xyxy: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes that a segmenting model takes: within the picture, and no thinner than a pixel or two."""
    limit = np.array([size[1], size[0]], np.float32)
    first, last = np.clip(xyxy[:, :2], 0, limit), np.clip(xyxy[:, 2:], 0, limit)
    missing = np.maximum(LEAST_SIDE - (last - first), 0) / 2
    first, last = np.clip(first - missing, 0, limit), np.clip(last + missing, 0, limit)
    first = np.where(last - first < LEAST_SIDE / 2, np.maximum(last - LEAST_SIDE, 0), first)
    return np.concatenate([first, last], axis=1).astype(np.float32)


def _corners(row: npt.NDArray[np.float32]) -> Corners:
    x1, y1, x2, y2 = (round(float(corner), 2) for corner in row)
    return x1, y1, x2, y2


def _rounded(score: np.float32) -> float:
    return round(float(score), 4)
