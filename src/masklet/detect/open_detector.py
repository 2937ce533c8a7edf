"""Open a detector from a name, a file, a function or an object."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from masklet.detect.adapters import CallableDetector, FilteredDetector
from masklet.detect.detector import DetectOptions, Detector, Rgb
from masklet.detect.huggingface_files import is_hub_name
from masklet.errors import InputError, UnknownModelError
from masklet.registry import MODELS, get_card

if TYPE_CHECKING:
    from masklet.image.predictor import ImagePredictor

__all__ = ["EVERYTHING", "HUB_EXAMPLES", "open_detector"]

EVERYTHING = "everything"
HUB_EXAMPLES = (
    "PekingU/rtdetr_r50vd",
    "PekingU/rtdetr_v2_r50vd",
    "ustc-community/dfine-small-coco",
    "facebook/detr-resnet-50@no_timm",
    "IDEA-Research/grounding-dino-tiny",
    "google/owlv2-base-patch16-ensemble",
)
"""Published detectors of the `transformers` extra, one of each kind; the last two take text."""
DETECTOR_FAMILIES = ("yolo", "fastsam")
"""The families of the model table that are detectors."""


class _HasPredictor(Protocol):
    predictor: ImagePredictor


def open_detector(
    source: str | Path | Callable[[Rgb], Any] | Detector,
    options: DetectOptions | None = None,
    device: str = "",
    sam: _HasPredictor | ImagePredictor | None = None,
) -> Detector:
    """Open the detector that `source` names.

    `source` is one of
    - the name or file of a YOLOv8 or FastSAM model: "yolov8n.pt", "runs/mine.pt";
    - "everything": automatic mask generation by `sam`, a `SAM` or its predictor; None: the model inside the package;
    - a name on the hub or a folder of a detector of the extra `transformers`: "PekingU/rtdetr_r50vd";
    - a function from an image (H, W, 3) uint8 RGB to (boxes, scores, classes), see `CallableDetector`;
    - a `Detector`: it is returned, with its detections filtered by `options`, if there are any.

    Example:
        >>> detector = open_detector("everything", DetectOptions(max_det=50))  # doctest: +SKIP
        >>> detector.detect([rgb])[0].xyxy  # doctest: +SKIP

    Raises:
        UnknownModelError: if the name is none of these; the message lists the known ones.
        InputError: if the name is that of a segmentation model, or an option or the device does not exist.
        DownloadError, CheckpointError, MissingExtraError: if the detector cannot be opened.
    """
    if isinstance(source, (str, Path)):
        return _open_named(str(source).strip(), options or DetectOptions(), device, sam)
    if isinstance(source, Detector):
        return source if options is None else FilteredDetector(source, options)
    if callable(source):
        return CallableDetector(source, options)
    raise InputError(
        f"{source!r} is no detector; give a name, a function rgb -> (boxes, scores, classes), or an object with "
        "`names` and `detect(images)`"
    )


def _open_named(name: str, options: DetectOptions, device: str, sam: _HasPredictor | ImagePredictor | None) -> Detector:
    if name.lower() == EVERYTHING:
        from masklet.detect.adapters import SegmentEverythingDetector
        from masklet.image.predictor import ImagePredictor

        if sam is None:
            from masklet.load_model import load
            from masklet.runtime import resolve_device

            sam = ImagePredictor(load().network, resolve_device(device))
        return SegmentEverythingDetector(sam if isinstance(sam, ImagePredictor) else sam.predictor, options)
    path, card = Path(name).expanduser(), None
    with suppress(UnknownModelError):
        card = get_card(name)
    if path.is_dir() or (is_hub_name(name) and not path.exists() and card is None):
        from masklet.detect.huggingface import open_hub_detector

        return open_hub_detector(name, options, device)
    if not path.is_file() and card is None:
        raise UnknownModelError(_unknown_message(name))
    if not path.is_file() and card is not None and card.family not in DETECTOR_FAMILIES:
        raise InputError(
            f"{name!r} is a segmentation model, which does not detect by itself; it can segment everything: "
            f"open_detector({EVERYTHING!r}, sam=SAM({name!r})), or det_model={EVERYTHING!r} with it as sam_model"
        )
    from masklet.detect.yolo import YOLODetector

    return YOLODetector(name, options, device)


def _unknown_message(name: str) -> str:
    cards = [card for card in MODELS.values() if card.family in DETECTOR_FAMILIES]
    ours = [spelling for card in cards for spelling in (card.file, *card.aliases)]
    known = [EVERYTHING, *ours, *HUB_EXAMPLES]
    short = {other.rpartition("/")[2].removesuffix(".pt").casefold(): other for other in reversed(known)}
    key = name.rpartition("/")[2].removesuffix(".pt").casefold()
    near = difflib.get_close_matches(key, short, n=1, cutoff=0.5)
    hint = f" Did you mean {short[near[0]]!r}?" if near else ""
    return "\n".join(
        [
            f"{name!r} is neither a detector known by name nor a file or folder that exists.{hint} There are:",
            f"  {EVERYTHING:<36} needs no download, one class",
            *(f"  {card.file:<36} {card.title}" for card in cards),
            *(f"  {example:<36} extra transformers" for example in HUB_EXAMPLES),
            "  or any other detector on the hub as owner/name, a folder with one, a function rgb -> (boxes, scores, "
            "classes)",
        ]
    )
