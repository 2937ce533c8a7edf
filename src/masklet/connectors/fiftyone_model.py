"""FiftyOne: masks for the samples of a dataset, with `dataset.apply_model`.

from masklet.connectors.fiftyone_model import MaskletModel, MaskletVideoModel
dataset.apply_model(MaskletModel(), label_field="everything")
dataset.apply_model(MaskletModel(), label_field="masks", prompt_field="ground_truth")
videos.apply_model(MaskletVideoModel(), label_field="tracks", prompt_field="frames.ground_truth")
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from masklet.connectors.host_requests import Rgb, make_prompt, open_model, percent_box, segment_objects
from masklet.errors import InputError, MissingExtraError
from masklet.prompts import ObjectPrompt
from masklet.results import Results

try:
    import fiftyone
    from fiftyone.core.models import Model, SamplesMixin
except ImportError as error:
    raise MissingExtraError.for_package("fiftyone", "fiftyone") from error

__all__ = ["MaskletModel", "MaskletVideoModel", "prompts_from_label", "to_fiftyone"]

NUDGE = 1e-6
"""Pixels by which boxes are moved: FiftyOne truncates a box to whole pixels, and 5 / 37 * 37 may be less than 5."""


class MaskletModel(SamplesMixin, Model):  # type: ignore[misc]
    """A FiftyOne model for images: everything, or what the labels of the field `prompt_field` show.

    `model` and `device` are as for `masklet.SAM`. Each box of `Detections`, and each keypoint of `Keypoints`, prompts
    one object, which keeps its label.
    """

    media_type = "image"
    ragged_batches = True
    transforms = None
    preprocess = False

    def __init__(self, model: str | None = None, device: str | None = None) -> None:
        super().__init__()
        self.model = open_model(model, device)
        self.config: object = None

    def predict(self, arg: Rgb, sample: fiftyone.Sample | None = None) -> fiftyone.Detections:
        """Segment an image (H, W, 3) uint8 RGB.

        Raises:
            InputError: if the labels of the sample are no prompts; FiftyOne logs it and goes on, unless
                `skip_failures=False`.
        """
        field = self.needs_fields.get("prompt_field")
        if field is None:
            return to_fiftyone(self.model(arg)[0])
        prompts, labels = prompts_from_label(None if sample is None else sample[field], (arg.shape[0], arg.shape[1]))
        return to_fiftyone(segment_objects(self.model, arg, prompts), labels) if prompts else fiftyone.Detections()


class MaskletVideoModel(SamplesMixin, Model):  # type: ignore[misc]
    """A FiftyOne model for videos: tracks the labels of the frame field `prompt_field` from their first frame on.

    The `index` of a label is the number of its track, in each frame; `model` and `device` are as for `masklet.SAM`.
    """

    media_type = "video"
    ragged_batches = True
    transforms = None
    preprocess = False

    def __init__(self, model: str | None = None, device: str | None = None) -> None:
        super().__init__()
        self.model = open_model(model, device)
        self.config: object = None

    def predict(self, arg: object, sample: fiftyone.Sample | None = None) -> dict[int, fiftyone.Detections]:
        """Track the prompted objects of a sample; return `Detections` by the number of the frame, from 1 on.

        Raises:
            InputError: if there is no `prompt_field`, no frame has labels, or they are no prompts.
            SourceError: if the video cannot be read.
        """
        field = self.needs_fields.get("prompt_field", "").removeprefix("frames.")
        if not field or sample is None:
            raise InputError("apply_model(..., prompt_field=None) tracks nothing: name a frame field, 'frames.boxes'")
        with self.model.session(sample.filepath) as session:
            size = session.frame(0).size
            labeled = ((number, *prompts_from_label(frame[field], size)) for number, frame in sample.frames.items())
            number, prompts, names = next((one for one in labeled if one[1]), (0, [], []))
            if not prompts:
                raise InputError(
                    f"no frame of {sample.filepath} has labels in {field!r}: label the first frame with objects"
                )
            for object_id, prompt in enumerate(prompts, 1):
                session.add_object_prompt(object_id, number - 1, prompt)
            return {
                results.frame_idx + 1: to_fiftyone(results, [names[i - 1] for i in results.ids.tolist()])
                for results in session.propagate()
                if results.frame_idx is not None
            }


def prompts_from_label(
    label: fiftyone.Detections | fiftyone.Keypoints | None, size: tuple[int, int]
) -> tuple[list[ObjectPrompt], list[str | None]]:
    """Convert a FiftyOne label to the prompts of its objects in an image of `size`, and their names.

    Raises:
        InputError: if it is another kind of label, or a box or keypoint is not in the image.
    """
    if label is None:
        return [], []
    if isinstance(label, fiftyone.Detections):
        boxes = [percent_box(*(100 * np.asarray(one.bounding_box)), size=size) for one in label.detections]
        return [make_prompt([], box=box, size=size) for box in boxes], [one.label for one in label.detections]
    if isinstance(label, fiftyone.Keypoints):
        pixels = [np.asarray(one.points, np.float64).reshape(-1, 2) * size[::-1] for one in label.keypoints]
        points = [one[~np.isnan(one).any(axis=1)] for one in pixels]  # NaN: a point that is not there
        return [make_prompt(one.tolist(), size=size) for one in points], [one.label for one in label.keypoints]
    raise InputError(
        f"a prompt field of type {type(label).__name__} must hold Detections or Keypoints; name another field"
    )


def to_fiftyone(results: Results, labels: Sequence[str | None] | None = None) -> fiftyone.Detections:
    """Convert results to `fiftyone.Detections` with masks, lossless; empty masks are left out.

    `labels` are the names, one a row; None: those of the results. On a frame of a video `index` is the object's id.
    """
    assert results.masks is not None
    height, width = results.orig_shape
    detections = []
    for i, (x1, y1, x2, y2) in enumerate(results.boxes.xyxy.astype(int).tolist()):
        if x2 == x1:
            continue
        name = results.class_name(i) if labels is None else labels[i]
        detections.append(
            fiftyone.Detection(
                label=name,
                bounding_box=[(x1 + NUDGE) / width, (y1 + NUDGE) / height, (x2 - x1) / width, (y2 - y1) / height],
                mask=results.masks.data[i, y1:y2, x1:x2],
                confidence=float(results.scores[i]),
                index=None if results.frame_idx is None else int(results.ids[i]),
            )
        )
    return fiftyone.Detections(detections=detections)
