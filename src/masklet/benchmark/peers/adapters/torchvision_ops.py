"""torchvision where its compiled part does not fit: PyPI's is built beside PyTorch for CUDA, and needs that one."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["import_torchvision", "nms"]

OPERATOR_NAMES = ("nms", "qnms")
"""Of torchvision's compiled part: asked for when it is imported; only everything in an image calls one of them."""
_LIBRARIES: list[Any] = []
"""Names of operators last as long as the object that gave them."""


def import_torchvision() -> None:
    """Import it; where its compiled part does not fit this PyTorch, name the operators that it asks for."""
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
    """As torchvision's compiled one."""
    import numpy as np
    import torch

    order = scores.sort(stable=True, descending=True)[1]
    ranked = boxes[order].numpy()
    areas = (ranked[:, 2] - ranked[:, 0]) * (ranked[:, 3] - ranked[:, 1])
    alive = np.ones(len(ranked), bool)
    for i in range(len(ranked)):
        if alive[i]:
            low, high = np.maximum(ranked[i, :2], ranked[i + 1 :, :2]), np.minimum(ranked[i, 2:], ranked[i + 1 :, 2:])
            shared = (high - low).clip(0).prod(1)
            with np.errstate(all="ignore"):
                alive[i + 1 :] &= ~(shared / (areas[i] + areas[i + 1 :] - shared) > threshold)
    return order[torch.from_numpy(alive)]
