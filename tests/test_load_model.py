"""From files to networks: which one a file holds is read from its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.networks import HIERA
from helpers.reference import reference_model
from masklet import SAM
from masklet.errors import CheckpointError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import to_transformers


@pytest.fixture(scope="module")
def tiny() -> Iterator[dict[str, torch.Tensor]]:
    """Weights of the published parts behind a small image encoder, which counts as published in this file."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("sam2_hiera_tiny", "sam2.1_hiera_tiny"):
            patched.setitem(CONFIGS, name, replace(CONFIGS[name], trunk=HIERA))
        model = reference_model("sam2.1_hiera_tiny", small_trunk=True)
        yield {name: tensor.clone() for name, tensor in model.state_dict().items()}


def saved(folder: Path, kind: str, state: dict[str, torch.Tensor]) -> Path:
    """The same weights in one of the ways they are published."""
    path = folder / "called_anything.bin"
    if kind == "published .pt":
        torch.save({"model": state}, path)
    elif kind == "bare .pt":
        torch.save(state, path)
    elif kind == "safetensors":
        save_file(state, path)
    else:
        named = to_transformers(state)
        save_file({name: tensor.clone() for name, tensor in named.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["published .pt", "bare .pt", "safetensors", "transformers safetensors"])
def test_the_same_weights_however_they_are_saved(tmp_path: Path, tiny: dict[str, torch.Tensor], kind: str) -> None:
    loaded = load(saved(tmp_path, kind, tiny))
    assert loaded.name == "sam2.1_hiera_tiny"
    found = loaded.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tiny.items())


def test_sam2_weights_are_distinguished_from_sam2_1_weights(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> None:
    older = {n: t for n, t in tiny.items() if not n.startswith(("no_obj_embed_spatial", "obj_ptr_tpos_proj"))}
    assert load(saved(tmp_path, "bare .pt", older)).name == "sam2_hiera_tiny"


def test_half_precision_files_are_read(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> None:
    halved = {name: tensor.half() for name, tensor in tiny.items()}
    network = load(saved(tmp_path, "bare .pt", halved)).network
    assert all(t.dtype == torch.float32 for t in network.state_dict().values())


def test_one_missing_tensor_is_named(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> None:
    short = {name: tensor for name, tensor in tiny.items() if name != "sam_mask_decoder.iou_token.weight"}
    with pytest.raises(CheckpointError, match=r"sam_mask_decoder\.iou_token\.weight"):
        load(saved(tmp_path, "bare .pt", short))


def test_another_network_is_named(tmp_path: Path) -> None:
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    with pytest.raises(CheckpointError, match="ResNet"):
        SAM(saved(tmp_path, "bare .pt", resnet))
