"""Fit the projection along which the built-in model matches labels, and write it into a weights file.

The trunk's features at stride 8, each of length one, are taken at random cells of the first images of a folder; their
first principal directions (not centered) are the rows of `matching_projection`. The shipped file was made with

    python scripts/fit_matching.py COCO/images src/masklet/builtin/masklet-builtin.safetensors

where COCO/images are 100 images of COCO 2017. Run it again after the trunk has been trained.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch.nn.functional import normalize

from masklet.atomic_files import atomic_path
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS
from masklet.transforms import preprocess_frame

IMAGES, CELLS = 100, 200
"""Number of images, and of cells of each."""
INPUT_SIZE = (288, 384)


def fit_projection(folder: Path, model: Path) -> torch.Tensor:
    """Return the projection (64, C) of the features of `model` on the first images of `folder` by name."""
    trunk = load(model).require_sam2("be projected").image_encoder.trunk
    generator, rows = torch.Generator().manual_seed(0), []
    with torch.inference_mode():
        for path in sorted(folder.glob("*.jpg"))[:IMAGES]:
            with Image.open(path) as image:
                features = trunk(preprocess_frame(np.asarray(image.convert("RGB")), INPUT_SIZE))[1]
            cells = features.flatten(2)[0].t()
            rows.append(normalize(cells[torch.randperm(len(cells), generator=generator)[:CELLS]], dim=1))
        matching = CONFIGS["builtin"].matching
        assert matching is not None
        directions = torch.linalg.svd(torch.cat(rows), full_matrices=False)[2]
        return directions[: matching.channels].contiguous()


def main() -> None:
    """Read the arguments, fit, and rewrite the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of .jpg images")
    parser.add_argument("model", type=Path, help=".safetensors file of the built-in model, rewritten in place")
    arguments = parser.parse_args()
    projection = fit_projection(arguments.images, arguments.model)
    with safe_open(arguments.model, framework="pt") as file:
        header = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["config"] = json.dumps(asdict(CONFIGS["builtin"]))
    tensors["matching_projection"] = projection.half()
    with atomic_path(arguments.model) as temporary:
        temporary.write_bytes(save(tensors, metadata=header))


if __name__ == "__main__":
    main()
