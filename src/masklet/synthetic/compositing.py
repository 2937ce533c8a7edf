"""Compositing: draw the layers of a scene into frames, with the visible part of every tracked object.

Shapes: T frames, H and W of a frame or of a layer's image, R regions of a layer, N objects. A size is (height, width).
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
"""Fraction of a frame below which an object counts as hidden: too small to recognize."""


@dataclass(frozen=True)
class Clip:
    """The frames of a synthetic video, and the masks of its objects."""

    frames_THW3: npt.NDArray[np.uint8]
    masks_TNHW: npt.NDArray[np.bool_]
    """The visible parts; empty while an object is hidden or out of the frame, but never in the first frame."""


ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
ALPHA_THRESHOLD = 128


@dataclass(frozen=True)
class Deformation:
    """A periodic soft deformation, composed of two displacement fields."""

    displacements: npt.NDArray[np.float32]
    """(2, 4, 4, 2): xy offsets on a 4 x 4 grid over the layer, in its pixels."""
    angular_speed: float
    """Radians per frame."""

    def displacement_at(self, t: int) -> npt.NDArray[np.float32]:
        """The displacement field (4, 4, 2) at frame `t`."""
        return np.asarray(
            sin(self.angular_speed * t) * self.displacements[0]
            + (1 - cos(self.angular_speed * t)) * self.displacements[1]
        )


@dataclass(frozen=True)
class Layer:
    """A moving image with its tracked regions."""

    rgb: ImageArray
    """(H, W, 3)."""
    alpha: ImageArray | None
    """(H, W); None if the layer fills the frame."""
    regions: ImageArray
    """(R, H, W): 255 inside a tracked object."""
    matrices: Floats
    """(T, 2, 3): affine maps from its pixels to those of the frame."""
    deformation: Deformation
    gain_T3: Floats
    """Gain of the light per channel."""
    visible_T: Masks


def resize_to_render_size(layer: Layer) -> Layer:
    """Shrink a layer to about the size at which it is drawn, to avoid aliasing."""
    scale = float(np.sqrt(abs(np.linalg.det(layer.matrices[:, :, :2]))).max())
    if scale > 0.75:
        return layer
    height, width = layer.rgb.shape[:2]
    size = (max(round(width * scale), 2), max(round(height * scale), 2))
    x, y = size[0] / width, size[1] / height
    smaller = layer.matrices / np.array([x, y, 1.0])
    fields = layer.deformation.displacements * np.array([x, y], np.float32)
    planes = [layer.rgb, *([] if layer.alpha is None else [layer.alpha]), *layer.regions]
    rgb, *rest = (np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8) for plane in planes)
    alpha = None if layer.alpha is None else rest.pop(0)
    regions = np.reshape(np.array(rest, np.uint8), (-1, size[1], size[0]))
    sway = Deformation(fields, layer.deformation.angular_speed)
    return Layer(rgb, alpha, regions, smaller, sway, layer.gain_T3, layer.visible_T)


def render_frame(layers: Sequence[Layer], size: tuple[int, int], t: int) -> tuple[ImageArray, Masks]:
    """Draw frame `t`; returns its RGB image and the visible parts (N, H, W) of all regions, in the order of layers."""
    image = np.zeros((*size, 3), np.uint8)
    masks = np.zeros((sum(len(layer.regions) for layer in layers), *size), bool)
    count = 0
    for layer in layers:
        window = _visible_window(layer, size, t) if layer.visible_T[t] else None
        if window is not None:
            # the columns and rows of the layer that each pixel of the window shows
            back = np.linalg.inv(np.vstack([layer.matrices[t], [0, 0, 1]]))[:2].astype(np.float32)
            y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
            x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None]
            away = cv2.resize(layer.deformation.displacement_at(t), (x.size, y.size), interpolation=cv2.INTER_CUBIC)
            columns = x * back[0, 0] + (y * back[0, 1] + back[0, 2]) + away[..., 0]
            rows = x * back[1, 0] + (y * back[1, 1] + back[1, 2]) + away[..., 1]
            table = (np.arange(256)[:, None] * layer.gain_T3[t]).clip(0, 255).astype(np.uint8)[None]
            pixels = cv2.remap(layer.rgb, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            pixels = cv2.LUT(pixels, table)
            below = image[window]
            if layer.alpha is None:
                below[:] = pixels
                masks[(slice(0, count), *window)] = False
            else:
                alpha = cv2.remap(layer.alpha, columns, rows, cv2.INTER_LINEAR, borderValue=0)
                opacity = alpha.astype(np.float32)[..., None] / 255
                below[:] = (below + (pixels - below.astype(np.float32)) * opacity + 0.5).astype(np.uint8)
                masks[(slice(0, count), *window)] &= alpha < ALPHA_THRESHOLD
            for i, region in enumerate(layer.regions):
                cover = cv2.remap(region, columns, rows, cv2.INTER_LINEAR, borderValue=0)
                masks[(count + i, *window)] = cover >= ALPHA_THRESHOLD
        count += len(layer.regions)
    return image, masks


def _visible_window(layer: Layer, size: tuple[int, int], t: int) -> tuple[slice, slice] | None:
    """Rows and columns of the frame that the layer may cover; None if it is outside."""
    if layer.alpha is None:
        return slice(0, size[0]), slice(0, size[1])
    height, width = layer.rgb.shape[:2]
    margin = np.abs(layer.deformation.displacement_at(t)).max() + 1
    x, y = np.array([-margin, width + margin]), np.array([-margin, height + margin])
    corners = np.array([[a, b, 1] for a in x for b in y]) @ layer.matrices[t].T
    low = np.floor(corners.min(0)).clip(0, size[::-1]).astype(int)
    high = np.ceil(corners.max(0) + 1).clip(0, size[::-1]).astype(int)
    return None if (high <= low).any() else (slice(low[1], high[1]), slice(low[0], high[0]))
