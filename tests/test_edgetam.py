"""EdgeTAM and EfficientTAM as a user meets them: images, everything, tracking, sessions that are saved."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.reference import GOLDEN, golden_image, module_at, published_shapes
from masklet import SAM, Results
from masklet.image.amg_options import MaskGeneratorOptions
from masklet.video import Session

FILES = {"edgetam": "edgetam.pt", "efficienttam_ti_1": "efficienttam_ti_1.pt"}


@pytest.fixture(scope="module", params=list(FILES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SAM:
    """A file with the published names and shapes, opened at 256 x 256 pixels."""
    shapes = published_shapes(request.param.removesuffix("_1"))
    filled = module_at(GOLDEN / "fill.py").fill_state_dict(shapes, "c")
    tensors = {name: tensor.reshape(shapes[name]) for name, tensor in filled.items()}
    path = tmp_path_factory.mktemp("weights") / FILES[request.param]
    torch.save({"model": {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}}, path)
    opened = SAM(path, image_size=256)
    assert opened.info().name == request.param
    return opened


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    made: np.ndarray = module_at(GOLDEN / "portable" / "scene.py").clip(8)
    return made


def test_prompts_on_an_image(model: SAM) -> None:
    image = golden_image()
    [result] = model(image, bboxes=[[150, 60, 250, 150], [20, 20, 90, 120]])
    assert len(result) == 2
    [three] = model(image, points=[90, 130], multimask=True)
    assert len(three) == 3
    [single] = model(image, points=[90, 130], fill_hole_area=0)
    [refined] = model(image, points=[90, 130], logits=single.logits, fill_hole_area=0)
    assert refined.logits is not None
    assert not np.array_equal(refined.logits, single.logits)


def test_everything_is_what_clicks_give(model: SAM) -> None:
    """Prompts that share their work, here without finer maps too."""
    image = golden_image()
    options = MaskGeneratorOptions(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, max_masks=4)
    [found] = model(image, everything=options)
    assert len(found) > 0
    assert found.masks is not None
    points = [[(column + 0.5) * 320 / 3, (row + 0.5) * 80] for row in range(3) for column in range(3)]
    clicked = [one for point in points for one in model(image, points=point, multimask=True, fill_hole_area=0)]
    candidates = np.concatenate([one.masks.data for one in clicked if one.masks is not None])
    for mask in found.masks.data:
        overlap = (candidates & mask).sum((1, 2)) / np.maximum((candidates | mask).sum((1, 2)), 1)
        assert overlap.max() > 0.9


def frame_key(frame: Results) -> tuple[Any, ...]:
    masks = b"" if frame.masks is None else frame.masks.data.tobytes()
    return frame.frame_idx, frame.ids.tolist(), frame.scores.tobytes(), masks


def prompted(session: Session) -> Session:
    session.add_prompt(1, frame_idx=0, points=[[90, 130]])
    session.add_prompt(2, frame_idx=2, box=[150, 60, 250, 150])
    return session


def test_a_copy_gives_the_same_masks_and_knows_its_variant(model: SAM) -> None:
    image = golden_image()
    [expected] = model(image, points=[90, 130])
    assert expected.masks is not None
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        [found] = copied(image, points=[90, 130])
        assert found.masks is not None
        assert np.array_equal(found.masks.data, expected.masks.data)
        assert copied.info() == model.info()


@pytest.mark.slow
def test_a_saved_session_continues_bit_for_bit(model: SAM, clip: np.ndarray, tmp_path: Path) -> None:
    with prompted(model.session(clip)) as session:
        complete = [frame_key(frame) for frame in session.propagate(bidirectional=True)]
    with prompted(model.session(clip)) as session:
        under_way = session.propagate(bidirectional=True)
        first = [frame_key(next(under_way)) for _ in range(4)]
        session.save(tmp_path / "half.session")
    with model.session(clip, resume=tmp_path / "half.session") as session:
        rest = [frame_key(frame) for frame in session.resume()]
    assert first + rest == complete


@pytest.mark.slow
def test_what_is_remembered_of_a_frame(model: SAM, clip: np.ndarray) -> None:
    """EdgeTAM stores 512 tokens an object and frame at any image size, EfficientTAM one for each cell."""
    with prompted(model.session(clip, retain="all")) as session:
        frames = list(session.propagate())
        stored = session.tracker.objects[1].bank[5].spatial_1MHW
    assert [frame.frame_idx for frame in frames] == list(range(len(clip)))
    assert stored is not None
    assert stored.dtype == torch.bfloat16
    assert stored.shape == ((1, 64, 32, 16) if model.info().name == "edgetam" else (1, 64, 16, 16))


@pytest.mark.slow
def test_everything_is_tracked(model: SAM, clip: np.ndarray) -> None:
    options = MaskGeneratorOptions(points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0, max_masks=2)
    frames = list(model.track(clip[:3], everything=options))
    assert len(frames) == 3
    assert all(len(frame) for frame in frames)
