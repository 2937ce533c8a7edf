"""Run detectors of the `transformers` extra: RT-DETR, D-FINE, DETR, and by text Grounding DINO, OWLv2, OWL-ViT.

Images are preprocessed by the detector's image processor in its Pillow form, so torchvision is not needed and does not
change the numbers. Each image is preprocessed alone, and those of one size are one batch: the detections of an image
do not depend on the others.

Shapes: B images of a batch, Q queries, C classes, T or L tokens of the text, P phrases, K detections. The networks'
boxes are center x, center y, width and height as fractions of their input image.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from masklet.detect.detector import (
    Detections,
    DetectOptions,
    Names,
    Rgb,
    clip_to_image,
    filter_detections,
    resolve_class_ids,
)
from masklet.detect.huggingface_files import TRANSFORMERS_EXTRA, resolve_model_dir, silence_transformers
from masklet.errors import CheckpointError, InputError, MissingExtraError
from masklet.runtime import resolve_device

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = [
    "HubDetector",
    "QueryDetections",
    "decode_class_logits",
    "open_hub_detector",
    "split_phrases",
    "token_phrase_ids",
]

TEXT_EXAMPLE = "text='a dog. a leash.'"


def split_phrases(text: str) -> tuple[str, ...]:
    """Split a text into phrases, each ended by a full stop or a line's end; duplicates count once.

    Example:
        >>> split_phrases("a dog. a leash.")
        ('a dog', 'a leash')

    Raises:
        InputError: if there is no phrase.
    """
    parts = (" ".join(part.split()) for line in text.splitlines() for part in line.split("."))
    phrases = tuple({part.casefold(): part for part in parts if part}.values())
    if not phrases:
        raise InputError(f"text {text!r} names nothing; write phrases ended by full stops: {TEXT_EXAMPLE}")
    return phrases


def token_phrase_ids(tokens: Sequence[int], separator_id: int, special_ids: Sequence[int]) -> list[int]:
    """Return the index of each token's phrase, -1 for full stops and other special tokens.

    Example:
        >>> token_phrase_ids([101, 7, 8, 1012, 9, 1012, 102], separator_id=1012, special_ids=[101, 102])
        [-1, 0, 0, -1, 1, -1, -1]
    """
    phrase, ids = 0, []
    for token in tokens:
        ids.append(-1 if token == separator_id or token in special_ids else phrase)
        phrase += token == separator_id
    return ids


class QueryDetections(NamedTuple):
    """Boxes with scores and classes, in no order."""

    boxes_K4: Tensor
    scores_K: Tensor
    classes_K: Tensor


def decode_class_logits(logits_QC: Tensor, boxes_Q4: Tensor, num_classes: int) -> QueryDetections:
    """Decode the output of a network with a fixed list of classes.

    One column more than classes is DETR's "no object": a softmax, one class per query. Otherwise, as in RT-DETR, every
    class has its own sigmoid, and the Q best pairs of query and class are selected.
    """
    if logits_QC.shape[1] == num_classes + 1:
        scores_Q, classes_Q = logits_QC.softmax(-1)[:, :-1].max(-1)
        return QueryDetections(boxes_Q4, scores_Q, classes_Q)
    scores_K, pairs_K = logits_QC.sigmoid().flatten().topk(len(logits_QC))
    columns = logits_QC.shape[1]
    return QueryDetections(boxes_Q4[pairs_K // columns], scores_K, pairs_K % columns)


TOKEN_MODELS = ("grounding-dino", "mm-grounding-dino")
PHRASE_MODELS = ("owlv2", "owlvit")
TEXT_MODELS = (*TOKEN_MODELS, *PHRASE_MODELS)
SQUARE_MODELS = ("owlv2",)
"""These pad the image to a square, to the right and below, and return fractions of that."""


@dataclass(frozen=True)
class _DetectionHead:
    """The text inputs of a network, and the decoding of its output for one image: here for a fixed list of classes."""

    names: Names
    text: dict[str, Tensor] = field(default_factory=dict)
    """Inputs for the text, each (1, L), or (P, L) with one row per phrase."""
    needs_nms: bool = False
    """Whether one object may be detected many times."""

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections:
        return decode_class_logits(logits, boxes_Q4, len(self.names))


@dataclass(frozen=True)
class _TokenHead(_DetectionHead):
    """All phrases in one text, compared token by token (Grounding DINO).

    The score is that of the best token, as published; the class is the phrase with the best token.
    """

    phrases_L: list[int] = field(default_factory=list)
    """The phrase of each token, -1 for none."""

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections:
        phrases = torch.tensor(self.phrases_L, device=logits.device)
        probability_QT = logits.sigmoid()[:, : len(phrases)]
        best_QP = torch.stack([probability_QT[:, phrases == p].amax(-1) for p in range(int(phrases.max()) + 1)], -1)
        return QueryDetections(boxes_Q4, probability_QT.amax(-1), best_QP.argmax(-1))


class _PhraseHead(_DetectionHead):
    """One text per phrase, compared with each query (OWL-ViT, OWLv2)."""

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections:
        scores_Q, classes_Q = logits.sigmoid().max(-1)
        return QueryDetections(boxes_Q4, scores_Q, classes_Q)


class HubDetector:
    """A detector of the `transformers` library, opened by `open_hub_detector`.

    Of the options, `conf`, `classes` and `max_det` apply, and for detectors by text `text` and `iou`, because they may
    detect one object many times. The image size is fixed by the detector.
    """

    def __init__(self, network: Any, processor: Any, head: _DetectionHead, options: DetectOptions, device: str) -> None:
        self.network, self.processor, self.device = network.to(device).eval(), processor, device
        self.names: Names = head.names
        self.options = options
        self._head = head
        self._pads_to_square = network.config.model_type in SQUARE_MODELS
        resolve_class_ids(options.classes, self.names)

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """Detect the objects of each image, best score first."""
        prepared: list[dict[str, Tensor]] = []
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, rgb in enumerate(images):
            inputs = self.processor(images=Image.fromarray(rgb), return_tensors="pt")
            prepared.append({name: inputs[name] for name in ("pixel_values", "pixel_mask") if name in inputs})
            by_shape.setdefault(tuple(inputs["pixel_values"].shape), []).append(i)
        detections: dict[int, Detections] = {}
        for members in by_shape.values():
            batch = {name: torch.cat([prepared[i][name] for i in members]) for name in prepared[members[0]]}
            batch |= {name: part.repeat(len(members), 1) for name, part in self._head.text.items()}
            with torch.inference_mode():
                output = self.network(**{name: part.to(self.device) for name, part in batch.items()})
                logits_B, boxes_BQ4 = output.logits.float().cpu(), output.pred_boxes.float().cpu()
            for i, logits, boxes_Q4 in zip(members, logits_B, boxes_BQ4, strict=True):
                height, width = images[i].shape[:2]
                side = max(height, width)
                scale = boxes_Q4.new_tensor([side] * 4 if self._pads_to_square else [width, height] * 2)
                decoded = self._head.decode(logits, boxes_Q4)
                center_K2, half_K2 = decoded.boxes_K4[:, :2], decoded.boxes_K4[:, 2:] / 2
                xyxy = (torch.cat([center_K2 - half_K2, center_K2 + half_K2], -1) * scale).numpy()
                classes = decoded.classes_K.numpy().astype(np.int32)
                found = Detections(xyxy, decoded.scores_K.numpy(), classes, self.names)
                found = clip_to_image(found, (height, width))
                detections[i] = filter_detections(found, self.options, apply_nms=self._head.needs_nms)
        return [detections[i] for i in range(len(images))]


def open_hub_detector(name_or_path: str | Path, options: DetectOptions | None = None, device: str = "") -> HubDetector:
    """Open a detector by its name on the hub (`owner/name`, `owner/name@branch`) or from a folder.

    Detectors with fixed classes: all that `AutoModelForObjectDetection` knows, such as RT-DETR, RT-DETRv2, D-FINE,
    DETR. Detectors by text, `options.text`: Grounding DINO, OWLv2, OWL-ViT, whose classes are the phrases.

    Example:
        >>> detector = open_hub_detector("PekingU/rtdetr_r50vd", DetectOptions(conf=0.5))  # doctest: +SKIP
        >>> options = DetectOptions(text="a dog. a leash.")
        >>> open_hub_detector("IDEA-Research/grounding-dino-tiny", options).names  # doctest: +SKIP
        {0: 'a dog', 1: 'a leash'}

    Raises:
        MissingExtraError: if the extra `transformers` is not installed.
        DownloadError: if a published detector is not cached and cannot be downloaded.
        CheckpointError: if the folder has no detector, or one that is damaged or of another kind.
        InputError: if a text is given to a detector that takes none, or missing for one that needs it, or a class or
            the device does not exist.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError.for_package("transformers", TRANSFORMERS_EXTRA)
    options, resolved_device = options or DetectOptions(), resolve_device(device)
    folder = resolve_model_dir(str(name_or_path))
    with silence_transformers(), _as_checkpoint_error(str(name_or_path)):
        config = _config(folder, str(name_or_path))
        kind, text = config.model_type, options.text
        if kind in TEXT_MODELS and text is None:
            raise InputError(
                f"The detector {str(name_or_path)!r} ({kind}) finds what a text names, and no text was given: "
                f"{TEXT_EXAMPLE}"
            )
        if kind not in TEXT_MODELS and text is not None:
            raise InputError(
                f"The detector {str(name_or_path)!r} ({kind}) has fixed classes and takes no text={text!r}; choose "
                "among them with classes=[...], or take a detector by text such as "
                "'IDEA-Research/grounding-dino-tiny'"
            )
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        head = _head(config, folder, text)
        network = _network(config, folder)
    return HubDetector(network, processor, head, options, resolved_device)


