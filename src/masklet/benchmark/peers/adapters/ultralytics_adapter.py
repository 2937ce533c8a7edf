"""ultralytics (`pip install ultralytics`, AGPL-3.0) beside masklet, as a program: by what its documentation says.

It tells a network by the name of its file (sam2.1_t.pt), keeps the sides' ratio where the others squash a picture into
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

SWITCHES = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
"""What Python says before it reaches for the network."""
SIDE = 1024


class Picture:
    """Its predictor for SAM 2; its everything has other options, and is not the same question."""

    def __init__(self) -> None:
        keep_to_itself(Path(sys.argv[1]).parent)
        self.version = version("ultralytics")
        import_torchvision()
        from ultralytics import settings
        from ultralytics.models.sam import SAM2Predictor

        settings.update({"sync": False})
        self.make_predictor = SAM2Predictor

    def load(self, job: Job) -> None:
        """Open the weights."""
        self.job = job
        said = {"task": "segment", "mode": "predict", "conf": 0.0, "save": False, "verbose": False}
        said |= {"imgsz": job.image_size or SIDE, "model": job.weights, "device": job.device}
        self.predictor = self.make_predictor(overrides=said)
        self.predictor.setup_model(verbose=False)

    def encode(self, rgb: Any) -> None:
        """Take a picture; blue comes first there."""
        import numpy as np
        import torch

        self.size = rgb.shape[:2]
        with torch.inference_mode(), autocast(self.job):
            self.predictor.set_image(np.ascontiguousarray(rgb[..., ::-1]))

    def click(self, point: list[float]) -> Seen:
        """Three candidates for one positive click."""
        return self._ask(points=[point], labels=[1], multimask_output=True)

    def box(self, box: list[float]) -> Seen:
        """One mask for one box."""
        return self._ask(bboxes=[box])

    def prompts(self, points: list[list[float]]) -> Seen:
        """One mask for each of many clicks."""
        return self._ask(points=points, labels=[1] * len(points))

    def _ask(self, **prompt: Any) -> Seen:
        import torch

        with torch.inference_mode(), autocast(self.job):
            masks = self.predictor(**prompt)[0].masks
        return Seen(torch.zeros(0, *self.size) if masks is None else masks.data)


def keep_to_itself(folder: Path) -> None:
    """Settings go to `folder`, nothing is sent, fetched or installed; to be called before it is imported."""
    os.environ.update(SWITCHES, YOLO_CONFIG_DIR=str(folder / "ultralytics"))
    sys.addaudithook(refuse_network)


def refuse_network(event: str, _: tuple[Any, ...]) -> None:
    """Told of what Python is about to do.

    Raises:
        OSError: it is about to reach for the network.
    """
    if event in NETWORK:
        raise OSError("no network while programs are compared")


if __name__ == "__main__":
    serve(picture=Picture)
