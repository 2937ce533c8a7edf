"""Graphs that several tests need are traced once: each takes five to ten seconds."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from masklet.export import graph_files
from masklet.export.graph_parts import GraphPart


def trace_once(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Copy the graph of a part that was traced before, with the same modules, weights, inputs and axes."""
    write = graph_files.write_onnx

    def write_or_copy(part: GraphPart, path: Path) -> None:
        known = folder / f"{fingerprint(part)}.onnx"
        if not known.exists():
            write(part, known)
        shutil.copyfile(known, path)

    patch.setattr(graph_files, "write_onnx", write_or_copy)


def fingerprint(part: GraphPart) -> str:
    inputs = [(name, tensor.shape, tensor.dtype) for name, tensor in part.inputs.items()]
    described = (part.name, str(part.module), inputs, part.outputs, part.axes, part.broadcast)
    digest = hashlib.sha256(repr(described).encode())
    for name, tensor in part.module.state_dict().items():
        digest.update(f"{name} {tensor.dtype}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
