"""The keywords and options of `SAM`'s methods, and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, PromptError
from masklet.exported import RuntimeOptions
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.media.image import Channels
from masklet.prompts import Box, BoxesLike, LabelsLike, MasksLike, PointsLike
from masklet.prompts.prompt_types import to_float_array
from masklet.video import AutoTrackOptions, FrameDetector, MemoryName, MemorySelector, TrackOptions

__all__ = [
    "AutoTrackKeywords",
    "AutoTrackRequest",
    "FinetuneKeywords",
    "PredictKeywords",
    "PromptedTrackRequest",
    "TrackKeywords",
    "check_exported_use",
    "check_prompt_use",
    "check_runtime_use",
    "merge_options",
    "validate_image_size",
    "validate_memory_pooling",
]

Options = TypeVar("Options", TrackOptions, AutoTrackOptions)


class PredictKeywords(TypedDict, total=False):
    """The keywords of `SAM.__call__`, documented at `SAM.stream`."""

    points: PointsLike | None
    labels: LabelsLike | None
    bboxes: BoxesLike | None
    masks: MasksLike | None
    logits: npt.NDArray[np.float32] | None
    multimask: bool | None
    fill_hole_area: int | None
    threshold: float | None
    view: BoxesLike | None
    everything: MaskGeneratorOptions | str | None
    channels: Channels


class TrackKeywords(TypedDict, total=False):
    """The fields of `TrackOptions` by name."""

    retain: Literal["recent", "all"]
    memory: MemoryName
    memory_selector: MemorySelector | None
    corrections: Literal["kept", "sam2"]
    non_overlapping: bool | None
    fill_hole_area: int
    objects_per_batch: int
    scene_cuts: bool
    verify_returns: bool
    lost_after: int


class AutoTrackKeywords(TypedDict, total=False):
    """The fields of `AutoTrackOptions` by name."""

    detect_every: int
    identities: bool
    max_objects: int
    sort_by: Literal["score", "area"]
    max_missing_frames: int
    max_undetected: int | None
    reinit_on_match: bool
    match_iou: float
    part_overlap: float
    parts: bool
    background_area: float
    min_area: float
    reidentify: bool
    min_similarity: float


class AutoTrackRequest(AutoTrackKeywords, total=False):
    """The keywords of `SAM.track` without prompts."""

    detector: FrameDetector | None
    everything: MaskGeneratorOptions | str | None
    start: int | None
    stop: int | None
    channels: Channels
    options: TrackOptions | None
    auto_options: AutoTrackOptions | None


class PromptedTrackRequest(TypedDict, total=False):
    """The keywords of `SAM.track` with prompts."""

    points: PointsLike | None
    labels: LabelsLike | None
    bboxes: BoxesLike | None
    masks: MasksLike | None
    object_ids: Sequence[int] | None
    frame_idx: int
    bidirectional: bool
    channels: Channels
    options: TrackOptions | None


class FinetuneKeywords(TypedDict, total=False):
    """The fields of `masklet.train.finetune.FinetuneOptions` by name, except epochs and steps."""

    batch: int
    clip_length: int
    image_size: int | None
    lr: float | None
    freeze: tuple[str, ...]
    lora: int
    grad_accum: int
    precision: str | None
    gradient_checkpointing: bool


USED_WITH: dict[str, Literal["prompted", "unprompted"]] = {
    "labels": "prompted",
    "logits": "prompted",
    "multimask": "prompted",
    "fill_hole_area": "prompted",
    "threshold": "prompted",
    "view": "prompted",
    "object_ids": "prompted",
    "frame_idx": "prompted",
    "bidirectional": "prompted",
    "everything": "unprompted",
    "detector": "unprompted",
    "auto_options": "unprompted",
    "start": "unprompted",
    "stop": "unprompted",
    **dict.fromkeys((field.name for field in fields(AutoTrackOptions)), "unprompted"),
}
"""Whether an option goes with prompts, or with none."""


def check_prompt_use(prompted: bool, given: Mapping[str, object]) -> None:
    """Check that each option that was given (is not None) goes with prompts if there are some, else without.

    Raises:
        PromptError: if an option is given in the other case.
    """
    for name, value in given.items():
        wanted = USED_WITH.get(name, "unprompted")
        if value is None or wanted == ("prompted" if prompted else "unprompted"):
            continue
        shown = f"{name}={value!r:.60}"
        if prompted:
            raise PromptError(f"{shown} is for use without prompts, and prompts were given: remove one of the two")
        raise PromptError(
            f"{shown} needs prompts, and there are none: give points=[x, y], bboxes=[x1, y1, x2, y2] or masks, or "
            f"leave {name} out to segment or track everything"
        )


def check_exported_use(device: object, image_size: int | None, memory_pooling: int = 1) -> None:
    """Check the options with which an exported folder is opened: what was chosen at export cannot be changed.

    Raises:
        InputError: if a device, size or pooling is given.
    """
    if device not in (None, "", "auto", "cpu"):
        raise InputError(
            f"device={device!r:.40} does not go with an exported folder: name the devices of its runtime instead, such "
            "as providers=['CUDAExecutionProvider']"
        )
    for name, value in (("image_size", image_size), ("memory_pooling", memory_pooling)):
        if value not in (None, 1):
            raise InputError(
                f"{name}={value!r:.40} does not go with an exported folder, whose graphs have one: leave it out, or "
                "export the model again"
            )


def check_runtime_use(runtime: RuntimeOptions) -> None:
    """Check that no providers and no folder for graphs are given where no exported folder is opened.

    Raises:
        InputError: if they are.
    """
    for name, value in (("providers", runtime.providers), ("cache_dir", runtime.cache_dir)):
        if value:
            shown = list(value) if isinstance(value, tuple) else str(value)
            raise InputError(
                f"{name}={shown!r:.60} is for exported folders, and this model runs in PyTorch: leave it out, or give "
                "the folder that `masklet export` wrote"
            )


def merge_options(cls: type[Options], given: Options | None, overrides: Mapping[str, Any]) -> Options:
    """Merge options given as a value (None: the defaults of `cls`) with fields given by name.

    Raises:
        InputError: if `cls` has no field of a name, or a value is invalid.
    """
    known = [field.name for field in fields(cls)]
    unknown = [name for name in overrides if name not in known]
    if unknown:
        raise InputError(f"no option {', '.join(unknown)}; {cls.__name__} has {', '.join(known)}")
    try:
        return replace(given or cls(), **overrides)
    except TypeError as error:
        raise InputError(f"a value of {cls.__name__} has the wrong type: {error}") from None


def parse_view(view: BoxesLike) -> Box:
    """Read the part of an image that the network sees.

    Raises:
        PromptError: if it is no box.
    """
    corners = to_float_array(view, "box").ravel().tolist()
    if len(corners) != 4:
        raise PromptError(f"view={view!r:.80} must be one box [x1, y1, x2, y2] in pixels of the image")
    return Box(*corners)


def validate_image_size(image_size: object) -> None:
    """Check that `image_size` is None or a side that the networks accept.

    Raises:
        InputError: if it is anything else.
    """
    is_integer = isinstance(image_size, int) and not isinstance(image_size, bool)
    if image_size is None or (is_integer and image_size % 32 == 0 and 64 <= image_size <= 4096):  # type: ignore[operator]
        return
    raise InputError(
        f"image_size={image_size!r} must be a multiple of 32 from 64 to 4096, such as 512; or leave it out"
    )


def validate_memory_pooling(memory_pooling: object) -> None:
    """Check that `memory_pooling` is 1 or 2.

    Raises:
        InputError: if it is anything else.
    """
    if isinstance(memory_pooling, bool) or memory_pooling not in (1, 2):
        raise InputError(f"memory_pooling={memory_pooling!r:.40} must be 1, as the model was trained, or 2")
