"""YOLOv8 and FastSAM as detectors: letterbox, network, the best boxes, their masks.

Boxes are xyxy in pixels of the original image, x to the right and y down.
Shapes: B images of a pass, A places, N objects, M prototypes, H and W of an image.

From a name or a file to a YOLOv8 network: found, read, recognized, checked, filled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.checkpoints import Progress, SavedNetwork, check_shapes, read_network
from masklet.detect.detector import Detections, DetectOptions, Names, Rgb, resolve_class_ids
from masklet.detect.letterbox import Letterbox
from masklet.detect.proto_masks import MaskCrop, decode_proto_masks, paste_masks
from masklet.errors import InputError, UnknownModelError
from masklet.masks.ops import nms
from masklet.masks.rle import Rle
from masklet.models.yolo import CONFIGS, RawDetections, YOLOv8, build, config_name, expected_shapes, infer_config
from masklet.registry import MODELS, ModelCard, get_card, locate
from masklet.runtime import resolve_device

__all__ = ["LoadedYOLO", "YOLODetector", "load_yolo", "select_boxes"]

DETECTOR_FAMILIES = ("yolo", "fastsam")
DEFAULT_MODEL = "yolov8n"
log = logging.getLogger("masklet")
_license_logged: set[Path] = set()


@dataclass(frozen=True)
class LoadedYOLO:
    """A network with where it came from."""

    network: YOLOv8
    name: str
    """Canonical name of the config its tensors have, such as `yolov8n-seg`, with its classes where they are others."""
    path: Path
    card: ModelCard | None
    """The published model of that name; a fine-tuned file has the same card."""
    names: Mapping[int, str]
    """One for every class."""
    parameters: int
    """Values that were learnt, as published tables count them."""
    license_weights: str
    image_size: int | None
    """Side the file says it was trained at."""


def load_yolo(model: str | PathLike[str], progress: Progress | None = None) -> LoadedYOLO:
    """The detector or segmenter that `model` names: a published name, or a file of published or own making.

    The license of its weights is logged once for each file, as a warning of the logger "masklet".

    Example:
        >>> load_yolo("yolov8n-seg.pt").names[16]
        'dog'

    Raises:
        UnknownModelError: neither a known name nor a file.
        InputError: a known model of another kind.
        DownloadError: a published file that is not here and could not be fetched.
        CheckpointError: a file that is damaged, hostile, or another network.
    """
    path = _path(model, progress)
    saved = read_network(path)
    found = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    config = infer_config(found) or CONFIGS[DEFAULT_MODEL]
    name = config_name(config)
    check_shapes(expected_shapes(config), found, path=path, model_name=name)
    loaded = LoadedYOLO(
        network=build(config, saved.tensors),
        name=name,
        path=path,
        card=MODELS.get(name),
        names=_names(saved, config.classes),
        parameters=sum(t.numel() for n, t in saved.tensors.items() if n.endswith((".weight", ".bias"))),
        license_weights=_license(saved, MODELS.get(name)),
        image_size=saved.image_size,
    )
    _log_license_once(loaded)
    return loaded


def _path(model: str | PathLike[str], progress: Progress | None) -> Path:
    path = Path(model).expanduser()
    if path.is_file():
        return path
    known = ", ".join(card.file for card in MODELS.values() if card.family in DETECTOR_FAMILIES)
    try:
        card = get_card(str(model))
    except UnknownModelError:
        raise UnknownModelError(f"{str(model)!r} is neither a file that exists nor one of {known}") from None
    if card.family not in DETECTOR_FAMILIES:
        raise InputError(f"{card.name} is no YOLOv8; open it with masklet.SAM({card.file!r}), or name one of {known}")
    return locate(card, progress)


def _names(saved: SavedNetwork, count: int) -> dict[int, str]:
    usual = "object" if count == 1 else "class{}"
    return {number: saved.names.get(number, usual.format(number)) for number in range(count)}


def _license(saved: SavedNetwork, card: ModelCard | None) -> str:
    said = saved.metadata.get("license", "")
    return said or (card.license_weights if card else "unknown")


def _log_license_once(loaded: LoadedYOLO) -> None:
    key = loaded.path.resolve()
    if key not in _license_logged:
        _license_logged.add(key)
        log.warning(
            "%s: its weights (%s) have the license %s, which is another than masklet's own Apache-2.0",
            loaded.path,
            loaded.name,
            loaded.license_weights,
        )


MAX_BATCH_SIZE = 16
Speed = dict[str, float]
MAX_CANDIDATES = 30_000
"""Boxes that are compared with each other at most, best first."""


class YOLODetector:
    """A YOLOv8 or FastSAM model that detects, and draws masks where it is a segmenter.

    `model` is a published name, a file, or what `load_yolo` gave. Of the options all hold but `text`. With `masks` off
    a segmenter gives boxes alone, which is faster; `codes` gives masks as run-length codes, which take a hundredth of
    the memory, instead of arrays. What is found in an image does not depend on the others it is given with.

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
        with_masks: bool = True,
        rle_masks: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.device = torch.device(resolve_device(device))
        self.loaded = model if isinstance(model, LoadedYOLO) else load_yolo(model, progress)
        self.network = self.loaded.network.to(self.device)
        self.names: Names = self.loaded.names
        self.with_masks, self.rle_masks = with_masks and self.network.config.is_segmenter, rle_masks
        self.options = options or DetectOptions()

    @property
    def options(self) -> DetectOptions:
        """What is asked for; may be set anew."""
        return self._options

    @options.setter
    def options(self, options: DetectOptions) -> None:
        if options.text is not None:
            raise InputError(f"{self.loaded.name} takes no text={options.text!r}; choose among its classes by classes=")
        self._class_ids = resolve_class_ids(options.classes, self.names)
        self._options = options

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """What is in each image, (H, W, 3) uint8 RGB of any size, best score first."""
        return [found for found, _ in self.detect_timed(images)]

    def detect_timed(self, images: Sequence[Rgb]) -> list[tuple[Detections, Speed]]:
        """As `detect`, each with the milliseconds of its stages: preprocess, inference, postprocess."""
        boxes = [Letterbox.from_size((rgb.shape[0], rgb.shape[1]), self.options.imgsz) for rgb in images]
        found: dict[int, tuple[Detections, Speed]] = {}
        for members in _group_batches(boxes):
            started = time.perf_counter()
            drawn = np.stack([boxes[i].apply(images[i]) for i in members])
            ready = time.perf_counter()
            raw = self.run(torch.from_numpy(drawn))
            last = time.perf_counter()
            shared = {"preprocess": 1e3 * (ready - started), "inference": 1e3 * (last - ready)}
            speed = {name: took / len(members) for name, took in shared.items()}
            for row, i in enumerate(members):
                one, now = self.postprocess(raw, row, boxes[i]), time.perf_counter()
                found[i], last = (one, {**speed, "postprocess": 1e3 * (now - last)}), now
        return [found[i] for i in range(len(images))]

    def run(self, inputs_BHW3: Tensor) -> RawDetections:
        """The network's answer to uint8 inputs."""
        with torch.inference_mode():
            pixels = inputs_BHW3.to(self.device).permute(0, 3, 1, 2).float().div_(255)
            raw: RawDetections = self.network(pixels)
        return raw

    def postprocess(self, raw: RawDetections, row: int, letterbox: Letterbox) -> Detections:
        """The detections of one image of a pass, in pixels of the image."""
        scores, classes, places = (
            part.cpu().numpy() for part in filter_candidates(raw.scores_BAK[row], self.options.conf, self._class_ids)
        )
        framed = raw.xyxy_BA4[row].cpu().numpy()[places]
        real = np.flatnonzero(np.isfinite(framed).all(1))
        kept = real[select_boxes(framed[real], scores[real], classes[real], self.options)]
        xyxy = letterbox.boxes_to_original(framed[kept])
        inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        kept, xyxy = kept[inside], xyxy[inside]
        masks = self._decode_masks(raw, row, places[kept], xyxy, letterbox) if self.with_masks else None
        return Detections(xyxy, scores[kept], classes[kept].astype(np.int32), self.names, masks)

    def _decode_masks(
        self,
        raw: RawDetections,
        row: int,
        anchors: npt.NDArray[np.int64],
        xyxy: npt.NDArray[np.float32],
        letterbox: Letterbox,
    ) -> npt.NDArray[np.bool_] | list[Rle]:
        assert raw.coefficients_BAM is not None
        assert raw.prototypes_BMHW is not None
        coefficients = raw.coefficients_BAM[row].cpu().numpy()[anchors]
        pieces: list[MaskCrop] = decode_proto_masks(
            coefficients, raw.prototypes_BMHW[row].cpu().numpy(), xyxy, letterbox
        )
        return (
            [piece.to_rle(letterbox.original_size) for piece in pieces]
            if self.rle_masks
            else paste_masks(pieces, letterbox.original_size)
        )


