"""`masklet.compat.sam2` and `.segment_anything` beside the originals, with weights that follow from names alone."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from golden.fill import fill_state_dict
from helpers.original_calls import SMALL_SAM
from masklet.models.sam1 import state_dict as sam1_state_dict
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2 import state_dict as sam2_state_dict

ROOT = Path(__file__).parents[2]
LIBRARIES = ("sam2", "segment_anything")
TOLERANCE = 2e-3
"""Of the deviation, of the largest difference of logits: memory in sam2 is bf16."""


def checkpoint(library: str, folder: Path) -> Path:
    config = CONFIGS["sam2.1_hiera_tiny"]
    small = library == "segment_anything"
    shapes = sam1_state_dict.expected_shapes(SMALL_SAM) if small else sam2_state_dict.expected_shapes(config)
    tensors = fill_state_dict(shapes, salt="" if small else "c")
    path = folder / f"{library}.pt"
    torch.save(tensors if small else {"model": tensors}, path)
    return path


def call(library: str, prefix: str, *files: Path) -> None:
    script = ROOT / "tests" / "helpers" / "original_calls.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, script, library, prefix, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_answers_are_those_of_the_original(library: str, tmp_path: Path, small_video: np.ndarray) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    data = pytest.importorskip("skimage.data")
    image, frames = tmp_path / "cat.png", tmp_path / "frames"
    Image.fromarray(data.chelsea()).save(image)
    frames.mkdir()
    for number, frame in enumerate(small_video[:4]):
        Image.fromarray(frame).save(frames / f"{number:05d}.jpg", quality=95)
    weights = checkpoint(library, tmp_path)
    for prefix, name in (("", "original"), ("masklet.compat.", "ours")):
        call(library, prefix, weights, image, frames, tmp_path / name)
    kinds, ours_kinds = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("original", "ours"))
    assert ours_kinds == kinds  # types, shapes, keys, ids and their order
    with np.load(tmp_path / "original.npz") as original, np.load(tmp_path / "ours.npz") as ours:
        for name in original.files:
            theirs, mine = original[name].astype(float), ours[name].astype(float)
            if "scores" in name:
                assert mine == pytest.approx(theirs, abs=1e-4), name
            elif name.endswith("boxes"):
                assert np.abs(theirs - mine).max() <= 1, name  # pixels, and the square root of areas
            elif original[name].dtype == bool or set(np.unique(theirs)) <= {0.0, 1.0}:
                union = np.count_nonzero((theirs > 0) | (mine > 0))
                assert np.count_nonzero((theirs > 0) & (mine > 0)) >= 0.999 * union, name
            else:
                assert np.abs(theirs - mine).max() <= TOLERANCE * max(theirs.std(), 1e-3), name
