"""`Sam2Model` and `SamModel` with the inputs and outputs of transformers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch import device as TorchDevice

from masklet import sam
from masklet.compat.prompted_image import predict_arrays
from masklet.errors import InputError, ModelError
from masklet.models.types import PromptableModel
from masklet.runtime import DeviceLike

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Sam2Model", "SamModel", "SegmentationOutput"]


@dataclass(frozen=True)
class SegmentationOutput:
    """The answer of a model for B images with N objects each."""

    iou_scores: Tensor
    """(B, N, C): C is 3, or 1 without `multimask_output`."""
    pred_masks: Tensor
    """(B, N, C, h, w): low-resolution logits of the network's input."""


class PromptableSegmenter:
    """A model of images, called with the tensors of its processor; `native` is the `masklet.SAM`."""

    family: ClassVar[str]
    """The network it has to be: SAM1 or SAM2."""

    def __init__(self, model: sam.SAM) -> None:
        self.native = model

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, device_map: DeviceLike = "cpu", **kwargs: object) -> Self:
        """Open a model by its name on the hub, a folder that was saved by transformers, or any file of weights.

        Raises:
            UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
            ModelError: if it is a model of the other kind.
            InputError: if an option is unknown.
        """
        if kwargs:
            option = next(iter(kwargs))
            raise InputError(f"{option}={kwargs[option]!r:.40} is not possible here; masklet.SAM has precision=")
        path = Path(name)
        model = sam.SAM(path / "model.safetensors" if path.is_dir() else name, device=device_map, precision="fp32")
        kind = type(model.predictor.model).__name__
        if kind != cls.family:
            other = "SamModel" if kind == "SAM1" else "Sam2Model"
            raise ModelError(f"{os.fspath(name)!r} is no model of {cls.__name__}: open it with {other}")
        return cls(model)

    @property
    def device(self) -> TorchDevice:
        """Where the network is."""
        return self.native.predictor.device

    @property
    def network(self) -> PromptableModel:
        """The network, a `torch.nn.Module`."""
        return self.native.predictor.model

    def to(self, device: DeviceLike) -> Self:
        """Move the network to a device."""
        return type(self)(sam.SAM(self.native.info().path, device=device, precision="fp32"))

    def eval(self) -> Self:
        """Return the model: it is not in training."""
        return self

    def __call__(
        self,
        pixel_values: Tensor | None = None,
        input_points: Tensor | None = None,
        input_labels: Tensor | None = None,
        input_boxes: Tensor | None = None,
        input_masks: Tensor | None = None,
        image_embeddings: None = None,
        multimask_output: bool = True,
        **sizes: object,
    ) -> SegmentationOutput:
        """Segment the prompted objects in each image of a batch; arguments are the items of the processor's output.

        Points (B, N, P, 2), labels (B, N, P) and boxes (B, N, 4) are in pixels of the network's input, of which labels
        below 0 are padding.

        Raises:
            InputError: if there are no images, embeddings instead of them, or an unknown argument.
            PromptError: if a prompt is malformed, outside the image, or there is none.
        """
        unknown = sizes.keys() - {"original_sizes", "reshaped_input_sizes"}
        if unknown:
            raise InputError(f"{', '.join(sorted(unknown))} is not possible here; masklet.SAM has streams and sessions")
        if pixel_values is None or image_embeddings is not None:
            raise InputError(
                "pixel_values must be given, and image_embeddings not: masklet.SAM keeps the features of its last image"
            )
        answers = []
        predictor, side = self.native.predictor, int(pixel_values.shape[-1])
        if side != self.network.still_image_size:
            processor = type(self).__name__.replace("Model", "Processor")
            raise InputError(
                f"pixel_values of side {side} are not for this network, whose inputs have "
                f"{self.network.still_image_size}: make them with {processor}({self.network.still_image_size})"
            )
        given = (input_points, input_labels, input_boxes, input_masks)
        for i in range(len(pixel_values)):
            predictor._set_preprocessed(pixel_values[i : i + 1].float(), (side, side))
            points, labels, boxes, masks = (None if one is None else one[i] for one in given)
            answers.append(
                predict_arrays(
                    predictor,
                    points,
                    labels,
                    boxes,
                    masks,
                    multimask_output=multimask_output,
                    return_logits=False,
                    threshold=0.0,
                )
            )
        scores, logits = (torch.stack([torch.from_numpy(one[part]) for one in answers]) for part in (1, 2))
        return SegmentationOutput(scores.to(self.device), logits.to(self.device))

    forward: Any = __call__


class Sam2Model(PromptableSegmenter):
    """SAM 2 on images.

    Example:
        >>> from masklet.compat.transformers import Sam2Model, Sam2Processor
        >>> model = Sam2Model.from_pretrained("facebook/sam2.1-hiera-tiny")  # doctest: +SKIP
        >>> processor = Sam2Processor.from_pretrained("facebook/sam2.1-hiera-tiny")  # doctest: +SKIP
        >>> inputs = processor(  # doctest: +SKIP
        ...     images=image, input_points=[[[[500, 375]]]], input_labels=[[[1]]], return_tensors="pt"
        ... )
        >>> outputs = model(**inputs)  # doctest: +SKIP
        >>> masks = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0]  # doctest: +SKIP
    """

    family = "SAM2"


class SamModel(PromptableSegmenter):
    """SAM on images, called as `Sam2Model`."""

    family = "SAM1"
