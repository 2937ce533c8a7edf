"""Which part may run in which precision, and the module of a part in half precision.

Memory feeds itself from frame to frame, so that rounding adds up: the decoder and the memory encoder stay in fp32.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from masklet.errors import InputError
from masklet.export.graph_parts import GraphPart

__all__ = ["check_precision", "part_precision", "with_dtype"]

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
HALF_PARTS = ("image_encoder", "memory_attention")
"""Beginnings of the names of parts that may run in fp16 and bf16; int8 is for the first alone."""


def check_precision(format: str, precision: str, parts: str) -> None:
    """Check that a format can hold a precision.

    Raises:
        InputError: if it cannot; the message says what can.
    """
    if precision == "int8" and format == "torch":
        raise InputError("precision int8 is not written as torch: choose the format onnx or openvino, or bf16")
    if precision == "int8" and parts == "video":
        raise InputError("precision int8 is for the image encoder, which parts video do not have: choose parts all")
    if precision == "bf16" and format == "onnx":
        raise InputError(
            "precision bf16 is not written as onnx, because ONNX Runtime multiplies no bf16 on a CPU: choose the "
            "format torch, or fp16 or int8"
        )
    if precision == "bf16" and format == "openvino":
        raise InputError(
            "precision bf16 is not written as openvino, which rounds when it loads a model: choose fp32 or fp16, and "
            "open the folder with SAM(DIR, precision='bf16'); or choose the format torch"
        )


def part_precision(name: str, precision: str) -> str:
    """Return the precision of a part in an export of `precision`.

    Example:
        >>> part_precision("memory_encoder", "fp16"), part_precision("memory_attention_4", "fp16")
        ('fp32', 'fp16')
    """
    allowed = HALF_PARTS[:1] if precision == "int8" else HALF_PARTS
    return precision if name.startswith(allowed) else "fp32"


class _WithDtype(nn.Module):
    """A module whose weights and values are of a type, with fp32 at its boundary."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = copy.deepcopy(module).to(dtype), dtype
        for inner in self.module.modules():  # keys are compared in fp32
            projection = getattr(inner, "matching_projection", None)
            if projection is not None:
                inner.matching_projection = projection.float()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the module."""
        outputs = self.module(*(one.to(self.dtype) if one.is_floating_point() else one for one in inputs))
        return tuple(one.float() for one in outputs) if isinstance(outputs, tuple) else outputs.float()


def with_dtype(part: GraphPart, precision: str) -> GraphPart:
    """Return a part in fp16 or bf16; fp32 and int8 leave it as it is."""
    return replace(part, module=_WithDtype(part.module, DTYPES[precision])) if precision in DTYPES else part
