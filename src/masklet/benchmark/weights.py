"""Weights that follow from the names of tensors alone, so that comparing programs needs no download.

Time and memory do not depend on what weights mean, and the masks, ragged as noise, are a hard test of agreement: a
pixel turns over as soon as its logit crosses zero. Published weights are taken where they are here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.errors import InputError
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import expected_shapes
from masklet.registry import get_card, is_downloaded, locate

__all__ = ["ModelWeights", "resolve_weights", "synthetic_weights"]

FloatArray = npt.NDArray[np.float32]

INIT_RANGES = {"running_mean": (0.0, 0.1), "bias": (0.0, 0.1), "weight": (1.0, 0.1), "gamma": (0.3, 0.1)}
"""Where the values of a vector lie, and how wide; a weight of one dimension is a norm's."""


@dataclass(frozen=True)
class ModelWeights:
    """A file in the published form, which all programs open."""

    model: str
    """Canonical name."""
    path: Path
    synthetic: bool
    """Whether they follow from names, and are not the published ones."""

    @property
    def source_label(self) -> str:
        """As a record names them."""
        return "made from names" if self.synthetic else "published"


def resolve_weights(model: str, folder: Path, salt: str = "") -> ModelWeights:
    """The published file of a SAM 2 by any of its names, where it is here; else one that is made in `folder`.

    Other `salt`, other weights.

    Example:
        >>> weights_for("sam2.1_t.pt", Path("/tmp")).path
        PosixPath('/tmp/sam2.1_hiera_tiny.pt')

    Raises:
        UnknownModelError: no such model.
        InputError: one that other programs do not have.
    """
    card = get_card(model)
    if card.name not in CONFIGS:
        known = ", ".join(name for name in CONFIGS if name != "builtin")
        raise InputError(f"model {model!r} is not one that other programs have; with peers choose from {known}")
    if is_downloaded(card):
        return ModelWeights(card.name, locate(card), synthetic=False)
    path = folder / f"{card.name}.pt"
    torch.save({"model": synthetic_weights(expected_shapes(CONFIGS[card.name]), salt)}, path)
    return ModelWeights(card.name, path, synthetic=True)


def synthetic_weights(shapes: Mapping[str, tuple[int, ...]], salt: str = "") -> dict[str, Tensor]:
    """A tensor for each name, in ranges that let numbers through a network; the same on every machine.

    Example:
        >>> filled({"norm.weight": (2,)})["norm.weight"]
        tensor([1.0402, 0.9021])
    """
    return {name: _synthetic_tensor(name, shape, salt) for name, shape in shapes.items()}


def _synthetic_tensor(name: str, shape: tuple[int, ...], salt: str) -> Tensor:
    if name.endswith(".num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    numbers = np.random.RandomState(zlib.crc32((salt + name).encode()))
    noise = numbers.standard_normal(shape or (1,)).astype(np.float32).reshape(shape)
    return torch.from_numpy(np.asarray(_scale_noise(noise, name.rpartition(".")[2]), np.float32))


def _scale_noise(noise: FloatArray, kind: str) -> npt.ArrayLike:
    if kind == "weight" and noise.ndim > 1:
        return noise * np.float64(1.2 / np.sqrt(noise[0].size))
    if kind == "running_var":
        return 1 + 0.2 * np.abs(noise)
    middle, spread = INIT_RANGES.get(kind, (0.0, 0.5))  # embeddings, tokens and places are 0.5 wide
    return middle + spread * noise
