"""YOLOv8 and FastSAM as detectors: letterbox, network, the best boxes, their masks.

Boxes are xyxy in pixels of the original picture, x to the right and y down.
Shapes: B pictures of a pass, A places, N objects, M prototypes, H and W of a picture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from os import PathLike

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.checkpoints import Progress
from masklet.detect.base import Detections, DetectOptions, Names, Rgb, class_numbers
from masklet.detect.letterbox import Letterbox
from masklet.detect.prototypes import MaskPiece, assemble, dense
from masklet.detect.yolo_loading import LoadedYOLO, load_yolo
from masklet.devices import device_of
from masklet.errors import InputError
from masklet.masks.nms import distinct
from masklet.masks.rle import Rle
from masklet.models.yolo import RawDetections

__all__ = ["YOLODetector", "choose"]

PICTURES_AT_ONCE = 16
Speed = dict[str, float]
CANDIDATES = 30_000
"""Boxes that are compared with each other at most, best first."""


class YOLODetector:
    """A YOLOv8 or FastSAM model that detects, and draws masks where it is a segmenter.

    `model` is a published name, a file, or what `load_yolo` gave. Of the options all hold but `text`. With `masks` off
    a segmenter gives boxes alone, which is faster; `codes` gives masks as run-length codes, which take a hundredth of
    the memory, instead of arrays. What is found in a picture does not depend on the others it is given with.

    Example:
        >>> detector = YOLODetector("yolov8n-seg.pt", DetectOptions(conf=0.4, classes=["dog"]))
        >>> found = detector.detect([rgb])[0]
        >>> found.xyxy, found.scores, found.masks

    Raises:
        UnknownModelError, DownloadError, CheckpointError: the model cannot be had.
        InputError: a class the model does not have, a text, a device that is not here.
    """

    def __init__(
        self,
        model: str | PathLike[str] | LoadedYOLO,
        options: DetectOptions | None = None,
        device: str = "",
        *,
        masks: bool = True,
        codes: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.device = torch.device(device_of(device))
        self.loaded = model if isinstance(model, LoadedYOLO) else load_yolo(model, progress)
        self.network = self.loaded.network.to(self.device)
        self.names: Names = self.loaded.names
        self.masks, self.codes = masks and self.network.config.is_segmenter, codes
        self.options = options or DetectOptions()

    @property
    def options(self) -> DetectOptions:
        """What is asked for; may be set anew."""
        return self._options

    @options.setter
    def options(self, options: DetectOptions) -> None:
        if options.text is not None:
            raise InputError(f"{self.loaded.name} takes no text={options.text!r}; choose among its classes by classes=")
        self._wanted = class_numbers(options.classes, self.names)
        self._options = options

    def detect(self, pictures: Sequence[Rgb]) -> list[Detections]:
        """What is in each picture, (H, W, 3) uint8 RGB of any size, best score first."""
        return [found for found, _ in self.detect_timed(pictures)]

    def detect_timed(self, pictures: Sequence[Rgb]) -> list[tuple[Detections, Speed]]:
        """As `detect`, each with the milliseconds of its stages: preprocess, inference, postprocess."""
        boxes = [Letterbox.of((rgb.shape[0], rgb.shape[1]), self.options.imgsz) for rgb in pictures]
        found: dict[int, tuple[Detections, Speed]] = {}
        for members in _passes(boxes):
            started = time.perf_counter()
            drawn = np.stack([boxes[i].draw(pictures[i]) for i in members])
            ready = time.perf_counter()
            raw = self.look(torch.from_numpy(drawn))
            last = time.perf_counter()
            shared = {"preprocess": 1e3 * (ready - started), "inference": 1e3 * (last - ready)}
            speed = {name: took / len(members) for name, took in shared.items()}
            for row, i in enumerate(members):
                one, now = self.read(raw, row, boxes[i]), time.perf_counter()
                found[i], last = (one, {**speed, "postprocess": 1e3 * (now - last)}), now
        return [found[i] for i in range(len(pictures))]

    def look(self, drawn_BHW3: Tensor) -> RawDetections:
        """The network's answer to uint8 inputs."""
        with torch.inference_mode():
            pixels = drawn_BHW3.to(self.device).permute(0, 3, 1, 2).float().div_(255)
            raw: RawDetections = self.network(pixels)
        return raw

    def read(self, raw: RawDetections, row: int, box: Letterbox) -> Detections:
        """The detections of one picture of a pass, in pixels of the picture."""
        scores, classes, places = (
            part.cpu().numpy() for part in candidates(raw.scores_BAK[row], self.options.conf, self._wanted)
        )
        framed = raw.xyxy_BA4[row].cpu().numpy()[places]
        real = np.flatnonzero(np.isfinite(framed).all(1))
        kept = real[choose(framed[real], scores[real], classes[real], self.options)]
        xyxy = box.to_picture(framed[kept])
        inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        kept, xyxy = kept[inside], xyxy[inside]
        masks = self._masks(raw, row, places[kept], xyxy, box) if self.masks else None
        return Detections(xyxy, scores[kept], classes[kept].astype(np.int32), self.names, masks)

    def _masks(
        self, raw: RawDetections, row: int, places: npt.NDArray[np.int64], xyxy: npt.NDArray[np.float32], box: Letterbox
    ) -> npt.NDArray[np.bool_] | list[Rle]:
        assert raw.coefficients_BAM is not None
        assert raw.prototypes_BMHW is not None
        coefficients = raw.coefficients_BAM[row].cpu().numpy()[places]
        pieces: list[MaskPiece] = assemble(coefficients, raw.prototypes_BMHW[row].cpu().numpy(), xyxy, box)
        return [piece.rle(box.size) for piece in pieces] if self.codes else dense(pieces, box.size)


def candidates(scores_AK: Tensor, conf: float, wanted: frozenset[int] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Score, class and place of every place whose best class is wanted and reaches `conf`, best first."""
    best_A, classes_A = scores_AK.max(1)
    keep_A = best_A >= conf
    if wanted is not None:
        keep_A &= torch.isin(classes_A, torch.tensor(sorted(wanted), device=classes_A.device))
    places = keep_A.nonzero()[:, 0]
    order = best_A[places].argsort(descending=True, stable=True)[:CANDIDATES]
    places = places[order]
    return best_A[places], classes_A[places], places


def choose(
    xyxy_N4: npt.NDArray[np.float32],
    scores_N: npt.NDArray[np.float32],
    classes_N: npt.NDArray[np.int64],
    options: DetectOptions,
) -> npt.NDArray[np.intp]:
    """Rows to keep, best first: of boxes of one class (`agnostic`: of any) that overlap by more than `iou` the best."""
    kinds = None if options.agnostic else classes_N
    return distinct(xyxy_N4, scores_N, options.iou, classes=kinds, most=options.max_det)


def _passes(boxes: Sequence[Letterbox]) -> Iterator[list[int]]:
    """Numbers of pictures whose inputs are alike, so many at once."""
    alike: dict[tuple[int, int], list[int]] = {}
    for i, box in enumerate(boxes):
        alike.setdefault(box.outer, []).append(i)
    for members in alike.values():
        for start in range(0, len(members), PICTURES_AT_ONCE):
            yield members[start : start + PICTURES_AT_ONCE]
