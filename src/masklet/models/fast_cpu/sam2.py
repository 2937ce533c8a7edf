"""The seams of SAM 2: its image encoder, and its verbs of a tracked frame.

Each is built once from frozen weights. The eager modules are the reference, and run where oneDNN's operators are
missing, on other devices and in other precisions.
Shapes: B batch, C channels, H height, W width, I inputs and O outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, normalize

from masklet.models.fast_cpu.convnet import FusedConvNet
from masklet.models.fast_cpu.fused_repvit import FusedRepViT
from masklet.models.fast_cpu.hiera import FusedHiera
from masklet.models.fast_cpu.label_matching_blocks import match_labels_in_blocks
from masklet.models.fast_cpu.mask_decoder import FastMaskDecoder
from masklet.models.fast_cpu.memory_attention import FastMemoryAttention
from masklet.models.fast_cpu.memory_encoder import FastMemoryEncoder
from masklet.models.heads.mask_decoder import MaskDecoder
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.fpn_neck import FpnNeck
from masklet.models.sam2.hiera import Hiera
from masklet.models.sam2.model import SAM2
from masklet.models.sam2.plain_vit import PlainViT, PlainViTNeck
from masklet.models.sam2.repvit import RepViT
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors
from masklet.nn.fused_ops import FusedLinear, has_bfloat16_matmul, has_fused_operators

__all__ = ["FastSAM2", "FastSAM2Encoder"]


class FastSAM2Encoder:
    """`SAM2.encode_image` for a model with frozen weights.

    `dtype` is the type of the trunk's matrix products, nearly all of the work (None: fp32). The residual stream, the
    neck and the decoder stay in fp32: rounding there moves mask edges. In the few blocks of the built-in model's trunk
    the maps are of `dtype` too, and its neck multiplies them as they are.

    Example:
        >>> encode = FastSAM2Encoder(model, torch.bfloat16)
        >>> features = encode(torch.zeros(1, 3, 288, 288))
    """

    def __init__(self, model: SAM2, dtype: torch.dtype | None = None) -> None:
        self.dtype, self.matches = dtype, model.matching_projection is not None
        trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
        self.trunk: Callable[[Tensor], list[Tensor]] = trunk
        fused = has_fused_operators(model.no_mem_embed)
        convolutions_fuse = dtype is None or (dtype == torch.bfloat16 and has_bfloat16_matmul())
        if fused and isinstance(trunk, ConvNet) and convolutions_fuse:
            self.trunk = FusedConvNet(trunk, dtype or torch.float32)
        elif isinstance(trunk, RepViT):
            self.trunk = FusedRepViT(trunk, fused and convolutions_fuse, dtype)
        elif fused and isinstance(trunk, Hiera | PlainViT) and convolutions_fuse:
            self.trunk = FusedHiera(trunk, dtype or torch.float32)
        self.eager = dtype is not None and (isinstance(self.trunk, nn.Module) or not (fused and convolutions_fuse))
        self.map_dtype = self.trunk.dtype if isinstance(self.trunk, FusedConvNet) else torch.float32
        self.neck = (
            neck if isinstance(neck, PlainViTNeck) else FusedNeck(neck, model.sam_mask_decoder, fused, self.map_dtype)
        )

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Encode normalized RGB, as `SAM2.encode_image`."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.eager):
            maps = self.trunk(pixels_B3HW)
        s16, *finer = self.neck([*(x.to(self.map_dtype) for x in maps[:3]), *(x.float() for x in maps[3:])])
        return ImageFeatures(s16, tuple(finer), maps[1] if self.matches else None)


class FusedNeck:
    """`FpnNeck` with the projections that follow it in the decoder; `dtype` is that of all maps but the coarsest."""

    def __init__(self, neck: FpnNeck, decoder: MaskDecoder, fused: bool, dtype: torch.dtype) -> None:
        laterals = [part.get_submodule("conv") for part in neck.convs]
        self.coarse = Projection(laterals[:1], fused)
        self.middle, self.fine, self.finest = (
            Projection(layers, fused, dtype)
            for layers in (laterals[1:2], [laterals[2], decoder.conv_s1], [laterals[3], decoder.conv_s0])
        )

    def __call__(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map strides 4, 8, 16, 32 to strides 16, 8, 4, as the decoder takes them."""
        s4, s8, s16, s32 = maps
        up = interpolate(self.coarse(s32), scale_factor=2.0, mode="nearest")
        return self.middle(s16) + up, self.fine(s8), self.finest(s4)


