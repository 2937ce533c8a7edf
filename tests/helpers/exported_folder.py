"""Exported folders for tests: complete ones whose graphs are stubs, and an engine that runs the graphs' own modules.

Tracing a network takes a minute, so most tests run the modules that would be traced, with arrays in and out as a
runtime has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masklet.export.export_manifest import describe_file, describe_model, network_arrays
from masklet.export.graph_parts import GraphPart, image_parts, video_parts
from masklet.exported.graphs import Arrays
from masklet.exported.manifest import read_manifest
from masklet.exported.network import ExportedNetwork
from masklet.load_model import LoadedModel
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2


def write_memory_attentions(patch: pytest.MonkeyPatch, *slots: int) -> None:
    """Export memory attention for these numbers of memories alone; `export/test_export_model` has all three."""
    for module in ("export_model", "export_parity", "graph_parts"):
        patch.setattr(f"masklet.export.{module}.MEMORY_SLOTS", slots)


def stub_graph(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], opset: int = 18) -> None:
    """Write a graph with these names, which any runtime can open."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [1], [0.0]))
        for name in outputs
    ]
    graph = helper.make_graph(
        nodes,
        "stub",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)


def write_folder(
    folder: Path, network: SAM2 | SAM1, *, name: str = "small", slots: Mapping[int, int] | None = None
) -> Path:
    """Write a complete folder of stubs for a network; `slots` are memories and pointers of its memory attention."""
    folder.mkdir(parents=True)
    signatures = {part.name: (tuple(part.inputs), part.outputs) for part in image_parts(network)}
    if slots:
        assert isinstance(network, SAM2)
        made = {part.name: (tuple(part.inputs), part.outputs) for part in video_parts(network)}
        names = ["memory_encoder", *(f"memory_attention_{memories}" for memories in slots)]
        signatures |= {name: made[name] for name in names}
    for part, (inputs, outputs) in signatures.items():
        stub_graph(folder / f"{part}.onnx", inputs, outputs)
    np.savez(folder / "constants.npz", **network_arrays(network))
    loaded = LoadedModel(network, name, folder / "weights.pt", None)
    manifest = {
        "format_version": 1,
        "masklet_version": "0.1.0",
        "layout": "masklet",
        "format": "onnx",
        "precision": "fp32",
        "opset": 18,
        "parts": list(signatures),
        "files": [
            *(describe_file(folder / f"{part}.onnx", part, folder) for part in signatures),
            describe_file(folder / "constants.npz", "constants", folder),
        ],
        **describe_model(loaded, slots or {}),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def accept_changes(folder: Path) -> None:
    """Update sizes and hashes in the manifest, as a folder has that another program wrote."""

    def update(manifest: dict[str, Any]) -> None:
        for entry in manifest["files"]:
            content = (folder / entry["name"]).read_bytes()
            entry["bytes"], entry["sha256"] = len(content), hashlib.sha256(content).hexdigest()

    change_manifest(folder, update)


class EagerEngine:
    """Runs the modules of the parts themselves."""

    description = "eager modules"

    def __init__(self, parts: Mapping[str, GraphPart]) -> None:
        self.parts = parts

    def load(self, part: str) -> None:
        assert part in self.parts

    def in_precision(self, precision: str) -> EagerEngine:
        assert precision == "fp32"
        return self

    def run(self, part: str, inputs: Mapping[str, Any]) -> Arrays:
        graph = self.parts[part]
        assert set(inputs) == set(graph.inputs)
        values = [np.ascontiguousarray(inputs[name]) for name in graph.inputs]
        for name, value in zip(graph.inputs, values, strict=True):
            assert value.dtype == graph.inputs[name].numpy().dtype, name
            assert value.ndim == graph.inputs[name].ndim, name
        with torch.no_grad():
            results = graph.module(*map(torch.from_numpy, values))
        results = results if isinstance(results, tuple) else (results,)
        return {name: result.numpy().copy() for name, result in zip(graph.outputs, results, strict=True)}


def eager_network(folder: Path, network: SAM2 | SAM1, parts: Mapping[str, GraphPart] | None = None) -> ExportedNetwork:
    """The network of a folder of stubs, with the modules in their place."""
    found = {part.name: part for part in image_parts(network.eval())} | dict(parts or {})
    return ExportedNetwork(read_manifest(folder), EagerEngine(found), _never)


def _never() -> ExportedNetwork:
    raise AssertionError("a test network is not opened again")
