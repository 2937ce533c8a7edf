"""facebookresearch/sam2 (`pip install sam2`, Apache-2.0) as a worker of the benchmark, by its public names."""

from __future__ import annotations

import sys
from importlib.metadata import version

import numpy as np
import torch
from worker import Answer, Job, autocast, serve

CONFIG_FILES = {
    f"sam{generation}_hiera_{size}": f"configs/sam{generation}/sam{generation}_hiera_{letter}.yaml"
    for generation in ("2", "2.1")
    for size, letter in {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}.items()
}


OPERATORS = ("nms", "qnms")
"""Of torchvision's compiled part: named when it is imported, never called by the image predictor."""


def _import_torchvision() -> list[torch.library.Library]:
    """Import it, and where its compiled part does not fit this PyTorch, name the operators it asks for.

    What is returned must be kept: the names go when it does.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in OPERATORS:
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        return [library]
    return []


_KEPT = _import_torchvision()

from sam2.build_sam import build_sam2  # noqa: E402
from sam2.sam2_image_predictor import SAM2ImagePredictor  # noqa: E402


class Sam2:
    version = version("sam2")

    def load(self, job: Job) -> None:
        self.precision = job.precision
        model = build_sam2(CONFIG_FILES[job.model], str(job.weights), device="cpu")
        self.predictor = SAM2ImagePredictor(model)

    def set_image(self, rgb: object) -> None:
        with torch.inference_mode(), autocast(self.precision):
            self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> Answer:
        return self._ask(point_coords=np.array([point]), point_labels=np.array([1]), multimask_output=True)

    def box(self, box: list[float]) -> Answer:
        return self._ask(box=np.array(box), multimask_output=False)

    def _ask(self, **prompt: object) -> Answer:
        with torch.inference_mode(), autocast(self.precision):
            return Answer(*self.predictor.predict(**prompt))


if __name__ == "__main__":
    serve(Sam2)
