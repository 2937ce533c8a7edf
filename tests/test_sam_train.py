"""`SAM.train`: the model continues with the trained weights, and is measured on the same data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.train_data import store_discs
from masklet import SAM
from masklet.errors import CheckpointError, InputError
from masklet.train.loop import TrainProgress

RGB = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
FAST = ("stage.prompts.round_probs=[1.0]", "log_every=1", "image_every=1")


@pytest.fixture
def model(builtin_file: Path) -> SAM:
    return SAM(builtin_file, device="cpu", image_size=64)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_discs(tmp_path_factory.mktemp("photos") / "discs", 4)


def test_the_model_continues_with_the_trained_weights(
    model: SAM, builtin_file: Path, photos: Path, tmp_path: Path
) -> None:
    before = model(RGB, bboxes=[10, 10, 50, 50])[0].logits
    reports: list[TrainProgress] = []
    path = model.train(
        data=photos, steps=2, out=tmp_path / "run", overrides=FAST, workers=0, lr=1e-3, on_progress=reports.append
    )
    assert path == tmp_path / "run" / "model.safetensors"
    assert [progress.step for progress in reports] == [1, 2]
    assert model.info().path == str(path)
    after = model(RGB, bboxes=[10, 10, 50, 50])[0].logits
    expected = SAM(path, device="cpu", image_size=64)(RGB, bboxes=[10, 10, 50, 50])[0].logits
    assert after.shape == before.shape
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert len(list((tmp_path / "run" / "predictions").iterdir())) == 2
    result = model.val(photos, prompts=("box",))
    assert result.images is not None
    assert 0 <= result.images.total.box <= 1


@pytest.mark.slow
@pytest.mark.parametrize("change", ["double", "meta"])
def test_defaults_of_pytorch_do_not_change_training(
    builtin_file: Path, photos: Path, tmp_path: Path, change: str
) -> None:
    weights = {}
    for name in ("usual", change):
        if name == "double":
            torch.set_default_dtype(torch.float64)
        elif name == "meta":
            torch.set_default_device("meta")
        try:
            before = torch.get_default_dtype(), torch.get_default_device()
            model = SAM(builtin_file, device="cpu", image_size=64)
            model.train(data=photos, steps=1, out=tmp_path / name, overrides=FAST, workers=0, lr=1e-3)
            assert (torch.get_default_dtype(), torch.get_default_device()) == before
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
        weights[name] = model.predictor.model.state_dict()
    for key, usual in weights["usual"].items():
        assert weights[change][key].dtype == usual.dtype
        torch.testing.assert_close(weights[change][key], usual, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*are left out:masklet.errors.MaskletWarning")
def test_a_measurement_takes_the_crowds_where_they_are_wanted(model: SAM, tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    outline = [[8, 8, 40, 8, 40, 40, 8, 40]]
    objects = [
        {"id": 1, "iscrowd": 0, "segmentation": outline},
        {"id": 2, "iscrowd": 1, "segmentation": {"size": [64, 64], "counts": [64 * 50, 64 * 5, 64 * 9]}},
    ]
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": [{"image_id": 1, "category_id": 1, **one} for one in objects],
        "categories": [{"id": 1, "name": "cat"}],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data))
    counts = [model.val(file, prompts=["box"], include_crowds=crowds).counts.objects for crowds in (False, True)]
    assert counts == [1, 2]


@pytest.mark.slow
def test_a_second_call_resumes_the_run(model: SAM, builtin_file: Path, photos: Path, tmp_path: Path) -> None:
    model.train(data=photos, steps=1, out=tmp_path, overrides=FAST, workers=0)
    reports: list[TrainProgress] = []
    SAM(builtin_file, device="cpu", image_size=64).train(
        data=photos, steps=1, out=tmp_path, overrides=FAST, workers=0, on_progress=reports.append
    )
    assert reports == []
    with pytest.raises(CheckpointError, match="stages"):
        SAM(builtin_file, device="cpu", image_size=64).train(
            data=photos, steps=2, out=tmp_path, overrides=FAST, workers=0
        )


def test_invalid_options_are_refused(model: SAM, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no epoch of a training run; there are epochs, steps, batch"):
        model.train(data=photos, epoch=3, out=tmp_path)
    with pytest.raises(InputError, match="say how long"):
        model.train(data=photos, out=tmp_path)
    with pytest.raises(InputError, match="there is no 'vocal'"):
        model.train(data=photos, steps=1, out=tmp_path, overrides=["losses.vocal=3"])
    assert not list(tmp_path.iterdir())
