"""masklet as a worker of the everything benchmark: `masklet_everything.py JOB.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from everything_worker import Found, serve
from PIL import Image

from masklet import SAM, __version__
from masklet.image.everything import EverythingOptions, segment_everything


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    predictor = SAM(job["weights"], image_size=job["image_size"]).predictor
    rgb = np.array(Image.open(job["picture"]).convert("RGB"))

    def generate(options: dict) -> Found:
        found = segment_everything(predictor, rgb, EverythingOptions(**options, output_mode="uncompressed_rle"))
        return [
            {
                "runs": record["segmentation"],
                "iou": record["predicted_iou"],
                "stability": record["stability_score"],
                "box": record["bbox"],
            }
            for record in found.records()
        ]

    serve(__version__, generate)


if __name__ == "__main__":
    main()
