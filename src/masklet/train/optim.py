"""What the optimizer is given: which weights learn how fast, and what the learning rate is when.

Published fine-tuning of SAM 2 decays the learning rate layer by layer down the trunk, by 0.9 a layer, but for its
positional embeddings; biases and normalizations are not decayed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from torch import nn

from masklet.errors import InputError

__all__ = ["LR_SCHEDULES", "layer_lr_scales", "linear_warmup", "parameter_groups", "scheduled_lr"]

TRUNK_PREFIX = "image_encoder.trunk."
LAYER_PATTERN = re.compile(r"blocks\.\d+|stages\.\d+\.\d+|enter|context\.\d+")
"""What counts as a layer of a trunk: a block of Hiera; a block, the way in or a context block of the built-in one."""

LR_SCHEDULES = ("constant", "cosine", "linear")
"""Of the way from the first learning rate to the last."""


def parameter_groups(
    model: nn.Module,
    *,
    lr_multiplier: Callable[[str], float],
    weight_decay: float,
    layer_decay: float,
    trunk_multiplier: float = 1.0,
) -> list[dict[str, object]]:
    """Parameter groups for `torch.optim.AdamW`, each with its share of the learning rate as "scale".

    A weight's scale is `share_of(name)`; in the trunk, times `trunk_share` and times `layer_decay` once for every
    layer from it to the trunk's end. Weights of scale 0 are left out. Vectors (biases and normalizations are) are
    not decayed.

    Example:
        >>> groups = parameter_groups(model, share_of=lambda name: 1.0, weight_decay=0.1, layer_decay=0.9)
        >>> optimizer = torch.optim.AdamW(groups, lr=0.0)
        >>> for group in optimizer.param_groups:
        ...     group["lr"] = rate * group["scale"]
    """
    named = dict(model.named_parameters())
    scales = layer_lr_scales(named, layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        scale = lr_multiplier(name) * (trunk_multiplier * scales[name] if name.startswith(TRUNK_PREFIX) else 1.0)
        if scale > 0:
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": weight_decay if matrix else 0.0}
        for (scale, matrix), parameters in groups.items()
    ]


def layer_lr_scales(names: Iterable[str], layer_decay: float) -> dict[str, float]:
    """What layer-wise decay leaves of each weight's learning rate; `names` in the order of the network.

    Block k of n, from 0, gets layer_decay ** (n - k), what comes before the first block layer_decay ** (n + 1);
    positional embeddings, and all that is no trunk, 1.

    Example:
        >>> list(layer_scales(["image_encoder.trunk.blocks.0.proj.weight", "no_mem_embed"], 0.9).values())
        [0.9, 1.0]
    """
    names = list(names)
    order = {layer: number for number, layer in enumerate(dict.fromkeys(filter(None, map(_layer_of, names))))}
    return {name: _lr_scale(name, order, layer_decay) for name in names}


def _layer_of(name: str) -> str | None:
    """The layer of the trunk that a weight is in."""
    found = LAYER_PATTERN.match(name, len(TRUNK_PREFIX)) if name.startswith(TRUNK_PREFIX) else None
    return found[0] if found else None


def _lr_scale(name: str, order: dict[str, int], layer_decay: float) -> float:
    if not name.startswith(TRUNK_PREFIX) or name.startswith("pos_embed", len(TRUNK_PREFIX)):
        return 1.0
    layer = _layer_of(name)
    return float(layer_decay ** (len(order) + 1 if layer is None else len(order) - order[layer]))


def scheduled_lr(progress: float, *, start: float, end: float, schedule: str) -> float:
    """The learning rate after `progress`, 0 to 1, of the way from `start` to `end`; `shape` is one of `SHAPES`.

    "constant" stays at `start`.

    Example:
        >>> learning_rate(0.5, start=1e-3, end=1e-4, shape="linear")
        0.00055

    Raises:
        InputError: a shape that is none of these.
    """
    assert 0 <= progress <= 1, f"progress {progress} lies outside 0 to 1"
    if schedule not in LR_SCHEDULES:
        raise InputError(f"shape {schedule!r} of the learning rate must be one of {', '.join(LR_SCHEDULES)}")
    gone = {"constant": 0.0, "cosine": (1 - math.cos(math.pi * progress)) / 2, "linear": progress}[schedule]
    return start + (end - start) * gone


def linear_warmup(lr: float, step: int, warmup_steps: int) -> float:
    """`rate` at `step`, from 0, of a run that warms up over its first `steps`; the last of them has it whole.

    Example:
        >>> warmed(1.0, 0, 4)
        0.25
    """
    return lr * min(1.0, (step + 1) / max(warmup_steps, 1))
