"""`YOLO` and `FastSAM`: models called with a picture, as people know them.

Boxes and points are in pixels of the original picture, x to the right and y down.
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
from masklet.detect.clip import CLIP, Likeness, open_clip
from masklet.detect.detector import Detections, DetectOptions
from masklet.detect.fastsam import meant_by_prompts, meant_by_texts
from masklet.detect.yolo import YOLODetector
from masklet.errors import InputError, PromptError
from masklet.media import Picture, Pictures, open_source
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
    classes: int
    masks: bool
    """Whether it draws masks, or finds boxes alone."""
    megabytes: float
    """Of the file."""
    licence_code: str
    licence_weights: str
    device: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.parameters / 1e6:.1f} M parameters, {self.megabytes:.1f} MB, "
            f"{'masks' if self.masks else 'boxes'} of {self.classes} class{'' if self.classes == 1 else 'es'}, "
            f"on {self.device}\n"
            f"file: {self.path}\n"
            f"licence: code {self.licence_code}, weights {self.licence_weights}"
        )


class YOLO:
    """YOLOv8: boxes and classes of what is in a picture, and masks with the models whose names end in -seg.

    `model` is a published name (`yolov8n.pt` to `yolov8x.pt`, `yolov8n-seg.pt` to `yolov8x-seg.pt`) or a file of the
    same architecture with any classes. The weights have a licence of their own, which is logged once for each file.

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
        self.detector = YOLODetector(model, device=device or "", codes=False, progress=progress)

    @property
    def names(self) -> dict[int, str]:
        """Class number to name."""
        return dict(self.detector.names)

    def info(self) -> YOLOInfo:
        """Name, size, file and licences."""
        loaded = self.detector.loaded
        return YOLOInfo(
            name=loaded.name,
            path=str(loaded.path),
            parameters=loaded.parameters,
            classes=loaded.network.config.classes,
            masks=loaded.network.config.is_segmenter,
            megabytes=loaded.path.stat().st_size / 1e6,
            licence_code="Apache-2.0",
            licence_weights=loaded.licence_weights,
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
        agnostic: bool = False,
        batch: int = 1,
        channels: Channels = "rgb",
    ) -> list[Results]:
        """Find what is in every picture of `source`: a `Results` a picture, best score first.

        `source` is a path, URL, folder, glob, PIL picture, NumPy array (RGB unless `channels` says bgr) or a list of
        these. `conf` is the lowest score; of two boxes of a class (`agnostic`: of any) that overlap by more than `iou`
        the weaker is dropped; `imgsz` is the longer side the network sees, `max_det` the most objects a picture,
        `classes` names or numbers of the wanted classes, `batch` how many pictures share a pass.

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
                agnostic=agnostic,
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
        agnostic: bool = False,
        batch: int = 1,
        channels: Channels = "rgb",
    ) -> Iterator[Results]:
        """As calling the model, but one `Results` at a time: a long folder needs the memory of `batch` pictures."""
        options = DetectOptions(conf, iou, imgsz, max_det, classes, agnostic=agnostic)  # type: ignore[arg-type]
        self.detector.options = options
        _check_batch(batch)
        pictures = open_source(source, channels=channels)  # type: ignore[arg-type]

        def results() -> Iterator[Results]:
            for some in _batches(pictures, batch):
                self.detector.options = options
                for picture, (found, speed) in zip(
                    some, self.detector.detect_timed([p.rgb for p in some]), strict=True
                ):
                    yield _results(picture, found, speed)

        return results()


class FastSAM:
    """FastSAM: everything in a picture in one pass, and of that what boxes, points or texts mean.

    `model` is `FastSAM-s.pt`, `FastSAM-x.pt`, or a file of a YOLOv8 segmenter. `clip` answers texts: a name on the hub
    or a folder of a CLIP model (extra `transformers`), or a function of pictures and texts that says how alike they
    are, (N, T). The weights have a licence of their own, which is logged once for each file.

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
        clip: str | Likeness = CLIP,
        progress: Progress | None = None,
    ) -> None:
        self._yolo = YOLO(model, device=device, progress=progress)
        self._clip = clip
        if not self.detector.masks:
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
        """Name, size, file and licences."""
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
        """Everything in every picture of `source`, or what the prompts mean: a `Results` a picture.

        Prompts are spelt as for `SAM`: `bboxes=[x1, y1, x2, y2]`, `points=[x, y]`, `[[x, y], [x, y]]` for two objects
        and `[[[x, y], [x, y]]]` for one with two points, `labels` nested alike, 1 on the object and 0 off it. Each
        prompt is answered by the mask with most of its points and none of its negative ones, and the largest overlap
        with its box; `multimask=True` answers with all that fit, best first. `prompt_ids` say which prompt a row
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
        """As calling the model, but one `Results` at a time: a long folder needs the memory of one picture."""
        options = DetectOptions(conf, iou, imgsz, max_det)
        wanted = _texts(texts)
        prompted = bboxes is not None or points is not None or labels is not None
        if wanted and prompted:
            raise PromptError("texts were given with points or bboxes; ask for texts by themselves")
        likeness = self._likeness() if wanted else None
        pictures = open_source(source, channels=channels)  # type: ignore[arg-type]

        def results() -> Iterator[Results]:
            for picture in pictures:
                asked = parse_prompts(points, labels, bboxes, None, size=picture.size) if prompted else []
                found, speed = self._everything(picture, options, codes=bool(prompted or wanted))
                if likeness is not None:
                    yield _said(picture, found, speed, wanted, likeness)
                elif prompted:
                    yield _pointed_at(picture, found, speed, asked, multimask=multimask)
                else:
                    yield _results(picture, found, speed)

        return results()

    def _everything(self, picture: Picture, options: DetectOptions, *, codes: bool) -> tuple[Detections, Speed]:
        self.detector.options, self.detector.codes = options, codes
        ((found, speed),) = self.detector.detect_timed([picture.rgb])
        return found, speed

    def _likeness(self) -> Likeness:
        if isinstance(self._clip, str):
            self._clip = open_clip(self._clip, str(self.detector.device))
        return self._clip


def _check_batch(count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"batch={count!r} must be 1 or more: the pictures that share a pass")


def _batches(pictures: Pictures, count: int) -> Iterator[list[Picture]]:
    while some := list(islice(pictures, count)):
        yield some


def _texts(texts: str | Sequence[str] | None) -> list[str]:
    if texts is None:
        return []
    wanted = [texts] if isinstance(texts, str) else list(texts)
    if not wanted or not all(isinstance(text, str) and text.strip() for text in wanted):
        raise PromptError(f"texts {texts!r} must be words for one object or more: texts=['a dog', 'a leash']")
    return wanted


def _results(picture: Picture, found: Detections, speed: Speed, **more: Any) -> Results:
    """A detector's answer as the one type of results; `more` are further fields."""
    masks = found.masks
    fields: dict[str, Any] = {"classes": found.classes, "names": dict(found.names), **more}
    return Results(
        picture.rgb,
        picture.path,
        None if masks is None or not len(found) else Masks(masks),
        found.scores,
        speed=speed,
        xyxy=found.xyxy,
        **fields,
    )


def _pointed_at(
    picture: Picture, found: Detections, speed: Speed, prompts: Sequence[ObjectPrompt], *, multimask: bool
) -> Results:
    started = time.perf_counter()
    chosen = meant_by_prompts(found, prompts, multimask=multimask)
    numbers = np.array([number for number, _ in chosen], np.int32)
    return _results(picture, found[[row for _, row in chosen]], _later(speed, started), prompt_ids=numbers)


def _said(picture: Picture, found: Detections, speed: Speed, texts: Sequence[str], likeness: Likeness) -> Results:
    started = time.perf_counter()
    chosen = meant_by_texts(found, picture.rgb, texts, likeness)
    numbers = np.array([number for number, _ in chosen], np.int32)
    names: Mapping[int, str] = dict(enumerate(texts))
    meant = replace(found[[row for _, row in chosen]], classes=numbers, names=names)
    return _results(picture, meant, _later(speed, started), prompt_ids=numbers)


def _later(speed: Speed, started: float) -> Speed:
    return {**speed, "prompts": 1e3 * (time.perf_counter() - started)}
