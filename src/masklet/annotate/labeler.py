"""Annotate batches of images and videos with a detector and a segmentation model, in one process or several.

Boxes are xyxy in pixels of the original image. Shapes: N objects, H and W of the image.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.annotation_models import Models
from masklet.annotate.annotation_records import BoxXyxy, ImageAnnotation, ObjectAnnotation, unexpected_failure
from masklet.annotate.events import BatchDone, FrameDone, InputDone
from masklet.annotate.inputs import InputFile
from masklet.annotate.videos import annotate_video
from masklet.detect.detector import Detections
from masklet.errors import InputError, MissingExtraError, ModelError, OutputError, SourceError
from masklet.masks.ops import masks_to_boxes
from masklet.masks.rle import Rle, decode, encode
from masklet.media.image import SourceImage, from_file
from masklet.worker_pool import WorkerPool

__all__ = ["Labeler", "annotate_batches"]

MAX_MASK_PIXELS = 1 << 26
"""Pixels of full-size masks in memory at a time."""
MAX_BOXES_PER_BATCH = 32
MIN_BOX_SIDE = 2.0
"""Pixels; a thinner box is widened, so that it can be a prompt."""
STOP_TIMEOUT_S = 1.0
"""Time for workers to finish a frame or batch when a run ends early; the next run annotates other ones again."""


def annotate_batches(
    batches: Iterable[Sequence[InputFile]], options: AnnotateOptions, temp_dir: Path
) -> Iterator[FrameDone | BatchDone]:
    """Annotate batches and yield their events: in the order of the batches with one worker, else in any order.

    A batch is some images, or one video; `temp_dir` is a folder for the records of videos in progress. Each worker is a
    process with its own models. After an error or Ctrl-C, the events that workers sent by then are yielded first.

    Example:
        >>> for event in annotate_batches([list_inputs("photos")], options, Path("out")):  # doctest: +SKIP
        ...     print(len(event.done))

    Raises:
        MaskletError: if a model cannot be loaded, or the detector lacks a requested class.
        InputError: if there are several workers and the detector cannot be pickled.
        StateError: if a worker process ended unexpectedly.
    """
    if options.workers == 1:
        labeler = Labeler(options)
        for batch in batches:
            yield from labeler.annotate(batch, temp_dir)
        return
    try:
        pickle.dumps(options)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the detector {options.det_model!r:.80} cannot be sent to other processes ({error}); define it at the top "
            "of a module, or use one worker"
        ) from error
    with WorkerPool(
        partial(Labeler, options),
        partial(_annotate_in_worker, temp_dir),
        options.workers,
        name="masklet annotate",
        stop_timeout_s=STOP_TIMEOUT_S,
    ) as pool:
        try:
            for _, event in pool.run(batches):
                yield event
        except (Exception, KeyboardInterrupt):
            for _, event in pool.drain():
                yield event
            raise


def _annotate_in_worker(
    temp_dir: Path, labeler: Labeler, batch: Sequence[InputFile], emit: Callable[[FrameDone | BatchDone], None]
) -> None:
    for event in labeler.annotate(batch, temp_dir):
        emit(event)


class Labeler:
    """Annotate batches; the models are loaded when the first image has been read.

    Example:
        >>> labeler = Labeler(AnnotateOptions("everything"))
        >>> for event in labeler.annotate(list_inputs("photos")[:4], Path("out")):  # doctest: +SKIP
        ...     print([one.objects for one in event.done])
        [12, 3, 0, 7]
    """

    def __init__(self, options: AnnotateOptions) -> None:
        self._models = Models(options)

    def annotate(self, items: Sequence[InputFile], temp_dir: Path) -> Iterator[FrameDone | BatchDone]:
        """Annotate some images, or one video, whose records go to a file in `temp_dir`.

        An input that cannot be read, or that ends in any other error, becomes a record with a failure.

        Raises:
            MaskletError: if a model cannot be loaded, or the detector lacks a requested class.
        """
        if items[0].is_video:
            assert len(items) == 1, "a batch has one video"
            yield from annotate_video(self._models, items[0], temp_dir)
            return
        fingerprints = [item.fingerprint() for item in items]
        images: list[SourceImage | str] = []
        for item in items:
            try:
                images.append(from_file(item.path))
            except SourceError as error:
                images.append(str(error))
            except Exception as error:
                images.append(unexpected_failure(item.path, error))
        records = self.annotate_images(items, images)
        done = (InputDone.from_record(*row) for row in zip(items, fingerprints, records, strict=True))
        yield BatchDone(tuple(done), self._models.class_names)

    def annotate_images(self, items: Sequence[InputFile], images: Sequence[SourceImage | str]) -> list[ImageAnnotation]:
        """Annotate images that are in memory; a text in place of an image is why it could not be read.

        An image that ends in an error becomes a record with a failure.

        Raises:
            MaskletError: if a model cannot be loaded, or the detector lacks a requested class.
        """
        detections = iter(self._detect([image for image in images if isinstance(image, SourceImage)]))
        return [
            ImageAnnotation(item.name, item.path, None, split=item.split, failure=image)
            if isinstance(image, str)
            else self._annotate_image(item, image, next(detections))
            for item, image in zip(items, images, strict=True)
        ]

    @property
    def class_names(self) -> dict[int, str]:
        """The class names known so far; some detectors name a class only when they detect it."""
        return self._models.class_names

    def _detect(self, images: Sequence[SourceImage]) -> list[Detections | str]:
        """The detections of each image, or why it failed: one image does not fail the others."""
        if not images:
            return []
        self._models.load()
        try:
            return [*self._models.detect([image.rgb for image in images])]
        except (MissingExtraError, ModelError, OutputError):
            raise
        except Exception as error:
            self._models.check_classes()
            if len(images) == 1:
                expected = isinstance(error, InputError)
                return [f"{images[0].path}: {error}" if expected else unexpected_failure(images[0].path, error)]
            return [result for image in images for result in self._detect([image])]

    def _annotate_image(self, item: InputFile, image: SourceImage, detections: Detections | str) -> ImageAnnotation:
        failure = detections if isinstance(detections, str) else ""
        objects: tuple[ObjectAnnotation, ...] = ()
        if isinstance(detections, Detections) and len(detections):
            if detections.stored_masks is None:
                self._models.load_segmenter()  # outside of the try: a model that cannot be loaded fails the run
            try:
                objects = tuple(self._annotate_objects(image.rgb, detections))
            except InputError as error:
                failure = f"{item.path}: {error}"
            except Exception as error:
                failure = unexpected_failure(item.path, error)
        if failure:
            return ImageAnnotation(item.name, item.path, None, split=item.split, failure=failure)
        return ImageAnnotation(item.name, item.path, image.size, objects, item.split)

    def _annotate_objects(self, rgb: npt.NDArray[np.uint8], detections: Detections) -> Iterator[ObjectAnnotation]:
        """The detections with their masks: those of the detector, or predicted from the boxes in batches."""
        size = rgb.shape[0], rgb.shape[1]
        rles = detections.rles if self._models.uses_detector_masks else None
        if rles is not None:
            wrong = next((rle["size"] for rle in rles if tuple(rle["size"]) != size), None)
            if wrong is not None:
                raise InputError(
                    f"the detector drew a mask of {wrong} for an image of {list(size)} (height, width): masks have the "
                    "size of the image; fix the detector, or remove detector_masks to predict the masks"
                )
            ious = detections.scores if self._models.options.uses_mask_generator else None
            for row, rle in enumerate(rles):
                yield _object_annotation(detections, row, rle, decode(rle), None if ious is None else ious[row])
            return
        predictor = self._models.load_segmenter().predictor
        predictor.set_image(rgb)
        boxes = _clip_boxes(detections.xyxy, size)
        step = max(1, min(MAX_BOXES_PER_BATCH, MAX_MASK_PIXELS // (size[0] * size[1])))
        for start in range(0, len(detections), step):
            prediction = predictor.predict(box=boxes[start : start + step]).best
            for row, mask in enumerate(prediction.masks[:, 0]):
                yield _object_annotation(detections, start + row, encode(mask), mask, prediction.scores[row, 0])
        predictor.reset()


def _object_annotation(
    detections: Detections, row: int, rle: Rle, mask: npt.NDArray[np.bool_], iou: np.float32 | None
) -> ObjectAnnotation:
    return ObjectAnnotation(
        int(detections.classes[row]),
        round(float(detections.scores[row]), 4),
        _rounded_box(detections.xyxy[row]),
        rle,
        int(np.count_nonzero(mask)),
        _rounded_box(masks_to_boxes(mask[None])[0]),
        None if iou is None else round(float(iou), 4),
    )


def _clip_boxes(xyxy: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Clip boxes to the image, and widen thin ones, so that they are valid prompts."""
    limit = np.array([size[1], size[0]], np.float32)
    first, last = np.clip(xyxy[:, :2], 0, limit), np.clip(xyxy[:, 2:], 0, limit)
    missing = np.maximum(MIN_BOX_SIDE - (last - first), 0) / 2
    first, last = np.clip(first - missing, 0, limit), np.clip(last + missing, 0, limit)
    first = np.where(last - first < MIN_BOX_SIDE / 2, np.maximum(last - MIN_BOX_SIDE, 0), first)
    return np.concatenate([first, last], axis=1).astype(np.float32)


def _rounded_box(row: npt.NDArray[np.float32]) -> BoxXyxy:
    x1, y1, x2, y2 = (round(float(corner), 2) for corner in row)
    return x1, y1, x2, y2
