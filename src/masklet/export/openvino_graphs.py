"""Convert an ONNX file to OpenVINO's format, and run one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import MissingExtraError
from masklet.export.onnx_graphs import Arrays
from masklet.exported.openvino_core import import_openvino, openvino_core

__all__ = ["OpenVINOGraph", "check_openvino_installed", "write_openvino"]


def check_openvino_installed() -> None:
    """Check that the package of the extra `openvino` is there.

    Raises:
        MissingExtraError: if it is not.
    """
    try:
        import_openvino()
    except ImportError:
        raise MissingExtraError.for_package("openvino", "openvino") from None


def write_openvino(onnx_path: Path, path: Path, *, half: bool) -> None:
    """Convert an ONNX file to `path`, an .xml file with a .bin file beside it; `half` stores weights in fp16.

    The core reads it: `openvino.convert_model` reports its use to the network where telemetry is installed and was
    imported, by a process that it may leave behind.
    """
    import_openvino().save_model(openvino_core().read_model(onnx_path), path, compress_to_fp16=half)


class OpenVINOGraph:
    """An .xml file that OpenVINO runs on the CPU, in fp32 where the file has no lower precision."""

    def __init__(self, path: Path) -> None:
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        self.model = openvino_core().compile_model(path, "CPU", options)
        self.outputs = [output.get_any_name() for output in self.model.outputs]

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run the graph; returns its outputs by name."""
        contiguous = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        results = self.model(contiguous)
        return {name: np.array(results[name]) for name in self.outputs}
