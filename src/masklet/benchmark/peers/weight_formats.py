"""Weights in the form that a program opens: the same numbers, under its own names for them or for their file."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from masklet.checkpoints import read_tensors
from masklet.models.sam2.state_dict import to_transformers
from masklet.registry import get_card

__all__ = ["convert_weights"]


def convert_weights(program: str, model: str, weights: Path, folder: Path) -> Path:
    """The file that `program` opens in place of the published `weights` of `model`; what is made goes to `folder`.

    transformers has its own names for tensors, and ultralytics knows a network by the name of its file.

    Example:
        >>> weights_for_program("ultralytics", "sam2.1_hiera_tiny", Path("sam2.1_hiera_tiny.pt"), Path("/tmp/run"))
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
            _link_or_copy(weights, path)
        return path
    return weights


def _link_or_copy(source: Path, target: Path) -> None:
    """A link, where the system allows one: weights are large."""
    try:
        target.symlink_to(source.absolute())
    except OSError:
        shutil.copyfile(source, target)
