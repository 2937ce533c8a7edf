"""The answers of processors and models: values by name, which are attributes too, and by place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from masklet.runtime import DeviceLike, resolve_device

__all__ = ["NamedTensors"]


class NamedTensors(dict[str, Any]):
    """Tensors, and lists and numbers beside them, by name, by attribute, or by place from 0.

    Example:
        >>> import torch
        >>> outputs = NamedTensors(iou_scores=torch.tensor([0.5]), pred_masks=torch.zeros(1, 4, 4))
        >>> outputs.iou_scores is outputs["iou_scores"] is outputs[0]
        True
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}; there are {', '.join(self)}") from None

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values in order."""
        return tuple(self.values())

    def to(self, device: DeviceLike) -> NamedTensors:
        """Move the tensors to a device."""
        where = resolve_device(device)
        moved = {name: value.to(where) if isinstance(value, Tensor) else value for name, value in self.items()}
        return type(self)(moved)
