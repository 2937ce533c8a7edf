"""Small annotated images as assets of scenes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from masklet.datasets import open_dataset
from masklet.masks import rle
from masklet.synthetic import DatasetSource


@pytest.fixture(scope="session")
def disc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of two colored discs each, in the native format for images."""
    root = tmp_path_factory.mktemp("stills")
    folder = root / "discs"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    for i in range(6):
        image = rng.integers(0, 60, (96, 128, 3)).astype(np.uint8)
        codes = []
        for center in ((30, 40), (90, 50)):
            radius = int(rng.integers(12, 24))
            mask = (x - center[0]) ** 2 + (y - center[1]) ** 2 < radius**2
            image[mask] = rng.integers(120, 255, 3)
            codes.append(rle.encode(mask))
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), image)
        (folder / "masks" / f"{i}.json").write_text(json.dumps(codes))
    return root


@pytest.fixture(scope="session")
def discs(disc_folder: Path) -> DatasetSource:
    return DatasetSource(((open_dataset(disc_folder, data_format="stills"), 1.0),))
