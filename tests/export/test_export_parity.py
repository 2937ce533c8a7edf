"""What parity reports, and when it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.errors import OutputError
from masklet.export.export_parity import BOUNDS, ParityBounds, ParityMeter


def meter_of(output: np.ndarray) -> ParityMeter:
    return ParityMeter({"image_encoder": lambda inputs: {"image_embeddings": output}})


def measure(output: np.ndarray, expected: torch.Tensor) -> ParityMeter:
    meter = meter_of(output)
    meter.run("image_encoder", {"pixels": torch.zeros(1)}, {"image_embeddings": expected})
    return meter


def test_an_equal_graph_passes() -> None:
    expected = torch.linspace(-4, 4, 64).reshape(1, 1, 8, 8)
    meter = measure(expected.numpy(), expected)
    meter.add_masks("image_encoder", expected, expected)
    meter.check({"image_encoder": BOUNDS["fp32"]})
    assert meter.report()["image_encoder"] == {
        "relative_error": {"image_embeddings": 0.0},
        "mask_iou_mean": 1.0,
        "mask_iou_min": 1.0,
        "masks": 1,
    }


@pytest.mark.parametrize("wrong", [0.02, np.nan, np.inf])
def test_a_deviation_names_the_part_and_the_output(wrong: float) -> None:
    expected = torch.linspace(-4, 4, 64).reshape(1, 1, 8, 8)
    output = expected.numpy().copy()
    output[0, 0, 3, 3] += wrong
    with pytest.raises(OutputError, match=r"image_encoder.*image_embeddings.*0\.001 allowed.*nothing was written"):
        measure(output, expected).check({"image_encoder": BOUNDS["fp32"]})


def test_masks_below_the_bound_name_the_part() -> None:
    expected = torch.linspace(-4, 4, 64).reshape(1, 1, 8, 8)
    meter = measure(expected.numpy(), expected)
    meter.add_masks("image_encoder", expected - 1, expected)
    assert meter.parts["image_encoder"].ious == pytest.approx([24 / 32])
    with pytest.raises(OutputError, match=r"image_encoder.*mean IoU of 0\.7500.*0\.8 required"):
        meter.check({"image_encoder": ParityBounds(0.8, None)})
    meter.check({"image_encoder": ParityBounds(0.7, None)})


def test_two_empty_masks_agree() -> None:
    empty = -torch.ones(1, 1, 4, 4)
    meter = measure(empty.numpy(), empty)
    meter.add_masks("image_encoder", empty, empty)
    assert meter.parts["image_encoder"].ious == [1.0]
