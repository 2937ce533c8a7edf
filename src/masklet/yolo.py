"""`YOLO` and `FastSAM`: models called with an image, as people know them.

Boxes and points are in pixels of the original image, x to the right and y down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from typing import Any, Literal

import numpy as np

from masklet.checkpoints import Progress
from masklet.detect.clip import DEFAULT_CLIP_MODEL, TextScorer, load_clip
from masklet.detect.detector import Detections, DetectOptions
from masklet.detect.fastsam import select_by_prompts, select_by_text
from masklet.detect.yolo import YOLODetector
from masklet.errors import InputError, PromptError
from masklet.media import ImageIterator, SourceImage, open_images
from masklet.prompts import ObjectPrompt, parse_prompts
from masklet.results import Masks, Results

__all__ = ["YOLO", "FastSAM", "YOLOInfo"]

Channels = Literal["rgb", "bgr"]
Speed = dict[str, float]


@dataclass(frozen=True)
class YOLOInfo:
    """What a model is and under which terms; `print(model.info())` shows it."""

    name: str
    path: str
    parameters: int
    num_classes: int
    has_masks: bool
    """Whether it draws masks, or finds boxes alone."""
    megabytes: float
    """Of the file."""
    license_code: str
    license_weights: str
    device: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.parameters / 1e6:.1f} M parameters, {self.megabytes:.1f} MB, "
            f"{'masks' if self.has_masks else 'boxes'} of {self.num_classes} class{'' if self.num_classes == 1 else 'es'}, "  # noqa: E501
            f"on {self.device}\n"
            f"file: {self.path}\n"
            f"license: code {self.license_code}, weights {self.license_weights}"
        )


class YOLO:
    """YOLOv8: boxes and classes of what is in an image, and masks with the models whose names end in -seg.

    `model` is a published name (`yolov8n.pt` to `yolov8x.pt`, `yolov8n-seg.pt` to `yolov8x-seg.pt`) or a file of the
    same architecture with any classes. The weights have a license of their own, which is logged once for each file.

    Example:
        >>> model = YOLO("yolov8n-seg.pt")
        >>> results = model("street.jpg", conf=0.4, classes=["person", "dog"])
        >>> results[0].boxes.xyxy.shape, results[0].masks.data.shape
        ((3, 4), (3, 480, 640))

    Raises:
        UnknownModelError, DownloadError, CheckpointError: the model cannot be had.
        InputError: a model of another kind, an unknown device.
    """

    def __init__(
        self,
        model: str | PathLike[str] = "yolov8n.pt",
        *,
        device: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.detector = YOLODetector(model, device=device or "", rle_masks=False, progress=progress)

    @property
    def names(self) -> dict[int, str]:
        """Class number to name."""
        return dict(self.detector.names)

    def info(self) -> YOLOInfo:
        """Name, size, file and licenses."""
        loaded = self.detector.loaded
        return YOLOInfo(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            num_classes=loaded.network.config.classes,
            has_masks=loaded.network.config.is_segmenter,
            megabytes=loaded.path.stat().st_size / 1e6,
            license_code="Apache-2.0",
            license_weights=loaded.license_weights,
            device=str(self.detector.device),
        )

    def __call__(
        self,
        source: object,
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        imgsz: int = 640,
        max_det: int = 300,
        classes: object = None,
        agnostic_nms: bool = False,
        batch: int = 1,
        channels: Channels = "rgb",
    ) -> list[Results]:
        """Find what is in every image of `source`: a `Results` an image, best score first.

        `source` is a path, URL, folder, glob, PIL image, NumPy array (RGB unless `channels` says bgr) or a list of
        these. `conf` is the lowest score; of two boxes of a class (`agnostic`: of any) that overlap by more than `iou`
        the weaker is dropped; `imgsz` is the longer side the network sees, `max_det` the most objects an image,
        `classes` names or numbers of the wanted classes, `batch` how many images share a pass.

        Raises:
            SourceError: a source that cannot be read.
            InputError: an option that cannot be meant, a class the model does not have.
        """
        return list(
            self.stream(
                source,
                conf=conf,
                iou=iou,
                imgsz=imgsz,
                max_det=max_det,
                classes=classes,
                agnostic_nms=agnostic_nms,
                batch=batch,
                channels=channels,
            )
        )

    predict = __call__

    def stream(
        self,
        source: object,
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        imgsz: int = 640,
        max_det: int = 300,
        classes: object = None,
        agnostic_nms: bool = False,
        batch: int = 1,
        channels: Channels = "rgb",
    ) -> Iterator[Results]:
        """As calling the model, but one `Results` at a time: a long folder needs the memory of `batch` images."""
        options = DetectOptions(conf, iou, imgsz, max_det, classes, agnostic_nms=agnostic_nms)  # type: ignore[arg-type]
        self.detector.options = options
        _check_batch(batch)
        images = open_images(source, channels=channels)  # type: ignore[arg-type]

        def results() -> Iterator[Results]:
            for some in _batches(images, batch):
                self.detector.options = options
                for image, (found, speed) in zip(some, self.detector.detect_timed([p.rgb for p in some]), strict=True):
                    yield _to_results(image, found, speed)

        return results()


class FastSAM:
    """FastSAM: everything in an image in one pass, and of that what boxes, points or texts mean.

    `model` is `FastSAM-s.pt`, `FastSAM-x.pt`, or a file of a YOLOv8 segmenter. `clip` answers texts: a name on the hub
    or a folder of a CLIP model (extra `transformers`), or a function of images and texts that says how alike they
    are, (N, T). The weights have a license of their own, which is logged once for each file.

    Example:
        >>> model = FastSAM("FastSAM-s.pt")
        >>> everything = model("dog.jpg")
        >>> dog = model("dog.jpg", bboxes=[100, 100, 300, 400])
        >>> same = model("dog.jpg", points=[[[150, 200], [20, 20]]], labels=[[1, 0]])
        >>> dogs = model("dog.jpg", texts="a dog")

    Raises:
        UnknownModelError, DownloadError, CheckpointError: the model cannot be had.
        InputError: a model that draws no masks, an unknown device.
    """

    def __init__(
        self,
        model: str | PathLike[str] = "FastSAM-s.pt",
        *,
        device: str | None = None,
        clip: str | TextScorer = DEFAULT_CLIP_MODEL,
        progress: Progress | None = None,
    ) -> None:
        self._yolo = YOLO(model, device=device, progress=progress)
        self._clip = clip
        if not self.detector.with_masks:
            raise InputError(f"{self.detector.loaded.name} finds boxes and draws no masks; take FastSAM-s.pt or a -seg")

    @property
    def detector(self) -> YOLODetector:
        """The network and its options."""
        return self._yolo.detector

    @property
    def names(self) -> dict[int, str]:
        """Class number to name."""
        return self._yolo.names

    def info(self) -> YOLOInfo:
        """Name, size, file and licenses."""
        return self._yolo.info()

    def __call__(
        self,
        source: object,
        *,
        bboxes: object = None,
        points: object = None,
        labels: object = None,
        texts: str | Sequence[str] | None = None,
        conf: float = 0.4,
        iou: float = 0.9,
        imgsz: int = 1024,
        max_det: int = 300,
        multimask: bool = False,
        channels: Channels = "rgb",
    ) -> list[Results]:
        """Everything in every image of `source`, or what the prompts mean: a `Results` an image.

        Prompts are spelt as for `SAM`: `bboxes=[x1, y1, x2, y2]`, `points=[x, y]`, `[[x, y], [x, y]]` for two objects
        and `[[[x, y], [x, y]]]` for one with two points, `labels` nested alike, 1 on the object and 0 off it. Each
        prompt is answered by the mask with most of its points and none of its negative ones, and the largest overlap
        with its box; `multimask=True` answers with all that fit, best first. `ids` say which prompt a row
        answers; one that nothing answers has no row.

        `texts` instead are each answered by the object most like it, whose class then is the text.

        Raises:
            SourceError: a source that cannot be read.
            PromptError: prompts that cannot be meant, or texts and other prompts at once.
            MissingExtraError, DownloadError: texts, and no CLIP model to be had.
        """
        return list(
            self.stream(
                source,
                bboxes=bboxes,
                points=points,
                labels=labels,
                texts=texts,
                conf=conf,
                iou=iou,
                imgsz=imgsz,
                max_det=max_det,
                multimask=multimask,
                channels=channels,
            )
        )

    predict = __call__

    def stream(
        self,
        source: object,
        *,
        bboxes: object = None,
        points: object = None,
        labels: object = None,
        texts: str | Sequence[str] | None = None,
        conf: float = 0.4,
        iou: float = 0.9,
        imgsz: int = 1024,
        max_det: int = 300,
        multimask: bool = False,
        channels: Channels = "rgb",
    ) -> Iterator[Results]:
        """As calling the model, but one `Results` at a time: a long folder needs the memory of one image."""
        options = DetectOptions(conf, iou, imgsz, max_det)
        wanted = _texts(texts)
        prompted = bboxes is not None or points is not None or labels is not None
        if wanted and prompted:
            raise PromptError("texts were given with points or bboxes; ask for texts by themselves")
        likeness = self._text_scorer() if wanted else None
        images = open_images(source, channels=channels)  # type: ignore[arg-type]

        def results() -> Iterator[Results]:
            for image in images:
                asked = parse_prompts(points, labels, bboxes, None, size=image.size) if prompted else []
                found, speed = self._detect(image, options, rle_masks=bool(prompted or wanted))
                if likeness is not None:
                    yield _results_by_text(image, found, speed, wanted, likeness)
                elif prompted:
                    yield _results_by_prompts(image, found, speed, asked, multimask=multimask)
                else:
                    yield _to_results(image, found, speed)

        return results()

    def _detect(self, image: SourceImage, options: DetectOptions, *, rle_masks: bool) -> tuple[Detections, Speed]:
        self.detector.options, self.detector.rle_masks = options, rle_masks
        ((found, speed),) = self.detector.detect_timed([image.rgb])
        return found, speed

    def _text_scorer(self) -> TextScorer:
        if isinstance(self._clip, str):
            self._clip = load_clip(self._clip, str(self.detector.device))
        return self._clip


def _check_batch(count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"batch={count!r} must be 1 or more: the images that share a pass")


def _batches(images: ImageIterator, count: int) -> Iterator[list[SourceImage]]:
    while some := list(islice(images, count)):
        yield some


def _texts(texts: str | Sequence[str] | None) -> list[str]:
    if texts is None:
        return []
    wanted = [texts] if isinstance(texts, str) else list(texts)
    if not wanted or not all(isinstance(text, str) and text.strip() for text in wanted):
        raise PromptError(f"texts {texts!r} must be words for one object or more: texts=['a dog', 'a leash']")
    return wanted


def _to_results(image: SourceImage, detections: Detections, speed: Speed, **extra_fields: Any) -> Results:
    """A detector's answer as the one type of results; `more` are further fields."""
    masks = detections.masks
    fields: dict[str, Any] = {"classes": detections.classes, "names": dict(detections.names), **extra_fields}
    return Results(
        image.rgb,
        image.path,
        None if masks is None or not len(detections) else Masks(masks),
        detections.scores,
        speed=speed,
        xyxy=detections.xyxy,
        **fields,
    )


def _results_by_prompts(
    image: SourceImage, detections: Detections, speed: Speed, prompts: Sequence[ObjectPrompt], *, multimask: bool
) -> Results:
    started = time.perf_counter()
    chosen = select_by_prompts(detections, prompts, multimask=multimask)
    numbers = np.array([number for number, _ in chosen], np.int32)
    return _to_results(
        image, detections[[row for _, row in chosen]], _add_prompt_time(speed, started), ids=numbers
    )


def _results_by_text(
    image: SourceImage, detections: Detections, speed: Speed, texts: Sequence[str], scorer: TextScorer
) -> Results:
    started = time.perf_counter()
    chosen = select_by_text(detections, image.rgb, texts, scorer)
    numbers = np.array([number for number, _ in chosen], np.int32)
    names: Mapping[int, str] = dict(enumerate(texts))
    meant = replace(detections[[row for _, row in chosen]], classes=numbers, names=names)
    return _to_results(image, meant, _add_prompt_time(speed, started), ids=numbers)


def _add_prompt_time(speed: Speed, started: float) -> Speed:
    return {**speed, "prompts": 1e3 * (time.perf_counter() - started)}
