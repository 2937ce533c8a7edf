"""napari plugin: masks for images, time series and volumes from layers of points and boxes.

Each function is a widget of the manifest `napari.yaml`; napari draws it from the signature. Points of the layer
`points` lie on an object, those of `background` off it, and each shape of `boxes` is a box. The column `object` of a
layer's features numbers the objects; without it all points are object 1, the shapes are objects 1, 2, ..., and
background points are off every object of their slice. Labels are these numbers.

The centers of napari's pixels have whole coordinates, those of masklet's end in .5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from masklet.connectors.host_requests import Rgb, make_prompt, open_model, segment_objects
from masklet.errors import InputError
from masklet.media.image import from_array
from masklet.prompts import ObjectPrompt
from masklet.results import Results

if TYPE_CHECKING:
    import napari.layers
    import napari.types

__all__ = ["prompts_from_layers", "read_slice", "segment_image", "segment_volume", "track_time_series"]

Labels: TypeAlias = npt.NDArray[np.int32]
Xy: TypeAlias = "tuple[float, float]"
Prompts: TypeAlias = "dict[int, dict[int, ObjectPrompt]]"
"""By slice, by object."""
PLACEMENT = ("scale", "translate", "rotate", "shear", "affine")


def segment_image(
    image: napari.layers.Image,
    points: napari.layers.Points | None = None,
    background: napari.layers.Points | None = None,
    boxes: napari.layers.Shapes | None = None,
    model: str = "",
) -> napari.types.LayerDataTuple:
    """Segment the prompted objects of an image (Y, X), without prompts everything; return a layer of labels.

    Raises:
        InputError: if the image has more dimensions, or a prompt cannot be used.
    """
    rgb = read_slice(image, ())
    prompts = prompts_from_layers(image, points, background, boxes).get(0, {})
    sam = open_model(model)
    if not prompts:
        results = sam(rgb)[0]
        return _labels_layer(image, _label_map(results, range(1, len(results) + 1)))
    labels = np.zeros(rgb.shape[:2], np.int32)
    for number, prompt in prompts.items():
        labels = np.maximum(labels, _label_map(segment_objects(sam, rgb, [prompt]), [number]))
    return _labels_layer(image, labels)


def track_time_series(
    image: napari.layers.Image,
    points: napari.layers.Points | None = None,
    background: napari.layers.Points | None = None,
    boxes: napari.layers.Shapes | None = None,
    both_ways: bool = False,
    model: str = "",
) -> napari.types.LayerDataTuple:
    """Track the prompted objects of a time series (T, Y, X) from their first frames on; return a layer of labels.

    Raises:
        InputError: if the image has other dimensions, there is no prompt, or one cannot be used.
    """
    return _track_slices(image, prompts_from_layers(image, points, background, boxes), both_ways, model)


def segment_volume(
    image: napari.layers.Image,
    points: napari.layers.Points | None = None,
    background: napari.layers.Points | None = None,
    boxes: napari.layers.Shapes | None = None,
    model: str = "",
) -> napari.types.LayerDataTuple:
    """Segment the prompted objects of a volume (Z, Y, X), slice by slice in both directions; return a layer of labels.

    Raises:
        InputError: if the image has other dimensions, there is no prompt, or one cannot be used.
    """
    return _track_slices(image, prompts_from_layers(image, points, background, boxes), True, model)


def _track_slices(
    image: napari.layers.Image, prompts: Prompts, both_ways: bool, model: str
) -> napari.types.LayerDataTuple:
    """Track objects through the slices of an image along its first axis."""
    if image.ndim != 3:
        raise InputError(f"{image.name} has {image.ndim} dimensions, and this takes 3: (time or depth, height, width)")
    if not prompts:
        raise InputError("there is no prompt: choose a layer of points on the objects, or of boxes around them")
    count = len(image.data[0] if image.multiscale else image.data)
    stack = np.stack([read_slice(image, (number,)) for number in range(count)])
    labels = np.zeros(stack.shape[:3], np.int32)
    with open_model(model).session(stack) as session:
        for number, objects in sorted(prompts.items()):
            for object_id, prompt in objects.items():
                session.add_object_prompt(object_id, number, prompt)
        for results in session.propagate(bidirectional=both_ways):
            assert results.frame_idx is not None
            labels[results.frame_idx] = _label_map(results, results.ids.tolist())
    return _labels_layer(image, labels)


def read_slice(image: napari.layers.Image, index: tuple[int, ...]) -> Rgb:
    """Return a slice of an image layer as RGB (H, W, 3) uint8, gray as bright as napari shows it.

    Raises:
        InputError: if `index` does not leave two dimensions.
        SourceError: if the pixels are no image.
    """
    if image.ndim != len(index) + 2:
        raise InputError(f"{image.name} has {image.ndim} dimensions, and this takes {len(index) + 2}: choose a slice")
    data = image.data[0] if image.multiscale else image.data
    pixels = np.asarray(data[index])
    if not image.rgb:
        low, high = image.contrast_limits
        pixels = np.clip((pixels.astype(np.float32) - low) / max(high - low, 1e-12), 0, 1)
    return from_array(pixels, image.name).rgb


def prompts_from_layers(
    image: napari.layers.Image,
    points: napari.layers.Points | None,
    background: napari.layers.Points | None,
    boxes: napari.layers.Shapes | None,
) -> Prompts:
    """Collect the prompts that layers hold for an image, whatever their scales and positions.

    Raises:
        InputError: if a layer has another number of dimensions, or an object has neither a point on it nor a box.
    """
    positive: dict[int, dict[int, list[Xy]]] = {}
    corners: dict[int, dict[int, tuple[float, float, float, float]]] = {}
    for number, where, [xy] in _located(points, image):
        positive.setdefault(where, {}).setdefault(number or 1, []).append(xy)
    for i, (number, where, outline) in enumerate(_located(boxes, image), 1):
        (x1, y1), (x2, y2) = np.min(outline, axis=0).tolist(), np.max(outline, axis=0).tolist()
        corners.setdefault(where, {})[number or i] = (x1, y1, x2, y2)
    off = list(_located(background, image))
    size = read_size(image)
    return {
        where: {
            number: make_prompt(
                positive.get(where, {}).get(number, []),
                [xy for other, there, [xy] in off if there == where and other in (None, number)],
                corners.get(where, {}).get(number),
                size=size,
            )
            for number in sorted({*positive.get(where, {}), *corners.get(where, {})})
        }
        for where in sorted({*positive, *corners})
    }


def read_size(image: napari.layers.Image) -> tuple[int, int]:
    """Return (height, width) of the slices of an image layer."""
    shape = (image.data[0] if image.multiscale else image.data).shape
    height, width = shape[-3:-1] if image.rgb else shape[-2:]
    return int(height), int(width)


def _located(
    layer: napari.layers.Points | napari.layers.Shapes | None, image: napari.layers.Image
) -> Iterator[tuple[int | None, int, list[Xy]]]:
    """Yield the number (None: none was given), the slice and the x, y in the image of each point or outline."""
    if layer is None:
        return
    numbers = layer.features["object"].tolist() if "object" in layer.features else [None] * len(layer.data)
    for number, shape in zip(numbers, layer.data, strict=True):
        vertices = np.atleast_2d(shape)
        if vertices.shape[1] != image.ndim:
            raise InputError(
                f"layer {layer.name} has {vertices.shape[1]} dimensions, and {image.name} has {image.ndim}: make the "
                "layer while the image is selected"
            )
        placed = np.array([image.world_to_data(layer.data_to_world(vertex)) for vertex in vertices])
        where = round(float(placed[0, 0])) if image.ndim == 3 else 0
        yield None if number is None else int(number), where, [(x + 0.5, y + 0.5) for y, x in placed[:, -2:].tolist()]


def _label_map(results: Results, numbers: Sequence[int]) -> Labels:
    """Paint the masks of an image in one map, small ones over large ones."""
    assert results.masks is not None
    labels = np.zeros(results.orig_shape, np.int32)
    masks = results.masks.data
    for i in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        labels[masks[i]] = numbers[i]
    return labels


def _labels_layer(image: napari.layers.Image, labels: Labels) -> napari.types.LayerDataTuple:
    """Place labels where the image is."""
    return labels, {"name": f"{image.name} objects", **{name: getattr(image, name) for name in PLACEMENT}}, "labels"
