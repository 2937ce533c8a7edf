"""ultralytics (`pip install ultralytics`, AGPL-3.0) beside masklet, as a program: by what its documentation says.

It tells a network by the name of its file (sam2.1_t.pt), keeps the sides' ratio where the others squash an image into
the square, and shows no logits. It is kept from the network, and from settings in the user's own folder.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serving import Job, Seen, autocast, serve
from torchvision_ops import import_torchvision

ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
NETWORK_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
"""What Python says before it reaches for the network."""
INPUT_SIZE = 1024


class ImageProgram:
    """Its predictor for SAM 2; its everything has other options, and is not the same question."""

    def __init__(self) -> None:
        isolate(Path(sys.argv[1]).parent)
        self.version = version("ultralytics")
        import_torchvision()
        from ultralytics import settings
        from ultralytics.models.sam import SAM2Predictor

        settings.update({"sync": False})
        self.predictor_class = SAM2Predictor

    def load(self, job: Job) -> None:
        """Open the weights."""
        self.job = job
        said = {"task": "segment", "mode": "predict", "conf": 0.0, "save": False, "verbose": False}
        said |= {"imgsz": job.image_size or INPUT_SIZE, "model": job.weights, "device": job.device}
        self.predictor = self.predictor_class(overrides=said)
        self.predictor.setup_model(verbose=False)

    def encode(self, rgb: Any) -> None:
        """Take an image; blue comes first there."""
        import numpy as np
        import torch

        self.size = rgb.shape[:2]
        with torch.inference_mode(), autocast(self.job):
            self.predictor.set_image(np.ascontiguousarray(rgb[..., ::-1]))

    def click(self, point: list[float]) -> Seen:
        """Three candidates for one positive click."""
        return self._predict(points=[point], labels=[1], multimask_output=True)

    def box(self, box: list[float]) -> Seen:
        """One mask for one box."""
        return self._predict(bboxes=[box])

    def prompts(self, points: list[list[float]]) -> Seen:
        """One mask for each of many clicks."""
        return self._predict(points=points, labels=[1] * len(points))

    def _predict(self, **prompt: Any) -> Seen:
        import torch

        with torch.inference_mode(), autocast(self.job):
            masks = self.predictor(**prompt)[0].masks
        return Seen(torch.zeros(0, *self.size) if masks is None else masks.data)


def isolate(folder: Path) -> None:
    """Settings go to `folder`, nothing is sent, fetched or installed; to be called before it is imported."""
    os.environ.update(ENVIRONMENT, YOLO_CONFIG_DIR=str(folder / "ultralytics"))
    sys.addaudithook(refuse_network)


def refuse_network(event: str, _: tuple[Any, ...]) -> None:
    """Told of what Python is about to do.

    Raises:
        OSError: it is about to reach for the network.
    """
    if event in NETWORK_EVENTS:
        raise OSError("no network while programs are compared")


if __name__ == "__main__":
    serve(image=ImageProgram)
