"""Files as they are published: whole networks of foreign classes, which are gone again when the file is read."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from masklet.models.yolo import YOLOConfig, YOLOv8
from masklet.models.yolo.blocks import ConvBlock

TINY = YOLOConfig((4, 8, 8, 16, 16), (1, 1, 1, 1), 1, 3, 8, 8)
TINY_SEG = YOLOConfig((4, 8, 8, 16, 16), (1, 1, 1, 1), 1, 3, 8, 8, 8, 4, 8)
NAMES = {0: "person", 1: "bicycle", 2: "dog"}


def network(config: YOLOConfig = TINY_SEG, seed: int = 0) -> YOLOv8:
    """Random weights, with normalizations that are not neutral; the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = YOLOv8(config).eval()
        with torch.no_grad():
            for module in made.modules():
                if isinstance(module, ConvBlock) and module.bn is not None:
                    assert module.bn.running_mean is not None
                    assert module.bn.running_var is not None
                    module.bn.running_mean.normal_(std=0.1)
                    module.bn.running_var.uniform_(0.5, 1.5)
    return made


@contextmanager
def foreign_classes() -> Iterator[types.ModuleType]:
    """A package that can be pickled from, for as long as the block lasts."""
    module = types.ModuleType("ultralytics.nn.tasks")
    parents = {name: types.ModuleType(name) for name in ("ultralytics", "ultralytics.nn")}
    try:
        sys.modules.update({**parents, module.__name__: module})
        yield module
    finally:
        for name in (*parents, module.__name__):
            del sys.modules[name]


def disguise(made: nn.Module, module: types.ModuleType) -> nn.Module:
    """The same network, all of whose own modules are of classes of `module`."""
    for part in made.modules():
        kind = type(part)
        if kind.__module__.startswith("masklet"):
            name = "DetectionModel" if kind is YOLOv8 else kind.__name__
            if not hasattr(module, name):
                setattr(module, name, type(name, (nn.Module,), {"__module__": module.__name__}))
            part.__class__ = getattr(module, name)
    return made


def save(path: Path, made: YOLOv8, names: Any = NAMES, *, half: bool = True, **others: Any) -> Path:
    """`path`, as training would leave it: a dictionary with the network whole, and what it says of itself."""
    with foreign_classes() as module:
        whole = disguise(made, module)
        whole.names, whole.yaml, whole.stride = names, {"nc": 3}, torch.tensor([8.0, 16.0, 32.0])  # type: ignore
        whole.args = others.pop("args", types.SimpleNamespace(imgsz=640))  # type: ignore
        content = {
            "epoch": -1,
            "model": whole.half() if half else whole,
            "ema": None,
            "optimizer": None,
            "train_args": {"imgsz": 320},
            "version": "8.0.0",
            "license": "AGPL-3.0",
            **others,
        }
        torch.save(content, path)
    return path
