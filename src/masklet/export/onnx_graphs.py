"""Write a part as an ONNX file, and run one with ONNX Runtime."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from masklet.errors import MissingExtraError
from masklet.export.graph_parts import GraphPart

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "OnnxGraph", "check_onnx_installed", "save_onnx", "trace_part", "write_onnx"]

OPSET = 18
MAX_FILE_BYTES = 1_800_000_000
"""Weights above this are written to a file beside the graph, because a protobuf message holds 2 GB."""
MAX_AXIS = 1 << 14

Arrays = dict[str, npt.NDArray[Any]]


def check_onnx_installed() -> None:
    """Check that the packages of the extra `export` are there.

    Raises:
        MissingExtraError: if one is not.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtraError.for_package(package, "export") from None


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's notices about packages and settings that do not matter here off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def trace_part(part: GraphPart) -> torch.export.ExportedProgram:
    """Trace the module of a part with its dynamic axes."""
    symbols: dict[str, Any] = {}

    def dimension(axis: str) -> Any:
        factor, _, name = axis.rpartition("*")
        symbol = symbols.setdefault(name, torch.export.Dim(name, min=1, max=MAX_AXIS))
        return int(factor) * symbol if factor else symbol

    shapes: tuple[Any, ...] = tuple(
        {index: dimension(axis) for index, axis in part.axes.get(name, {}).items()} or None for name in part.inputs
    )
    parameters = inspect.signature(part.module.forward).parameters.values()
    if any(one.kind == one.VAR_POSITIONAL for one in parameters):  # all of them are one argument then
        shapes = (shapes,)
    with torch.no_grad(), _quiet_exporter():
        return torch.export.export(part.module.eval(), tuple(part.inputs.values()), dynamic_shapes=shapes, strict=False)


def write_onnx(part: GraphPart, path: Path) -> None:
    """Write a part as `path`; large weights go to `path` with the suffix `.data`."""
    import onnx

    size = sum(tensor.numel() * tensor.element_size() for tensor in part.module.state_dict().values())
    with torch.no_grad(), _quiet_exporter():
        torch.onnx.export(
            trace_part(part),
            (),
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            external_data=size > MAX_FILE_BYTES,
            verbose=False,
        )
    model = onnx.load(path, load_external_data=False)
    inputs = {one.name: one.type.tensor_type.shape.dim for one in model.graph.input}
    for name in part.broadcast:
        inputs[name][0].dim_param = "B"
    for name, axes in part.axes.items():
        for index, axis in axes.items():
            inputs[name][index].dim_param = axis
    # The exporter notes the lines of source that a node came from, with paths of this machine.
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del node.metadata_props[:]
    onnx.save(model, path)


def save_onnx(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Save a model that is in memory, large weights in a file beside it; returns the files."""
    import onnx

    if sum(len(one.raw_data) for one in model.graph.initializer) <= MAX_FILE_BYTES:
        onnx.save(model, path)
        return [path]
    data = path.with_name(f"{path.name}.data")
    onnx.save(model, path, save_as_external_data=True, location=data.name)
    return [path, data]


class OnnxGraph:
    """A graph that ONNX Runtime runs on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run the graph; returns its outputs by name."""
        contiguous = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        return dict(zip(self.outputs, self.session.run(self.outputs, contiguous), strict=True))
