"""SAM 2 as pure verbs: tensors in, tensors out, no state.

Tensor names follow the published files, so that these load strictly.
Shapes: B batch, C channels, H and W of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from masklet.models.base import ImageFeatures, MaskPrediction, PromptTensors
from masklet.models.heads.mask_decoder import MaskDecoder
from masklet.models.heads.prompt_encoder import PromptEncoder
from masklet.models.sam2.config import ConvNetConfig, SAM2Config
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.hiera import Hiera
from masklet.models.sam2.memory_attention import MemoryAttention
from masklet.models.sam2.memory_encoder import MemoryEncoder
from masklet.models.sam2.neck import Neck
from masklet.nn.mlp import MLP

__all__ = ["SAM2"]


class ImageEncoder(nn.Module):
    """Trunk and neck."""

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        trunk = config.trunk
        self.trunk: Hiera | ConvNet = ConvNet(trunk) if isinstance(trunk, ConvNetConfig) else Hiera(trunk)
        channels = self.trunk.channels if isinstance(self.trunk, ConvNet) else config.trunk.channels
        self.neck = Neck(channels, config.width)

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

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.image_encoder = ImageEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config.width, config.prompt_maps)
        self.sam_mask_decoder = MaskDecoder(config.width, config.heads, config.hidden)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.memory is not None:
            self._add_memory(config)

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
        """Normalised RGB (B, 3, H, W), sides multiples of 32, to features that do not depend on any prompt."""
        assert pixels_B3HW.shape[-1] % 32 == 0, f"width {pixels_B3HW.shape[-1]} is no multiple of 32"
        assert pixels_B3HW.shape[-2] % 32 == 0, f"height {pixels_B3HW.shape[-2]} is no multiple of 32"
        s16, s8, s4 = self.image_encoder(pixels_B3HW)
        decoder = self.sam_mask_decoder
        return ImageFeatures(s16, (decoder.conv_s1(s8), decoder.conv_s0(s4)))

    def without_memory(self, features: ImageFeatures) -> ImageFeatures:
        """Features of a picture that stands alone, or of a first frame, as the decoder wants them."""
        embed = features.embed_BCHW + self.no_mem_embed.reshape(1, -1, 1, 1)
        return ImageFeatures(embed, features.fine)

    def decode(self, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
        """All four candidates an object; `features` hold one entry a prompt (`ImageFeatures.take`)."""
        height, width = features.embed_BCHW.shape[-2:]
        sparse, dense = self.sam_prompt_encoder(prompts, height, width)
        place = self.sam_prompt_encoder.pe_layer.grid(height, width)
        prediction: MaskPrediction = self.sam_mask_decoder(features, place, sparse, dense)
        return prediction
