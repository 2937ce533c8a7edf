"""Quantize the image encoder to int8, with ranges of its values measured on images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["quantize_encoder"]

QUANTIZED_OPERATORS = ["Conv", "MatMul", "Gemm"]
"""Products with weights; attention between activations, normalization and the rest stay in fp32."""
FP32_WEIGHTS = (".neck.", ".conv_s0.", ".conv_s1.")
"""In the names of weights that stay in fp32, as those of the first layer do: little work, and every mask sees them."""


def quantize_encoder(path: Path, pixels: Iterable[npt.NDArray[np.float32]]) -> None:
    """Rewrite the ONNX file of an image encoder with int8 weights, one scale a channel, and int8 activations.

    `pixels` are inputs (1, 3, H, W), on which the ranges of activations are measured.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Feed the inputs one by one."""

        def __init__(self) -> None:
            self.inputs: Iterator[npt.NDArray[np.float32]] = iter(pixels)

        def get_next(self) -> dict[str, Any] | None:
            """Return the next inputs; None: there are no more."""
            value = next(self.inputs, None)
            return None if value is None else {"pixels": np.ascontiguousarray(value)}

    prepared, quantized = path.with_suffix(".prepared.onnx"), path.with_suffix(".quantized.onnx")
    level = logging.getLogger().level
    try:
        logging.getLogger().setLevel(logging.ERROR)
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        products = [node for node in onnx.load(prepared).graph.node if node.op_type in QUANTIZED_OPERATORS]
        kept = [node.name for node in products if any(word in name for name in node.input for word in FP32_WEIGHTS)]
        quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED_OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # 7 bits: processors without VNNI add pairs of products in 16 bits, which 8 overflow
            nodes_to_exclude=[products[0].name, *kept],
            extra_options={"MatMulConstBOnly": True},
        )
        quantized.replace(path)
    finally:
        logging.getLogger().setLevel(level)
        prepared.unlink(missing_ok=True)
        quantized.unlink(missing_ok=True)
