"""Add low-rank adapters (LoRA) to attention: few trainable weights (Hu et al. 2021, arXiv 2106.09685).

A layer's weight becomes weight + scale * up @ down, where `down` and `up` learn. All readers of the weight, including
fast inference, see the sum. `merge_lora` stores the sum as the weight, and the network is an ordinary one again.

Shapes: I and O inputs and outputs of a layer, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from masklet.errors import InputError, StateError

__all__ = ["DEFAULT_TARGETS", "adapter_state", "add_lora", "is_adapter", "merge_lora"]

DEFAULT_TARGETS = (
    "image_encoder.trunk.*.attn.*",
    "memory_attention.layers.*attn*.*",
    "sam_mask_decoder.transformer.*attn*.*",
)
"""Every attention projection: in the trunk, in memory attention, and in the mask decoder."""


class LoRAAdapter(nn.Module):
    """Compute weight + scale * up @ down; `up` starts at zero, so that nothing changes at first."""

    def __init__(self, weight_OI: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight_OI.shape
        self.down_RI = nn.Parameter(weight_OI.new_empty(rank, inputs).normal_(std=inputs**-0.5))
        self.up_OR = nn.Parameter(weight_OI.new_zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, weight_OI: Tensor) -> Tensor:
        """Map (O, I) to (O, I)."""
        return weight_OI + self.scale * (self.up_OR @ self.down_RI)


def add_lora(
    model: nn.Module, rank: int, *, alpha: float | None = None, targets: Sequence[str] = DEFAULT_TARGETS
) -> list[str]:
    """Add adapters of `rank` to linear layers whose names match a pattern of `targets`; return these names.

    The caller freezes all other weights (`is_adapter` tells them apart). `alpha` / `rank` is the scale of the adapters;
    None: 1. In a pattern `*` is any text.

    Example:
        >>> add_lora(model, 8)
        >>> for name, parameter in model.named_parameters():
        ...     parameter.requires_grad_(is_adapter(name))

    Raises:
        InputError: if the rank is below 1 or above that of a layer, or the patterns match no linear layer.
        StateError: if the model has adapters.
    """
    if adapter_state(model):
        raise StateError("the model has adapters already; merge_lora(model) first, or load it again")
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and any(fnmatchcase(name, glob) for glob in targets)
    }
    if not layers:
        raise InputError(
            f"no linear layer of the network fits {', '.join(map(repr, targets)) or 'an empty list of patterns'}; "
            "a pattern is a layer's name where * is any text, such as 'memory_attention.*'"
        )
    smallest = min(layers, key=lambda name: min(layers[name].weight.shape))
    max_rank = min(layers[smallest].weight.shape)
    if not 1 <= rank <= max_rank:
        raise InputError(
            f"rank {rank} must be from 1 to {max_rank}, the rank of {smallest}; 4 to 32 is usual, or exclude that layer"
        )
    for layer in layers.values():
        register_parametrization(
            layer, "weight", LoRAAdapter(layer.weight.detach(), rank, rank if alpha is None else alpha)
        )
    return list(layers)


def is_adapter(name: str) -> bool:
    """Tell whether the tensor called `name` belongs to an adapter.

    Example:
        >>> is_adapter("blocks.0.attn.proj.parametrizations.weight.0.up_OR")
        True
    """
    return ".parametrizations.weight." in name and name.endswith((".down_RI", ".up_OR"))


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' tensors, by their names in `model.state_dict()`.

    A model with the same adapters loads them by `load_state_dict(..., strict=False)`.

    Example:
        >>> sum(tensor.numel() for tensor in adapter_state(model).values())
        286720
    """
    return {name: tensor for name, tensor in model.state_dict().items() if is_adapter(name)}


@torch.no_grad()
def merge_lora(model: nn.Module) -> list[str]:
    """Merge every adapter into its layer's weight; return the names of the layers.

    Names and order of tensors are those from before `add_lora`. Copies of the model keep their adapters.

    Example:
        >>> final = copy.deepcopy(model)
        >>> merge_lora(final)
        >>> save_file(final.state_dict(), "mine.safetensors")
    """
    merged = []
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Linear) or not is_parametrized(layer, "weight"):
            continue
        weight, bias = layer.weight.detach().clone(), layer.bias
        trainable = any(parameter.requires_grad for parameter in layer.parameters())
        # not remove_parametrizations: it takes the weight from the class, which a copied layer shares
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations, layer.bias
        layer.weight = nn.Parameter(weight, requires_grad=trainable)
        layer.register_parameter("bias", bias)
        merged.append(name)
    return merged
