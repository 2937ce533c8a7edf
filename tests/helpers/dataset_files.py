"""Small datasets in every format, of the same two objects, made for the tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.video_files import Shot, make_video
from masklet.datasets import AnnotatedFrame
from masklet.masks import rle
from masklet.masks.label_map import davis_palette

HEIGHT, WIDTH = 40, 60
BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[5:20, 10:30] = True
RING = np.zeros((HEIGHT, WIDTH), bool)
RING[22:36, 32:52] = True
RING[26:30, 38:44] = False
OBJECTS = (BOX, RING)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """An image whose pixels depend on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    rgb = np.stack([rows * 3 + seed, columns * 2 + seed * 7, rows + columns], axis=2).astype(np.uint8)
    Image.fromarray(rgb).save(path)
    return path


def text(path: Path, content: object) -> Path:
    """JSON, or text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def codes(masks: Sequence[np.ndarray] = OBJECTS) -> list[rle.Rle]:
    return [rle.encode(mask) for mask in masks]


def label_map(masks: Sequence[np.ndarray] = OBJECTS, ids: Sequence[int] = (1, 2)) -> np.ndarray:
    labels = np.zeros(masks[0].shape, np.uint8)
    for mask, number in zip(masks, ids, strict=False):
        labels[mask] = number
    return labels


def png(path: Path, labels: np.ndarray, *, palette: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(davis_palette().tobytes())
    image.save(path)
    return path


def native(root: Path, names: Sequence[str] = ("a2", "a10", "b")) -> Path:
    for seed, name in enumerate(names):
        write_image(root / "images" / f"{name}.jpg", seed)
        text(root / "masks" / f"{name}.json", codes())
    return root


def outline(mask: np.ndarray) -> list[float]:
    """x, y, ... of the box of a mask, which fills it where it is one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return [float(n) for n in (left, top, right, top, right, bottom, left, bottom)]


def coco(root: Path, *, split: str = "val2017") -> Path:
    """Three images: an outline in two parts and a list of runs; a compressed code and an `iscrowd` one; nothing."""
    images = [
        {"id": 7 + n, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH}
        for n, name in enumerate(("000010", "000002", "000003"))
    ]
    for seed, image in enumerate(images):
        write_image(root / split / str(image["file_name"]), seed)
    left, right = BOX.copy(), BOX.copy()
    left[:, 24:], right[:, :20] = False, False  # they overlap
    flat = RING.T.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [flat[-1]]])) != 0)
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": [outline(left), outline(right)]},
        {"id": 2, "image_id": 8, "category_id": 2, "iscrowd": 0, "segmentation": codes()[0]},
        {
            "id": 3,
            "image_id": 7,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs},
        },
        {"id": 4, "image_id": 8, "category_id": 2, "iscrowd": 1, "segmentation": codes()[1]},
    ]
    content = {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": []}
    return text(root / "annotations" / f"instances_{split}.json", content)


def labeled_video(root: Path, name: str, maps: dict[int, np.ndarray], count: int, *, palette: bool = True) -> None:
    """`count` images and the maps of some of them."""
    for number in range(count):
        write_image(root / "JPEGImages" / name / f"{number:05d}.jpg", number)
    for number, labels in maps.items():
        png(root / "Annotations" / name / f"{number:05d}.png", labels, palette=palette)


def videos(root: Path, names: Sequence[str] = ("ant", "bee")) -> Path:
    """Six images each, every other one annotated."""
    for name in names:
        labeled_video(root, name, {0: label_map(), 2: label_map(), 4: label_map()}, 6)
    return root


def pngs(root: Path, names: Sequence[str] = ("a", "b")) -> Path:
    for name in names:
        write_image(root / "images" / f"{name}.jpg")
        png(root / "masks" / f"{name}.png", label_map())
    return root


def sa1b(root: Path, names: Sequence[str] = ("sa_2", "sa_10")) -> Path:
    for seed, name in enumerate(names):
        write_image(root / f"{name}.jpg", seed)
        annotations = [{"id": n, "bbox": [0, 0, 1, 1], "segmentation": code} for n, code in enumerate(codes())]
        image = {"image_id": seed, "width": WIDTH, "height": HEIGHT, "file_name": f"{name}.jpg"}
        text(root / f"{name}.json", {"image": image, "annotations": annotations})
    return root


def sav(root: Path, name: str = "sav_000001", rows: int = 4) -> Path:
    """A video of 13 frames, and rows of two masklets, the second of which is out of sight at first."""
    root.mkdir(parents=True, exist_ok=True)
    make_video(root / f"{name}.mp4", Shot(count=13, size=(WIDTH, HEIGHT)))
    nothing = np.zeros_like(BOX)
    masklet = [codes([np.roll(BOX, 2 * row, axis=1), RING if row else nothing]) for row in range(rows)]
    text(
        root / f"{name}_manual.json",
        {
            "video_id": name,
            "video_frame_count": 13.0,
            "masklet": masklet,
            "masklet_id": [0, 1],
            "masklet_frame_count": [rows, rows],
            "masklet_num": 2,
        },
    )
    text(root / f"{name}_auto.json", {"video_id": name, "masklet": [codes([~BOX])] * rows, "masklet_id": [0]})
    return root


def yolo_line(mask: np.ndarray) -> str:
    """A line whose outline goes through the centers of the border pixels of a box."""
    left, top, right, _, _, bottom, *_ = outline(mask)
    corners = ((left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1))
    return "0 " + " ".join(f"{(x + 0.5) / WIDTH:.6f} {(y + 0.5) / HEIGHT:.6f}" for x, y in corners)


def yolo(root: Path, *, yaml: bool = True) -> Path:
    """Two splits; the second image of train has no text."""
    for seed, name in enumerate(("train/2", "train/10", "val/1")):
        write_image(root / "images" / f"{name}.jpg", seed)
        if name != "train/10":
            text(root / "labels" / f"{name}.txt", f"{yolo_line(BOX)}\n\n{yolo_line(RING)}\n")
    if yaml:
        text(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: thing\n")
    return root


def same_masks(annotated: AnnotatedFrame, *masks: np.ndarray) -> None:
    """Assert that objects 1 to N have these masks."""
    assert list(annotated.masks) == list(range(1, len(masks) + 1))
    for mask, actual in zip(masks, annotated.masks.values(), strict=True):
        assert actual.dtype == np.bool_
        np.testing.assert_array_equal(actual, mask)


def sav_val(root: Path, name: str = "sav_7") -> Path:
    """Nine images, every fourth annotated; the second object is there from the second on, and overlaps the first."""
    for number in range(9):
        write_image(root / "JPEGImages_24fps" / name / f"{number:05d}.jpg", number)
    for folder, mask, numbers in (("000", BOX, (0, 4, 8)), ("001", BOX | RING, (4, 8))):
        for number in numbers:
            file = root / "Annotations_6fps" / name / folder / f"{number:05d}.png"
            png(file, mask.astype(np.uint8) * 255, palette=False)
    return root
