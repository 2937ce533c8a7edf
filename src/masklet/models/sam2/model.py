"""SAM 2 as pure verbs: tensors in, tensors out, no state.

Tensor names follow the published files, so that these load strictly. An image needs `encode_image`,
`without_memory` and `decode`; a frame of a video `encode_image`, `condition`, `decode`, `settle` and `remember`, and
where a person hands in a mask, `adopt` in place of `decode`.
Shapes: B batch, C channels, H and W of a map, S side of the square input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from masklet.models.heads.mask_decoder import MaskDecoder, select_masks
from masklet.models.heads.prompt_encoder import PromptEncoder
from masklet.models.sam2.config import ConvNetConfig, SAM2Config
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.fpn_neck import FpnNeck
from masklet.models.sam2.hiera import Hiera
from masklet.models.sam2.memory_attention import MemoryAttention
from masklet.models.sam2.memory_encoder import MemoryEncoder
from masklet.models.sam2.memory_tokens import MemoryTokenizer
from masklet.models.types import (
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
    empty_prompt,
)
from masklet.nn.attention import axial_rope
from masklet.nn.layers import MLP
from masklet.nn.position import sine_position_2d

__all__ = ["SAM2"]

NO_OBJECT_LOGIT = -1024.0
"""The logits of a mask whose object is not in the image."""
MEMORY_MASK_SCALE, MEMORY_MASK_BIAS = 20.0, -10.0
"""A memory is written from STEEP * share + LOW, where share is 0 outside and 1 inside."""


class ImageEncoder(nn.Module):
    """Trunk and neck."""

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        trunk = config.trunk
        self.trunk: Hiera | ConvNet = ConvNet(trunk) if isinstance(trunk, ConvNetConfig) else Hiera(trunk)
        channels = self.trunk.channels if isinstance(self.trunk, ConvNet) else config.trunk.channels
        self.neck = FpnNeck(channels, config.width)

    def forward(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of one width at strides 16, 8 and 4."""
        maps: tuple[Tensor, Tensor, Tensor] = self.neck(self.trunk(pixels_B3HW))
        return maps


