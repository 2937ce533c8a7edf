"""The reference set: deterministic weights, an image made of integers, and the cases that were run on them."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import zlib
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

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


def reference_model(name: str, image_size: int = 256, salt: str = "", small_trunk: bool = False) -> Any:
    """A network filled from its tensors' names, for square inputs of another size than published.

    With `small_trunk` the image encoder is the one of `helpers.networks`, for tests of the other parts.
    """
    model = filled_network(name, salt, small_trunk)
    model.image_size, model.video_pixels = image_size, model.video_pixels and image_size**2
    return model


@functools.lru_cache(maxsize=1)
def filled_network(name: str, salt: str, small_trunk: bool) -> Any:
    """The network; the last one is kept, because filling a large one takes seconds."""
    from helpers.networks import HIERA
    from masklet.models.sam2 import CONFIGS, build
    from masklet.models.sam2.state_dict import expected_shapes

    config = replace(CONFIGS[name], trunk=HIERA) if small_trunk else CONFIGS[name]
    fill = module_at(GOLDEN / "fill.py").fill_state_dict
    return build(config, fill(expected_shapes(config), salt))


def small_builtin() -> Any:
    """The built-in network as it tracks, at 96 x 96 pixels."""
    from masklet.models.fast_cpu.sam2 import FastSAM2

    model = reference_model("builtin", 96, "v")
    model.edge_radius = None  # masks as the decoder draws them
    return FastSAM2(model)


def encoding_once(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An image encoder that keeps what it made of every image, for videos that are tracked several times."""
    known: dict[Any, Any] = {}

    def once(pixels: Any) -> Any:
        key = tuple(pixels.shape), zlib.crc32(pixels.numpy().tobytes())
        if key not in known:
            known[key] = encode(pixels)
        return known[key]

    return once


def encode_images_once(patch: Any, network: Any = None) -> None:
    """Have the encoders of each network, or of one, keep what they made of every image while `patch` lasts.

    It is half of the time of tracking small frames, and the same frames are tracked again and again: whole, cut short,
    resumed, by other rules.
    """
    from masklet.models.fast_cpu.sam2 import FastSAM2Encoder

    init, encode = FastSAM2Encoder.__init__, FastSAM2Encoder.__call__

    def init_named(self: Any, model: Any, dtype: Any = None) -> None:
        init(self, model, dtype)
        self.owner = model

    def encode_once(self: Any, pixels: Any) -> Any:
        owner = getattr(self, "owner", self)
        if owner is not (network or owner):
            return encode(self, pixels)
        known = ENCODED.setdefault(owner, {})
        key = self.dtype, tuple(pixels.shape), hashlib.sha1(pixels.numpy().tobytes()).digest()
        if key not in known:
            known[key] = encode(self, pixels)
        return known[key]

    patch.setattr(FastSAM2Encoder, "__init__", init_named)
    patch.setattr(FastSAM2Encoder, "__call__", encode_once)


ENCODED: MutableMapping[Any, dict[Any, Any]] = WeakKeyDictionary()
"""By network, what `encode_images_once` keeps: it goes with the network, or at the end of a file of tests."""


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
