"""`AutoModel` and `AutoProcessor`: the classes of images that a model belongs to."""

from __future__ import annotations

import os
from pathlib import Path

from masklet.compat.transformers.open_pretrained import model_kind, open_pretrained, read_processor_config
from masklet.compat.transformers.promptable_model import EdgeTamModel, Sam2Model, SamModel
from masklet.compat.transformers.promptable_processor import Sam2Processor, SamProcessor
from masklet.registry import get_card
from masklet.runtime import DeviceLike

__all__ = ["AutoModel", "AutoProcessor"]


class AutoModel:
    """Opens a model of images as a `SamModel`, `Sam2Model` or `EdgeTamModel`."""

    @staticmethod
    def from_pretrained(
        name: str | os.PathLike[str], *, device_map: DeviceLike = "cpu", **kwargs: object
    ) -> SamModel | Sam2Model | EdgeTamModel:
        """Open a model by its name on the hub, a folder that was saved by transformers, or any file of weights.

        Raises:
            UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
            InputError: if an option is unknown.
        """
        model = open_pretrained(name, device_map, kwargs)
        classes: dict[str, type[SamModel | Sam2Model | EdgeTamModel]] = {
            "Sam": SamModel,
            "Sam2": Sam2Model,
            "EdgeTam": EdgeTamModel,
        }
        return classes[model_kind(model)](model)


class AutoProcessor:
    """Opens the processor of a model of images."""

    @staticmethod
    def from_pretrained(name: str | os.PathLike[str], **kwargs: object) -> SamProcessor | Sam2Processor:
        """Make the processor of a folder that was saved by transformers, or of a model by its name.

        Raises:
            UnknownModelError: if it is neither.
        """
        config = read_processor_config(Path(name))
        is_sam1 = "longest_edge" in config.get("size", {}) if config else get_card(os.fspath(name)).family == "sam1"
        return (SamProcessor if is_sam1 else Sam2Processor).from_pretrained(name)
