"""Label Studio ML backend: clicks and boxes on images become brush masks or polygons, rectangles are tracked in videos.

    from label_studio_ml.api import init_app
    from masklet.connectors.label_studio import MaskletBackend
    app = init_app(model_class=MaskletBackend)

The labeling configuration decides: BrushLabels or PolygonLabels on an Image, or VideoRectangle on a Video. The
environment variables MASKLET_MODEL, MASKLET_DEVICE, MASKLET_MAX_FRAMES and MASKLET_POLYGON_IOU set the model, the
device, how many frames after the last keyframe one request tracks, and how much of a mask polygons keep. A wrong
request raises, which the server answers with status 500 and the message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from masklet.connectors.host_requests import make_prompt, open_model, outline_rings, percent_box, segment_objects
from masklet.connectors.label_studio_video import track_rectangles
from masklet.errors import InputError, MissingExtraError
from masklet.media import open_images

try:
    from label_studio_sdk.converter import brush
except ImportError as error:
    raise MissingExtraError.for_package("label-studio-sdk", "labelstudio") from error
try:
    from label_studio_ml.model import LabelStudioMLBase
except ImportError as error:
    raise MissingExtraError(
        "label-studio-ml is not installed, and the release on the package index excludes packages of today: "
        "pip install 'git+https://github.com/HumanSignal/label-studio-ml-backend'"
    ) from error

__all__ = ["MAX_FRAMES", "ControlTag", "MaskletBackend", "brush_value", "find_control", "polygon_values"]

JsonObject: TypeAlias = "dict[str, Any]"
Bools: TypeAlias = npt.NDArray[np.bool_]
MAX_FRAMES = 300
"""Frames tracked after the last keyframe: Label Studio waits about a minute for an answer."""
CONTROLS = {
    "BrushLabels": "Image",
    "Brush": "Image",
    "PolygonLabels": "Image",
    "Polygon": "Image",
    "VideoRectangle": "Video",
}
"""The control tags that are answered, and the object tags they belong to, preferred ones first."""
READ_ERRORS = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class ControlTag:
    """A tag of the labeling configuration that answers are made for."""

    name: str
    type: str
    to_name: str
    data_key: str
    """Where in the task's data the address of the image or video is."""
    labels: tuple[str, ...]

    def choose_label(self, wanted: str | None) -> str | None:
        """Return the label of an answer: the one that was chosen for the prompt, or the only one there is.

        Raises:
            InputError: if this tag has several labels and not that one.
        """
        if not self.labels or wanted in self.labels:
            return wanted
        if len(self.labels) == 1:
            return self.labels[0]
        raise InputError(
            f"label {wanted!r} is none of <{self.type} name={self.name!r}>, which has {', '.join(self.labels)}; give "
            "the tags of the prompts the same labels"
        )


class MaskletBackend(LabelStudioMLBase):  # type: ignore[misc]
    """The backend: `init_app(model_class=MaskletBackend)`; for label-studio-ml 1.0.9 and 2."""

    def predict(self, tasks: list[JsonObject], context: JsonObject | None = None, **kwargs: object) -> list[JsonObject]:
        """Answer the prompts in `context` on the first of `tasks`; without prompts there is no prediction.

        Raises:
            InputError, SourceError: if the configuration, the prompts or the image cannot be used.
        """
        if not tasks or not context or not context.get("result"):
            return []
        control = find_control(self.parsed_label_config)
        try:
            address = tasks[0]["data"][control.data_key]
        except READ_ERRORS as error:
            raise InputError(f"the task has no data {control.data_key!r}, which the configuration names") from error
        takes_task = "task_id" in signature(self.get_local_path).parameters  # from version 2 on, for cloud storage
        path = self.get_local_path(address, **({"task_id": tasks[0].get("id")} if takes_task else {}))
        results = context["result"]
        if control.type == "VideoRectangle":
            limit = int(os.environ.get("MASKLET_MAX_FRAMES", MAX_FRAMES))
            return [track_rectangles(open_model(), path, results, control.name, control.to_name, max_frames=limit)]
        return [segment_region(control, path, results)]


def find_control(config: Mapping[str, Mapping[str, Any]]) -> ControlTag:
    """Return the tag of a parsed labeling configuration that answers are made for.

    Raises:
        InputError: if there is none.
    """
    for tag_type, object_type in CONTROLS.items():
        for name, tag in config.items():
            for to_name, source in zip(tag["to_name"], tag["inputs"], strict=False):
                if tag["type"] == tag_type and source["type"] == object_type:
                    return ControlTag(name, tag_type, to_name, source["value"], tuple(tag.get("labels") or ()))
    raise InputError(
        "the labeling configuration has no tag that masklet answers: add <BrushLabels> or <PolygonLabels> to an "
        "<Image>, or <VideoRectangle> to a <Video>"
    )


def segment_region(control: ControlTag, path: str, results: Sequence[JsonObject]) -> JsonObject:
    """Segment the object that key points and rectangles of one request prompt, as one prediction.

    Raises:
        InputError, SourceError: if the prompts or the image cannot be used.
    """
    rgb = next(iter(open_images(path))).rgb
    size = (rgb.shape[0], rgb.shape[1])
    points: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    box, label = None, None
    try:
        for item in results:
            value, kind = item["value"], item["type"].lower()
            label = (value.get(kind) or [label])[0]
            if kind.startswith("keypoint"):
                is_positive = bool(item.get("is_positive", value.get("positive", True)))
                points[is_positive].append((value["x"] * size[1] / 100, value["y"] * size[0] / 100))
            elif kind.startswith("rectangle"):
                x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
                box = percent_box(x, y, width, height, value.get("rotation") or 0.0, size=size)
    except READ_ERRORS as error:
        raise InputError(f"a prompt of the request cannot be read: {type(error).__name__}: {error}") from error
    found = segment_objects(open_model(), rgb, [make_prompt(points[True], points[False], box, size=size)])
    assert found.masks is not None
    mask, score, chosen = found.masks.data[0], float(found.scores[0]), control.choose_label(label)
    if control.type.startswith("Brush"):
        values = [brush_value(mask)] if mask.any() else []
    else:
        values = list(polygon_values(mask, float(os.environ.get("MASKLET_POLYGON_IOU", 1.0))))
    kind = control.type.lower()
    regions = [
        {
            "id": uuid4().hex[:10],
            "from_name": control.name,
            "to_name": control.to_name,
            "type": kind,
            "original_width": size[1],
            "original_height": size[0],
            "image_rotation": 0,
            "value": {**value, **({kind: [chosen]} if kind.endswith("labels") and chosen else {})},
            "score": score,
            "readonly": False,
        }
        for value in values
    ]
    return {"result": regions, "score": score, "model_version": "masklet"}


def brush_value(mask: Bools) -> JsonObject:
    """Convert a mask (H, W) to the value of a brush region, lossless."""
    return {"format": "rle", "rle": brush.mask2rle(mask.astype(np.uint8) * 255)}


def polygon_values(mask: Bools, min_iou: float) -> Iterator[JsonObject]:
    """Convert a mask (H, W) to the values of polygon regions, one a connected part, that keep at least `min_iou`."""
    scale = 100 / np.array(mask.shape[::-1], np.float64)
    for ring in outline_rings(mask, min_iou):
        yield {"points": (ring * scale).tolist(), "closed": True}
