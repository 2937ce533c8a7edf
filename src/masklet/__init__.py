"""masklet: segment anything in images and video.

Example:
    >>> from masklet import SAM
    >>> model = SAM()  # the small model inside the package
    >>> results = model("dog.jpg", points=[150, 150], labels=[1])  # doctest: +SKIP

Importing the package only defines names; torch and NumPy are loaded when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from masklet.errors import MaskletError, MaskletWarning, MissingExtraError

if TYPE_CHECKING:
    from masklet.annotate import auto_annotate
    from masklet.image import ImagePredictor, Prediction
    from masklet.projects import Project, open_project
    from masklet.results import Results
    from masklet.sam import SAM, ModelInfo
    from masklet.yolo import YOLO, FastSAM

__all__ = [
    "SAM",
    "YOLO",
    "FastSAM",
    "ImagePredictor",
    "MaskletError",
    "MaskletWarning",
    "ModelInfo",
    "Prediction",
    "Project",
    "Results",
    "__version__",
    "auto_annotate",
    "open_project",
]

__version__ = "0.1.0"

_HOMES = {
    "FastSAM": "masklet.yolo",
    "SAM": "masklet.sam",
    "YOLO": "masklet.yolo",
    "ImagePredictor": "masklet.image",
    "ModelInfo": "masklet.sam",
    "Prediction": "masklet.image",
    "Project": "masklet.projects",
    "Results": "masklet.results",
    "auto_annotate": "masklet.annotate",
    "open_project": "masklet.projects",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'masklet' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        value: object = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_module(error) or error from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
