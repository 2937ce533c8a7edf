"""Synthetic weights: those that the reference numbers were made with; published ones come first."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from benchmarks import weights
from benchmarks.weights import resolve_weights, synthetic_weights
from helpers.networks import small_network
from masklet.errors import InputError, UnknownModelError

SHAPES = {
    "a.weight": (4, 3, 2, 2),
    "a.bias": (4,),
    "norm.weight": (5,),
    "b.running_mean": (3,),
    "b.running_var": (3,),
    "c.gamma": (2,),
    "d.token": (1, 6),
}


@pytest.mark.parametrize("salt", ["", "c"])
def test_they_equal_those_of_the_reference_numbers(salt: str) -> None:
    file = Path(__file__).parents[1] / "golden" / "fill.py"
    spec = importlib.util.spec_from_file_location("fill", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expected = module.fill_state_dict(SHAPES, salt)
    for name, tensor in synthetic_weights(SHAPES, salt).items():
        assert tensor.dtype == torch.float32, name
        assert torch.equal(tensor, expected[name].float()), name
    assert not synthetic_weights({"x.num_batches_tracked": ()})["x.num_batches_tracked"].any()


def test_another_salt_gives_other_weights() -> None:
    assert not torch.equal(synthetic_weights(SHAPES)["a.bias"], synthetic_weights(SHAPES, "c")["a.bias"])


def test_a_file_is_written_in_the_published_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_network()
    monkeypatch.setattr(weights, "is_downloaded", lambda card: False)
    monkeypatch.setattr(weights, "CONFIGS", {"sam2.1_hiera_tiny": small.config})
    found = resolve_weights("sam2.1_t.pt", tmp_path)
    assert (found.model, found.synthetic, found.source_label) == ("sam2.1_hiera_tiny", True, "synthetic")
    stored = torch.load(found.path, weights_only=True)["model"]
    assert {name: t.shape for name, t in stored.items()} == {name: t.shape for name, t in small.state_dict().items()}


def test_published_weights_are_used_if_they_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here.pt"
    monkeypatch.setattr(weights, "is_downloaded", lambda card: True)
    monkeypatch.setattr(weights, "locate", lambda card: here)
    found = resolve_weights("sam2.1_t.pt", tmp_path)
    assert (found.path, found.source_label) == (here, "published")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["builtin", "mobile_sam.pt", "yolov8n-seg.pt"])
def test_models_of_masklet_alone_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose from sam2_hiera_tiny, sam2_hiera_small"):
        resolve_weights(model, tmp_path)


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        resolve_weights("sam7", tmp_path)
