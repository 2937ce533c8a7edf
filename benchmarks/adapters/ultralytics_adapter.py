"""ultralytics (`pip install ultralytics`, AGPL-3.0), run as a program, by what its documentation says.

It tells a network by the name of its file (sam2.1_t.pt), preserves the aspect ratio where the others squash an image
into the square, and returns no logits. It has no access to the network, and to settings in the user's folder.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serving import AdapterJob, MaskOutput, autocast, serve
from torchvision_ops import import_torchvision

ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
NETWORK_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
"""Audit events of Python before a connection."""
INPUT_SIZE = 1024


class UltralyticsImageProgram:
    """Its predictor for SAM 2; its mask generation has other options and is not comparable."""

    def __init__(self) -> None:
        isolate(Path(sys.argv[1]).parent)
        self.version = version("ultralytics")
        import_torchvision()
        from ultralytics import settings
        from ultralytics.models.sam import SAM2Predictor

        settings.update({"sync": False})
        self.predictor_class = SAM2Predictor

    def load(self, job: AdapterJob) -> None:
        """Load the weights."""
        self.job = job
        overrides = {"task": "segment", "mode": "predict", "conf": 0.0, "save": False, "verbose": False}
        overrides |= {"imgsz": job.image_size or INPUT_SIZE, "model": job.weights, "device": job.device}
        self.predictor = self.predictor_class(overrides=overrides)
        self.predictor.setup_model(verbose=False)

    def encode(self, rgb: Any) -> None:
        """Encode an image; the channels are BGR there."""
        import numpy as np
        import torch

        self.size = rgb.shape[:2]
        with torch.inference_mode(), autocast(self.job):
            self.predictor.set_image(np.ascontiguousarray(rgb[..., ::-1]))

    def click(self, point: list[float]) -> MaskOutput:
        """Predict three masks for a click."""
        return self._predict(points=[point], labels=[1], multimask_output=True)

    def box(self, box: list[float]) -> MaskOutput:
        """Predict one mask for a box."""
        return self._predict(bboxes=[box])

    def prompts(self, points: list[list[float]]) -> MaskOutput:
        """Predict one mask for each of many clicks."""
        return self._predict(points=points, labels=[1] * len(points))

    def _predict(self, **prompt: Any) -> MaskOutput:
        import torch

        with torch.inference_mode(), autocast(self.job):
            masks = self.predictor(**prompt)[0].masks
        return MaskOutput(torch.zeros(0, *self.size) if masks is None else masks.data)


def isolate(folder: Path) -> None:
    """Put settings into `folder` and forbid the network; call it before the import."""
    os.environ.update(ENVIRONMENT, YOLO_CONFIG_DIR=str(folder / "ultralytics"))
    sys.addaudithook(refuse_network)


def refuse_network(event: str, _: tuple[Any, ...]) -> None:
    """Handle an audit event of Python.

    Raises:
        OSError: if the event is a connection to the network.
    """
    if event in NETWORK_EVENTS:
        raise OSError("no network while programs are compared")


if __name__ == "__main__":
    serve(image_program=UltralyticsImageProgram)