class Projection:
    """Successive 1 x 1 convolutions composed into one; with oneDNN a product of `dtype` over rows of channels."""

    def __init__(self, layers: Sequence[nn.Module], fused: bool, dtype: torch.dtype = torch.float32) -> None:
        merged: tuple[Tensor, Tensor] | None = None
        for layer in layers:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            # on the CPU, because some devices have no fp64
            outer, shift = (t.detach().cpu().double() for t in (layer.weight.flatten(1), layer.bias))
            merged = (outer, shift) if merged is None else (outer @ merged[0], outer @ merged[1] + shift)
        assert merged is not None
        like = next(layers[0].parameters())
        self.weight_OI, self.bias_O = (t.to(like) for t in merged)
        self.packed = FusedLinear(self.weight_OI.to(dtype), self.bias_O.to(dtype), rows=1024) if fused else None

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W) in fp32."""
        if self.packed is None:
            return conv2d(x_BCHW, self.weight_OI[..., None, None], self.bias_O)
        return self.packed(x_BCHW.permute(0, 2, 3, 1)).float().permute(0, 3, 1, 2)


class FastSAM2:
    """The verbs of a SAM 2 with frozen weights, each in its fastest implementation.

    One image may be shared by all objects: work that does not depend on the object is then done once. `encode_image`
    is the encoder to use (None: a `FastSAM2Encoder`); `dtype` is that of the matrix products of memory attention and of
    matching (None: fp32).

    Example:
        >>> fast = FastSAM2(model)
        >>> features = fast.encode_image(pixels)
        >>> masks = fast.select_mask(fast.decode(fast.condition_on_memory(features, memory_context)), multimask=True)
        >>> memory = fast.encode_memory(features, masks)
    """

    weights_keys = True

    def __init__(
        self,
        model: SAM2,
        dtype: torch.dtype | None = None,
        encode_image: Callable[[Tensor], ImageFeatures] | None = None,
    ) -> None:
        self.model, self.device = model, model.no_mem_embed.device
        self.encode_image = encode_image or FastSAM2Encoder(model, dtype)
        self.condition_on_memory = FastMemoryAttention(model, dtype)
        self.decode_unprompted = FastMaskDecoder(model)
        self.encode_memory = FastMemoryEncoder(model)
        self.add_no_memory_embedding = model.add_no_memory_embedding
        self.select_mask, self.use_mask_as_output = model.select_mask, model.use_mask_as_output
        self.frame_input_size, self.matching = model.frame_input_size, model.config.matching
        self.edge_radius = model.edge_radius
        self.encodes_ahead = self.matching is not None  # large products fill all threads one after the other
        self.memory_limits: tuple[int, int] | None = None
        self.key_dtype = torch.bfloat16 if dtype == torch.bfloat16 and has_bfloat16_matmul() else torch.float32
        self.key_projection: FusedLinear | None = None
        if model.matching_projection is not None and has_fused_operators(model.no_mem_embed):
            self.key_projection = FusedLinear(model.matching_projection.to(self.key_dtype), None, rows=1024)

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        """Predict all four candidates of each object, from memory alone if `prompts` is None."""
        return self.decode_unprompted(features) if prompts is None else self.model.decode(features, prompts)

    def decode_prior(self, features: ImageFeatures, prior_B1HW: Tensor) -> MaskPrediction:
        """Predict all four candidates of each object from memory and a prior in 0..1 at stride 8."""
        return self.decode_unprompted(features, self.model.prior_logits(prior_B1HW))

    def matching_keys(self, features: ImageFeatures) -> Tensor:
        """Return keys (1, H, W, C) at stride 8 in the type in which they are compared."""
        if self.key_projection is None:
            return self.model.matching_keys(features)
        assert features.stride8_BCHW is not None, "this network does not match labels"
        keys_BHWC = self.key_projection(features.stride8_BCHW.to(self.key_dtype).permute(0, 2, 3, 1))
        return normalize(keys_BHWC.float(), dim=-1).to(self.key_dtype)

    def match_labels(self, query_HWC: Tensor, keys_FHWC: Tensor, labels_NFHW: Tensor) -> Tensor:
        """Copy the labels of earlier frames to priors (N, 1, H, W)."""
        assert self.matching is not None
        return match_labels_in_blocks(query_HWC, keys_FHWC, labels_NFHW, self.matching)
