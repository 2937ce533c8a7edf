"""Build the parameter groups of the optimizer.

Published fine-tuning of SAM 2 decays the learning rate layer by layer down the trunk, by 0.9 per layer, except for
positional embeddings. Biases and normalizations have no weight decay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from torch import nn

__all__ = ["layer_lr_scales", "parameter_groups"]

TRUNK_PREFIX = "image_encoder.trunk."
LAYER_PATTERN = re.compile(
    r"blocks\.\d+|stages\.\d+\.\d+|enter|context\.\d+|body\.stages_\d+\.(?:downsample|blocks\.\d+)"
)
"""A layer of a trunk: a block of Hiera or of EfficientTAM; a block, the entry or a context block of the built-in trunk;
a block or the entry of a stage of EdgeTAM's."""


def parameter_groups(
    model: nn.Module,
    *,
    lr_multiplier: Callable[[str], float],
    weight_decay: float,
    layer_decay: float,
    trunk_multiplier: float = 1.0,
) -> list[dict[str, object]]:
    """Build parameter groups for `torch.optim.AdamW`, each with the factor of its learning rate as "scale".

    The scale of a weight is `lr_multiplier(name)`; in the trunk also times `trunk_multiplier` and times `layer_decay`
    once per layer from it to the end of the trunk. Weights of scale 0 are left out. Vectors (biases and
    normalizations) get no weight decay.

    Example:
        >>> groups = parameter_groups(model, lr_multiplier=lambda name: 1.0, weight_decay=0.1, layer_decay=0.9)
        >>> optimizer = torch.optim.AdamW(groups, lr=0.0)
        >>> for group in optimizer.param_groups:
        ...     group["lr"] = lr * group["scale"]
    """
    named = dict(model.named_parameters())
    scales = layer_lr_scales(named, layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        scale = lr_multiplier(name) * (trunk_multiplier * scales[name] if name.startswith(TRUNK_PREFIX) else 1.0)
        if scale > 0:
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": weight_decay if is_matrix else 0.0}
        for (scale, is_matrix), parameters in groups.items()
    ]


def layer_lr_scales(names: Iterable[str], layer_decay: float) -> dict[str, float]:
    """Return the factor that layer-wise decay gives each weight; `names` are in the order of the network.

    Block k of n, from 0, gets layer_decay ** (n - k), weights before the first block layer_decay ** (n + 1).
    Positional embeddings, and all weights outside the trunk, get 1.

    Example:
        >>> list(layer_lr_scales(["image_encoder.trunk.blocks.0.proj.weight", "no_mem_embed"], 0.9).values())
        [0.9, 1.0]
    """
    names = list(names)
    layers = {}
    for name in names:
        match = LAYER_PATTERN.match(name, len(TRUNK_PREFIX)) if name.startswith(TRUNK_PREFIX) else None
        layers[name] = match[0] if match else None
    order = {layer: number for number, layer in enumerate(dict.fromkeys(filter(None, layers.values())))}
    scales = {}
    for name, layer in layers.items():
        if not name.startswith(TRUNK_PREFIX) or name.startswith("pos_embed", len(TRUNK_PREFIX)):
            scales[name] = 1.0
        else:
            depth = len(order) + 1 if layer is None else len(order) - order[layer]
            scales[name] = float(layer_decay**depth)
    return scales
