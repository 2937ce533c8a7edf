"""Open the networks of folders that transformers saved, names on the hub, and files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masklet import sam
from masklet.errors import InputError
from masklet.runtime import DeviceLike

__all__ = ["model_kind", "open_pretrained", "read_processor_config"]

CONFIG_FILES = ("processor_config.json", "preprocessor_config.json")
"""Where the configuration of a processor is, in new folders and in old ones."""


def open_pretrained(
    name: str | os.PathLike[str], device_map: DeviceLike = "cpu", options: Mapping[str, object] | None = None
) -> sam.SAM:
    """Open a model, that of a folder at the image size of its configuration; `device_map` may be "auto".

    Raises:
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
        InputError: if there are options.
    """
    if options:
        option, value = next(iter(options.items()))
        raise InputError(f"{option}={value!r:.40} is not possible here; masklet.SAM has precision=")
    path = Path(name)
    config = path / "config.json"
    content = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    size = content.get("prompt_encoder_config", {}).get("image_size")
    return sam.SAM(
        path / "model.safetensors" if path.is_dir() else name,
        device=device_map,
        precision="fp32",
        image_size=size if isinstance(size, int) else None,
    )


def model_kind(model: sam.SAM) -> str:
    """Return how names of classes for a model begin: Sam, Sam2 or EdgeTam."""
    if model.predictor.model.keeps_aspect_ratio:
        return "Sam"
    return "EdgeTam" if model.info().name == "edgetam" else "Sam2"


def read_processor_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a folder's image processor; empty without one."""
    for file in (folder / name for name in CONFIG_FILES):
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            config: dict[str, Any] = content.get("image_processor", content)
            return config
    return {}
