"""Small files under the names of published models, so that code written for those runs without a download."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from helpers.yolo_files import network, save
from masklet.registry import BUILTIN, MODELS, locate

SAM_FILES = ("sam_b.pt", "sam2_b.pt", "sam2_t.pt", "sam2.1_b.pt", "mobile_sam.pt")
YOLO_FILES = ("yolov8n-seg.pt", "yolov8x.pt", "FastSAM-s.pt")


def known_models(folder: Path) -> Path:
    """Fill `folder`, where models are searched first: every SAM is the built-in model, every detector a tiny one."""
    for name in SAM_FILES:
        shutil.copyfile(locate(MODELS[BUILTIN]), folder / name)
    for name in YOLO_FILES:
        save(folder / name, network())
    return folder


def photograph(path: Path) -> Path:
    """A dark image, 320 x 240 pixels, with bright rectangles from 100, 60 to 220, 180 and from 250, 20 to 300, 70."""
    image = Image.new("RGB", (320, 240), (30, 40, 60))
    image.paste((220, 120, 40), (100, 60, 220, 180))
    image.paste((90, 200, 90), (250, 20, 300, 70))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path
