"""SAM and MobileSAM against numbers that the published code gave for the same weights and image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.reference import GOLDEN, ask, check_shapes, image_cases, module_at, stored
from masklet.image import ImagePredictor
from masklet.models.sam1 import CONFIGS, SAM1, build, infer_config
from masklet.models.sam1.state_dict import expected_shapes

SHARED = Path(__file__).parents[4] / "shared" / "golden"
LARGEST, MEAN, OVERLAP = 2e-2, 2e-3, 0.999


def filled(name: str) -> SAM1:
    """A network filled from its tensors' names."""
    config = CONFIGS[name]
    return build(config, module_at(GOLDEN / "fill.py").fill_state_dict(expected_shapes(config)))


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam_vit_b", "mobile_sam"])
def test_photographs_agree_with_the_published_code(name: str) -> None:
    if not (SHARED / "truck.jpg").exists():
        pytest.skip("the photograph of the reference set is not here (shared/golden)")
    golden = stored("", SHARED / f"sam1_{name.removeprefix('sam_')}.npz".replace("mobile.", "mobile_sam."))
    predictor = ImagePredictor(filled(name))
    predictor.set_image(np.array(Image.open(SHARED / "truck.jpg").convert("RGB")))
    assert predictor.features is not None
    embed = predictor.features.embed_BCHW[0].numpy()
    np.testing.assert_allclose(embed[:8, :8, :8], golden["embed_slice"], atol=1e-3)
    assert float(embed.std()) == pytest.approx(float(golden["embed_std"]), rel=1e-4)
    cases = image_cases(SHARED / "image_cases.json")
    previous = None
    for case in (name for name in cases if name != "boxes"):
        answer = ask(predictor, cases[case], previous)
        check(case, answer.logits[0], golden[f"{case}/low_res_logits"].astype(np.float32))
        np.testing.assert_allclose(answer.scores.ravel(), golden[f"{case}/iou"].ravel(), atol=2e-3)
        areas = answer.masks.sum((-2, -1)).ravel()
        np.testing.assert_allclose(areas, golden[f"{case}/mask_area"].ravel(), rtol=1e-4, atol=5)
        previous = answer.best.logits if case == "point" else previous


def check(case: str, found: np.ndarray, reference: np.ndarray) -> None:
    difference = np.abs(found - reference) / reference.std()
    assert difference.max() < LARGEST, f"{case}: {difference.max()}"
    assert difference.mean() < MEAN, f"{case}: {difference.mean()}"
    overlap = ((found > 0) & (reference > 0)).sum() / ((found > 0) | (reference > 0)).sum()
    assert overlap > OVERLAP, f"{case}: {overlap}"


@pytest.mark.parametrize("name", list(CONFIGS))
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    check_shapes(name, expected_shapes(CONFIGS[name]), infer_config)


def test_what_is_no_sam_is_not_taken_for_one() -> None:
    for other in ("sam2.1_hiera_tiny", "sam2_hiera_large"):
        assert infer_config(json.loads((GOLDEN / "manifests" / f"{other}.json").read_text())) is None


@pytest.mark.parametrize("name", ["sam_vit_b", "mobile_sam"])
def test_gradients_reach_all_that_a_image_can_teach(name: str) -> None:
    from helpers.small_sam1 import small_sam1
    from masklet.models.types import PromptTensors

    model = small_sam1(name).requires_grad_(True).train()
    prompts = PromptTensors(torch.tensor([[[30.0, 40.0]]]), torch.tensor([[1]]))
    found = model.decode(model.encode_image(torch.randn(1, 3, 64, 64)), prompts)
    (found.logits_BKHW.square().mean() + found.iou_BK.mean()).backward()
    untaught = {n for n, p in model.named_parameters() if p.grad is None}
    other_prompts = ("prompt_encoder.point_embeddings", "prompt_encoder.mask_downscaling")
    assert not [n for n in untaught if not n.startswith((*other_prompts, "image_encoder.head", "image_encoder.norm_"))]
