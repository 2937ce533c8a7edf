"""Fast memory attention against the plain one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.reference import reference_model
from masklet.models.fast_cpu.memory_attention import AttentionKeys, AttentionValues, FastMemoryAttention, attend
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.types import ImageFeatures, MemoryContext
from masklet.nn.fused_ops import has_bfloat16_matmul, has_fused_operators, row_chunks

NAMES = ("sam2.1_hiera_tiny", "sam2_hiera_tiny", "builtin")


def network(name: str) -> SAM2:
    if name != "builtin":
        return reference_model(name, 256, "c", small_trunk=name in NAMES)
    torch.manual_seed(0)
    return SAM2(CONFIGS[name]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> SAM2:
    """The network of a name; tests that share one follow each other, so that it is filled once."""
    return network(request.param)


def features(model: SAM2, size: tuple[int, int], batch: int = 1) -> ImageFeatures:
    (height, width), channels = size, model.config.width
    embed = torch.randn(batch, channels, height, width)
    fine = [torch.randn(batch, channels // n, n // 2 * height, n // 2 * width) for n in (4, 8)]
    return ImageFeatures(embed, (fine[0], fine[1]))


def memories(model: SAM2, size: tuple[int, int], objects: int, spatial: int, pointers: int) -> MemoryContext:
    return MemoryContext(
        tuple(torch.randn(objects, 64, *size) for _ in range(spatial)),
        tuple(range(spatial - 1, -1, -1)),
        tuple(torch.randn(objects, model.config.width) for _ in range(pointers)),
        tuple(range(-1, pointers - 1)),
    )


def memories_of(model: SAM2, size: tuple[int, int], objects: int, spatial: int, pointers: int) -> MemoryContext:
    """Memories of the size that the network stores for frames of `size`."""
    assert model.config.memory is not None
    stored = size if model.config.memory.perceiver is None else (32, 16)
    return memories(model, stored, objects, spatial, pointers)


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < share * float(expected.std())


@pytest.mark.parametrize("model", NAMES, indirect=True)
@pytest.mark.parametrize(("objects", "spatial", "pointers"), [(1, 1, 0), (3, 7, 16)])
def test_objects_on_one_image_are_conditioned_as_by_the_network(
    model: SAM2, objects: int, spatial: int, pointers: int
) -> None:
    condition = FastMemoryAttention(model)
    with torch.inference_mode():
        for size in ((6, 6), (6, 6), (5, 7)):  # another frame of the same size, then another size
            seen, remembered = features(model, size), memories(model, size, objects, spatial, pointers)
            shared = seen.index_select(torch.zeros(objects, dtype=torch.long))
            found, expected = condition(seen, remembered), model.condition_on_memory(shared, remembered)
            close(found.embed_BCHW, expected.embed_BCHW, 2e-5)
            assert found.high_res_features[0].shape == expected.high_res_features[0].shape


def test_objects_on_their_own_images_are_conditioned_as_by_the_network() -> None:
    model = network("builtin")
    seen, remembered = features(model, (6, 6), batch=2), memories(model, (6, 6), 2, 2, 3)
    with torch.inference_mode():
        found, expected = FastMemoryAttention(model)(seen, remembered), model.condition_on_memory(seen, remembered)
    close(found.embed_BCHW, expected.embed_BCHW, 2e-5)


@pytest.mark.parametrize("model", [*NAMES, "edgetam", "efficienttam_ti_1", "efficienttam_ti_2"], indirect=True)
def test_bf16_strays_no_further_than_the_network_in_bf16(model: SAM2) -> None:
    seen, remembered = features(model, (12, 12)), memories_of(model, (12, 12), 1, 7, 16)
    with torch.inference_mode():
        expected = model.condition_on_memory(seen, remembered).embed_BCHW
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.condition_on_memory(seen, remembered).embed_BCHW
        found = FastMemoryAttention(model, torch.bfloat16)(seen, remembered).embed_BCHW
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).square().mean()) < 1.2 * float((rough - expected).square().mean())


def test_without_the_operators_the_network_itself_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.models.fast_cpu.memory_attention.has_fused_operators", lambda _: False)
    model = network("builtin")
    condition = FastMemoryAttention(model)
    assert condition.stack is None
    seen, remembered = features(model, (6, 6)), memories(model, (6, 6), 2, 1, 1)
    with torch.inference_mode():
        expected = model.condition_on_memory(seen.index_select(torch.zeros(2, dtype=torch.long)), remembered)
        assert torch.equal(condition(seen, remembered).embed_BCHW, expected.embed_BCHW)


@pytest.mark.parametrize("has_products", [False, True])
def test_without_bf16_products_of_the_processor_the_network_itself_runs(
    has_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN refuses to pack bf16 weights there."""
    monkeypatch.setattr("masklet.models.fast_cpu.memory_attention.has_bfloat16_matmul", lambda: has_products)
    monkeypatch.setattr("masklet.models.fast_cpu.memory_attention.FusedMemoryAttention", lambda *_: "fused")
    model = network("builtin")
    fused = "fused" if has_fused_operators(model.no_mem_embed) else None
    assert FastMemoryAttention(model, torch.bfloat16).stack == (fused if has_products else None)
    assert FastMemoryAttention(model).stack == fused