@contextmanager
def _as_checkpoint_error(name_or_path: str) -> Iterator[None]:
    """Raise the library's errors about unusable files as CheckpointError."""
    try:
        yield
    except (CheckpointError, InputError, MissingExtraError):
        raise
    except Exception as error:  # it raises OSError, ValueError, KeyError, ImportError and SafetensorError alike
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"The detector {name_or_path!r} cannot be opened: {reason}. It must be a folder or name with config.json, "
            "preprocessor_config.json and model.safetensors of a detector that transformers knows"
        ) from error


def _config(folder: Path, name_or_path: str) -> PretrainedConfig:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    trunk = getattr(config, "backbone_config", None)
    if getattr(trunk, "model_type", "") == "timm_backbone" and importlib.util.find_spec("timm") is None:
        raise CheckpointError(
            f"The detector {name_or_path!r} takes its trunk from timm, which is not installed: pip install timm, or "
            "take the branch without it where there is one, such as 'facebook/detr-resnet-50@no_timm'"
        )
    return config


def _network(config: PretrainedConfig, folder: Path) -> Any:
    """Load the network; the library fills missing weights with noise and only lists them, so that is checked."""
    from transformers import AutoModelForObjectDetection, AutoModelForZeroShotObjectDetection

    family = AutoModelForZeroShotObjectDetection if config.model_type in TEXT_MODELS else AutoModelForObjectDetection
    network, info = family.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the detector's tensors, the first is {missing[0]}; "
            "it may hold the trunk alone. Name a folder that holds the whole detector"
        )
    return network


