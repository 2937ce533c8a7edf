"""Detectors of the `transformers` extra: RT-DETR, RT-DETRv2, D-FINE, DETR and their kin, and by text Grounding DINO,
OWLv2 and OWL-ViT.

Images are prepared by the detector's own image processor in its Pillow form, so that torchvision is not needed and
the numbers are the same where it is. Every image is prepared alone, and those that come out alike share a pass: what
is found in an image does not depend on its neighbors.

Shapes: B images of a pass, Q queries, H and W of the prepared image, L tokens.

What is looked for, in words.

From what the networks of the hub answer to boxes, scores and classes.

Shapes: Q queries, C classes, T tokens of the text, P phrases, K answers kept. Boxes here are center x, center y, width
and height as shares of the image that the network saw.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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
    "cxcywh_to_xyxy",
    "decode_class_logits",
    "decode_phrase_logits",
    "decode_token_logits",
    "open_hub_detector",
    "split_phrases",
    "token_phrase_ids",
]

TEXT_EXAMPLE = "text='a dog. a leash.'"


def split_phrases(text: str) -> tuple[str, ...]:
    """The phrases of a text, each ended by a full stop or a line's end; one that comes twice counts once.

    Example:
        >>> phrases_of("a dog. a leash.")
        ('a dog', 'a leash')

    Raises:
        InputError: a text without a phrase.
    """
    parts = (" ".join(part.split()) for line in text.splitlines() for part in line.split("."))
    phrases = tuple({part.casefold(): part for part in parts if part}.values())
    if not phrases:
        raise InputError(f"text {text!r} names nothing; write phrases ended by full stops: {TEXT_EXAMPLE}")
    return phrases


def token_phrase_ids(tokens: Sequence[int], separator_id: int, special_ids: Sequence[int]) -> list[int]:
    """The number of the phrase each token belongs to, -1 for full stops and other special tokens.

    Example:
        >>> phrases_of_tokens([101, 7, 8, 1012, 9, 1012, 102], stop=1012, special=[101, 102])
        [-1, 0, 0, -1, 1, -1, -1]
    """
    phrase, found = 0, []
    for token in tokens:
        found.append(-1 if token == separator_id or token in special_ids else phrase)
        phrase += token == separator_id
    return found


class QueryDetections(NamedTuple):
    """Boxes with what they are, in no order."""

    boxes_K4: Tensor
    scores_K: Tensor
    classes_K: Tensor


def decode_class_logits(logits_QC: Tensor, boxes_Q4: Tensor, num_classes: int) -> QueryDetections:
    """Answers of a network with a fixed list of `classes` classes.

    One column more than classes is the "nothing here" of DETR: a softmax, one class a query. Else, as in RT-DETR, every
    class is a yes or no of its own, and the Q best of all pairs of query and class are kept.
    """
    if logits_QC.shape[1] == num_classes + 1:
        scores_Q, classes_Q = logits_QC.softmax(-1)[:, :-1].max(-1)
        return QueryDetections(boxes_Q4, scores_Q, classes_Q)
    scores_K, pairs_K = logits_QC.sigmoid().flatten().topk(len(logits_QC))
    columns = logits_QC.shape[1]
    return QueryDetections(boxes_Q4[pairs_K // columns], scores_K, pairs_K % columns)


def decode_phrase_logits(logits_QP: Tensor, boxes_Q4: Tensor) -> QueryDetections:
    """Answers of a network that compares each query with whole phrases (OWL-ViT, OWLv2)."""
    scores_Q, classes_Q = logits_QP.sigmoid().max(-1)
    return QueryDetections(boxes_Q4, scores_Q, classes_Q)


def decode_token_logits(logits_QT: Tensor, boxes_Q4: Tensor, phrases_T: Sequence[int]) -> QueryDetections:
    """Answers of a network that compares each query with the tokens of one text (Grounding DINO).

    `phrases_T` is the phrase each token belongs to, -1 for none. The score is that of the best token, as was published;
    the class is the phrase with the best token.
    """
    phrases = torch.tensor(phrases_T, device=logits_QT.device)
    probability_QT = logits_QT.sigmoid()[:, : len(phrases)]
    best_QP = torch.stack([probability_QT[:, phrases == p].amax(-1) for p in range(int(phrases.max()) + 1)], -1)
    return QueryDetections(boxes_Q4, probability_QT.amax(-1), best_QP.argmax(-1))


def cxcywh_to_xyxy(boxes_K4: Tensor, width: float, height: float) -> Tensor:
    """Boxes as x1, y1, x2, y2 in pixels of an image of this width and height."""
    center_K2, half_K2 = boxes_K4[:, :2], boxes_K4[:, 2:] / 2
    scale = boxes_K4.new_tensor([width, height, width, height])
    return torch.cat([center_K2 - half_K2, center_K2 + half_K2], -1) * scale


TOKEN_MODELS = ("grounding-dino", "mm-grounding-dino")
PHRASE_MODELS = ("owlv2", "owlvit")
TEXT_MODELS = (*TOKEN_MODELS, *PHRASE_MODELS)
SQUARE_MODELS = ("owlv2",)
"""These see the image in the upper left of a square, and mean shares of that."""


class _DetectionHead(Protocol):
    """What to say to a network beside the images, and how to read what it answers about one."""

    @property
    def names(self) -> Names: ...

    @property
    def needs_nms(self) -> bool:
        """Whether one object may be answered many times over."""

    def text_inputs(self, batch_size: int) -> dict[str, Tensor]: ...

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections: ...


@dataclass(frozen=True)
class _ClassHead:
    """A fixed list of classes."""

    names: Names
    needs_nms: bool = False

    def text_inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {}

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections:
        return decode_class_logits(logits, boxes_Q4, len(self.names))


@dataclass(frozen=True)
class _TokenHead:
    """One text of all phrases, compared token by token."""

    names: Names
    text_1L: dict[str, Tensor]
    phrases_L: list[int]
    needs_nms: bool = True

    def text_inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {name: part.expand(batch_size, -1) for name, part in self.text_1L.items()}

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections:
        return decode_token_logits(logits, boxes_Q4, self.phrases_L)


@dataclass(frozen=True)
class _PhraseHead:
    """Each phrase a text of its own."""

    names: Names
    text_PL: dict[str, Tensor]
    needs_nms: bool = True

    def text_inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {name: part.repeat(batch_size, 1) for name, part in self.text_PL.items()}

    def decode(self, logits: Tensor, boxes_Q4: Tensor) -> QueryDetections:
        return decode_phrase_logits(logits, boxes_Q4)


class HubDetector:
    """A detector of the `transformers` library, made by `open_hub`.

    Of the options, `conf`, `classes` and `max_det` hold; `text` for detectors that take text, and `iou` for those too,
    since they may answer one object many times; the size of images is the detector's own.
    """

    def __init__(self, network: Any, processor: Any, head: _DetectionHead, options: DetectOptions, device: str) -> None:
        self.network, self.processor, self.device = network.to(device).eval(), processor, device
        self.names: Names = head.names
        self.options = options
        self._head = head
        self._pads_to_square = network.config.model_type in SQUARE_MODELS
        resolve_class_ids(options.classes, self.names)

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """What is in each image, best score first."""
        prepared = [self._preprocess(rgb) for rgb in images]
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, inputs in enumerate(prepared):
            alike.setdefault(tuple(inputs["pixel_values"].shape), []).append(i)
        found: dict[int, Detections] = {}
        for members in alike.values():
            answers = self._forward([prepared[i] for i in members])
            for i, (logits, boxes_Q4) in zip(members, answers, strict=True):
                found[i] = self._postprocess(logits, boxes_Q4, images[i].shape[:2])
        return [found[i] for i in range(len(images))]

    def _preprocess(self, rgb: Rgb) -> dict[str, Tensor]:
        inputs = self.processor(images=Image.fromarray(rgb), return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "pixel_mask") if name in inputs}

    @torch.inference_mode()
    def _forward(self, inputs: list[dict[str, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        batch = {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
        said = {name: part.to(self.device) for name, part in {**batch, **self._head.text_inputs(len(inputs))}.items()}
        answer = self.network(**said)
        return zip(answer.logits.float().cpu(), answer.pred_boxes.float().cpu(), strict=True)

    def _postprocess(self, logits: Tensor, boxes_Q4: Tensor, size: tuple[int, ...]) -> Detections:
        height, width = size
        answer = self._head.decode(logits, boxes_Q4)
        extent = (max(size), max(size)) if self._pads_to_square else (width, height)
        xyxy = cxcywh_to_xyxy(answer.boxes_K4, *extent).numpy()
        found = Detections(xyxy, answer.scores_K.numpy(), answer.classes_K.numpy().astype(np.int32), self.names)
        return filter_detections(clip_to_image(found, (height, width)), self.options, apply_nms=self._head.needs_nms)


def open_hub_detector(name_or_path: str | Path, options: DetectOptions | None = None, device: str = "") -> HubDetector:
    """A detector by its name on the hub (`owner/name`, `owner/name@branch`) or by the folder that holds it.

    Detectors with classes of their own: whatever `AutoModelForObjectDetection` knows, among it RT-DETR, RT-DETRv2,
    D-FINE, DETR. Detectors by text, `options.text`: Grounding DINO, OWLv2, OWL-ViT; the phrases are the classes then.

    Example:
        >>> detector = open_hub("PekingU/rtdetr_r50vd", DetectOptions(conf=0.5))
        >>> dogs = open_hub("IDEA-Research/grounding-dino-tiny", DetectOptions(text="a dog. a leash."))
        >>> dogs.names
        {0: 'a dog', 1: 'a leash'}

    Raises:
        MissingExtraError: the extra `transformers` is not installed.
        DownloadError: a published detector that is not here and could not be fetched.
        CheckpointError: a folder that holds no detector, or one that is damaged or not of these kinds.
        InputError: text for a detector that takes none, no text for one that needs it, an unknown class or device.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError.for_package("transformers", TRANSFORMERS_EXTRA)
    options, place = options or DetectOptions(), resolve_device(device)
    folder = resolve_model_dir(str(name_or_path))
    with silence_transformers(), _as_checkpoint_error(str(name_or_path)):
        config = _config(folder, str(name_or_path))
        _check_text(str(name_or_path), config.model_type, options.text)
        processor = _processor(folder)
        head = _head(config, folder, options.text)
        network = _network(config, folder)
    return HubDetector(network, processor, head, options, place)


