"""`Sam2Model`, `EdgeTamModel` and `SamModel` with the inputs and outputs of transformers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch import device as TorchDevice
from torch.nn.functional import interpolate

from masklet import sam
from masklet.compat.transformers.named_tensors import NamedTensors
from masklet.compat.transformers.object_prompts import batches, object_prompts
from masklet.compat.transformers.open_pretrained import model_kind, open_pretrained
from masklet.errors import InputError, ModelError, PromptError
from masklet.models.heads.mask_selection import NUM_MASK_TOKENS, select_masks
from masklet.models.types import ImageFeatures, PromptableModel, PromptTensors
from masklet.runtime import DeviceLike, resolve_device

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EdgeTamModel", "PretrainedModel", "Sam2Model", "SamModel"]

IGNORED = ("labels", "original_sizes", "reshaped_input_sizes")
"""Items of a processor's output that no model uses."""
NO_MASK_LOGIT = -32.0
"""The mask of an object that is only there because another image of the batch has more objects."""


class PretrainedModel:
    """A network that is opened as transformers opens it; `native` is the `masklet.SAM`."""

    def __init__(self, model: sam.SAM) -> None:
        self.native = model

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, device_map: DeviceLike = "cpu", **kwargs: object) -> Self:
        """Open a model by its name on the hub, a folder that was saved by transformers, or any file of weights.

        `device_map` is a device, or "auto" for the best of this machine.

        Raises:
            UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
            ModelError: if it is a model of another kind.
            InputError: if an option is unknown.
        """
        model = open_pretrained(name, device_map, kwargs)
        kind, wanted = model_kind(model), cls.__name__.removesuffix("Model").removesuffix("Video")
        if wanted != kind and (kind, wanted) != ("EdgeTam", "Sam2"):
            raise ModelError(f"{os.fspath(name)!r} is no model of {cls.__name__}: open it with {kind}Model")
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
        """Move the network to a device, and return the model."""
        where = resolve_device(device)
        if torch.device(where) != self.device:
            self.native._use(self.native._loaded, where, "fp32")
        return self

    def eval(self) -> Self:
        """Return the model: it is not in training."""
        return self

    def train(self, mode: bool = True) -> NoReturn:
        """Refuse.

        Raises:
            InputError: always.
        """
        raise InputError("training is not possible here; write model.native.train(data, epochs=20), of masklet.SAM")


