"""The reference set: deterministic weights, an image made of integers, and the cases that were run on them."""

from __future__ import annotations

import functools
import importlib.util
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
Shapes = dict[str, tuple[int, ...]]
SIZES = ("tiny", "small", "base_plus", "large")


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=1)
def reference_model(name: str, image_size: int = 256, salt: str = "", small_trunk: bool = False) -> Any:
    """A network filled from its tensors' names, for square inputs of another size than published.

    With `small_trunk` the image encoder is the one of `helpers.networks`, for tests of the other parts.
    """
    from helpers.networks import HIERA
    from masklet.models.sam2 import CONFIGS, build
    from masklet.models.sam2.state_dict import expected_shapes

    config = replace(CONFIGS[name], trunk=HIERA) if small_trunk else CONFIGS[name]
    fill = module_at(GOLDEN / "fill.py").fill_state_dict
    model = build(config, fill(expected_shapes(config), salt))
    model.image_size, model.video_pixels = image_size, model.video_pixels and image_size**2
    return model


def encoding_once(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An image encoder that keeps what it made of every image, for videos that are tracked several times."""
    known: dict[int, Any] = {}

    def once(pixels: Any) -> Any:
        key = zlib.crc32(pixels.numpy().tobytes())
        if key not in known:
            known[key] = encode(pixels)
        return known[key]

    return once


def published_shapes(name: str) -> Shapes:
    """Names and shapes of the tensors in the file of a published model."""
    manifest = json.loads((GOLDEN / "manifests" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in manifest.items()}


def check_shapes(name: str, shapes: Shapes, recognize: Callable[[Shapes], tuple[str, Any] | None]) -> None:
    """Our names and shapes are the published ones, and these are known by them."""
    published = published_shapes(name)
    assert shapes == published
    recognized = recognize(published)
    assert recognized is not None
    assert recognized[0] == name


def golden_image() -> np.ndarray:
    return module_at(GOLDEN / "portable" / "scene.py").image()


def image_cases(path: Path = GOLDEN / "portable" / "image_cases.json") -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text())


def stored(name: str, path: Path | None = None) -> dict[str, np.ndarray]:
    with np.load(path or GOLDEN / "portable" / f"image_{name}.npz") as file:
        return dict(file)


def ask(predictor: Any, case: dict[str, Any], previous: np.ndarray | None) -> Any:
    """One case of the reference set through our predictor's public face."""
    points, labels = case.get("point_coords"), case.get("point_labels")
    return predictor.predict(
        point_coords=None if points is None else [points],
        point_labels=None if labels is None else [labels],
        box=case.get("box"),
        mask_input=previous if case.get("use_prev") else None,
        multimask_output=case["multimask"],
    )
