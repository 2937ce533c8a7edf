"""Small networks with weights that follow from names, in folders as `save_pretrained` of transformers writes them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.networks import HIERA
from helpers.reference import GOLDEN, module_at, reference_model
from helpers.small_sam1 import TRUNKS
from masklet.models import sam1, sam2
from masklet.models.sam1 import SAM1, SAM1Config
from masklet.models.sam1 import state_dict as sam1_state_dict
from masklet.models.sam2 import SAM2
from masklet.models.sam2 import state_dict as sam2_state_dict

SIDE = 256
SAM1_CONFIG = SAM1Config(TRUNKS["sam_vit_b"], image_size=SIDE, width=32, heads=2, hidden=48)
VISIBLE = 4.0
"""Added to scores of presence, so that objects are tracked to the end."""
FEATURE_SIZES = [[SIDE // stride] * 2 for stride in (4, 8, 16)]


def use_small_networks(patch: pytest.MonkeyPatch) -> None:
    """Let the files of `sam2_folder` and `sam1_folder` be recognized as the published networks that they resemble."""
    patch.setitem(sam2.CONFIGS, "sam2.1_hiera_tiny", replace(sam2.CONFIGS["sam2.1_hiera_tiny"], trunk=HIERA))
    patch.setitem(sam1.CONFIGS, "sam_vit_b", SAM1_CONFIG)


def sam2_folder(folder: Path) -> Path:
    """SAM 2.1 with a small trunk; the folder is one of `Sam2VideoModel`, which `Sam2Model` opens too."""
    import transformers

    network = _visible(reference_model("sam2.1_hiera_tiny", SIDE, "c", small_trunk=True))
    backbone = transformers.Sam2HieraDetConfig(
        image_size=[SIDE, SIDE],
        hidden_size=HIERA.width,
        embed_dim_per_stage=list(HIERA.channels),
        blocks_per_stage=list(HIERA.depths),
        window_size_per_stage=list(HIERA.windows),
        global_attention_blocks=list(HIERA.global_blocks),
        window_positional_embedding_background_size=list(HIERA.background),
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=list(reversed(HIERA.channels)),
        backbone_feature_sizes=FEATURE_SIZES,
    )
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=transformers.Sam2VideoConfig().prompt_encoder_config.to_dict() | {"image_size": SIDE},
        image_size=SIDE,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        enable_temporal_pos_encoding_for_object_pointers=True,
        enable_occlusion_spatial_embedding=True,
    )
    return _write(folder, config, sam2_state_dict.to_transformers(network.state_dict()))


def edgetam_folder(folder: Path, *, video: bool) -> Path:
    """EdgeTAM in its published size, as `EdgeTamVideoModel` or as `EdgeTamModel`."""
    import transformers

    tensors = sam2_state_dict.to_transformers(_visible(reference_model("edgetam", SIDE, "c")).state_dict())
    arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = transformers.TimmWrapperConfig(architecture="repvit_m1", model_args=arguments)
    vision = transformers.EdgeTamVisionConfig(backbone_config=backbone, backbone_feature_sizes=FEATURE_SIZES)
    if video:
        prompts = transformers.EdgeTamVideoPromptEncoderConfig(image_size=SIDE)
        config: Any = transformers.EdgeTamVideoConfig(
            vision_config=vision,
            prompt_encoder_config=prompts,
            image_size=SIDE,
            memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
            enable_temporal_pos_encoding_for_object_pointers=False,
            enable_occlusion_spatial_embedding=False,
        )
    else:
        prompts = transformers.EdgeTamPromptEncoderConfig(image_size=SIDE)
        config = transformers.EdgeTamConfig(vision_config=vision, prompt_encoder_config=prompts)
        parts = (
            "vision_encoder.",
            "prompt_encoder.",
            "mask_decoder.",
            "shared_image_embedding.",
            "no_memory_embedding",
        )
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}
    return _write(folder, config, tensors)


def sam1_folder(folder: Path) -> Path:
    """SAM with a small ViT."""
    import transformers

    fill = module_at(GOLDEN / "fill.py").fill_state_dict
    network = sam1.build(SAM1_CONFIG, fill(sam1_state_dict.expected_shapes(SAM1_CONFIG), "c"))
    assert isinstance(network, SAM1)
    trunk = TRUNKS["sam_vit_b"]
    vision = transformers.SamVisionConfig(
        hidden_size=trunk.width,
        output_channels=SAM1_CONFIG.width,
        num_hidden_layers=trunk.depth,
        num_attention_heads=trunk.heads,
        image_size=SIDE,
        window_size=trunk.window,
        global_attn_indexes=list(trunk.global_blocks),
        num_pos_feats=SAM1_CONFIG.width // 2,
        mlp_dim=4 * trunk.width,
    )
    prompts = transformers.SamPromptEncoderConfig(
        hidden_size=SAM1_CONFIG.width, image_size=SIDE, image_embedding_size=SIDE // 16
    )
    decoder = transformers.SamMaskDecoderConfig(
        hidden_size=SAM1_CONFIG.width,
        mlp_dim=SAM1_CONFIG.hidden,
        num_attention_heads=SAM1_CONFIG.heads,
        iou_head_hidden_dim=SAM1_CONFIG.width,
    )
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    return _write(folder, config, sam1_state_dict.to_transformers(network.state_dict()))


def _visible(network: SAM2) -> SAM2:
    """A copy of a network that sees its objects on every frame."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(VISIBLE)
    return network


def _write(folder: Path, config: Any, tensors: dict[str, torch.Tensor]) -> Path:
    """Write configurations and tensors; the processor's are those of transformers, at `SIDE`."""
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    square, quarter = {"height": SIDE, "width": SIDE}, {"height": SIDE // 4, "width": SIDE // 4}
    if config.model_type == "sam":
        images = {"size": {"longest_edge": SIDE}, "pad_size": square, "mask_pad_size": quarter}
        images |= {"mask_size": {"longest_edge": SIDE // 4}, "image_processor_type": "SamImageProcessor"}
        content = {"processor_class": "SamProcessor", "image_processor": images}
    else:
        images = {"size": square, "mask_size": quarter, "image_processor_type": "Sam2ImageProcessor"}
        videos = {"size": square, "video_processor_type": "Sam2VideoVideoProcessor"}
        content = {"processor_class": "Sam2Processor", "target_size": SIDE, "point_pad_value": -10}
        content |= {"image_processor": images, "video_processor": videos}
    (folder / "processor_config.json").write_text(json.dumps(content))
    return folder
