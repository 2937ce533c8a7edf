"""CVAT tracker: masks, polygons and rectangles tracked through the frames of a task.

    cvat-cli function create-native "masklet" --function-module masklet.connectors.cvat_tracking
    cvat-cli function run-agent FUNCTION_ID --function-module masklet.connectors.cvat_tracking

Each shape has a live session: all memories and pointers of SAM 2, as when a file is tracked, in memory that does not
grow. A frame is encoded once for all of its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from masklet.connectors.cvat_shapes import SHAPE_TYPES, mask_from_shape, shape_points
from masklet.connectors.host_requests import Rgb, make_prompt, open_model
from masklet.errors import MaskletError, MissingExtraError
from masklet.media.image import from_pil
from masklet.video import EncodedFrame, LiveSession

try:
    from cvat_sdk import auto_annotation
except ImportError as error:
    raise MissingExtraError.for_package("cvat-sdk", "cvat") from error

__all__ = ["CvatTracker", "PreparedFrame", "TrackedShape", "create"]

OBJECT_ID = 1


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame and its encoding, which several shapes share."""

    rgb: Rgb
    encoded: EncodedFrame


@dataclass(frozen=True, eq=False)
class TrackedShape:
    """The state of one shape."""

    shape_type: str
    live: LiveSession


class CvatTracker:
    """A tracking function of `cvat_sdk.auto_annotation`."""

    def __init__(self, model: str | None = None, device: str | None = None) -> None:
        self.model = open_model(model, device)
        self.spec = auto_annotation.TrackingFunctionSpec(supported_shape_types=SHAPE_TYPES)
        self._encoder = self.model.live()

    def preprocess_image(self, context: auto_annotation.TrackingFunctionContext, image: Image.Image) -> PreparedFrame:
        """Encode a frame for all shapes on it."""
        rgb = from_pil(image).rgb
        return PreparedFrame(rgb, self._encoder.encode(rgb))

    def init_tracking_state(
        self,
        context: auto_annotation.TrackingFunctionShapeContext,
        pp_image: PreparedFrame,
        shape: auto_annotation.TrackableShape,
    ) -> TrackedShape:
        """Begin with a shape on its frame.

        Raises:
            BadFunctionError: if the shape is malformed or empty; CVAT shows the message.
        """
        size = pp_image.encoded.frame.size
        live = self.model.live()
        try:
            if shape.type == "rectangle":
                prompt = make_prompt([], box=shape.points, size=size)
                assert prompt.box is not None
                live.add_prompt(OBJECT_ID, box=prompt.box.xyxy)
            else:
                live.add_prompt(OBJECT_ID, mask=mask_from_shape(shape.type, shape.points, size))
            live.step(pp_image.rgb, encoded=pp_image.encoded)
        except (MaskletError, TypeError, ValueError) as error:
            raise auto_annotation.BadFunctionError(f"the {shape.type} cannot be tracked: {error}") from error
        return TrackedShape(shape.type, live)

    def track(
        self,
        context: auto_annotation.TrackingFunctionShapeContext,
        pp_image: PreparedFrame,
        state: TrackedShape,
    ) -> auto_annotation.TrackableShape | None:
        """Track a shape into the next frame; None: it is out of sight.

        Raises:
            BadFunctionError: if the frame has another size than the first.
        """
        try:
            results = state.live.step(pp_image.rgb, encoded=pp_image.encoded)
        except MaskletError as error:
            raise auto_annotation.BadFunctionError(str(error)) from error
        if not len(results) or results.masks is None or not results.masks.data[0].any():
            return None
        points = shape_points(state.shape_type, results.masks.data[0])
        return auto_annotation.TrackableShape(type=state.shape_type, points=points)


def create(model: str | None = None, device: str | None = None) -> CvatTracker:
    """Make the function; `cvat-cli` calls this with its parameters `-p model=str:... -p device=str:...`."""
    return CvatTracker(model, device)
