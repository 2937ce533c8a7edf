"""Small datasets as annotation tools write them: LabelMe, Pascal VOC, CVAT; of the same two objects."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.dataset_files import BOX, HEIGHT, OBJECTS, WIDTH, label_map, outline, png, text, write_image


def packed(mask: np.ndarray) -> tuple[str, list[list[float]]]:
    """The PNG of a mask's box in base64, and its first and last pixel."""
    left, top, right, _, _, bottom, *_ = (int(n) for n in outline(mask))
    stream = io.BytesIO()
    Image.fromarray(mask[top:bottom, left:right].astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode(), [[left, top], [right - 1, bottom - 1]]


def points(mask: np.ndarray) -> list[list[float]]:
    numbers = outline(mask)
    return [list(pair) for pair in zip(numbers[0::2], numbers[1::2], strict=True)]


def labelme(root: Path, names: Sequence[str] = ("a2", "zoo/a10")) -> Path:
    """A box as an outline, and a ring as a mask."""
    for seed, name in enumerate(names):
        write_image(root / f"{name}.jpg", seed)
        code, corners = packed(OBJECTS[1])
        shapes: list[dict[str, object]] = [
            {"label": "dog", "points": points(BOX), "group_id": None, "shape_type": "polygon", "flags": {}},
            {"label": "cat", "points": corners, "group_id": None, "shape_type": "mask", "flags": {}, "mask": code},
        ]
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{Path(name).name}.jpg"}
        text(root / f"{name}.json", {**content, "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH})
    return root


def voc(root: Path, names: Sequence[str] = ("2007_000002", "2007_000010")) -> Path:
    """A cat and a person, with a border that belongs to no object."""
    for seed, name in enumerate(names):
        write_image(root / "JPEGImages" / f"{name}.jpg", seed)
        labels = label_map()
        labels[0, :] = 255
        png(root / "SegmentationObject" / f"{name}.png", labels)
        kinds = np.array([0, 8, 15, *[0] * 252, 255], np.uint8)
        png(root / "SegmentationClass" / f"{name}.png", kinds[labels])
        boxes = "".join(f"<object><name>{kind}</name></object>" for kind in ("cat", "person"))
        text(root / "Annotations" / f"{name}.xml", f"<annotation>{boxes}</annotation>")
    text(root / "ImageSets" / "Segmentation" / "val.txt", f"{names[0]}\n")
    text(root / "ImageSets" / "Segmentation" / "trainval.txt", "".join(f"{name}\n" for name in names))
    return root


def rows_of(mask: np.ndarray) -> str:
    """A `mask` element's box and the runs of its rows, counted one pixel after the other."""
    left, top, right, _, _, bottom, *_ = (int(n) for n in outline(mask))
    runs, value = [0], False
    for pixel in mask[top:bottom, left:right].ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    box = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
    return f'rle="{", ".join(map(str, runs))}" {box}'


def cvat(root: Path, names: Sequence[str] = ("a2", "zoo/a10")) -> Path:
    """A box as an outline, and a ring as a mask."""
    images = []
    for seed, name in enumerate(names):
        write_image(root / "images" / f"{name}.jpg", seed)
        corners = ";".join(f"{x:.2f},{y:.2f}" for x, y in points(BOX))
        images.append(
            f'<image id="{seed}" name="{name}.jpg" width="{WIDTH}" height="{HEIGHT}">'
            f'<polygon label="dog" occluded="0" points="{corners}" z_order="0"/>'
            f'<mask label="cat" occluded="0" {rows_of(OBJECTS[1])} z_order="0"></mask><tag label="dog"/></image>'
        )
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    content = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{" ".join(images)}</annotations>'
    text(root / "annotations.xml", content)
    return root
