"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def builtin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the built-in network with random weights, the same in every run: tests need no training."""
    import torch
    from safetensors.torch import save_file

    from masklet.models.sam2 import CONFIGS, SAM2

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SAM2(CONFIGS["builtin"])
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path
