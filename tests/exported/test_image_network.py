"""An exported network gives what the network in PyTorch gives, for every kind of prompt and for everything."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.exported_folder import eager_network, write_folder
from helpers.networks import CONVNET, HIERA, small_network
from helpers.reference import reference_model
from helpers.small_sam1 import small_sam1
from masklet import ImagePredictor
from masklet.exported import open_exported
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks, preset

NETWORKS = {
    "hiera": lambda: small_network(HIERA),
    "convnet": lambda: small_network(CONVNET),
    "builtin": lambda: reference_model("builtin", 96, "v"),
    "sam_vit_b": lambda: small_sam1("sam_vit_b"),
    "mobile_sam": lambda: small_sam1("mobile_sam"),
}
PROMPTS: dict[str, dict[str, Any]] = {
    "a click": {"point_coords": [40, 30]},
    "three masks": {"point_coords": [40, 30], "multimask_output": True},
    "two clicks": {"point_coords": [[[40, 30], [9, 8]]], "point_labels": [[1, 0]]},
    "a box": {"box": [10, 12, 70, 50]},
    "two boxes": {"box": [[10, 12, 70, 50], [1, 2, 30, 40]]},
    "a box and a click": {"box": [10, 12, 70, 50], "point_coords": [40, 30]},
    "a mask": {"masks": np.pad(np.ones((30, 40), bool), ((10, 20), (30, 20)))},
}


@pytest.fixture(scope="module", params=NETWORKS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ImagePredictor, Any]:
    network = NETWORKS[request.param]().eval()
    exported = eager_network(write_folder(tmp_path_factory.mktemp("exported") / "model", network), network)
    image = np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8)
    image[15:45, 30:60] = (220, 40, 40)
    predictors = ImagePredictor(network), ImagePredictor(exported)
    for predictor in predictors:
        predictor.set_image(image)
    return predictors


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_have_the_same_answers(both: tuple[ImagePredictor, ImagePredictor], prompt: str) -> None:
    ours, exported = (predictor.predict(**PROMPTS[prompt]) for predictor in both)
    assert exported.masks.shape == ours.masks.shape
    np.testing.assert_allclose(exported.scores, ours.scores, atol=1e-5)
    np.testing.assert_allclose(exported.logits, ours.logits, atol=1e-3)


def test_a_mask_is_refined_by_its_logits(both: tuple[ImagePredictor, ImagePredictor]) -> None:
    first = both[0].predict(point_coords=[40, 30])
    refined = [each.predict(point_coords=[40, 30], mask_input=first.best.logits) for each in both]
    np.testing.assert_allclose(refined[0].logits, refined[1].logits, atol=1e-3)


def test_everything_is_the_same(both: tuple[ImagePredictor, ImagePredictor]) -> None:
    image = np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8)
    loose = MaskGeneratorOptions(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    ours, exported = (generate_masks(predictor, image, loose) for predictor in both)
    assert len(exported) == len(ours)
    np.testing.assert_allclose(exported.predicted_ious, ours.predicted_ious, atol=1e-5)
    np.testing.assert_allclose(exported.areas, ours.areas, atol=3)


def test_presets_are_those_of_the_family(both: tuple[ImagePredictor, ImagePredictor]) -> None:
    assert preset(both[1].model, "fine") == preset(both[0].model, "fine")


def test_models_are_copied_and_pickled_by_their_folder(tmp_path: Path) -> None:
    network = open_exported(write_folder(tmp_path / "model", small_network(CONVNET))).network
    again = pickle.loads(pickle.dumps(ImagePredictor(network)))
    assert again.model.fingerprint() == network.fingerprint()
    assert copy.deepcopy(network) is network
