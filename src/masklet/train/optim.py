"""What the optimiser is given: which weights learn how fast, and what the learning rate is when.

Published fine-tuning of SAM 2 decays the learning rate layer by layer down the trunk, by 0.9 a layer, but for its
positional embeddings; biases and normalisations are not decayed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from torch import nn

from masklet.errors import InputError

__all__ = ["SHAPES", "layer_scales", "learning_rate", "parameter_groups", "warmed"]

TRUNK = "image_encoder.trunk."
LAYER = re.compile(r"blocks\.\d+|stages\.\d+\.\d+|enter|context\.\d+")
"""What counts as a layer of a trunk: a block of Hiera; a block, the way in or a context block of the built-in one."""

SHAPES = ("constant", "cosine", "linear")
"""Of the way from the first learning rate to the last."""


def parameter_groups(
    model: nn.Module,
    *,
    share_of: Callable[[str], float],
    weight_decay: float,
    layer_decay: float,
    trunk_share: float = 1.0,
) -> list[dict[str, object]]:
    """Parameter groups for `torch.optim.AdamW`, each with its share of the learning rate as "scale".

    A weight's scale is `share_of(name)`; in the trunk, times `trunk_share` and times `layer_decay` once for every
    layer from it to the trunk's end. Weights of scale 0 are left out. Vectors (biases and normalisations are) are
    not decayed.

    Example:
        >>> groups = parameter_groups(model, share_of=lambda name: 1.0, weight_decay=0.1, layer_decay=0.9)
        >>> optimizer = torch.optim.AdamW(groups, lr=0.0)
        >>> for group in optimizer.param_groups:
        ...     group["lr"] = rate * group["scale"]
    """
    named = dict(model.named_parameters())
    scales = layer_scales(named, layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        scale = share_of(name) * (trunk_share * scales[name] if name.startswith(TRUNK) else 1.0)
        if scale > 0:
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": weight_decay if matrix else 0.0}
        for (scale, matrix), parameters in groups.items()
    ]


def layer_scales(names: Iterable[str], layer_decay: float) -> dict[str, float]:
    """What layer-wise decay leaves of each weight's learning rate; `names` in the order of the network.

    Block k of n, from 0, gets layer_decay ** (n - k), what comes before the first block layer_decay ** (n + 1);
    positional embeddings, and all that is no trunk, 1.

    Example:
        >>> list(layer_scales(["image_encoder.trunk.blocks.0.proj.weight", "no_mem_embed"], 0.9).values())
        [0.9, 1.0]
    """
    names = list(names)
    order = {layer: number for number, layer in enumerate(dict.fromkeys(filter(None, map(_layer, names))))}
    return {name: _scale(name, order, layer_decay) for name in names}


def _layer(name: str) -> str | None:
    """The layer of the trunk that a weight is in."""
    found = LAYER.match(name, len(TRUNK)) if name.startswith(TRUNK) else None
    return found[0] if found else None


def _scale(name: str, order: dict[str, int], layer_decay: float) -> float:
    if not name.startswith(TRUNK) or name.startswith("pos_embed", len(TRUNK)):
        return 1.0
    layer = _layer(name)
    return float(layer_decay ** (len(order) + 1 if layer is None else len(order) - order[layer]))


def learning_rate(progress: float, *, start: float, end: float, shape: str) -> float:
    """The learning rate after `progress`, 0 to 1, of the way from `start` to `end`; `shape` is one of `SHAPES`.

    "constant" stays at `start`.

    Example:
        >>> learning_rate(0.5, start=1e-3, end=1e-4, shape="linear")
        0.00055

    Raises:
        InputError: a shape that is none of these.
    """
    assert 0 <= progress <= 1, f"progress {progress} lies outside 0 to 1"
    if shape not in SHAPES:
        raise InputError(f"shape {shape!r} of the learning rate must be one of {', '.join(SHAPES)}")
    gone = {"constant": 0.0, "cosine": (1 - math.cos(math.pi * progress)) / 2, "linear": progress}[shape]
    return start + (end - start) * gone


def warmed(rate: float, step: int, steps: int) -> float:
    """`rate` at `step`, from 0, of a run that warms up over its first `steps`; the last of them has it whole.

    Example:
        >>> warmed(1.0, 0, 4)
        0.25
    """
    return rate * min(1.0, (step + 1) / max(steps, 1))
