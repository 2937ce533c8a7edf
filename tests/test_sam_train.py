"""`SAM.train`: the model continues with the trained weights, and is measured on the same data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
