"""Write a part as a file of `torch.export`, and run one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from masklet.export.graph_parts import GraphPart
from masklet.export.onnx_graphs import Arrays, trace_part

__all__ = ["TorchGraph", "write_torch"]


def write_torch(part: GraphPart, path: Path) -> None:
    """Write a part as `path`, a .pt2 file; its arguments are in the order of the part's inputs."""
    torch.export.save(trace_part(part), path)


class TorchGraph:
    """A .pt2 file that PyTorch runs."""

    def __init__(self, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.module = torch.export.load(path).module()
        self.inputs, self.outputs = list(inputs), list(outputs)

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run the graph; returns its outputs by name."""
        outputs = self.module(*(torch.from_numpy(inputs[name].copy()) for name in self.inputs))
        values = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}
