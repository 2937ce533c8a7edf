"""facebookresearch/sam2 (`pip install sam2`, Apache-2.0) as a worker of the everything benchmark, by public names."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from everything_worker import Found, serve
from PIL import Image
from sam2_image import _KEPT, CONFIG_FILES  # names torchvision's compiled part where it does not fit this PyTorch

import sam2.build_sam  # isort: skip
import torchvision.extension  # isort: skip
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator  # isort: skip


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """As torchvision's compiled one."""
    order = scores.sort(stable=True, descending=True)[1]
    ranked = boxes[order].numpy()
    areas = (ranked[:, 2] - ranked[:, 0]) * (ranked[:, 3] - ranked[:, 1])
    alive = np.ones(len(ranked), bool)
    for i in range(len(ranked)):
        if alive[i]:
            low, high = np.maximum(ranked[i, :2], ranked[i + 1 :, :2]), np.minimum(ranked[i, 2:], ranked[i + 1 :, 2:])
            shared = (high - low).clip(0).prod(1)
            with np.errstate(all="ignore"):
                alive[i + 1 :] &= ~(shared / (areas[i] + areas[i + 1 :] - shared) > threshold)
    return order[torch.from_numpy(alive)]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    if _KEPT:
        _KEPT[0].impl("nms", nms, "CPU")
        torchvision.extension._has_ops = lambda: True
    size = job["image_size"]
    model = sam2.build_sam.build_sam2(
        CONFIG_FILES[job["model"]], job["weights"], device="cpu", hydra_overrides_extra=[f"++model.image_size={size}"]
    )
    rgb = np.array(Image.open(job["picture"]).convert("RGB"))

    def generate(options: dict) -> Found:
        generator = SAM2AutomaticMaskGenerator(model, **options, output_mode="uncompressed_rle")
        generator.predictor._bb_feat_sizes = [(size // s, size // s) for s in (4, 8, 16)]  # it assumes 1024
        return [
            {
                "runs": record["segmentation"],
                "iou": record["predicted_iou"],
                "stability": record["stability_score"],
                "box": record["bbox"],
            }
            for record in generator.generate(rgb)
        ]

    serve(version("sam2"), generate)


if __name__ == "__main__":
    main()