def _head(config: PretrainedConfig, folder: Path, text: str | None) -> _DetectionHead:
    if text is None:
        return _DetectionHead({int(number): name for number, name in config.id2label.items()})
    from transformers import AutoTokenizer

    phrases, tokenizer = split_phrases(text), AutoTokenizer.from_pretrained(folder)
    names = dict(enumerate(phrases))
    head: _DetectionHead
    if config.model_type in PHRASE_MODELS:
        max_tokens = config.text_config.max_position_embeddings
        text_PL = tokenizer(list(phrases), padding="max_length", max_length=max_tokens, return_tensors="pt")
        length, where = text_PL["input_ids"].shape[1], "a phrase"
        inputs = {name: text_PL[name] for name in ("input_ids", "attention_mask")}
        head = _PhraseHead(names, inputs, needs_nms=True)
    else:
        max_tokens = config.max_text_len
        text_1L = tokenizer(" ".join(f"{phrase}." for phrase in phrases).lower(), return_tensors="pt")
        tokens = text_1L["input_ids"][0].tolist()
        length, where = len(tokens), "all phrases together"
        phrase_ids = token_phrase_ids(tokens, tokenizer.convert_tokens_to_ids("."), tokenizer.all_special_ids)
        head = _TokenHead(names, dict(text_1L), needs_nms=True, phrases_L=phrase_ids)
    if length > max_tokens:
        raise InputError(
            f"text {text[:60]!r}... has {length} tokens in {where}, and {max_tokens} are read; use fewer words"
        )
    return head
