"""Stages of a data pipeline: callable values that take columns and return columns.

A stage fits the map functions of Ray Data, Spark and Dask: it can be pickled, its model is opened once in each process
that runs it, and a row that fails has the reason in its column `error` and nothing else.

    item, width, height     of the row; sizes are 0 if it failed
    masks                   COCO run-length codes as JSON, one for each object
    boxes, scores, ids      xyxy in pixels, quality from 0 to 1, and number of each object
    error                   empty, or why the row failed
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from masklet.annotate import AnnotateOptions
from masklet.annotate.annotation_records import ImageAnnotation, unexpected_failure
from masklet.annotate.inputs import InputFile
from masklet.annotate.labeler import Labeler
from masklet.errors import InputError, MaskletError, MissingExtraError, ModelError
from masklet.image.automatic_mask_generator import PRESETS, generate_masks, preset
from masklet.media import SourceImage, Video, open_video
from masklet.scale.stage_base import Stage
from masklet.scale.stage_rows import Cell, ObjectMask, StageInput, StageOutput, object_masks
from masklet.scale.video_chunks import ChunkOptions, track_video
from masklet.video import AutoTrackOptions

if TYPE_CHECKING:
    from masklet.sam import SAM

__all__ = ["Annotator", "Embedder", "ModelStage", "Segmenter", "Stage", "VideoTracker", "open_once"]

Opened = TypeVar("Opened")
_opened: dict[object, object] = {}
_opening = Lock()


def open_once(key: object, open_model: Callable[[], Opened]) -> Opened:
    """Return what `open_model` opens, opened once in this process for each key.

    Example:
        >>> open_once("answer", lambda: [42]) is open_once("answer", lambda: [42])
        True
    """
    with _opening:
        if key not in _opened:
            _opened[key] = open_model()
        return _opened[key]  # type: ignore[return-value]


@dataclass(frozen=True)
class ModelStage(Stage):
    """A stage with a segmentation model, which handles one row at a time; the arguments are those of `SAM`."""

    model: str | None = None
    device: str | None = None
    precision: str = "auto"

    def open_model(self) -> SAM:
        """Return the model, opened once in this process."""
        from masklet.sam import SAM

        key = (self.model, self.device, self.precision)
        return open_once(key, lambda: SAM(self.model, device=self.device, precision=self.precision))

    @abstractmethod
    def process_row(self, model: SAM, row: StageInput) -> StageOutput:
        """Process one row; errors become those of the row."""

    def process(self, rows: Sequence[StageInput]) -> list[StageOutput]:
        """See Stage."""
        model, outputs = self.open_model(), []
        for row in rows:
            try:
                outputs.append(self.process_row(model, row))
            except (MissingExtraError, ModelError):
                raise
            except MaskletError as error:
                outputs.append(self.failed(row.name, str(error)))
            except Exception as error:
                outputs.append(self.failed(row.name, unexpected_failure(row.name, error)))
        return outputs

    def settings(self) -> dict[str, Cell]:
        """See Stage; another device gives the same masks."""
        return {"stage": repr(replace(self, device=None))}


@dataclass(frozen=True)
class Segmenter(ModelStage):
    """Segment everything in images, or the objects that columns prompt.

    Args:
        prompts: "everything", or "columns": points, labels and bboxes of each row, as `SAM` takes them, in lists or as
            JSON. The ids of a row are then the numbers of its prompts.
        everything: How densely to segment: "fast", "default" or "fine".

    Example:
        >>> segment = Segmenter(prompts="columns")
        >>> batch = segment({"path": ["dog.jpg"], "points": [[[150, 150]]]})  # doctest: +SKIP
        >>> len(batch["masks"][0]), batch["error"]  # doctest: +SKIP
        (1, [''])

    Raises:
        InputError: if a value is unknown.
    """

    prompts: Literal["everything", "columns"] = "everything"
    everything: str = "default"

    def __post_init__(self) -> None:
        check_prompting(self.prompts, self.everything)

    def process_row(self, model: SAM, row: StageInput) -> StageOutput:
        """See ModelStage."""
        image = row.read_image()
        if self.prompts == "columns":
            if not row.prompts:
                raise InputError(f"{row.name!r} has no prompt: give points or bboxes, or segment everything")
            [results] = model(image, **row.prompts)  # type: ignore[arg-type]
            return StageOutput(row.name, image.size, object_masks(results))
        predictor = copy.copy(model.predictor)  # several threads may share the model
        found = generate_masks(predictor, image.rgb, preset(predictor.model, self.everything))
        rows = zip(found.rles, found.xyxy.tolist(), found.predicted_ious.tolist(), strict=True)
        objects = (ObjectMask(rle, tuple(box), round(score, 4), id) for id, (rle, box, score) in enumerate(rows))
        return StageOutput(row.name, image.size, tuple(objects))


@dataclass(frozen=True)
class Annotator(Stage):
    """Label images with a detector and a segmentation model, as `masklet.annotate` does.

    Two more columns have the class of each object: `classes`, its number, and `names`.

    Args:
        options: As for `masklet.annotate.annotate`; formats, workers and the review page are not used here.

    Example:
        >>> annotate = Annotator(AnnotateOptions("yolov8n.pt"))
        >>> annotate({"path": ["street.jpg"]})["names"]  # doctest: +SKIP
        [['car', 'car', 'person']]
    """

    columns = (*Stage.columns[:-1], "classes", "names", "error")

    options: AnnotateOptions = field(default_factory=lambda: AnnotateOptions("everything"))

    def process(self, rows: Sequence[StageInput]) -> list[StageOutput]:
        """See Stage; the images of a batch go through the detector together."""
        labeler = open_once(self.options, lambda: Labeler(self.options))
        records: list[ImageAnnotation] = []
        for first in range(0, len(rows), self.options.batch_size):
            images: list[SourceImage | str] = []
            part = rows[first : first + self.options.batch_size]
            for row in part:
                try:
                    images.append(row.read_image())
                except MaskletError as error:
                    images.append(str(error))
                except Exception as error:
                    images.append(unexpected_failure(row.name, error))
            records += labeler.annotate_images([InputFile(row.name, row.path or row.name) for row in part], images)
        return [_annotated(record, labeler.class_names) for record in records]

    def failed(self, name: str, reason: str) -> StageOutput:
        """See Stage."""
        return StageOutput(name, error=reason, extra={"classes": [], "names": []})


def _annotated(record: ImageAnnotation, names: dict[int, str]) -> StageOutput:
    objects = tuple(
        ObjectMask(
            one.rle,
            one.mask_box,
            one.score if one.predicted_iou is None else one.predicted_iou,
            number,
            one.class_id,
        )
        for number, one in enumerate(record.objects)
    )
    classes = [one.class_id for one in objects]
    extra: dict[str, Cell] = {"classes": classes, "names": [names.get(one, str(one)) for one in classes]}
    return StageOutput(record.name, record.size or (0, 0), objects, record.failure, extra)


@dataclass(frozen=True)
class Embedder(ModelStage):
    """Compute the embedding of images: `embedding` has its numbers (float32) in one row, `shape` its shape.

    Args:
        pooled: True: the mean over the image, (C,). False: the whole embedding at stride 16, (C, h, w).

    Example:
        >>> embed = Embedder(pooled=False)
        >>> batch = embed({"path": ["dog.jpg"]})  # doctest: +SKIP
        >>> batch["embedding"][0].reshape(batch["shape"][0]).shape  # doctest: +SKIP
        (256, 64, 64)
    """

    columns = ("item", "width", "height", "embedding", "shape", "error")

    pooled: bool = True

    def process_row(self, model: SAM, row: StageInput) -> StageOutput:
        """See ModelStage."""
        image, predictor = row.read_image(), copy.copy(model.predictor)
        predictor.set_image(image.rgb)
        assert predictor.features is not None
        values = predictor.features.embed_BCHW[0].float().cpu().numpy()
        if self.pooled:
            values = values.mean(axis=(1, 2))
        return StageOutput(
            row.name, image.size, extra={"embedding": values.ravel(), "shape": [int(side) for side in values.shape]}
        )

    def failed(self, name: str, reason: str) -> StageOutput:
        """See Stage."""
        empty = np.zeros(0, np.float32)
        return StageOutput(name, error=reason, extra={"embedding": empty, "shape": [0]})


@dataclass(frozen=True)
class VideoTracker(ModelStage):
    """Track objects through videos; one video is one row.

    The masks of all frames stand in one row: three more columns have, for each mask, the number of its `frames`, and
    for the video `num_frames` and `seams`, JSON with the agreement of its chunks (see `ChunkOptions`).

    Args:
        prompts: "everything", or "columns": points, labels, bboxes, object_ids and frame_idx of each row.
        everything: How densely objects are detected without prompts.
        chunks: How long videos are cut.
        auto_options: Of tracking without prompts.

    Example:
        >>> track = VideoTracker(chunks=ChunkOptions(500, 8))
        >>> batch = track({"path": ["street.mp4"]})  # doctest: +SKIP
        >>> batch["num_frames"], len(batch["masks"][0]), batch["seams"]  # doctest: +SKIP
        ([920], 4120, ['[{"frame_idx": 492, "id": 1, "iou": 0.97}]'])

    Raises:
        InputError: if a value is unknown.
    """

    columns = (*Stage.columns[:-1], "frames", "num_frames", "seams", "error")

    prompts: Literal["everything", "columns"] = "everything"
    everything: str = "fast"
    chunks: ChunkOptions = field(default_factory=ChunkOptions)
    auto_options: AutoTrackOptions = field(default_factory=AutoTrackOptions)

    def __post_init__(self) -> None:
        check_prompting(self.prompts, self.everything)

    def process_row(self, model: SAM, row: StageInput) -> StageOutput:
        """See ModelStage."""
        if self.prompts == "columns" and not row.prompts:
            raise InputError(f"{row.name!r} has no prompt: give points or bboxes, or track everything")
        with video_source(row) as open_source:
            video = track_video(
                model,
                open_source,
                row.prompts if self.prompts == "columns" else {},
                self.chunks,
                everything=self.everything,
                auto_options=self.auto_options,
            )
        extra: dict[str, Cell] = {
            "frames": [one.frame_idx for one in video.objects],
            "num_frames": video.num_frames,
            "seams": json.dumps([asdict(one) for one in video.seams]),
        }
        return StageOutput(row.name, video.size, video.objects, extra=extra)

    def failed(self, name: str, reason: str) -> StageOutput:
        """See Stage."""
        return StageOutput(name, error=reason, extra={"frames": [], "num_frames": 0, "seams": "[]"})


@contextmanager
def video_source(row: StageInput) -> Iterator[Callable[[], Video]]:
    """Return what opens the video of a row; bytes are written to a temporary file while the block runs.

    Raises:
        InputError: if the row has no video.
    """
    if row.content is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("video" + (os.path.splitext(row.path or row.name)[1] or ".mp4"))
            path.write_bytes(row.content)
            yield partial(open_video, path)
        return
    if row.pixels is None and not row.path:
        raise InputError(f"{row.name!r} has no video; one of the columns path, bytes, image must have it")
    yield partial(open_video, row.path if row.pixels is None else row.pixels)


def check_prompting(prompts: str, everything: str) -> None:
    """Check where prompts come from, and the name of a preset of the mask generator.

    Raises:
        InputError: if one is unknown.
    """
    if prompts not in ("everything", "columns"):
        raise InputError(f"prompts={prompts!r} is unknown; choose 'everything' or 'columns'")
    if everything not in PRESETS:
        raise InputError(f"everything={everything!r} is unknown; choose one of {', '.join(PRESETS)}")
