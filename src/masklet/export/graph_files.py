"""Write the parts of a network in a format and a precision, and open them again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.export.export_manifest import describe_file
from masklet.export.export_parity import Graph
from masklet.export.graph_parts import GraphPart
from masklet.export.onnx_graphs import OnnxGraph, check_onnx_installed, write_onnx
from masklet.export.onnx_quantization import quantize_encoder
from masklet.export.openvino_graphs import OpenVINOGraph, check_openvino_installed, write_openvino
from masklet.export.reduced_precision import part_precision, with_dtype
from masklet.export.torch_graphs import TorchGraph, write_torch

__all__ = ["GraphFiles"]


class GraphFiles:
    """The graphs of one folder; `pixels` are inputs of the image encoder, for int8.

    Raises:
        MissingExtraError: if a package for the format is not installed.
    """

    def __init__(self, folder: Path, format: str, precision: str, pixels: Iterable[npt.NDArray[np.float32]]) -> None:
        if format != "torch":
            check_onnx_installed()
        if format == "openvino":
            check_openvino_installed()
        self.folder, self.format, self.precision, self.pixels = folder, format, precision, pixels
        self.graphs: dict[str, Graph] = {}
        """By the name of the part."""
        self.paths: dict[str, Path] = {}
        """The main file of each part."""
        self.entries: list[dict[str, Any]] = []
        """Descriptions of all files."""

    def write(self, part: GraphPart) -> None:
        """Write the files of a part, and open its graph."""
        precision = part_precision(part.name, self.precision)
        path = self.folder / f"{part.name}.onnx"
        graph: Graph
        if self.format == "torch":
            path = path.with_suffix(".pt2")
            write_torch(with_dtype(part, precision), path)
            graph = TorchGraph(path, list(part.inputs), part.outputs)
        else:
            write_onnx(part if self.format == "openvino" else with_dtype(part, precision), path)
            if precision == "int8":
                quantize_encoder(path, self.pixels)
        if self.format == "openvino":
            onnx_path, path = path, path.with_suffix(".xml")
            write_openvino(onnx_path, path, half=precision == "fp16")
            for one in (onnx_path, onnx_path.with_name(f"{onnx_path.name}.data")):
                one.unlink(missing_ok=True)
            graph = OpenVINOGraph(path)
        elif self.format == "onnx":
            graph = OnnxGraph(path)
        self.graphs[part.name], self.paths[part.name] = graph, path
        signature = {"inputs": list(part.inputs), "outputs": list(part.outputs), "precision": precision}
        self.entries.append(describe_file(path, part.name, self.folder) | signature)
        for weights in (path.with_name(f"{path.name}.data"), path.with_suffix(".bin")):
            if weights.is_file():
                self.entries.append(describe_file(weights, f"weights of {part.name}", self.folder))
