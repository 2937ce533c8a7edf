"""Networks of shapes alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from masklet.models.sam2 import CONFIGS, SAM2
from masklet.nn.meta_init import meta_init


def test_a_network_on_the_meta_device_has_shapes_and_no_values() -> None:
    config = CONFIGS["builtin"]
    with meta_init():
        found = SAM2(config).state_dict()
    expected = SAM2(config).state_dict()
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in expected.items()}
    assert {t.device.type for t in found.values()} == {"meta"}


def test_outside_numbers_are_drawn_as_ever() -> None:
    with meta_init():
        assert torch.nn.Linear(2, 2).weight.is_meta
    assert torch.nn.init.normal_(torch.zeros(50)).any()
    assert torch.nn.Embedding(1, 50).weight.any()
    assert torch.randn(2).device.type == "cpu"


@pytest.mark.slow
def test_a_model_opens_without_what_takes_long_to_import() -> None:
    script = "import sys; from masklet import SAM; SAM(device='cpu'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
