"""Adapters of low rank on attention: a large network learns by few numbers (Hu et al. 2021, arXiv 2106.09685).

A layer's weight becomes weight + scale * up @ down, where `down` and `up` learn. Wherever the weight is read, also by
the fast ways of inference, it is the sum; `merge_lora` makes the sum the weight, and the network is an ordinary one
again.

Shapes: I and O inputs and outputs of a layer, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
"""Every projection of attention: in the trunk, at memories, and between prompts and image."""


class LoRAAdapter(nn.Module):
    """weight + scale * up @ down; `up` starts at zero, so that nothing changes at first."""

    def __init__(self, weight_OI: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight_OI.shape
        self.down_RI = nn.Parameter(weight_OI.new_empty(rank, inputs).normal_(std=inputs**-0.5))
        self.up_OR = nn.Parameter(weight_OI.new_zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, weight_OI: Tensor) -> Tensor:
        """(O, I) to the same."""
        return weight_OI + self.scale * (self.up_OR @ self.down_RI)


def add_lora(
    model: nn.Module, rank: int, *, alpha: float | None = None, targets: Sequence[str] = DEFAULT_TARGETS
) -> list[str]:
    """Put adapters of `rank` on linear layers whose names fit a pattern of `where`; return these names.

    What else is to stay as it is, the caller freezes (`is_adapter` tells what is an adapter's). `alpha` / `rank` is the
    adapters' scale; None: 1. In a pattern `*` is any text.

    Example:
        >>> add_lora(model, 8)
        >>> for name, parameter in model.named_parameters():
        ...     parameter.requires_grad_(is_adapter(name))

    Raises:
        InputError: a rank below 1 or above that of a layer, or patterns that fit no linear layer.
        StateError: the model has adapters.
    """
    if any(True for _ in _adapted_layers(model)):
        raise StateError("the model has adapters already; merge_lora(model) first, or load it anew")
    layers = {name: layer for name, layer in _linear_layers(model) if any(fnmatchcase(name, glob) for glob in targets)}
    _check_rank(rank, layers, targets)
    for layer in layers.values():
        register_parametrization(
            layer, "weight", LoRAAdapter(layer.weight.detach(), rank, rank if alpha is None else alpha)
        )
    return list(layers)


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))


def _adapted_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, layer) for name, layer in _linear_layers(model) if is_parametrized(layer, "weight"))


def _check_rank(rank: int, layers: dict[str, nn.Linear], targets: Sequence[str]) -> None:
    if not layers:
        raise InputError(
            f"no linear layer of the network fits {', '.join(map(repr, targets)) or 'an empty list of patterns'}; "
            "a pattern is a layer's name where * is any text, such as 'memory_attention.*'"
        )
    smallest = min(layers, key=lambda name: min(layers[name].weight.shape))
    most = min(layers[smallest].weight.shape)
    if not 1 <= rank <= most:
        raise InputError(
            f"rank {rank} must be from 1 to {most}, the rank of {smallest}; 4 to 32 is usual, or leave that layer out"
        )


def is_adapter(name: str) -> bool:
    """Whether a tensor of that name is an adapter's.

    Example:
        >>> is_adapter("blocks.0.attn.proj.parametrizations.weight.0.up_OR")
        True
    """
    return ".parametrizations.weight." in name and name.endswith((".down_RI", ".up_OR"))


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors alone, by their names in `model.state_dict()`; empty where there are none.

    A model with adapters in the same places takes them by `load_state_dict(..., strict=False)`.

    Example:
        >>> sum(tensor.numel() for tensor in adapter_state(model).values())
        286720
    """
    return {name: tensor for name, tensor in model.state_dict().items() if is_adapter(name)}


@torch.no_grad()
def merge_lora(model: nn.Module) -> list[str]:
    """Make every adapter a part of its layer's weight; return the layers' names, none where there are no adapters.

    Names and order of tensors are those from before `add_lora`. Copies of the model keep their adapters.

    Example:
        >>> final = copy.deepcopy(model)
        >>> merge_lora(final)
        >>> save_file(final.state_dict(), "mine.safetensors")
    """
    merged = []
    for name, layer in list(_adapted_layers(model)):
        weight, bias = layer.weight.detach().clone(), layer.bias
        learns = any(parameter.requires_grad for parameter in layer.parameters())
        # not remove_parametrizations: it takes the weight from the class, which a copied layer shares
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations, layer.bias
        layer.weight = nn.Parameter(weight, requires_grad=learns)
        layer.register_parameter("bias", bias)
        merged.append(name)
    return merged
