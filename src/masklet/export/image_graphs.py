"""The image parts of a network as modules with plain tensors in and out, which exporters trace.

Names of inputs and outputs are those of the exported folder (docs/export.md).
Shapes: B images, N objects, P points, C channels, h and w of the stride-16 map, D channels of a matching key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from masklet.models.heads.prompt_encoder import PromptEncoder
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors

__all__ = [
    "SAM1_OBJECT_SCORE",
    "CoarsePromptDecoderGraph",
    "DecoderOutputs",
    "ImageEncoderGraph",
    "PromptDecoderGraph",
    "SAM1PromptDecoderGraph",
]

SAM1_OBJECT_SCORE = 1e4
"""Object score of SAM 1, which has none: its objects count as present."""

DecoderOutputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Logits (N, 4, 4 h, 4 w), predicted IoU (N, 4), object scores (N, 1) and object pointers (N, 4, C)."""


class ImageEncoderGraph(nn.Module):
    """Normalized RGB to the features that prompts are decoded on."""

    def __init__(self, network: SAM2 | SAM1, *, with_keys: bool) -> None:
        super().__init__()
        self.network, self.with_keys = network, with_keys

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode (1, 3, 16 h, 16 w); returns the stride-16 map, those of strides 4 and 8, and the matching keys.

        SAM 1 has the first alone; keys are for networks that match labels, in videos.
        """
        features = self.network.encode_image(pixels)
        outputs = [features.embed_BCHW, *reversed(features.high_res_features)]
        if self.with_keys:
            assert isinstance(self.network, SAM2)
            outputs.append(self.network.matching_keys(features))
        return tuple(outputs)


class DecoderGraph(nn.Module):
    """What the graphs of all prompt decoders share.

    `expands` repeats the features of one image for every object explicitly; else an addition broadcasts them, which
    some exporters fix to one image.
    """

    def __init__(self, prompt_encoder: PromptEncoder, decoder: nn.Module, *, expands: bool, pads: bool) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder, self.expands, self.pads = prompt_encoder, decoder, expands, pads

    def decode(
        self,
        image_embeddings: Tensor,
        high_res_features: tuple[Tensor, ...],
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> MaskPrediction:
        """Decode prompts of N objects, with the maps of strides 8 and 4 or without any."""
        height, width = image_embeddings.shape[-2:]
        encoder, prompts = self.prompt_encoder, PromptTensors(point_coords, point_labels)
        dense_NCHW = torch.where(
            has_mask_input[:, None, None, None] > 0.5,
            encoder.mask_downscaling(mask_input),
            encoder.no_mask_embed.weight[..., None, None],
        )
        if encoder.drawing is not None:  # a padding point draws nothing; without any point there would be no maximum
            padded = PromptTensors(pad(point_coords, (0, 0, 0, 1)), pad(point_labels, (0, 1), value=-1.0))
            dense_NCHW = dense_NCHW + encoder.drawing(padded, height, width)
        if self.expands:
            rows = torch.arange(point_coords.shape[0], device=point_coords.device) % image_embeddings.shape[0]
            image_embeddings = image_embeddings.index_select(0, rows)
        prediction: MaskPrediction = self.decoder(
            ImageFeatures(image_embeddings, high_res_features),
            encoder.pe_layer.grid(height, width),
            encoder.encode_points(prompts, height, width, pads=self.pads),
            dense_NCHW,
        )
        return prediction


class PromptDecoderGraph(DecoderGraph):
    """Features and prompts of SAM 2 to all four candidate masks of each object; the caller selects among them."""

    def __init__(self, network: SAM2, *, expands: bool = False) -> None:
        super().__init__(network.sam_prompt_encoder, network.sam_mask_decoder, expands=expands, pads=True)
        self.pointer_proj: nn.Module = network.obj_ptr_proj if network.config.memory is not None else nn.Identity()

    def forward(
        self,
        image_embeddings: Tensor,
        high_res_features_0: Tensor,
        high_res_features_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> DecoderOutputs:
        """Decode prompts of N objects.

        Args:
            image_embeddings: (B, C, h, w), B is 1 or N.
            high_res_features_0: (1, C / 8, 4 h, 4 w).
            high_res_features_1: (1, C / 4, 2 h, 2 w).
            point_coords: (N, P, 2) in pixels of the network's input.
            point_labels: (N, P) as `PromptTensors.labels_BN`, as floats.
            mask_input: (N, 1, 4 h, 4 w) logits.
            has_mask_input: (N,), 1 where the mask counts and 0 where there is none.
        """
        finer, prompts = (high_res_features_1, high_res_features_0), (point_coords, point_labels)
        return self.outputs(self.decode(image_embeddings, finer, *prompts, mask_input, has_mask_input))

    def outputs(self, prediction: MaskPrediction) -> DecoderOutputs:
        """Return what the graph does, with the pointer of each candidate."""
        pointers = self.pointer_proj(prediction.tokens_BKC)
        return prediction.logits_BKHW, prediction.iou_BK, prediction.object_score_B1, pointers


class CoarsePromptDecoderGraph(PromptDecoderGraph):
    """`PromptDecoderGraph` of a network whose decoder has no finer maps (EfficientTAM)."""

    def forward(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> DecoderOutputs:
        """Decode prompts of N objects; see `PromptDecoderGraph.forward`."""
        return self.outputs(self.decode(image_embeddings, (), point_coords, point_labels, mask_input, has_mask_input))


class SAM1PromptDecoderGraph(DecoderGraph):
    """Features and prompts of SAM 1 to all four candidate masks of each object.

    The caller appends a padding point, label -1, to points without a box.
    """

    def __init__(self, network: SAM1, *, expands: bool = False) -> None:
        super().__init__(network.prompt_encoder, network.mask_decoder, expands=expands, pads=False)

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> DecoderOutputs:
        """Decode prompts of N objects; see `PromptDecoderGraph.forward`. Pointers are the output tokens themselves."""
        prediction = self.decode(image_embeddings, (), point_coords, point_labels, mask_input, has_mask_input)
        scores = torch.full_like(prediction.iou_BK[:, :1], SAM1_OBJECT_SCORE)  # infinite, which files hold badly
        return prediction.logits_BKHW, prediction.iou_BK, scores, prediction.tokens_BKC
