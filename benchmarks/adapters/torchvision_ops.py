"""Import torchvision where its compiled part does not load: PyPI's build requires PyTorch for CUDA."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["import_torchvision", "nms"]

OPERATOR_NAMES = ("nms", "qnms")
"""Operators of the compiled part that the import needs; only mask generation calls one of them."""
_LIBRARIES: list[Any] = []
"""Keeps the libraries alive: operators exist as long as their library."""


def import_torchvision() -> None:
    """Import torchvision; if its compiled part does not fit this PyTorch, define the operators that it needs."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _define_operators()


def _define_operators() -> None:
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in OPERATOR_NAMES:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision.extension

    library.impl("nms", nms, "CPU")
    torchvision.extension._has_ops = lambda: True
    _LIBRARIES.append(library)


def nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Apply non-maximum suppression like torchvision's compiled operator."""
    import numpy as np
    import torch

    order = scores.sort(stable=True, descending=True)[1]
    ranked = boxes[order].numpy()
    areas = (ranked[:, 2] - ranked[:, 0]) * (ranked[:, 3] - ranked[:, 1])
    alive = np.ones(len(ranked), bool)
    for i in range(len(ranked)):
        if alive[i]:
            low, high = np.maximum(ranked[i, :2], ranked[i + 1 :, :2]), np.minimum(ranked[i, 2:], ranked[i + 1 :, 2:])
            intersection = (high - low).clip(0).prod(1)
            with np.errstate(all="ignore"):
                alive[i + 1 :] &= ~(intersection / (areas[i] + areas[i + 1 :] - intersection) > threshold)
    return order[torch.from_numpy(alive)]