class SAM2(nn.Module):
    """The network of a `SAM2Config`.

    Example:
        >>> model = SAM2(CONFIGS["sam2.1_hiera_tiny"]).eval()
        >>> features = model.encode_image(torch.zeros(1, 3, 256, 256))
        >>> prompts = PromptTensors(torch.tensor([[[90.0, 130.0]]]), torch.tensor([[1]]))
        >>> model.decode(features, prompts).logits_BKHW.shape
        torch.Size([1, 4, 64, 64])
    """

    keeps_aspect_ratio = False
    clamps_logits = True

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.still_image_size_override = config.still_image_size
        self.image_encoder = ImageEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config.width, config.prompt_maps)
        self.sam_mask_decoder = MaskDecoder(config.width, config.heads, config.hidden)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.memory is not None:
            self._add_memory(config)

    @property
    def still_image_size(self) -> int:
        """Side of the square that an image is brought to that stands alone."""
        return self.still_image_size_override or self.image_size

    @property
    def stability_threshold(self) -> float:
        """An unambiguous mask less stable than this gives way to the best of three."""
        return self.config.stability_threshold

    @property
    def supports_video(self) -> bool:
        """Whether it has a memory of earlier frames."""
        return self.config.memory is not None

    def set_image_size(self, image_size: int) -> None:
        """Images and frames are brought to a square of `side` from now on, a multiple of 32."""
        self.image_size, self.still_image_size_override = image_size, None

    def _add_memory(self, config: SAM2Config) -> None:
        memory = config.memory
        assert memory is not None
        width, channels = config.width, memory.channels
        self.memory_encoder = MemoryEncoder(width, channels, memory.fuser_blocks)
        self.memory_attention = MemoryAttention(width, channels, memory.hidden, memory.layers)
        self.mask_downsample = nn.Conv2d(1, 1, 4, 4)
        self.obj_ptr_proj = MLP(width, width, width, depth=3)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(memory.slots, 1, 1, channels))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        if memory.temporal_pointers:
            self.obj_ptr_tpos_proj = nn.Linear(width, channels)
        if memory.absent_embedding:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, channels))

    def encode_image(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalized RGB (B, 3, H, W), sides multiples of 32, to features that do not depend on any prompt."""
        assert pixels_B3HW.shape[-1] % 32 == 0, f"width {pixels_B3HW.shape[-1]} is no multiple of 32"
        assert pixels_B3HW.shape[-2] % 32 == 0, f"height {pixels_B3HW.shape[-2]} is no multiple of 32"
        s16, s8, s4 = self.image_encoder(pixels_B3HW)
        decoder = self.sam_mask_decoder
        return ImageFeatures(s16, (decoder.conv_s1(s8), decoder.conv_s0(s4)))

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Features of an image that stands alone, or of a first frame, as the decoder wants them."""
        embed = features.embed_BCHW + self.no_mem_embed.reshape(1, -1, 1, 1)
        return ImageFeatures(embed, features.high_res_features)

    def decode(self, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
        """All four candidates an object; `features` hold one entry a prompt (`ImageFeatures.take`)."""
        height, width = features.embed_BCHW.shape[-2:]
        sparse, dense = self.sam_prompt_encoder(prompts, height, width)
        place = self.sam_prompt_encoder.pe_layer.grid(height, width)
        prediction: MaskPrediction = self.sam_mask_decoder(features, place, sparse, dense)
        return prediction

    def condition_on_memory(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        """Features (B objects) of a frame in the light of what is remembered of each object."""
        height, width = features.embed_BCHW.shape[-2:]
        look = self.memory_tokenizer().tokenize(memory_context)
        device = features.embed_BCHW.device
        x_BTC = features.embed_BCHW.flatten(2).transpose(1, 2)
        place_1TC = sine_position_2d(height, width, self.config.width, device).flatten(2).transpose(1, 2).to(x_BTC)
        seen: Tensor = self.memory_attention(
            x_BTC,
            place_1TC,
            look.values_BSM,
            look.positions_1SM,
            axial_rope(height, width, self.config.width, device=device),
            look.num_pointers,
        )
        return ImageFeatures(seen.transpose(1, 2).reshape(features.embed_BCHW.shape), features.high_res_features)

    def memory_tokenizer(self) -> MemoryTokenizer:
        """How memories are laid out before they are looked at."""
        temporal = self.obj_ptr_tpos_proj if hasattr(self, "obj_ptr_tpos_proj") else None
        return MemoryTokenizer(self.maskmem_tpos_enc, temporal)

    def select_mask(self, prediction: MaskPrediction, multimask: bool) -> SelectedMasks:
        """One mask of all candidates: the best of three (`multimask`), or the unambiguous one."""
        chosen = select_masks(prediction, multimask, threshold=self.config.stability_threshold)
        if multimask:
            chosen = chosen.select_candidates(chosen.iou_BK.argmax(1))
        there_B1 = prediction.object_score_B1 > 0
        logits = torch.where(there_B1[..., None, None], chosen.logits_BKHW, NO_OBJECT_LOGIT)
        pointer_BC = self._object_pointer(chosen.tokens_BKC[:, 0], there_B1)
        return SelectedMasks(logits, chosen.iou_BK, prediction.object_score_B1, pointer_BC)

    def _object_pointer(self, token_BC: Tensor, present_B1: Tensor) -> Tensor:
        there = present_B1.to(token_BC.dtype)
        out: Tensor = there * self.obj_ptr_proj(token_BC) + (1 - there) * self.no_obj_ptr
        return out

    def use_mask_as_output(self, features: ImageFeatures, mask_B1SS: Tensor) -> SelectedMasks:
        """A mask of 0 and 1, from a person, as if the network had found it; `features` know of no memory."""
        count = len(mask_B1SS)
        small_B1HW = self.mask_downsample(mask_B1SS.to(features.embed_BCHW.dtype))
        read = self.select_mask(
            self.decode(features, empty_prompt(count, mask_B1SS.device, small_B1HW)), multimask=False
        )
        logits = interpolate(
            mask_B1SS.float() * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS, scale_factor=0.25, mode="bilinear", antialias=True
        )
        there_B1 = mask_B1SS.flatten(1).any(dim=1, keepdim=True)
        there = there_B1.to(read.pointer_BC.dtype)
        pointer_BC = there * read.pointer_BC + (1 - there) * self.no_obj_ptr
        return SelectedMasks(
            logits, torch.ones_like(read.iou_B1), there_B1.float() * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS, pointer_BC
        )

    def encode_memory(self, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool = False) -> FrameMemory:
        """What to keep of a frame, from features of `encode_image`; `prompted` masks are kept with hard edges."""
        height, width = features.embed_BCHW.shape[-2:]
        share = self.mask_for_memory(masks, (16 * height, 16 * width), prompted)
        spatial = self.memory_encoder(features.embed_BCHW, share.to(features.embed_BCHW.dtype))
        return FrameMemory(self.add_occlusion_embedding(spatial, masks), masks.pointer_BC)

    @staticmethod
    def mask_for_memory(masks: SelectedMasks, size: tuple[int, int], prompted: bool) -> Tensor:
        """(B, 1, height, width): masks as a memory is written from them."""
        full = interpolate(masks.logits_B1HW.float(), size, mode="bilinear", align_corners=False)
        share = (full > 0).float() if prompted else full.sigmoid()
        return share * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS

    def add_occlusion_embedding(self, spatial_BMHW: Tensor, masks: SelectedMasks) -> Tensor:
        """Memories that say, since 2.1, when their object was out of sight."""
        if not hasattr(self, "no_obj_embed_spatial"):
            return spatial_BMHW
        gone_B1 = (masks.object_score_B1 <= 0).to(spatial_BMHW.dtype)
        return spatial_BMHW + (gone_B1 * self.no_obj_embed_spatial)[..., None, None]
