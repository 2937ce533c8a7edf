"""A detector and a segmenting model at work: images in, records out. One of these lives in every worker.

Boxes are xyxy in pixels of the original image. Shapes: N objects, H and W of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.annotation_models import Models
from masklet.annotate.annotation_records import BoxXyxy, ImageAnnotation, ObjectAnnotation
from masklet.annotate.events import BatchDone, FrameDone, InputDone
from masklet.annotate.inputs import InputFile
from masklet.annotate.videos import annotate_video
from masklet.detect.detector import Detections
from masklet.errors import InputError, SourceError
from masklet.masks.ops import masks_to_boxes
from masklet.masks.rle import Rle, decode, encode
from masklet.media.image import SourceImage, from_file

__all__ = ["Labeler"]

Bools = npt.NDArray[np.bool_]

MAX_MASK_PIXELS = 1 << 26
"""Of masks at full size in memory at a time."""
MAX_BOXES_PER_BATCH = 32
MIN_BOX_SIDE = 2.0
"""Pixels; a thinner box is widened, so that it can be asked about."""


class Labeler:
    """What one process annotates with, the models opened when the first image has been read.

    Example:
        >>> finder = Finder(AnnotateOptions("everything"))
        >>> for step in finder.steps(list_items("photos")[:4], Path("out")):
        ...     print([done.objects for done in step.done])
        [12, 3, 0, 7]
    """

    def __init__(self, options: AnnotateOptions) -> None:
        self._models = Models(options)

    def annotate(self, items: Sequence[InputFile], temp_dir: Path) -> Iterator[FrameDone | BatchDone]:
        """What is in these images, or in this video alone; those that cannot be read say why.

        `scratch` is a folder for what a video needs on the way.

        Raises:
            MaskletError: a model that cannot be had, or a detector without the classes that are wanted.
        """
        if items[0].is_video:
            assert len(items) == 1, "a video is a batch of its own"
            yield from annotate_video(self._models, items[0], temp_dir)
        else:
            yield self._annotate_images(items)

    def _annotate_images(self, items: Sequence[InputFile]) -> BatchDone:
        stamps = [item.fingerprint() for item in items]
        read = [_read_image(item) for item in items]
        images = [image for image in read if isinstance(image, SourceImage)]
        found = iter(self._detect(images))
        records = [
            _failed_annotation(item, one) if isinstance(one, str) else self._annotate_image(item, one, next(found))
            for item, one in zip(items, read, strict=True)
        ]
        done = tuple(InputDone.from_record(*row) for row in zip(items, stamps, records, strict=True))
        return BatchDone(done, self._models.class_names)

    def _annotate_objects(self, rgb: npt.NDArray[np.uint8], detections: Detections) -> tuple[ObjectAnnotation, ...]:
        """The detections in an image with their masks."""
        if not len(detections):
            return ()
        codes = detections.rles if self._models.uses_detector_masks else None
        if codes is None:
            return tuple(self._segment(rgb, detections))
        _check_sizes(codes, rgb)
        ious = detections.scores if self._models.options.uses_mask_generator else None
        return tuple(
            _object_annotation(detections, row, code, decode(code), None if ious is None else ious[row])
            for row, code in enumerate(codes)
        )

    def _annotate_image(self, item: InputFile, image: SourceImage, detections: Detections | str) -> ImageAnnotation:
        if isinstance(detections, str):
            return _failed_annotation(item, detections)
        if len(detections) and detections.stored_masks is None:
            self._models.segmenter  # noqa: B018
        try:
            return ImageAnnotation(
                item.name, item.path, image.size, self._annotate_objects(image.rgb, detections), item.split
            )
        except InputError as error:
            return _failed_annotation(item, f"{item.path}: {error}")

    def _detect(self, images: Sequence[SourceImage]) -> list[Detections | str]:
        """What the detector found in each image, or why it could not look at it: one does not spoil the others."""
        if not images:
            return []
        self._models.load()
        try:
            return [*self._models.detect([image.rgb for image in images])]
        except InputError as error:
            self._models.check_classes()
            if len(images) == 1:
                return [f"{images[0].path}: {error}"]
            return [one for image in images for one in self._detect([image])]

    def _segment(self, rgb: npt.NDArray[np.uint8], detections: Detections) -> Iterator[ObjectAnnotation]:
        """Masks for the detector's boxes, the image encoded once, some at a time."""
        predictor = self._models.segmenter.predictor
        predictor.set_image(rgb)
        size = rgb.shape[0], rgb.shape[1]
        boxes = _clip_boxes(detections.xyxy, size)
        some = max(1, min(MAX_BOXES_PER_BATCH, MAX_MASK_PIXELS // (size[0] * size[1])))
        for start in range(0, len(detections), some):
            answer = predictor.predict(box=boxes[start : start + some]).best
            for row, mask in enumerate(answer.masks[:, 0]):
                yield _object_annotation(detections, start + row, encode(mask), mask, answer.scores[row, 0])
        predictor.reset()


def _read_image(item: InputFile) -> SourceImage | str:
    try:
        return from_file(item.path)
    except SourceError as error:
        return str(error)


def _failed_annotation(item: InputFile, reason: str) -> ImageAnnotation:
    return ImageAnnotation(item.name, item.path, None, split=item.split, failure=reason)


def _check_sizes(codes: Sequence[Rle], rgb: npt.NDArray[np.uint8]) -> None:
    wrong = next((code["size"] for code in codes if tuple(code["size"]) != rgb.shape[:2]), None)
    if wrong is not None:
        raise InputError(
            f"the detector drew a mask of {wrong} for an image of {list(rgb.shape[:2])} (height, width): masks are as "
            "large as the image, or leave detector_masks out to have them drawn"
        )


def _object_annotation(
    detections: Detections, row: int, rle: Rle, mask: Bools, iou: np.float32 | None
) -> ObjectAnnotation:
    """A detection with its mask (H, W), which `code` holds."""
    return ObjectAnnotation(
        int(detections.classes[row]),
        _round_score(detections.scores[row]),
        _rounded_box(detections.xyxy[row]),
        rle,
        int(np.count_nonzero(mask)),
        _rounded_box(masks_to_boxes(mask[None])[0]),
        None if iou is None else _round_score(iou),
    )


def _clip_boxes(xyxy: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes that a segmenting model takes: within the image, and no thinner than a pixel or two."""
    limit = np.array([size[1], size[0]], np.float32)
    first, last = np.clip(xyxy[:, :2], 0, limit), np.clip(xyxy[:, 2:], 0, limit)
    missing = np.maximum(MIN_BOX_SIDE - (last - first), 0) / 2
    first, last = np.clip(first - missing, 0, limit), np.clip(last + missing, 0, limit)
    first = np.where(last - first < MIN_BOX_SIDE / 2, np.maximum(last - MIN_BOX_SIDE, 0), first)
    return np.concatenate([first, last], axis=1).astype(np.float32)


def _rounded_box(row: npt.NDArray[np.float32]) -> BoxXyxy:
    x1, y1, x2, y2 = (round(float(corner), 2) for corner in row)
    return x1, y1, x2, y2


def _round_score(score: np.float32) -> float:
    return round(float(score), 4)
