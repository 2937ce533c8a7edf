"""SAM.train: the model becomes what it learnt, and is measured on the same data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.train_data import store_discs
from masklet import SAM
from masklet.errors import CheckpointError, InputError
from masklet.train.loop import TrainProgress

RGB = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
FAST = ("stage.prompts.rounds=[1.0]", "report_every=1", "picture_every=1")


@pytest.fixture
def model(builtin_file: Path) -> SAM:
    return SAM(builtin_file, device="cpu", image_size=64)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_discs(tmp_path_factory.mktemp("photos") / "discs", 4)


def test_the_model_is_what_it_has_become(model: SAM, builtin_file: Path, photos: Path, tmp_path: Path) -> None:
    before = model(RGB, bboxes=[10, 10, 50, 50])[0].logits
    told: list[TrainProgress] = []
    path = model.train(
        data=photos, steps=2, out=tmp_path / "run", overrides=FAST, workers=0, rate=1e-3, on_progress=told.append
    )
    assert path == tmp_path / "run" / "model.safetensors"
    assert [progress.step for progress in told] == [1, 2]
    assert model.info().path == str(path)
    after = model(RGB, bboxes=[10, 10, 50, 50])[0].logits
    expected = SAM(path, device="cpu", image_size=64)(RGB, bboxes=[10, 10, 50, 50])[0].logits
    assert after.shape == before.shape
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == 2
    found = model.val(photos, prompts=("box",))
    assert found.images is not None
    assert 0 <= found.images.total.box <= 1


def test_it_goes_on_when_it_is_called_again(model: SAM, builtin_file: Path, photos: Path, tmp_path: Path) -> None:
    model.train(data=photos, steps=1, out=tmp_path, overrides=FAST, workers=0)
    told: list[TrainProgress] = []
    SAM(builtin_file, device="cpu", image_size=64).train(
        data=photos, steps=1, out=tmp_path, overrides=FAST, workers=0, on_progress=told.append
    )
    assert told == []
    with pytest.raises(CheckpointError, match="stages"):
        SAM(builtin_file, device="cpu", image_size=64).train(
            data=photos, steps=2, out=tmp_path, overrides=FAST, workers=0
        )


def test_what_cannot_be_meant_is_refused(model: SAM, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no epoch of a training run; there are epochs, steps, batch"):
        model.train(data=photos, epoch=3, out=tmp_path)
    with pytest.raises(InputError, match="say how long"):
        model.train(data=photos, out=tmp_path)
    with pytest.raises(InputError, match="there is no 'vocal'"):
        model.train(data=photos, steps=1, out=tmp_path, overrides=["losses.vocal=3"])
    assert not list(tmp_path.iterdir())
