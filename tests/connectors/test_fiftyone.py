"""The FiftyOne models with FiftyOne's labels and samples; with a database also through `apply_model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import write_video
from helpers.odd_masks import SIZE, odd_masks
from masklet import Results
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import preset
from masklet.results import Masks

pytest.importorskip("fiftyone")
import fiftyone
from fiftyone.core.models import Model, SamplesMixin

from masklet.connectors.fiftyone_model import MaskletModel, MaskletVideoModel, prompts_from_label, to_fiftyone

BOX = [10 / 96, 15 / 64, 25 / 96, 25 / 64]


def rendered(detection: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask at the size of the image, as FiftyOne draws it."""
    return detection.to_segmentation(frame_size=size[::-1], target=1).mask.astype(bool)


@pytest.mark.parametrize(("name", "mask"), odd_masks().items())
def test_masks_are_lossless(name: str, mask: np.ndarray) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    results = Results(image, "x", Masks(np.stack([mask, ~mask, np.zeros(SIZE, bool)])), np.array([0.9, 0.5, 0.1]))
    detections = to_fiftyone(results, ["a", "b", "c"]).detections
    assert [one.label for one in detections] == (["a", "b"] if not mask.all() else ["a"])
    for one, expected in zip(detections, (mask, ~mask), strict=False):
        assert np.array_equal(rendered(one, SIZE), expected)


def test_boxes_and_keypoints_prompt_objects_that_keep_their_labels(square: np.ndarray) -> None:
    model = MaskletModel()
    assert isinstance(model, Model)
    assert isinstance(model, SamplesMixin)
    boxes = fiftyone.Detections(
        detections=[
            fiftyone.Detection(label="square", bounding_box=BOX),
            fiftyone.Detection(label="rest", bounding_box=[0.5, 0.1, 0.4, 0.8]),
        ]
    )
    points = fiftyone.Keypoints(
        keypoints=[fiftyone.Keypoint(label="square", points=[(22 / 96, 27 / 64), (float("nan"), float("nan"))])]
    )
    sample = {"boxes": boxes, "points": points, "none": None}
    for field, count in (("boxes", 2), ("points", 1)):
        model.needs_fields = {"prompt_field": field}
        found = model.predict(square, sample=sample).detections
        assert len(found) == count
        assert found[0].label == "square"
        assert rendered(found[0], (64, 96))[27, 22]
        assert found[0].index is None
    model.needs_fields = {"prompt_field": "none"}
    assert model.predict(square, sample=sample).detections == []
    with pytest.raises(InputError, match="Detections or Keypoints"):
        prompts_from_label(fiftyone.Classification(label="dog"), (64, 96))


def test_without_prompts_everything_is_segmented(square: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MaskletModel()
    call = type(model.model).__call__
    fast = preset(model.model.predictor.model, "fast")
    monkeypatch.setattr(type(model.model), "__call__", lambda sam, source: call(sam, source, everything=fast))
    found = model.predict(square).detections
    truth = np.zeros((64, 96), bool)
    truth[15:40, 10:35] = True
    ious = [(m & truth).sum() / (m | truth).sum() for m in (rendered(one, (64, 96)) for one in found)]
    assert max(ious) > 0.7


def test_a_video_is_tracked_from_the_frame_that_has_labels(tmp_path: Path, small_video: np.ndarray) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, small_video)
    frames = {1: {"boxes": None}, 2: {"boxes": fiftyone.Detections(detections=[])}}
    frames[3] = {"boxes": fiftyone.Detections(detections=[fiftyone.Detection(label="square", bounding_box=BOX)])}
    frames[3]["boxes"].detections[0].bounding_box = [16 / 96, *BOX[1:]]

    class Sample:
        filepath = str(path)

    sample = Sample()
    sample.frames = frames
    model = MaskletVideoModel()
    with pytest.raises(InputError, match="name a frame field"):
        model.predict(None, sample=sample)
    model.needs_fields = {"prompt_field": "frames.boxes"}
    found = model.predict(None, sample=sample)
    assert list(found) == list(range(3, 11))
    for number, detections in found.items():
        [one] = detections.detections
        assert (one.label, one.index) == ("square", 1)
        assert rendered(one, (64, 96))[27, 10 + 3 * (number - 1) + 12]
    frames.pop(3)
    with pytest.raises(InputError, match="no frame of"):
        model.predict(None, sample=sample)


def test_a_dataset_is_labeled(tmp_path: Path, square: np.ndarray) -> None:
    try:
        dataset = fiftyone.Dataset()
    except Exception as error:  # FiftyOne raises several kinds
        pytest.skip(f"FiftyOne has no database here: {error}")
    Image.fromarray(square).save(tmp_path / "square.png")
    sample = fiftyone.Sample(filepath=str(tmp_path / "square.png"))
    sample["boxes"] = fiftyone.Detections(detections=[fiftyone.Detection(label="square", bounding_box=BOX)])
    dataset.add_sample(sample)
    dataset.apply_model(MaskletModel(), label_field="masks", prompt_field="boxes", skip_failures=False)
    [found] = dataset.first()["masks"].detections
    assert rendered(found, (64, 96))[27, 22]
