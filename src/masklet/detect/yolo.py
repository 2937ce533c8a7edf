"""YOLOv8 and FastSAM as detectors: load, letterbox, network, non-maximum suppression, masks.

Boxes are xyxy in pixels of the original image, x to the right and y down.
Shapes: B images of a batch, A anchors, N objects, M prototypes, H and W of an image.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.checkpoints import Progress, check_shapes, read_network
from masklet.cpu_threads import adaptive_threads
from masklet.detect.detector import Detections, DetectOptions, Names, Rgb, resolve_class_ids
from masklet.detect.letterbox import Letterbox
from masklet.detect.proto_masks import decode_proto_masks, paste_masks
from masklet.errors import InputError, UnknownModelError
from masklet.masks import rle
from masklet.masks.ops import nms
from masklet.masks.rle import Rle
from masklet.models.yolo import CONFIGS, RawDetections, YOLOv8, build, config_name, expected_shapes, infer_config
from masklet.registry import MODELS, ModelCard, get_card, locate
from masklet.runtime import DeviceLike, resolve_device, standard_torch

__all__ = ["LoadedYOLO", "YOLODetector", "load_yolo", "select_boxes"]

DETECTOR_FAMILIES = ("yolo", "fastsam")
DEFAULT_MODEL = "yolov8n"
MAX_BATCH_SIZE = 16
MAX_CANDIDATES = 30_000
"""Most boxes in non-maximum suppression, best first."""
Speed = dict[str, float]
log = logging.getLogger("masklet")
_license_logged: set[Path] = set()


@dataclass(frozen=True)
class LoadedYOLO:
    """A YOLOv8 network with its name, file, classes and license."""

    network: YOLOv8
    name: str
    """Canonical name of the config of its tensors, such as `yolov8n-seg`, with the number of classes if it differs."""
    path: Path
    card: ModelCard | None
    """The published model of that name; a fine-tuned file has the same card."""
    names: Mapping[int, str]
    """Class number to name."""
    parameters: int
    """Learned values, counted as in published tables."""
    license_weights: str
    image_size: int | None
    """The training size stored in the file."""


def load_yolo(model: str | PathLike[str], progress: Progress | None = None) -> LoadedYOLO:
    """Load a detector or segmenter by its published name or from a file.

    The license of its weights is logged once for each file, as a warning of the logger "masklet".

    Example:
        >>> load_yolo("yolov8n-seg.pt").names[16]  # doctest: +SKIP
        'dog'

    Raises:
        UnknownModelError: if it is neither a known name nor a file.
        InputError: if it is a known model of another kind.
        DownloadError: if a published file is not cached and cannot be downloaded.
        CheckpointError: if the file is damaged, hostile, or another network.
    """
    path = _resolve_file(model, progress)
    saved = read_network(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    config = infer_config(shapes) or CONFIGS[DEFAULT_MODEL]
    name = config_name(config)
    check_shapes(expected_shapes(config), shapes, path=path, model_name=name)
    card = MODELS.get(name)
    default_name = "object" if config.classes == 1 else "class{}"
    loaded = LoadedYOLO(
        network=build(config, saved.tensors),
        name=name,
        path=path,
        card=card,
        names={n: saved.names.get(n, default_name.format(n)) for n in range(config.classes)},
        parameters=sum(t.numel() for n, t in saved.tensors.items() if n.endswith((".weight", ".bias"))),
        license_weights=saved.metadata.get("license", "") or (card.license_weights if card else "unknown"),
        image_size=saved.image_size,
    )
    if path.resolve() not in _license_logged:
        _license_logged.add(path.resolve())
        log.warning(
            "%s: its weights (%s) have the license %s, which is another than masklet's own Apache-2.0",
            path,
            name,
            loaded.license_weights,
        )
    return loaded


def _resolve_file(model: str | PathLike[str], progress: Progress | None) -> Path:
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


class YOLODetector:
    """A YOLOv8 or FastSAM model that detects objects, and their masks if it is a segmenter.

    `model` is a published name, a file, or a `LoadedYOLO`. All options but `text` apply. Without `with_masks` a
    segmenter returns boxes alone, which is faster; with `rle_masks` masks are run-length codes, which take a
    hundredth of the memory of arrays. The detections of an image do not depend on the other images of the call.

    Example:
        >>> detector = YOLODetector("yolov8n-seg.pt", DetectOptions(conf=0.4, classes=["dog"]))  # doctest: +SKIP
        >>> detections = detector.detect([rgb])[0]  # doctest: +SKIP
        >>> detections.xyxy, detections.scores, detections.masks  # doctest: +SKIP

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if the model lacks a class, a text is given, or the device does not exist.
    """

    @standard_torch()
    def __init__(
        self,
        model: str | PathLike[str] | LoadedYOLO,
        options: DetectOptions | None = None,
        device: DeviceLike | None = None,
        *,
        with_masks: bool = True,
        rle_masks: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.device = torch.device(resolve_device(device))
        self.loaded = model if isinstance(model, LoadedYOLO) else load_yolo(model, progress)
        self.network = self.loaded.network.to(self.device)
        self.names: Names = self.loaded.names
        self.with_masks, self.rle_masks = with_masks and self.network.config.mask_channels is not None, rle_masks
        self.options = options or DetectOptions()

    @property
    def options(self) -> DetectOptions:
        """The options; they may be replaced at any time."""
        return self._options

    @options.setter
    def options(self, options: DetectOptions) -> None:
        if options.text is not None:
            raise InputError(f"{self.loaded.name} takes no text={options.text!r}; choose among its classes by classes=")
        resolve_class_ids(options.classes, self.names)
        self._options = options

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """Detect the objects of each image, (H, W, 3) uint8 RGB of any size, best score first."""
        return [detections for detections, _ in self.detect_timed(images)]

    @standard_torch()
    @adaptive_threads()
    def detect_timed(
        self, images: Sequence[Rgb], options: DetectOptions | None = None, *, rle_masks: bool | None = None
    ) -> list[tuple[Detections, Speed]]:
        """Detect, and time each image: milliseconds of preprocess, inference and postprocess.

        `options` and `rle_masks` are of this call alone, so that threads may share a detector; None: the detector's.
        """
        options = options or self.options
        boxes = [Letterbox.from_size((rgb.shape[0], rgb.shape[1]), options.imgsz) for rgb in images]
        results: dict[int, tuple[Detections, Speed]] = {}
        by_size: dict[tuple[int, int], list[int]] = {}  # one batch has inputs of one size
        for i, box in enumerate(boxes):
            by_size.setdefault(box.input_size, []).append(i)
        step = MAX_BATCH_SIZE
        for members in [same[k : k + step] for same in by_size.values() for k in range(0, len(same), step)]:
            started = time.perf_counter()
            inputs = np.stack([boxes[i].apply(images[i]) for i in members])
            ready = time.perf_counter()
            raw = self.run(torch.from_numpy(inputs))
            last = time.perf_counter()
            stages = {"preprocess": 1e3 * (ready - started), "inference": 1e3 * (last - ready)}
            speed = {name: took / len(members) for name, took in stages.items()}
            for row, i in enumerate(members):
                detections, now = self.postprocess(raw, row, boxes[i], options, rle_masks), time.perf_counter()
                results[i], last = (detections, {**speed, "postprocess": 1e3 * (now - last)}), now
        return [results[i] for i in range(len(images))]

    def run(self, inputs_BHW3: Tensor) -> RawDetections:
        """Run the network on uint8 inputs."""
        with torch.inference_mode():
            pixels = inputs_BHW3.to(self.device).permute(0, 3, 1, 2).float().div_(255)
            raw: RawDetections = self.network(pixels)
        return raw

    def postprocess(
        self,
        raw: RawDetections,
        row: int,
        letterbox: Letterbox,
        options: DetectOptions | None = None,
        rle_masks: bool | None = None,
    ) -> Detections:
        """Return the detections of image `row` of a batch, in pixels of the image; options as for `detect_timed`."""
        options = options or self.options
        class_ids = resolve_class_ids(options.classes, self.names)
        scores, classes, anchors = (
            part.cpu().numpy() for part in filter_candidates(raw.scores_BAK[row], options.conf, class_ids)
        )
        input_xyxy = raw.xyxy_BA4[row].cpu().numpy()[anchors]
        finite = np.flatnonzero(np.isfinite(input_xyxy).all(1))
        rows = finite[select_boxes(input_xyxy[finite], scores[finite], classes[finite], options)]
        xyxy = letterbox.boxes_to_original(input_xyxy[rows])
        inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        rows, xyxy = rows[inside], xyxy[inside]
        masks: npt.NDArray[np.bool_] | list[Rle] | None = None
        if self.with_masks:
            assert raw.coefficients_BAM is not None
            assert raw.prototypes_BMHW is not None
            coefficients, prototypes = raw.coefficients_BAM[row].cpu().numpy(), raw.prototypes_BMHW[row].cpu().numpy()
            crops = decode_proto_masks(coefficients[anchors[rows]], prototypes, xyxy, letterbox)
            size = letterbox.original_size
            if self.rle_masks if rle_masks is None else rle_masks:
                masks = [rle.encode_crop(crop.mask, (crop.left, crop.top), size) for crop in crops]
            else:
                masks = paste_masks(crops, size)
        return Detections(xyxy, scores[rows], classes[rows].astype(np.int32), self.names, masks)


def filter_candidates(
    scores_AK: Tensor, conf: float, class_ids: frozenset[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return score, class and index of the anchors whose best class is selected and reaches `conf`, best first."""
    best_A, classes_A = scores_AK.max(1)
    keep_A = best_A >= conf
    if class_ids is not None:
        keep_A &= torch.isin(classes_A, torch.tensor(sorted(class_ids), device=classes_A.device))
    anchors = keep_A.nonzero()[:, 0]
    order = best_A[anchors].argsort(descending=True, stable=True)[:MAX_CANDIDATES]
    anchors = anchors[order]
    return best_A[anchors], classes_A[anchors], anchors


def select_boxes(
    xyxy_N4: npt.NDArray[np.float32],
    scores_N: npt.NDArray[np.float32],
    classes_N: npt.NDArray[np.int64],
    options: DetectOptions,
) -> npt.NDArray[np.intp]:
    """Select rows by non-maximum suppression within each class (`agnostic_nms`: across all), best first."""
    classes = None if options.agnostic_nms else classes_N
    return nms(xyxy_N4, scores_N, options.iou, classes=classes, max_count=options.max_det)