@contextmanager
def _as_checkpoint_error(name_or_path: str) -> Iterator[None]:
    """Whatever the library has to say about files it cannot use, as one kind of error."""
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
            f"The detector {name_or_path!r} takes its trunk from timm, which is not installed: pip install timm, or take the "  # noqa: E501
            "branch without it where there is one, such as 'facebook/detr-resnet-50@no_timm'"
        )
    return config


def _check_text(name_or_path: str, model_type: str, text: str | None) -> None:
    if model_type in TEXT_MODELS and text is None:
        raise InputError(
            f"The detector {name_or_path!r} ({model_type}) finds what a text names, and no text was given: {TEXT_EXAMPLE}"  # noqa: E501
        )
    if model_type not in TEXT_MODELS and text is not None:
        raise InputError(
            f"The detector {name_or_path!r} ({model_type}) has classes of its own and takes no text={text!r}; choose among them with "  # noqa: E501
            "classes=[...], or take a detector by text such as 'IDEA-Research/grounding-dino-tiny'"
        )


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil")


def _network(config: PretrainedConfig, folder: Path) -> Any:
    """The network with every weight from its file; the library fills what lacks with noise and only says so."""
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
        return _ClassHead({int(number): name for number, name in config.id2label.items()})
    from transformers import AutoTokenizer

    phrases, tokenizer = split_phrases(text), AutoTokenizer.from_pretrained(folder)
    names = dict(enumerate(phrases))
    if config.model_type in PHRASE_MODELS:
        most = config.text_config.max_position_embeddings
        text_PL = tokenizer(list(phrases), padding="max_length", max_length=most, return_tensors="pt")
        _check_length(text, text_PL["input_ids"].shape[1], most, "a phrase")
        return _PhraseHead(names, {name: text_PL[name] for name in ("input_ids", "attention_mask")})
    text_1L = tokenizer(" ".join(f"{phrase}." for phrase in phrases).lower(), return_tensors="pt")
    tokens = text_1L["input_ids"][0].tolist()
    _check_length(text, len(tokens), config.max_text_len, "all phrases together")
    numbers = token_phrase_ids(tokens, tokenizer.convert_tokens_to_ids("."), tokenizer.all_special_ids)
    return _TokenHead(names, dict(text_1L), numbers)


def _check_length(text: str, length: int, max_length: int, where: str) -> None:
    if length > max_length:
        raise InputError(
            f"text {text[:60]!r}... has {length} tokens in {where}, and {max_length} are read; use fewer words"
        )
