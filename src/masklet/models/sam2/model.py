"""SAM 2 as pure verbs: tensors in, tensors out, no state.

- An image needs `encode_image`, `add_no_memory_embedding` and `decode`.
- A frame of a video needs `encode_image`, `condition_on_memory`, `decode`, `select_mask` and `encode_memory`;
  `use_mask_as_output` replaces `decode` where a mask is given.

Tensor names follow the published files, so that these load strictly.
Shapes: B batch, C channels, H and W of a map or of the input, K candidates, T tokens, M memory channels.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, normalize

from masklet.errors import InputError
from masklet.models.heads.mask_decoder import MaskDecoder
from masklet.models.heads.prompt_encoder import PromptEncoder
from masklet.models.sam2.config import ConvNetConfig, HieraConfig, PlainViTConfig, SAM2Config
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.fpn_neck import FpnNeck
from masklet.models.sam2.hiera import Hiera
from masklet.models.sam2.memory_attention import MemoryAttention
from masklet.models.sam2.memory_encoder import MemoryEncoder
from masklet.models.sam2.memory_tokens import MemoryTokenizer
from masklet.models.sam2.output_masks import MEMORY_MASK_BIAS, MEMORY_MASK_SCALE, output_of_mask, select_output
from masklet.models.sam2.perceiver import SpatialPerceiver
from masklet.models.sam2.plain_vit import PlainViT, PlainViTNeck
from masklet.models.sam2.repvit import RepViT
from masklet.models.types import (
    SIDE_MULTIPLE,
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
    empty_prompt,
    input_size_by_area,
)
from masklet.nn.attention import axial_rope
from masklet.nn.layers import MLP
from masklet.nn.position import sine_position_2d

__all__ = ["SAM2"]


STRIDE = 16
"""Of the features that have memory."""


class ImageEncoder(nn.Sequential):
    """Trunk and neck: (B, 3, H, W) becomes maps of one width at strides 16, 8 and 4, or at 16 only (EfficientTAM)."""

    trunk: Hiera | ConvNet | RepViT | PlainViT
    neck: FpnNeck | PlainViTNeck

    def __init__(self, config: SAM2Config) -> None:
        trunk: Hiera | ConvNet | RepViT | PlainViT
        neck: FpnNeck | PlainViTNeck
        if isinstance(config.trunk, PlainViTConfig):
            trunk, neck = PlainViT(config.trunk), PlainViTNeck(config.trunk.width, config.width)
        elif isinstance(config.trunk, HieraConfig):
            trunk, neck = Hiera(config.trunk), FpnNeck(config.trunk.channels, config.width)
        else:
            trunk = ConvNet(config.trunk) if isinstance(config.trunk, ConvNetConfig) else RepViT(config.trunk)
            neck = FpnNeck(trunk.channels, config.width)
        super().__init__(OrderedDict(trunk=trunk, neck=neck))


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
    matching_projection: Tensor | None

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        self.config = config
        self.image_size, self.video_pixels = config.image_size, config.video_pixels
        self.still_image_size_override = config.still_image_size
        self.stability_threshold, self.supports_video = config.stability_threshold, config.memory is not None
        self.edge_radius = config.edge_radius
        self.image_encoder = ImageEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config.width, config.prompt_maps)
        self.sam_mask_decoder = MaskDecoder(
            config.width, config.heads, config.hidden, config.iou_knots, isinstance(self.image_encoder.neck, FpnNeck)
        )
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.register_buffer("matching_projection", None)
        if config.matching is not None:
            assert len(config.trunk.channels) > 1, "labels are matched at stride 8"
            self.matching_projection = torch.zeros(config.matching.channels, config.trunk.channels[1])
            if not self.matching_projection.is_meta:  # the first channels, until it is fitted to a trained trunk
                self.matching_projection.fill_diagonal_(1)
        memory = config.memory
        self.key_pooling = None if memory is None else memory.key_pooling
        if memory is None:
            return
        width, channels = config.width, memory.channels
        self.memory_encoder = MemoryEncoder(width, channels, memory.fuser_blocks)
        self.memory_attention = MemoryAttention(width, channels, memory.hidden, memory.layers)
        if memory.perceiver is not None:
            self.spatial_perceiver = SpatialPerceiver(memory.perceiver, channels)
        self.mask_downsample = nn.Conv2d(1, 1, 4, 4)
        self.obj_ptr_proj = MLP(width, width, width, depth=3)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(memory.slots, 1, 1, channels))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        if memory.temporal_pointers:
            self.obj_ptr_tpos_proj = nn.Linear(width, channels)
        if memory.absent_embedding:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, channels))

    @property
    def score_family(self) -> str:
        """Whose predicted scores these resemble: the built-in model's, which renders prompts as maps, or SAM 2's."""
        return "builtin" if self.config.prompt_maps else "sam2"

    @property
    def still_image_size(self) -> int:
        """Side of the square that a single image is resized to."""
        return self.still_image_size_override or self.image_size

    def set_image_size(self, image_size: int) -> None:
        """Set the side of the square for images and frames.

        Where frames keep their shape, they have as many pixels as this square.

        Raises:
            InputError: as `check_image_size`.
        """
        self.check_image_size(image_size)
        self.image_size, self.still_image_size_override = image_size, None
        self.video_pixels = None if self.config.video_pixels is None else image_size**2

    def check_image_size(self, image_size: int) -> None:
        """Check that this network takes inputs of this side: a multiple of 32, for EdgeTAM of 256.

        Raises:
            InputError: if it does not.
        """
        perceiver = None if self.config.memory is None else self.config.memory.perceiver
        multiple = SIDE_MULTIPLE if perceiver is None else STRIDE * perceiver.grid_side
        if image_size % multiple:
            raise InputError(
                f"image_size={image_size} must be a multiple of {multiple} for this model, such as {2 * multiple}"
            )

    def pool_memories(self) -> None:
        """Average memories two by two before frames attend to them, as EfficientTAM `_1`; trained so or not.

        Raises:
            InputError: if there are no memories, or they are no maps.
        """
        if self.config.memory is None or self.config.memory.perceiver is not None:
            reason = "has no memory" if self.config.memory is None else "compresses its memories already"
            raise InputError(f"memory_pooling=2 does not go with this model, which {reason}: leave it out")
        self.key_pooling = self.key_pooling or "logits"

    def frame_input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that frames of `frame_size` (height, width) are resized to."""
        if self.video_pixels is None:
            return self.image_size, self.image_size
        return input_size_by_area(frame_size, self.video_pixels)

    def encode_image(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Encode normalized RGB (B, 3, H, W), sides multiples of 32; features do not depend on prompts."""
        assert pixels_B3HW.shape[-1] % 32 == 0, f"width {pixels_B3HW.shape[-1]} is no multiple of 32"
        assert pixels_B3HW.shape[-2] % 32 == 0, f"height {pixels_B3HW.shape[-2]} is no multiple of 32"
        maps = self.image_encoder.trunk(pixels_B3HW)
        s16, *finer = self.image_encoder.neck(maps)
        decoder = self.sam_mask_decoder
        matched = None if self.matching_projection is None else maps[1]
        high_res_features = (decoder.conv_s1(finer[0]), decoder.conv_s0(finer[1])) if finer else ()
        return ImageFeatures(s16, high_res_features, matched)

    def matching_keys(self, features: ImageFeatures) -> Tensor:
        """Project features of `encode_image` to keys (B, H, W, C) of length one, at stride 8."""
        assert features.stride8_BCHW is not None, "this network does not match labels"
        assert self.matching_projection is not None
        return normalize(linear(features.stride8_BCHW.float().permute(0, 2, 3, 1), self.matching_projection), dim=-1)

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Prepare features of a single image, or of a first frame, for the decoder."""
        embed = features.embed_BCHW + self.no_mem_embed.reshape(1, -1, 1, 1)
        return ImageFeatures(embed, features.high_res_features)

    def decode(self, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
        """Decode all four candidates per object; `features` have one row per prompt (`ImageFeatures.index_select`)."""
        height, width = features.embed_BCHW.shape[-2:]
        sparse, dense = self.sam_prompt_encoder(prompts, height, width)
        position = self.sam_prompt_encoder.pe_layer.grid(height, width)
        prediction: MaskPrediction = self.sam_mask_decoder(features, position, sparse, dense)
        return prediction

    def decode_prior(self, features: ImageFeatures, prior_B1HW: Tensor) -> MaskPrediction:
        """Decode with priors in 0..1 at stride 8, which labels of earlier frames gave, as the only prompts."""
        return self.decode(features, empty_prompt(len(prior_B1HW), prior_B1HW.device, self.prior_logits(prior_B1HW)))

    def prior_logits(self, prior_B1HW: Tensor) -> Tensor:
        """Return priors at stride 8 as logits at stride 4, those of a mask prompt."""
        assert self.config.matching is not None
        logits_B1HW = (prior_B1HW.float() - 0.5) * self.config.matching.logit_scale
        return interpolate(logits_B1HW, scale_factor=2.0, mode="bilinear", align_corners=False)

    def condition_on_memory(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        """Condition the features of a frame, one row per object, on the memories of each object."""
        height, width = features.embed_BCHW.shape[-2:]
        memory = self.memory_tokenizer().tokenize(memory_context)
        device, size = features.embed_BCHW.device, memory.layout.size
        rope_2TP = axial_rope(height, width, self.config.width, device=device)
        x_BTC = features.embed_BCHW.flatten(2).transpose(1, 2)
        position_1TC = sine_position_2d(height, width, self.config.width, device).flatten(2).transpose(1, 2).to(x_BTC)
        conditioned: Tensor = self.memory_attention(
            x_BTC,
            position_1TC,
            memory.values_BSM,
            memory.positions_1SM,
            (rope_2TP, rope_2TP if size == (height, width) else axial_rope(*size, self.config.width, device=device)),
            memory.layout,
            memory.key_weights_BS,
        )
        embed_BCHW = conditioned.transpose(1, 2).reshape(features.embed_BCHW.shape)
        return ImageFeatures(embed_BCHW, features.high_res_features)

    def memory_tokenizer(self) -> MemoryTokenizer:
        """Return the tokenizer of memories, with this network's encodings of time."""
        assert self.config.memory is not None
        perceiver = self.config.memory.perceiver
        unplaced = 0 if perceiver is None else perceiver.global_latents
        pointer_time = getattr(self, "obj_ptr_tpos_proj", None)
        return MemoryTokenizer(self.maskmem_tpos_enc, pointer_time, unplaced, self.key_pooling)

    def select_mask(
        self,
        prediction: MaskPrediction,
        multimask: bool,
        *,
        choice_B: Tensor | None = None,
        min_object_score: float = 0.0,
    ) -> SelectedMasks:
        """Select one mask per object: of three (`multimask`) `choice_B` or the best, or the single one.

        An object is in the image where its score is above `min_object_score`.
        """
        projection = (self.config.stability_threshold, self.obj_ptr_proj, self.no_obj_ptr)
        return select_output(prediction, multimask, *projection, choice_B=choice_B, min_object_score=min_object_score)

    def use_mask_as_output(self, features: ImageFeatures, mask_B1HW: Tensor) -> SelectedMasks:
        """Use a given mask of 0 and 1 as the network's output; `features` are not conditioned on memory.

        The decoder runs with the mask as a prompt to obtain the object pointer.
        """
        count = len(mask_B1HW)
        small_B1HW = self.mask_downsample(mask_B1HW.to(features.embed_BCHW.dtype))
        prompts = empty_prompt(count, mask_B1HW.device, small_B1HW)
        decoded = self.select_mask(self.decode(features, prompts), multimask=False)
        return output_of_mask(mask_B1HW, decoded, self.no_obj_ptr)

    @property
    def pointer_channels(self) -> int:
        """Channels of an object pointer."""
        return self.config.width

    def memory_shape(self, input_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return channels, rows and columns of the memories of frames of `input_size`, height and width."""
        memory = self.config.memory
        assert memory is not None
        rows, columns = (side // STRIDE for side in input_size)
        if memory.perceiver is not None:
            columns = memory.perceiver.grid_side
            rows = memory.perceiver.global_latents // columns + columns
        return memory.channels, rows, columns

    def encode_memory(self, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool = False) -> FrameMemory:
        """Encode a frame's memory from features of `encode_image` and masks; `prompted` masks are binarized."""
        height, width = features.embed_BCHW.shape[-2:]
        mask_B1HW = self.mask_for_memory(masks, (16 * height, 16 * width), prompted)
        spatial = self.memory_encoder(features.embed_BCHW, mask_B1HW.to(features.embed_BCHW.dtype))
        return self.finish_memory(spatial, masks)

    def finish_memory(self, spatial_BMHW: Tensor, masks: SelectedMasks) -> FrameMemory:
        """Return the memory of a frame from the maps of the memory encoder: marked (SAM 2.1), compressed (EdgeTAM)."""
        spatial_BMHW = self.add_occlusion_embedding(spatial_BMHW, masks)
        if hasattr(self, "spatial_perceiver"):
            spatial_BMHW = self.spatial_perceiver(spatial_BMHW)
        return FrameMemory(spatial_BMHW, masks.pointer_BC)

    @staticmethod
    def mask_for_memory(masks: SelectedMasks, size: tuple[int, int], prompted: bool) -> Tensor:
        """Return masks (B, 1, height, width) as the memory encoder reads them."""
        full = interpolate(masks.logits_B1HW.float(), size, mode="bilinear", align_corners=False)
        inside = (full > 0).float() if prompted else full.sigmoid()
        return inside * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS

    def add_occlusion_embedding(self, spatial_BMHW: Tensor, masks: SelectedMasks) -> Tensor:
        """Mark memories whose object is not visible (SAM 2.1; unchanged in SAM 2.0)."""
        if not hasattr(self, "no_obj_embed_spatial"):
            return spatial_BMHW
        absent_B1 = (masks.object_score_B1 <= 0).to(spatial_BMHW.dtype)
        return spatial_BMHW + (absent_B1 * self.no_obj_embed_spatial)[..., None, None]
