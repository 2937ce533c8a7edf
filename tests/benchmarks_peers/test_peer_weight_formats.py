"""Every program gets the same numbers, in its own format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import weights
from benchmarks.weights import convert_weights

NAME = "sam2.1_hiera_tiny"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    torch.save({"model": {"no_mem_embed": torch.arange(4.0)}}, path)
    return path


def test_masklet_and_sam2_open_the_published_file(published: Path, tmp_path: Path) -> None:
    assert convert_weights("masklet", NAME, published, tmp_path) == published
    assert convert_weights("sam2", NAME, published, tmp_path) == published


def test_transformers_has_its_own_names(published: Path, tmp_path: Path) -> None:
    path = convert_weights("transformers", NAME, published, tmp_path)
    found = torch.load(path, weights_only=True)
    assert list(found) == ["no_memory_embedding"]
    assert found["no_memory_embedding"].tolist() == [0, 1, 2, 3]


def test_a_converted_file_is_reused(published: Path, tmp_path: Path) -> None:
    path = convert_weights("transformers", NAME, published, tmp_path)
    before = path.stat().st_mtime_ns
    assert convert_weights("transformers", NAME, published, tmp_path) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("model", "file"), [(NAME, "sam2.1_t.pt"), ("sam2_hiera_base_plus", "sam2_b.pt")])
@pytest.mark.parametrize("links", [True, False])
def test_ultralytics_knows_a_network_by_its_file(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, file: str, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(weights.Path, "symlink_to", _refused)
    path = convert_weights("ultralytics", model, published, tmp_path)
    assert path == tmp_path / file
    assert path.is_symlink() == links
    assert path.read_bytes() == published.read_bytes()
    assert convert_weights("ultralytics", model, published, tmp_path) == path


def _refused(*_: object) -> None:
    raise OSError("a privilege is not held")