class PromptableSegmenter(PretrainedModel):
    """A model of images, called with the tensors of its processor."""

    def __call__(
        self,
        pixel_values: Tensor | None = None,
        input_points: Tensor | None = None,
        input_labels: Tensor | None = None,
        input_boxes: Tensor | None = None,
        input_masks: Tensor | None = None,
        image_embeddings: Tensor | Sequence[Tensor] | None = None,
        multimask_output: bool = True,
        **others: object,
    ) -> NamedTensors:
        """Segment the prompted objects in each image of a batch; arguments are the items of the processor's output.

        Points (B, N, P, 2), labels (B, N, P) and boxes (B, N, 4) are in pixels of the network's input; points with
        label -10 are padding, and without labels all are on the object. `input_masks` (B, N, h, w) are logits to
        refine. Instead of pixels, `image_embeddings` of an earlier output can be given.

        Returns:
            `iou_scores` (B, N, C) and `pred_masks` (B, N, C, h, w), low-resolution logits of the network's input; of
            SAM 2 `object_score_logits` (B, N, 1) and `image_embeddings` too. C is 3, or 1 without `multimask_output`.

        Raises:
            InputError: if there are neither pixels nor embeddings, or both, or an unknown argument.
            PromptError: if a prompt is malformed, outside the image, or there is none.
        """
        unknown = [name for name in others if name not in IGNORED]
        if unknown:
            raise InputError(f"{', '.join(unknown)} is not possible here; masklet.SAM has streams and sessions")
        if (pixel_values is None) == (image_embeddings is None):
            raise InputError("give either pixel_values or image_embeddings: those of the processor, or of an output")
        embeddings = self.get_image_embeddings(pixel_values) if pixel_values is not None else image_embeddings
        assert embeddings is not None
        maps = [embeddings] if isinstance(embeddings, Tensor) else list(embeddings)
        prompts = object_prompts(input_points, input_labels, input_boxes, input_masks)
        if len(prompts) != len(maps[0]):
            raise PromptError(f"there are prompts for {len(prompts)} images, and {len(maps[0])} images")
        answers = []
        for i, objects in enumerate(prompts):
            fine_to_coarse = [one[i : i + 1].to(self.device) for one in maps]
            features = ImageFeatures(fine_to_coarse[-1], tuple(fine_to_coarse[-2::-1]))
            answers.append(self._segment(features, objects, multimask_output))
        scores, logits, object_scores = (torch.stack(column) for column in zip(*answers, strict=True))
        output = NamedTensors(iou_scores=scores, pred_masks=logits)
        if not isinstance(embeddings, Tensor):
            output.update(object_score_logits=object_scores, image_embeddings=embeddings)
        return output

    forward: Any = __call__

    @torch.inference_mode()
    def get_image_embeddings(self, pixel_values: Tensor) -> Any:
        """Encode images (B, 3, S, S) for later calls: a tensor of SAM, of SAM 2 a list of tensors, the finest first.

        Raises:
            InputError: if they have another size than the network's input.
        """
        side, expected = int(pixel_values.shape[-1]), self.network.still_image_size
        if side != expected:
            raise InputError(
                f"pixel_values of side {side} are not for this network, whose inputs have {expected}: make them with "
                f"{'SamProcessor' if self.network.keeps_aspect_ratio else 'Sam2Processor'}({expected})"
            )
        encode, add = self.native.predictor.encode, self.network.add_no_memory_embedding
        encoded = [add(encode(pixels[None].float().to(self.device))) for pixels in pixel_values]
        levels = [torch.cat([one.embed_BCHW for one in encoded])]
        for level in range(len(encoded[0].high_res_features)):
            levels.insert(0, torch.cat([one.high_res_features[level] for one in encoded]))
        return levels[0] if self.network.keeps_aspect_ratio else levels

    @torch.inference_mode()
    def _segment(
        self, features: ImageFeatures, objects: Sequence[PromptTensors | None], multimask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (N, C), logits (N, C, h, w) and object scores (N, 1) of the objects of one image."""
        height, width = (4 * cells for cells in features.embed_BCHW.shape[-2:])
        count = NUM_MASK_TOKENS - 1 if multimask else 1
        scores = torch.zeros(len(objects), count, device=self.device)
        logits = torch.full((len(objects), count, height, width), NO_MASK_LOGIT, device=self.device)
        object_scores = torch.full((len(objects), 1), NO_MASK_LOGIT, device=self.device)
        for rows, joined in batches(objects):
            mask = joined.mask_B1HW
            if mask is not None and mask.shape[-2:] != (height, width):
                mask = interpolate(mask, (height, width), mode="bilinear", antialias=True)
            points, labels = joined.points_BN2.to(self.device), joined.labels_BN.to(self.device)
            prompts = PromptTensors(points, labels, None if mask is None else mask.to(self.device))
            many = features.index_select(torch.zeros(len(rows), dtype=torch.long, device=self.device))
            prediction = self.network.decode(many, prompts)
            selected = select_masks(prediction, multimask, threshold=self.network.stability_threshold)
            scores[rows], logits[rows] = selected.iou_BK.float(), selected.logits_BKHW.float()
            object_scores[rows] = selected.object_score_B1.float()
        return scores, logits, object_scores


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


class EdgeTamModel(PromptableSegmenter):
    """EdgeTAM on images, called as `Sam2Model`, with `Sam2Processor`."""


class SamModel(PromptableSegmenter):
    """SAM on images, called as `Sam2Model`."""