def filter_candidates(
    scores_AK: Tensor, conf: float, class_ids: frozenset[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Score, class and place of every place whose best class is wanted and reaches `conf`, best first."""
    best_A, classes_A = scores_AK.max(1)
    keep_A = best_A >= conf
    if class_ids is not None:
        keep_A &= torch.isin(classes_A, torch.tensor(sorted(class_ids), device=classes_A.device))
    places = keep_A.nonzero()[:, 0]
    order = best_A[places].argsort(descending=True, stable=True)[:MAX_CANDIDATES]
    places = places[order]
    return best_A[places], classes_A[places], places


def select_boxes(
    xyxy_N4: npt.NDArray[np.float32],
    scores_N: npt.NDArray[np.float32],
    classes_N: npt.NDArray[np.int64],
    options: DetectOptions,
) -> npt.NDArray[np.intp]:
    """Rows to keep, best first: of boxes of one class (`agnostic`: of any) that overlap by more than `iou` the best."""
    kinds = None if options.agnostic_nms else classes_N
    return nms(xyxy_N4, scores_N, options.iou, classes=kinds, max_count=options.max_det)


def _group_batches(letterboxes: Sequence[Letterbox]) -> Iterator[list[int]]:
    """Numbers of images whose inputs are alike, so many at once."""
    alike: dict[tuple[int, int], list[int]] = {}
    for i, box in enumerate(letterboxes):
        alike.setdefault(box.input_size, []).append(i)
    for members in alike.values():
        for start in range(0, len(members), MAX_BATCH_SIZE):
            yield members[start : start + MAX_BATCH_SIZE]
