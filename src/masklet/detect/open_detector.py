"""From what people write to a detector."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from masklet.detect.adapters import CallableDetector, FilteredDetector
from masklet.detect.detector import DetectOptions, Detector, Rgb
from masklet.detect.huggingface_files import is_hub_name
from masklet.errors import InputError, UnknownModelError
from masklet.registry import MODELS, ModelCard, get_card

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
"""Published detectors of the `transformers` extra, one of each kind; the last two go by text."""
DETECTOR_FAMILIES = ("yolo", "fastsam")
"""Of the table of models, those that detect."""


class _HasPredictor(Protocol):
    @property
    def predictor(self) -> ImagePredictor: ...


def open_detector(
    source: str | Path | Callable[[Rgb], Any] | Detector,
    options: DetectOptions | None = None,
    device: str = "",
    sam: _HasPredictor | ImagePredictor | None = None,
) -> Detector:
    """The detector that `what` means.

    `what` is one of
    - the name or file of a YOLOv8 or FastSAM model: "yolov8n.pt", "runs/mine.pt";
    - "everything": whatever `sam` finds, a `SAM` or its predictor; None: the model inside the package;
    - a name on the hub or a folder of a detector of the extra `transformers`: "PekingU/rtdetr_r50vd";
    - a function from an image (H, W, 3) uint8 RGB to (boxes, scores, classes), see `PlainDetector`;
    - a `Detector`: it is given back, and where there are `options`, what it finds is chosen from by them.

    Example:
        >>> detector = open_detector("everything", DetectOptions(max_det=50))
        >>> detector.detect([rgb])[0].xyxy

    Raises:
        UnknownModelError: a name that means none of these; it lists what there is.
        InputError: a segmentation model by name, options the detector cannot follow, a device that is not here.
        DownloadError, CheckpointError, MissingExtraError: the detector cannot be had.
    """
    if isinstance(source, (str, Path)):
        return _by_name(str(source).strip(), options or DetectOptions(), device, sam)
    if isinstance(source, Detector):
        return source if options is None else FilteredDetector(source, options)
    if callable(source):
        return CallableDetector(source, options)
    raise InputError(
        f"{source!r} is no detector; give a name, a function rgb -> (boxes, scores, classes), or an object with `names` "  # noqa: E501
        "and `detect(images)`"
    )


def _by_name(name: str, options: DetectOptions, device: str, sam: _HasPredictor | ImagePredictor | None) -> Detector:
    if name.lower() == EVERYTHING:
        return _open_segment_everything(options, device, sam)
    path = Path(name).expanduser()
    if path.is_dir() or (is_hub_name(name) and not path.exists() and _get_card(name) is None):
        from masklet.detect.huggingface import open_hub_detector

        return open_hub_detector(name, options, device)
    card = _get_card(name)
    if not path.is_file() and card is None:
        raise UnknownModelError(_unknown(name))
    if not path.is_file() and card is not None and card.family not in DETECTOR_FAMILIES:
        raise InputError(
            f"{name!r} is a segmentation model, which does not detect by itself; it can be asked everywhere: "
            f"open_detector({EVERYTHING!r}, sam=SAM({name!r})), or {EVERYTHING!r} as det_model beside it as sam_model"
        )
    from masklet.detect.yolo import YOLODetector

    return YOLODetector(name, options, device)


def _open_segment_everything(
    options: DetectOptions, device: str, sam: _HasPredictor | ImagePredictor | None
) -> Detector:
    from masklet.detect.adapters import SegmentEverythingDetector
    from masklet.image.predictor import ImagePredictor

    if sam is None:
        from masklet.load_model import load
        from masklet.runtime import resolve_device

        return SegmentEverythingDetector(ImagePredictor(load().network, resolve_device(device)), options)
    return SegmentEverythingDetector(sam if isinstance(sam, ImagePredictor) else sam.predictor, options)


def _get_card(name: str) -> ModelCard | None:
    try:
        return get_card(name)
    except UnknownModelError:
        return None


def _unknown(what: str) -> str:
    cards = [card for card in MODELS.values() if card.family in DETECTOR_FAMILIES]
    ours = [name for card in cards for name in (card.file, *card.aliases)]
    known = [EVERYTHING, *ours, *HUB_EXAMPLES]
    short = {name.rpartition("/")[2].removesuffix(".pt").casefold(): name for name in reversed(known)}
    key = what.rpartition("/")[2].removesuffix(".pt").casefold()
    near = difflib.get_close_matches(key, short, n=1, cutoff=0.5)
    hint = f" Did you mean {short[near[0]]!r}?" if near else ""
    return "\n".join(
        [
            f"{what!r} is neither a detector known by name nor a file or folder that exists.{hint} There are:",
            f"  {EVERYTHING:<36} needs no download, one class",
            *(f"  {card.file:<36} {card.title}" for card in cards),
            *(f"  {name:<36} extra transformers" for name in HUB_EXAMPLES),
            "  or any other detector on the hub as owner/name, a folder with one, a function rgb -> (boxes, scores, "
            "classes)",
        ]
    )