def test_queries_go_through_in_chunks() -> None:
    if not has_fused_operators(torch.zeros(1)):
        pytest.skip("this build of torch has no fused oneDNN products")
    query, key, value = torch.randn(50, 16), torch.randn(300, 16), torch.randn(300, 8)
    keys = AttentionKeys(key, AttentionValues(value, torch.float32, 16), max_bytes=4 * 300 * 7)
    assert len(row_chunks(50, len(key) * 4, keys.max_bytes)) == 8
    close(attend(query, keys, torch.empty(50, 8)), (query @ key.t()).softmax(-1) @ value, 1e-5)


@pytest.mark.parametrize("slow", [False, True])
def test_scores_far_apart_give_the_same_with_and_without_subnormal_weights(
    slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_fused_operators(torch.zeros(1)):
        pytest.skip("this build of torch has no fused oneDNN products")
    monkeypatch.setattr("masklet.models.fast_cpu.memory_attention.has_slow_subnormals", lambda: slow)
    query, key, value = 8 * torch.randn(50, 16), 4 * torch.randn(300, 16), torch.randn(300, 8)
    weights = (query @ key.t()).softmax(-1)
    assert ((weights > 0) & (weights < torch.finfo(torch.float32).tiny)).any()
    keys = AttentionKeys(key, AttentionValues(value, torch.float32, 16))
    exact = (query.double() @ key.t().double()).softmax(-1) @ value.double()
    close(attend(query, keys, torch.empty(50, 8)), exact.float(), 1e-4)


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_both_kernels_attend_alike_in_bf16(tiles: bool, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_fused_operators(torch.zeros(1)) or not has_bfloat16_matmul():
        pytest.skip("this build of torch, or this processor, has no fused bf16 products")
    monkeypatch.setattr("masklet.models.fast_cpu.memory_attention.has_bfloat16_tiles", lambda: tiles)
    query, key, value = torch.randn(50, 16), torch.randn(300, 16), torch.randn(300, 8)
    bias = torch.linspace(-2, 2, 300) if biased else None
    keys = AttentionKeys(key, AttentionValues(value, torch.bfloat16, 16), bias_S=bias)
    assert (keys.values.tiles_SC is not None) == tiles
    wanted = (query @ key.t() + (0 if bias is None else bias)).softmax(-1) @ value
    close(attend(query, keys, torch.empty(50, 8)), wanted, 0.1)


def test_chunks_cover_all_rows_within_the_limit() -> None:
    for rows, size, limit in ((1, 100, 10), (1000, 4, 400), (324, 4096, 1 << 24), (5, 1, 1)):
        chunks = row_chunks(rows, size, limit)
        assert [i for chunk in chunks for i in range(chunk.start, chunk.stop)] == list(range(rows))
        assert all((chunk.stop - chunk.start) * size <= max(limit, size) for chunk in chunks)


@pytest.mark.parametrize("model", ["edgetam", "efficienttam_ti_1", "efficienttam_ti_2"], indirect=True)
@pytest.mark.parametrize(("objects", "spatial", "pointers"), [(1, 1, 0), (2, 7, 16)])
def test_perceived_and_pooled_memories_condition_as_by_the_network(
    model: SAM2, objects: int, spatial: int, pointers: int
) -> None:
    condition = FastMemoryAttention(model)
    with torch.inference_mode():
        for size in ((6, 6), (16, 16), (4, 8)):
            seen, remembered = features(model, size), memories_of(model, size, objects, spatial, pointers)
            shared = seen.index_select(torch.zeros(objects, dtype=torch.long))
            found, expected = condition(seen, remembered), model.condition_on_memory(shared, remembered)
            close(found.embed_BCHW, expected.embed_BCHW, 2e-5)


@pytest.mark.parametrize("model", ["sam2.1_hiera_tiny", "edgetam", "efficienttam_ti_1"], indirect=True)
def test_keys_are_weighted_by_object_as_by_the_network(model: SAM2) -> None:
    seen, plain = features(model, (6, 6)), memories_of(model, (6, 6), 2, 3, 2)
    spatial_23, pointers_22 = torch.tensor([[1.0, 0.5, 2.0], [1.0, 1.0, 1.0]]), torch.tensor([[0.5, 2.0], [1.0, 1.0]])
    weighted = replace(plain, spatial_weights_BF=spatial_23, pointer_weights_BP=pointers_22)
    with torch.inference_mode():
        shared = seen.index_select(torch.zeros(2, dtype=torch.long))
        expected, usual = (model.condition_on_memory(shared, each).embed_BCHW for each in (weighted, plain))
        close(FastMemoryAttention(model)(seen, weighted).embed_BCHW, expected, 2e-5)
    close(expected[1], usual[1], 2e-5)  # weights of 1 change nothing
    assert float((expected[0] - usual[0]).abs().max()) > 1e-3 * float(usual.std())
