"""Many points about one image: the work they share gives what each gets alone, also with SAM 1's decoder."""

from __future__ import annotations

import pytest
import torch

from helpers.small_sam1 import small_sam1
from masklet.models.fast_cpu.shared_prompts import SharedPromptContext, SharedPromptDecoder
from masklet.models.types import PromptTensors


@pytest.mark.parametrize("name", ["sam_vit_b", "mobile_sam"])
def test_shared_points_are_what_they_are_alone(name: str) -> None:
    model = small_sam1(name)
    random = torch.Generator().manual_seed(5)
    prompts = PromptTensors(torch.rand(3, 1, 2, generator=random) * 64, torch.ones(3, 1, dtype=torch.long))
    with torch.inference_mode():
        features = model.encode_image(torch.randn(1, 3, 64, 64, generator=random))
        expected = model.decode(features.index_select(torch.zeros(3, dtype=torch.long)), prompts)
        decoder = SharedPromptDecoder(model.prompt_encoder, model.mask_decoder)
        answer = SharedPromptContext(decoder, features).predict(prompts)
        torch.testing.assert_close(answer.iou_BK, expected.iou_BK, atol=1e-4, rtol=1e-4)
        for i in range(3):
            found = answer.logits(i, torch.arange(4))
            assert float((found - expected.logits_BKHW[i]).abs().max()) < 1e-3 * float(expected.logits_BKHW.std())
