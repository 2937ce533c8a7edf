"""`YOLO` and `FastSAM`: detection and segmentation models called with images.

Boxes and points are in pixels of the original image, x to the right and y down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from masklet.checkpoints import Progress
from masklet.detect.clip import DEFAULT_CLIP_MODEL, TextScorer, load_clip
from masklet.detect.detector import ClassesLike, Detections, DetectOptions, resolve_class_ids
from masklet.detect.fastsam import select_by_prompts, select_by_text
from masklet.detect.yolo import YOLODetector
from masklet.errors import InputError, PromptError
from masklet.foreign_keywords import explain_keywords
from masklet.media import SourceImage, SourceLike, open_images
from masklet.media.image import Channels
from masklet.prompts import BoxesLike, LabelsLike, PointsLike, parse_prompts
from masklet.results import Masks, Results
from masklet.runtime import DeviceLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["YOLO", "FastSAM", "FastSAMKeywords", "YOLOInfo", "YOLOKeywords"]

Speed = dict[str, float]


@dataclass(frozen=True)
class YOLOInfo:
    """Name, size, file and licenses of a model; `print(model.info())` shows them."""

    name: str
    path: str
    parameters: int
    num_classes: int
    has_masks: bool
    """Whether it predicts masks, or boxes alone."""
    megabytes: float
    """Size of the file."""
    license_code: str
    license_weights: str
    device: str

    def __str__(self) -> str:
        classes = f"{self.num_classes} class{'' if self.num_classes == 1 else 'es'}"
        return (
            f"{self.name}: {self.parameters / 1e6:.1f} M parameters, {self.megabytes:.1f} MB, "
            f"{'masks' if self.has_masks else 'boxes'} of {classes}, on {self.device}\n"
            f"file: {self.path}\n"
            f"license: code {self.license_code}, weights {self.license_weights}"
        )


class YOLOKeywords(TypedDict, total=False):
    """The keywords of `YOLO.__call__`, documented at `YOLO.stream`."""

    conf: float
    iou: float
    imgsz: int
    max_det: int
    classes: ClassesLike | None
    agnostic_nms: bool
    batch: int
    channels: Channels


class YOLO:
    """YOLOv8: boxes and classes of the objects in an image, and masks with the models whose names end in -seg.

    `model` is a published name (`yolov8n.pt` to `yolov8x.pt`, `yolov8n-seg.pt` to `yolov8x-seg.pt`) or a file of the
    same architecture with any classes. The weights have another license than masklet, which is logged once per file.

    Example:
        >>> model = YOLO("yolov8n-seg.pt")  # doctest: +SKIP
        >>> results = model("street.jpg", conf=0.4, classes=["person", "dog"])  # doctest: +SKIP
        >>> results[0].boxes.xyxy.shape, results[0].masks.data.shape  # doctest: +SKIP
        ((3, 4), (3, 480, 640))

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if it is a model of another kind, or the device is unknown.
    """

    @explain_keywords()
    def __init__(
        self,
        model: str | PathLike[str] = "yolov8n.pt",
        *,
        device: DeviceLike | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.detector = YOLODetector(model, device=device, rle_masks=False, progress=progress)

    @property
    def names(self) -> dict[int, str]:
        """Class number to name."""
        return dict(self.detector.names)

    def info(self) -> YOLOInfo:
        """Return name, size, file and licenses."""
        loaded = self.detector.loaded
        return YOLOInfo(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            num_classes=loaded.network.config.classes,
            has_masks=loaded.network.config.mask_channels is not None,
            megabytes=loaded.path.stat().st_size / 1e6,
            license_code="Apache-2.0",
            license_weights=loaded.license_weights,
            device=str(self.detector.device),
        )

    @explain_keywords(YOLOKeywords.__annotations__)
    def __call__(self, source: SourceLike, **request: Unpack[YOLOKeywords]) -> list[Results]:
        """Detect the objects of each image of `source`, best score first; the keywords are those of `stream`."""
        return list(self.stream(source, **request))

    predict = __call__

    @explain_keywords()
    def stream(
        self,
        source: SourceLike,
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        imgsz: int = 640,
        max_det: int = 300,
        classes: ClassesLike | None = None,
        agnostic_nms: bool = False,
        batch: int = 1,
        channels: Channels = "rgb",
    ) -> Iterator[Results]:
        """Detect the objects of the images of `source`, in the memory of `batch` images; one `Results` per image.

        Args:
            source: path, URL, folder, glob, PIL image, NumPy array or a list of these.
            conf: lowest score.
            iou: overlap above which the weaker of two boxes of a class (`agnostic_nms`: of any) is dropped.
            imgsz: longer side that images are resized to.
            max_det: most objects per image.
            classes: names or numbers of the classes to detect; None: all.
            batch: images per forward pass.
            channels: "bgr" if arrays are in OpenCV's order.

        Raises:
            SourceError: if the source cannot be read.
            InputError: if an option is invalid, or the model lacks a class.
        """
        selected = (classes,) if isinstance(classes, int) else classes
        options = DetectOptions(conf, iou, imgsz, max_det, selected, agnostic_nms=agnostic_nms)
        resolve_class_ids(options.classes, self.names)
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InputError(f"batch={batch!r} must be 1 or more: the images that share a pass")
        images = open_images(source, channels=channels)

        def results() -> Iterator[Results]:
            while members := list(islice(images, batch)):
                detected = self.detector.detect_timed([image.rgb for image in members], options)
                for image, (detections, speed) in zip(members, detected, strict=True):
                    yield _to_results(image, detections, speed)

        return results()


class FastSAMKeywords(TypedDict, total=False):
    """The keywords of `FastSAM.__call__`, documented at `FastSAM.stream`."""

    bboxes: BoxesLike | None
    points: PointsLike | None
    labels: LabelsLike | None
    texts: str | Sequence[str] | None
    conf: float
    iou: float
    imgsz: int
    max_det: int
    multimask: bool
    channels: Channels


class FastSAM:
    """FastSAM: segment everything in an image in one pass, and select from it by boxes, points or texts.

    `model` is `FastSAM-s.pt`, `FastSAM-x.pt`, or a file of a YOLOv8 segmenter. `clip` scores texts: a name on the hub
    or a folder of a CLIP model (extra `transformers`), or a function of images and texts that returns scores (N, T).
    The weights have another license than masklet, which is logged once per file.

    Example:
        >>> model = FastSAM("FastSAM-s.pt")  # doctest: +SKIP
        >>> everything = model("dog.jpg")  # doctest: +SKIP
        >>> dog = model("dog.jpg", bboxes=[100, 100, 300, 400])  # doctest: +SKIP
        >>> same = model("dog.jpg", points=[[[150, 200], [20, 20]]], labels=[[1, 0]])  # doctest: +SKIP
        >>> dogs = model("dog.jpg", texts="a dog")  # doctest: +SKIP

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if the model has no masks, or the device is unknown.
    """

    @explain_keywords()
    def __init__(
        self,
        model: str | PathLike[str] = "FastSAM-s.pt",
        *,
        device: DeviceLike | None = None,
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
        """Return name, size, file and licenses."""
        return self._yolo.info()

    @explain_keywords(FastSAMKeywords.__annotations__)
    def __call__(self, source: SourceLike, **request: Unpack[FastSAMKeywords]) -> list[Results]:
        """Segment everything, or the prompted objects, in each image of `source`; keywords as of `stream`."""
        return list(self.stream(source, **request))

    predict = __call__

    @explain_keywords()
    def stream(
        self,
        source: SourceLike,
        *,
        bboxes: BoxesLike | None = None,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        texts: str | Sequence[str] | None = None,
        conf: float = 0.4,
        iou: float = 0.9,
        imgsz: int = 1024,
        max_det: int = 300,
        multimask: bool = False,
        channels: Channels = "rgb",
    ) -> Iterator[Results]:
        """Segment the images of `source` one by one, in the memory of one image; one `Results` per image.

        Prompts are written as for `SAM`. Each prompt selects the mask with most of its positive points, none of its
        negative ones, and the largest overlap with its box. `ids` are the indices of the prompts; a prompt without a
        match has no row. Each text selects the object that matches it best, whose class then is the text.

        Args:
            bboxes, points, labels: as for `SAM.stream`.
            texts: descriptions of objects; not together with other prompts.
            conf, iou, imgsz, max_det: as for `YOLO.stream`.
            multimask: return all masks that match a prompt, best first.

        Raises:
            SourceError: if the source cannot be read.
            PromptError: if a prompt is malformed, or texts are combined with other prompts.
            MissingExtraError, DownloadError: if there are texts and the CLIP model cannot be opened.
        """
        options = DetectOptions(conf, iou, imgsz, max_det)
        phrases = [] if texts is None else [texts] if isinstance(texts, str) else list(texts)
        if texts is not None and not (phrases and all(isinstance(text, str) and text.strip() for text in phrases)):
            raise PromptError(f"texts {texts!r} must be words for one object or more: texts=['a dog', 'a leash']")
        prompted = bboxes is not None or points is not None or labels is not None
        if phrases and prompted:
            raise PromptError("texts were given with points or bboxes; pass texts alone")
        if phrases and isinstance(self._clip, str):
            self._clip = load_clip(self._clip, str(self.detector.device))
        images = open_images(source, channels=channels)

        def results() -> Iterator[Results]:
            for image in images:
                prompts = parse_prompts(points, labels, bboxes, None, size=image.size) if prompted else ()
                ((detections, speed),) = self.detector.detect_timed(
                    [image.rgb], options, rle_masks=bool(prompted or phrases)
                )
                if not prompted and not phrases:
                    yield _to_results(image, detections, speed)
                    continue
                started = time.perf_counter()
                if phrases:
                    assert not isinstance(self._clip, str)
                    matches = select_by_text(detections, image.rgb, phrases, self._clip)
                else:
                    matches = select_by_prompts(detections, prompts, multimask=multimask)
                ids = np.array([index for index, _ in matches], np.int32)
                selected = detections[[row for _, row in matches]]
                if phrases:
                    selected = replace(selected, classes=ids, names=dict(enumerate(phrases)))
                yield _to_results(image, selected, {**speed, "prompts": 1e3 * (time.perf_counter() - started)}, ids)

        return results()


def _to_results(
    image: SourceImage, detections: Detections, speed: Speed, ids: npt.NDArray[np.int32] | None = None
) -> Results:
    masks = detections.masks
    return Results(
        image.rgb,
        image.path,
        None if masks is None else Masks(masks),
        detections.scores,
        ids=np.zeros(0, np.int32) if ids is None else ids,
        classes=detections.classes,
        names=dict(detections.names),
        speed=speed,
        xyxy=detections.xyxy,
    )
