"""The script that fits the calibration of predicted IoU: maps, errors, and the file it writes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.scripts import load_script
from helpers.synthetic_truth import Oracle, store_image
from masklet.checkpoints import read_metadata
from masklet.evaluate import find_image_samples
from masklet.load_model import load


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("fit_calibration")


def test_a_map_follows_the_pairs_and_ascends(script: ModuleType) -> None:
    score = np.random.default_rng(0).beta(4, 2, 4000)
    for truth, gap in ((score**2, 0.01), (0.3 + 0.5 * score, 0.002), (np.clip(3 * score - 1, 0, 1), 0.05)):
        knots, values = script.fit_map(np.stack([score, truth], axis=1))
        assert abs(np.interp(score, knots, values) - truth).mean() < gap
        assert (knots[0], knots[-1]) == (0, 1)
        assert (np.diff(knots) > 0).all()
        assert (np.diff(values) > 0).all()
        assert 0 <= values[0] < values[-1] <= 1
    for constant in (0.0, 0.7, 1.0):  # nothing to learn from: still a map
        knots, values = script.fit_map(np.full((50, 2), constant))
        assert (np.diff(knots) > 0).all()
        assert (np.diff(values) > 0).all()
        assert np.interp(constant, knots, values) == pytest.approx(constant, abs=0.03)


def test_the_calibration_error_is_the_gap_in_each_bin(script: ModuleType) -> None:
    pairs = np.array([[0.15, 0.35], [0.15, 0.15], [0.85, 0.65], [0.85, 0.65]])
    assert script.calibration_error(pairs) == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)


def test_answers_of_a_known_model_become_pairs(script: ModuleType, tmp_path: Path) -> None:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:20, 10:30] = True
    masks[1, 22:36, 30:50] = True
    store_image(tmp_path / "src", "a", masks)
    [sample] = find_image_samples(tmp_path)
    oracle = Oracle(masks, np.zeros((0, 40, 60), np.uint8), shift=10)
    single, candidates = script.measure_pairs(oracle, sample, 6)
    assert single.shape == (2 * 5, 2)  # a box and four corrections of two objects
    assert single[:, 1] == pytest.approx(1 / 3)
    assert candidates.shape == (2 * 3, 2)
    assert candidates.tolist() == [pytest.approx(row) for row in [[0.1, 0]] * 2 + [[0.5, 0]] * 2 + [[0.9, 1 / 3]] * 2]


@pytest.mark.slow
def test_the_file_is_calibrated_and_still_loads(
    script: ModuleType, builtin_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(builtin_file.read_bytes())
    for name in ("a", "b"):
        store_image(tmp_path / "stills" / "src", name, np.eye(40, 60, dtype=bool)[None])
    monkeypatch.setattr(sys, "argv", ["fit_calibration", str(tmp_path / "stills"), str(model)])
    for _ in range(2):  # again, as after training: from raw scores, not from calibrated ones
        script.main()
        maps = load_file(model)["sam_mask_decoder.iou_calibration"]
        network = load(model).network
        assert torch.equal(network.sam_mask_decoder.iou_calibration, maps)
        assert maps.shape == (2, 2, 7)
    assert '"iou_knots": 7' in read_metadata(model)["config"]
    monkeypatch.setattr(script, "measure_pairs", lambda *_: (np.full((9, 2), 0.7), np.full((9, 2), 0.4)))
    script.main()  # calibrated already: the map of before is removed
    assert "sam_mask_decoder.iou_calibration" not in load_file(model)
    assert '"iou_knots": 0' in read_metadata(model)["config"]
