"""CVAT detector: the objects of an image as masks, polygons or rectangles.

    cvat-cli task auto-annotate TASK_ID --function-module masklet.connectors.cvat_detection \\
        -p detector=str:yolov8n.pt --allow-unmatched-labels

The labels are the classes of the detector; "everything", automatic mask generation, has one, "object".
"""

from __future__ import annotations

from PIL import Image

from masklet.connectors.cvat_shapes import SHAPE_TYPES, shape_points
from masklet.connectors.host_requests import open_model, outline_rings
from masklet.detect import DetectOptions, open_detector
from masklet.errors import InputError, MaskletError, MissingExtraError
from masklet.media.image import from_pil

try:
    from cvat_sdk import auto_annotation, models
except ImportError as error:
    raise MissingExtraError.for_package("cvat-sdk", "cvat") from error

__all__ = ["CvatDetector", "create"]


class CvatDetector:
    """A detection function of `cvat_sdk.auto_annotation`.

    `detector` is as for `masklet.detect.open_detector`; boxes without masks are segmented by `model`. `shape` is
    mask, polygon or rectangle. `conf` is the lowest score where CVAT gives no threshold. Polygons keep at least
    `min_iou` of a mask: 1 is lossless, 0.98 has far fewer points.

    Raises:
        InputError: if `shape` is unknown, or the detector has no class names.
        UnknownModelError, DownloadError, CheckpointError, MissingExtraError: if a model cannot be opened.
    """

    def __init__(
        self,
        detector: str = "everything",
        model: str | None = None,
        device: str | None = None,
        shape: str = "mask",
        conf: float = 0.25,
        min_iou: float = 1.0,
    ) -> None:
        if shape not in SHAPE_TYPES:
            raise InputError(f"shape={shape!r} is unknown; choose {', '.join(SHAPE_TYPES)}")
        self.model, self.shape, self.conf, self.min_iou = open_model(model, device), shape, conf, min_iou
        self.detector = open_detector(detector, DetectOptions(conf=0.0), device or "", self.model)
        if not self.detector.names:
            raise InputError(
                f"detector {detector!r} has no class names, and CVAT matches labels by name; choose another"
            )
        self.spec = auto_annotation.DetectionFunctionSpec(
            labels=[
                auto_annotation.label_spec(name, number, type=shape) for number, name in self.detector.names.items()
            ]
        )

    def detect(
        self, context: auto_annotation.DetectionFunctionContext, image: Image.Image
    ) -> list[models.LabeledShapeRequest]:
        """Detect the objects of an image, best first.

        A polygon is one connected part of an object, with its holes.

        Raises:
            BadFunctionError: if the image cannot be used; CVAT shows the message.
        """
        threshold = self.conf if context.conf_threshold is None else context.conf_threshold
        shape = "polygon" if self.shape == "mask" and context.conv_mask_to_poly else self.shape
        try:
            rgb = from_pil(image).rgb
            detections = self.detector.detect([rgb])[0]
            detections = detections[detections.scores >= threshold]
            masks = detections.masks
            if masks is None and len(detections) and shape != "rectangle":
                found = self.model(rgb, bboxes=detections.xyxy)[0].masks
                masks = None if found is None else found.data
        except MaskletError as error:
            raise auto_annotation.BadFunctionError(str(error)) from error
        shapes = []
        for i in range(len(detections)):
            fields = {"label_id": int(detections.classes[i]), "score": float(detections.scores[i].clip(0, 1))}
            if masks is None:
                rings = [[float(number) for number in detections.xyxy[i]]]
            elif shape == "polygon":
                rings = [ring.ravel().tolist() for ring in outline_rings(masks[i], self.min_iou)]
            else:
                rings = [shape_points(shape, masks[i])] if masks[i].any() else []
            shapes += [auto_annotation.shape(type=shape, points=points, **fields) for points in rings]
        return shapes


def create(
    detector: str = "everything",
    model: str | None = None,
    device: str | None = None,
    shape: str = "mask",
    conf: float = 0.25,
    min_iou: float = 1.0,
) -> CvatDetector:
    """Make the function; `cvat-cli` calls this with its parameters, such as `-p detector=str:yolov8n.pt`."""
    return CvatDetector(detector, model, device, shape, conf, min_iou)
