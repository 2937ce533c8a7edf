"""CVAT interactor: points and a box on an image become the mask of an object.

cvat-cli function create-native "masklet" --function-module masklet.connectors.cvat_interaction
cvat-cli function run-agent FUNCTION_ID --function-module masklet.connectors.cvat_interaction
"""

from __future__ import annotations

from PIL import Image

from masklet.connectors.cvat_shapes import shape_points
from masklet.connectors.host_requests import Rgb, make_prompt, open_model, segment_objects
from masklet.errors import MaskletError, MissingExtraError
from masklet.media.image import from_pil

try:
    from cvat_sdk import auto_annotation, models
except ImportError as error:
    raise MissingExtraError.for_package("cvat-sdk", "cvat") from error

__all__ = ["CvatInteractor", "create"]


class CvatInteractor:
    """An interaction function of `cvat_sdk.auto_annotation`: at least one point or a box, answered with a mask."""

    def __init__(self, model: str | None = None, device: str | None = None) -> None:
        self.model = open_model(model, device)
        self.spec = auto_annotation.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def preprocess_image(self, context: auto_annotation.InteractionFunctionContext, image: Image.Image) -> Rgb:
        """Encode an image ahead of the prompts; the encodings of the last eight images are kept."""
        rgb = from_pil(image).rgb
        self.model.prepare(rgb)
        return rgb

    def detect(
        self,
        context: auto_annotation.InteractionFunctionContext,
        pp_image: Rgb,
        prompts: auto_annotation.InteractionPrompts,
    ) -> list[auto_annotation.InteractionResultShape]:
        """Segment the prompted object: one mask with its confidence, or none.

        Raises:
            BadFunctionError: if the prompts cannot be used; CVAT shows the message.
        """
        box = None if prompts.bounding_box is None else [*prompts.bounding_box[0], *prompts.bounding_box[1]]
        try:
            prompt = make_prompt(prompts.pos_points, prompts.neg_points, box, size=pp_image.shape[:2])
            results = segment_objects(self.model, pp_image, [prompt])
        except MaskletError as error:
            raise auto_annotation.BadFunctionError(str(error)) from error
        assert results.masks is not None
        if not results.masks.data[0].any():
            return []
        confidence = auto_annotation.InteractionResultAttributes.CONFIDENCE
        score = models.AttributeValRequest(spec_id=int(confidence), value=f"{results.scores[0].clip(0, 1):.4f}")
        points = shape_points("mask", results.masks.data[0])
        return [auto_annotation.InteractionResultShape(type="mask", points=points, attributes=[score])]


def create(model: str | None = None, device: str | None = None) -> CvatInteractor:
    """Make the function; `cvat-cli` calls this with its parameters `-p model=str:... -p device=str:...`."""
    return CvatInteractor(model, device)
