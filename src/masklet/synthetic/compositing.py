"""A scene is layers, the lowest first; a frame of it is drawn with the visible part of everything that is followed.

Shapes: T frames, H and W of a layer's own image, R regions of a layer, N objects in all. A size is height, width.

A short video with the truth.

Shapes: T frames, N objects, H and W of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["HIDDEN_AREA_FRACTION", "Clip", "Deformation", "Layer", "render_frame", "resize_to_render_size"]

HIDDEN_AREA_FRACTION = 2e-4
"""Share of a frame below which an object counts as hidden: nobody could say what it is."""


@dataclass(frozen=True)
class Clip:
    """Frames, and where each object is to be seen in them."""

    frames_THW3: npt.NDArray[np.uint8]
    masks_TNHW: npt.NDArray[np.bool_]
    """The visible part; empty while the object is hidden or out of the image, never in the first frame."""


ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
ALPHA_THRESHOLD = 128


@dataclass(frozen=True)
class Deformation:
    """A soft thing gives way: two fields of displacement that take turns."""

    displacements: npt.NDArray[np.float32]
    """(2, 4, 4, 2): at 4 by 4 places of the layer, in its own pixels, x before y."""
    angular_speed: float
    """Radians a frame."""

    def displacement_at(self, t: int) -> npt.NDArray[np.float32]:
        """(4, 4, 2)."""
        return np.asarray(
            sin(self.angular_speed * t) * self.displacements[0]
            + (1 - cos(self.angular_speed * t)) * self.displacements[1]
        )


@dataclass(frozen=True)
class Layer:
    """An image that moves, and what is followed in it."""

    rgb: ImageArray
    """(H, W, 3)."""
    alpha: ImageArray | None
    """(H, W); None: the layer is everywhere."""
    regions: ImageArray
    """(R, H, W): 255 inside."""
    matrices: Floats
    """(T, 2, 3): from its pixels to the frame's."""
    deformation: Deformation
    gain_T3: Floats
    """Light."""
    visible_T: Masks


def resize_to_render_size(layer: Layer) -> Layer:
    """The layer at about the size at which it is drawn, so that shrinking does not alias."""
    scale = float(np.sqrt(abs(np.linalg.det(layer.matrices[:, :, :2]))).max())
    if scale > 0.75:
        return layer
    height, width = layer.rgb.shape[:2]
    size = (max(round(width * scale), 2), max(round(height * scale), 2))
    x, y = size[0] / width, size[1] / height
    smaller = layer.matrices / np.array([x, y, 1.0])
    fields = layer.deformation.displacements * np.array([x, y], np.float32)
    alpha = None if layer.alpha is None else _resize(layer.alpha, size)
    regions = np.stack([_resize(region, size) for region in layer.regions]) if len(layer.regions) else layer.regions
    regions = regions.reshape(-1, size[1], size[0])
    sway = Deformation(fields, layer.deformation.angular_speed)
    return Layer(_resize(layer.rgb, size), alpha, regions, smaller, sway, layer.gain_T3, layer.visible_T)


def _resize(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def render_frame(layers: Sequence[Layer], size: tuple[int, int], t: int) -> tuple[ImageArray, Masks]:
    """Frame `t`, of `size`, and the visible part of every region (N, *size), in the order of the layers."""
    image = np.zeros((*size, 3), np.uint8)
    masks = np.zeros((sum(len(layer.regions) for layer in layers), *size), bool)
    count = 0
    for layer in layers:
        window = _visible_window(layer, size, t) if layer.visible_T[t] else None
        if window is not None:
            columns, rows = _sampling_maps(layer, window, t)
            _composite_layer(layer, image[window], masks[(slice(0, count), *window)], (columns, rows), t)
            for i, region in enumerate(layer.regions):
                masks[(count + i, *window)] = _sample(region, columns, rows) >= ALPHA_THRESHOLD
        count += len(layer.regions)
    return image, masks


def _composite_layer(
    layer: Layer,
    image: ImageArray,
    masks_below: Masks,
    maps: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    t: int,
) -> None:
    """Over the part of the image that the layer can reach, and over the masks of what lies below."""
    table = (np.arange(256)[:, None] * layer.gain_T3[t]).clip(0, 255).astype(np.uint8)[None]
    own = cv2.LUT(cv2.remap(layer.rgb, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), table)
    if layer.alpha is None:
        image[:] = own
        masks_below[:] = False
        return
    alpha = _sample(layer.alpha, *maps)
    share = alpha.astype(np.float32)[..., None] / 255
    image[:] = (image + (own - image.astype(np.float32)) * share + 0.5).astype(np.uint8)
    masks_below &= alpha < ALPHA_THRESHOLD


def _sample(plane: ImageArray, columns: npt.NDArray[np.float32], rows: npt.NDArray[np.float32]) -> ImageArray:
    return np.asarray(cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderValue=0), np.uint8)


def _visible_window(layer: Layer, size: tuple[int, int], t: int) -> tuple[slice, slice] | None:
    """Rows and columns of the frame that the layer may touch; None: it is out of the image."""
    if layer.alpha is None:
        return slice(0, size[0]), slice(0, size[1])
    height, width = layer.rgb.shape[:2]
    margin = np.abs(layer.deformation.displacement_at(t)).max() + 1
    x, y = np.array([-margin, width + margin]), np.array([-margin, height + margin])
    corners = np.array([[a, b, 1] for a in x for b in y]) @ layer.matrices[t].T
    low = np.floor(corners.min(0)).clip(0, size[::-1]).astype(int)
    high = np.ceil(corners.max(0) + 1).clip(0, size[::-1]).astype(int)
    return None if (high <= low).any() else (slice(low[1], high[1]), slice(low[0], high[0]))


def _sampling_maps(
    layer: Layer, window: tuple[slice, slice], t: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """For each pixel of the window the place in the layer that it shows: columns and rows."""
    back = np.linalg.inv(np.vstack([layer.matrices[t], [0, 0, 1]]))[:2].astype(np.float32)
    y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
    x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None]
    away = cv2.resize(layer.deformation.displacement_at(t), (x.size, y.size), interpolation=cv2.INTER_CUBIC)
    columns = x * back[0, 0] + (y * back[0, 1] + back[0, 2]) + away[..., 0]
    rows = x * back[1, 0] + (y * back[1, 1] + back[1, 2]) + away[..., 1]
    return columns, rows
