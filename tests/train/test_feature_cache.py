"""The cache of a frozen encoder's features on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from helpers.networks import HIERA, random_image, small_network
from masklet.errors import InputError, MaskletWarning
from masklet.models.types import ImageFeatures
from masklet.train.feature_cache import EmbeddingCache, cache_key, weights_fingerprint
from masklet.train.lora import add_lora

MAX_BYTES = 1 << 30


def features(seed: int = 0) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((1, 32, 4, 4), (1, 8, 8, 8), (1, 4, 16, 16))
    embed, fine_8, fine_4 = (torch.randn(size, generator=generator) for size in sizes)
    return ImageFeatures(embed.to(memory_format=torch.channels_last), (fine_8, fine_4))


def equal(a: ImageFeatures, b: ImageFeatures) -> bool:
    pairs = zip((a.embed_BCHW, *a.high_res_features), (b.embed_BCHW, *b.high_res_features), strict=True)
    return all(torch.equal(x, y) and x.stride() == y.stride() and x.dtype == y.dtype for x, y in pairs)


def test_features_come_back_in_another_process_too(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache", MAX_BYTES)
    assert cache.get("a1") is None
    first = cache.put("a1", features())
    for again in (cache, EmbeddingCache(tmp_path / "cache", MAX_BYTES)):
        found = again.get("a1")
        assert found is not None
        assert equal(found, first), "the first time and later times differ"
        torch.testing.assert_close(found.embed_BCHW, features().embed_BCHW, rtol=1e-3, atol=1e-4)
        assert found.embed_BCHW.dtype == torch.float32
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["a1.safetensors"]


def test_features_come_back_as_they_were_stored(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, MAX_BYTES)
    assert cache.get("a") is None
    stored = cache.put("a", features())
    assert equal(cache.get("a"), stored)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another"])
def test_a_damaged_file_is_removed_and_computed_again(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path, MAX_BYTES)
    right = cache.put("a", features())
    path = tmp_path / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    cut = path.read_bytes()[:-9]
    path.write_bytes({"cut": cut, "flipped": bytes(content), "empty": b"", "another": b"\x02\0\0\0\0\0\0\0{}"}[damage])
    assert cache.get("a") is None
    assert not path.exists()
    assert equal(cache.put("a", features()), right)
    assert path.exists()


def test_the_oldest_are_evicted(tmp_path: Path) -> None:
    size = file_size(tmp_path)
    cache = EmbeddingCache(tmp_path / "small", 3 * size + size // 2)
    for number, key in enumerate("abcde"):
        cache.put(key, features())
        if (path := tmp_path / "small" / f"{key}.safetensors").exists():
            os.utime(path, (number, number))
    assert [key for key in "abcde" if cache.get(key)] == ["c", "d", "e"]
    later = EmbeddingCache(tmp_path / "small", 2 * size)  # what an earlier process left counts
    later.put("f", features())
    assert [key for key in "abcdef" if later.get(key)] == ["e", "f"]


def file_size(tmp_path: Path) -> int:
    EmbeddingCache(tmp_path / "one", MAX_BYTES).put("a", features())
    return (tmp_path / "one" / "a.safetensors").stat().st_size


def test_files_of_other_processes_are_counted_at_each_rescan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.train.feature_cache.RESCAN_EVERY", 2)
    size = file_size(tmp_path)
    first, second = (EmbeddingCache(tmp_path / "shared", 4 * size) for _ in range(2))
    for number in range(3):
        first.put(f"a{number}", features())
        second.put(f"b{number}", features())
    first.put("a3", features())
    assert len(list((tmp_path / "shared").iterdir())) <= 4


def test_features_beyond_half_precision_are_not_stored(tmp_path: Path) -> None:
    cache, large = EmbeddingCache(tmp_path, MAX_BYTES), features()
    large.embed_BCHW[0, 0, 0, 0] = 1e6
    assert cache.put("a", large) is large
    assert cache.get("a") is None


def test_a_folder_that_cannot_be_written_warns_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "cache", MAX_BYTES)
    with pytest.warns(MaskletWarning, match="no longer cached"):
        found = cache.put("a", features())
    cache.put("b", features())  # a second warning would be an error
    assert torch.equal(found.embed_BCHW, features().embed_BCHW.half().float())


def test_a_limit_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_bytes 0"):
        EmbeddingCache(tmp_path, 0)


def test_keys_differ_if_anything_differs() -> None:
    keys = [
        cache_key("f", "bear", 1, "64"),
        cache_key("g", "bear", 1, "64"),
        cache_key("f", "bear1", 1, "64"),
        cache_key("f", "bear", 11, "64"),
        cache_key("f", "bear", 1, "96"),
    ]
    assert len(set(keys)) == 5
    assert keys[0] == cache_key("f", "bear", 1, "64")
    assert all(key.isalnum() for key in keys)


def test_the_fingerprint_covers_the_weights_that_features_depend_on() -> None:
    model = small_network(HIERA)
    before = weights_fingerprint(model)
    assert before == weights_fingerprint(small_network(HIERA))
    assert before != weights_fingerprint(small_network(HIERA, seed=1))
    assert before != weights_fingerprint(model, dtype=torch.bfloat16)
    with torch.no_grad():
        model.memory_attention.norm.weight.add_(1)
        assert weights_fingerprint(model) == before
        for name in ("image_encoder.trunk.blocks.1.mlp.layers.0.bias", "sam_mask_decoder.conv_s0.weight"):
            seen = weights_fingerprint(model)
            model.get_parameter(name).view(-1)[-1].add_(1e-3)
            assert weights_fingerprint(model) != seen
    add_lora(model, 2)
    assert weights_fingerprint(model) != before
    assert len(weights_fingerprint(model.to(torch.bfloat16))) == 16


def test_real_features_survive(tmp_path: Path) -> None:
    model = small_network(HIERA).eval()
    with torch.no_grad():
        encoded = model.encode_image(random_image(count=2))
    cache = EmbeddingCache(tmp_path, MAX_BYTES)
    found = cache.put(cache_key(weights_fingerprint(model), "image", 0, "64"), encoded)
    torch.testing.assert_close(found.embed_BCHW, encoded.embed_BCHW, rtol=1e-3, atol=1e-4)
    assert equal(found, cache.get(cache_key(weights_fingerprint(model), "image", 0, "64")))
