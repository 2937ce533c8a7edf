"""SAM 1 as pure verbs for images: `encode_image`, then `decode`; tensors in, tensors out, no state.

Tensor names follow the published files, so that these load strictly.
Shapes: B batch, C channels, H and W of a map, S side of the square input, K candidates.
"""

from __future__ import annotations

from torch import Tensor, nn

from masklet.models.heads.mask_decoder import SAM1MaskDecoder
from masklet.models.heads.prompt_encoder import PromptEncoder
from masklet.models.sam1.config import PATCH_SIZE, SAM1Config, ViTConfig
from masklet.models.sam1.tiny_vit import TinyViT
from masklet.models.sam1.vit import ViT
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors

__all__ = ["SAM1"]


class SAM1(nn.Module):
    """The network of a `SAM1Config`.

    Example:
        >>> model = SAM1(CONFIGS["mobile_sam"]).eval()
        >>> features = model.encode_image(torch.zeros(1, 3, 256, 256))
        >>> prompts = PromptTensors(torch.tensor([[[90.0, 130.0]]]), torch.tensor([[1]]))
        >>> model.decode(features, prompts).logits_BKHW.shape
        torch.Size([1, 4, 64, 64])
    """

    keeps_aspect_ratio = True
    clamps_logits = False
    score_family = "sam1"
    edge_radius: int | None = None
    supports_video = False
    stability_threshold = 0.0

    def __init__(self, config: SAM1Config) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.image_encoder: ViT | TinyViT = (
            ViT(config.trunk, config.image_size, config.width)
            if isinstance(config.trunk, ViTConfig)
            else TinyViT(config.trunk, config.width)
        )
        self.prompt_encoder = PromptEncoder(config.width, always_pad=False)
        self.mask_decoder = SAM1MaskDecoder(config.width, config.heads, config.hidden)

    @property
    def still_image_size(self) -> int:
        """Side of the square input."""
        return self.image_size

    def set_image_size(self, image_size: int) -> None:
        """Set the side of the square input, a multiple of 16."""
        self.image_size = image_size

    def encode_image(self, pixels_B3SS: Tensor) -> ImageFeatures:
        """Encode normalized RGB (B, 3, S, S), sides multiples of 16; features do not depend on prompts."""
        assert pixels_B3SS.shape[-1] % PATCH_SIZE == 0, f"width {pixels_B3SS.shape[-1]} is no multiple of {PATCH_SIZE}"
        assert pixels_B3SS.shape[-2] % PATCH_SIZE == 0, f"height {pixels_B3SS.shape[-2]} is no multiple of {PATCH_SIZE}"
        return ImageFeatures(self.image_encoder(pixels_B3SS))

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Return the features unchanged: SAM 1 has no memory."""
        return features

    def decode(self, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
        """Decode all four candidates per object; `features` have one row per prompt (`ImageFeatures.index_select`)."""
        height, width = features.embed_BCHW.shape[-2:]
        sparse, dense = self.prompt_encoder(prompts, height, width)
        position = self.prompt_encoder.pe_layer.grid(height, width)
        prediction: MaskPrediction = self.mask_decoder(features, position, sparse, dense)
        return prediction
