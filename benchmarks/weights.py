"""Provide weights for comparisons: the published file if it is here, else synthetic ones, without a download.

Synthetic weights follow from the names of tensors. Time and memory do not depend on them, and their masks, ragged as
noise, are a hard test of agreement: a pixel flips as soon as its logit crosses zero. Each program gets the same numbers
in the format that it opens.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.checkpoints import read_tensors
from masklet.errors import InputError
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import expected_shapes, to_transformers
from masklet.registry import get_card, is_downloaded, locate

__all__ = ["ModelWeights", "convert_weights", "resolve_weights", "synthetic_weights"]

FloatArray = npt.NDArray[np.float32]

INIT_RANGES = {"running_mean": (0.0, 0.1), "bias": (0.0, 0.1), "weight": (1.0, 0.1), "gamma": (0.3, 0.1)}
"""Mean and spread of a vector by the last part of its name; a one-dimensional weight belongs to a normalization."""


@dataclass(frozen=True)
class ModelWeights:
    """A file in the published format."""

    model: str
    """Canonical name."""
    path: Path
    synthetic: bool
    """Whether the weights are synthetic, not the published ones."""

    @property
    def source_label(self) -> str:
        """The name of the source in records."""
        return "synthetic" if self.synthetic else "published"


def resolve_weights(model: str, folder: Path, salt: str = "") -> ModelWeights:
    """Return the published file of a SAM 2 model if it is here; else write synthetic weights to `folder`.

    A different `salt` gives different weights.

    Example:
        >>> resolve_weights("sam2.1_t.pt", Path("/tmp")).path
        PosixPath('/tmp/sam2.1_hiera_tiny.pt')

    Raises:
        UnknownModelError: if the model is unknown.
        InputError: if other programs do not have it.
    """
    card = get_card(model)
    if card.name not in CONFIGS:
        known = ", ".join(name for name in CONFIGS if name != "builtin")
        raise InputError(f"model {model!r} is not one that other programs have; choose from {known}")
    if is_downloaded(card):
        return ModelWeights(card.name, locate(card), synthetic=False)
    path = folder / f"{card.name}.pt"
    torch.save({"model": synthetic_weights(expected_shapes(CONFIGS[card.name]), salt)}, path)
    return ModelWeights(card.name, path, synthetic=True)


def synthetic_weights(shapes: Mapping[str, tuple[int, ...]], salt: str = "") -> dict[str, Tensor]:
    """Generate a tensor for each name, in ranges that suit a network; the same on every machine.

    Example:
        >>> synthetic_weights({"norm.weight": (2,)})["norm.weight"]
        tensor([1.0402, 0.9021])
    """
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(".num_batches_tracked"):
            tensors[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        rng = np.random.RandomState(zlib.crc32((salt + name).encode()))
        noise = rng.standard_normal(shape or (1,)).astype(np.float32).reshape(shape)
        tensors[name] = torch.from_numpy(np.asarray(_scale_noise(noise, name.rpartition(".")[2]), np.float32))
    return tensors


def _scale_noise(noise: FloatArray, kind: str) -> npt.ArrayLike:
    if kind == "weight" and noise.ndim > 1:
        return noise * np.float64(1.2 / np.sqrt(noise[0].size))
    if kind == "running_var":
        return 1 + 0.2 * np.abs(noise)
    mean, spread = INIT_RANGES.get(kind, (0.0, 0.5))  # embeddings and tokens have a spread of 0.5
    return mean + spread * noise


def convert_weights(program: str, model: str, weights: Path, folder: Path) -> Path:
    """Return the file that `program` opens for the published `weights` of `model`; a converted file goes to `folder`.

    transformers has its own names for tensors, and ultralytics tells a network by the name of its file.

    Example:
        >>> convert_weights("ultralytics", "sam2.1_hiera_tiny", Path("sam2.1_hiera_tiny.pt"), Path("/tmp/run"))
        PosixPath('/tmp/run/sam2.1_t.pt')
    """
    if program == "transformers":
        path = folder / f"{model}.transformers.pt"
        if not path.exists():
            torch.save(to_transformers(read_tensors(weights)), path)
        return path
    if program == "ultralytics":
        path = folder / get_card(model).short_name
        if not path.exists():
            try:
                path.symlink_to(weights.absolute())  # weights are large
            except OSError:
                shutil.copyfile(weights, path)
        return path
    return weights
