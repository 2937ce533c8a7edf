"""YOLOv8: the published names and shapes, the published code's numbers, and the parts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool2d

from helpers.reference import GOLDEN, module_at
from masklet.models.yolo import (
    CONFIGS,
    RawDetections,
    YOLOConfig,
    YOLOv8,
    build,
    config_name,
    expected_shapes,
    infer_config,
)
from masklet.models.yolo.blocks import SPPF, C2f, ConvBlock
from masklet.models.yolo.head import DFL, make_anchors

SHARED = Path(__file__).parents[4] / "shared" / "golden"
SMALL = YOLOConfig((4, 8, 8, 16, 16), (1, 1, 1, 1), 1, 3, 8, 8, 8, 4, 8)
PUBLISHED_MILLIONS = {  # of the published tables: what is learnt, without the bins of the head
    "yolov8n": 3.2, "yolov8s": 11.2, "yolov8m": 25.9, "yolov8l": 43.7, "yolov8x": 68.2,
    "yolov8n-seg": 3.4, "yolov8s-seg": 11.8, "yolov8m-seg": 27.3, "yolov8l-seg": 46.0, "yolov8x-seg": 71.8,
    "FastSAM-s": 11.8, "FastSAM-x": 71.8,
}  # fmt: skip


def filled(config: YOLOConfig, *, fold: bool) -> YOLOv8:
    state = module_at(GOLDEN / "fill.py").fill_state_dict(expected_shapes(config))
    state["model.22.dfl.conv.weight"] = torch.arange(float(config.bins)).view(1, -1, 1, 1)
    return build(config, state, fold=fold)


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    file = GOLDEN / "manifests" / f"{name.lower().replace('fastsam-', 'fastsam_')}.json"
    return {key: tuple(shape) for key, shape in json.loads(file.read_text()).items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    published = manifest(name)
    assert expected_shapes(CONFIGS[name]) == published
    assert infer_config(published) == CONFIGS[name]
    assert config_name(CONFIGS[name]) == name
    learnt = sum(np.prod(s) for n, s in published.items() if n.endswith((".weight", ".bias")))
    assert round(learnt / 1e6, 1) == PUBLISHED_MILLIONS[name]


@pytest.mark.golden
@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-seg", "FastSAM-s"])
@pytest.mark.parametrize("fold", [False, True], ids=["as published", "folded"])
def test_raw_heads_agree_with_the_published_code(name: str, fold: bool) -> None:
    file = SHARED / f"yolo_{name.lower().replace('fastsam-', 'fastsam_')}.npz"
    if not file.exists():
        pytest.skip("the reference numbers of YOLO are not here (shared/golden)")
    config = CONFIGS[name]
    pixels = torch.from_numpy(np.load(SHARED / "yolo_input_uint8.npy")).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        found = filled(config, fold=fold)(pixels)
    near, far = found.xyxy_BA4.chunk(2, dim=-1)
    with np.load(file) as golden:
        xywh, scores, coefficients = np.split(golden["pred"].transpose(0, 2, 1), [4, 4 + config.classes], axis=2)
        np.testing.assert_allclose(torch.cat([(near + far) / 2, far - near], -1), xywh, atol=2e-3)
        np.testing.assert_allclose(found.scores_BAK, scores, atol=1e-5)
        if found.prototypes_BMHW is not None:
            np.testing.assert_allclose(found.coefficients_BAM, coefficients, atol=1e-5)
            np.testing.assert_allclose(found.prototypes_BMHW, golden["proto"], atol=1e-5)
        else:
            assert coefficients.size == 0


def run(network: YOLOv8, pixels: torch.Tensor) -> RawDetections:
    with torch.inference_mode():
        return network(pixels)


def test_folding_changes_nothing_but_the_number_of_layers() -> None:
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    network = filled(SMALL, fold=False)
    before = run(network, pixels)
    after = run(network.fold(), pixels)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    for name in ("xyxy_BA4", "scores_BAK", "coefficients_BAM", "prototypes_BMHW"):
        assert torch.allclose(getattr(before, name), getattr(after, name), rtol=1e-4, atol=1e-4), name
    assert network.fold() is network


def test_folding_is_an_affine_map() -> None:
    """Against the formula, with a variance so small that the epsilon is seen."""
    block = ConvBlock(2, 3, 1).eval()
    assert block.bn is not None
    with torch.no_grad():
        block.bn.running_var.fill_(1e-3)
        block.bn.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
        block.bn.bias.fill_(0.5)
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    y = (block.conv(x) - torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)) / (2e-3) ** 0.5 + 0.5
    wanted = y * torch.sigmoid(y)
    block.fold()
    assert torch.allclose(block(x), wanted, atol=1e-4)


def test_shapes_of_a_image_that_is_not_square() -> None:
    found = run(filled(SMALL, fold=True), torch.rand(2, 3, 64, 96))
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert found.xyxy_BA4.shape == (2, places, 4)
    assert found.scores_BAK.shape == (2, places, 3)
    assert found.coefficients_BAM is not None
    assert found.coefficients_BAM.shape == (2, places, 4)
    assert found.prototypes_BMHW is not None
    assert found.prototypes_BMHW.shape == (2, 4, 16, 24)


def test_a_image_does_not_know_its_neighbors_in_the_batch() -> None:
    pixels = torch.rand(3, 3, 64, 64)
    network = filled(SMALL, fold=True)
    together, alone = run(network, pixels), run(network, pixels[1:2])
    assert torch.allclose(together.xyxy_BA4[1], alone.xyxy_BA4[0], atol=1e-4)


def test_a_distribution_over_bins_is_its_expectation() -> None:
    """Left sure of 3, top sure of 0, right half 4 half 6, bottom undecided over all of 0 to 15."""
    logits = torch.zeros(1, 4, 16, 1)
    logits[0, 0, 3] = logits[0, 1, 0] = logits[0, 2, 4] = logits[0, 2, 6] = 50.0
    found = DFL(16)(logits.view(1, 64, 1))
    assert found[0, :, 0].tolist() == pytest.approx([3.0, 0.0, 5.0, 7.5], abs=1e-5)


def test_places_count_from_the_finest_map_row_by_row() -> None:
    points, strides = make_anchors([(4, 8), (2, 4), (1, 2)])
    assert points.shape == (42, 2)
    assert points[:2].tolist() == [[0.5, 0.5], [1.5, 0.5]]
    assert points[8].tolist() == [0.5, 1.5]
    assert (points[32] * strides[32]).tolist() == [8.0, 8.0]
    assert (points[41] * strides[41]).tolist() == [48.0, 16.0]


def test_three_small_poolings_are_three_large_ones() -> None:
    block = SPPF(8).eval()
    x = torch.randn(1, 8, 20, 20)
    with torch.inference_mode():
        y = block.cv1(x)
        wanted = block.cv2(torch.cat([y] + [max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13)], 1))
        assert torch.equal(block(x), wanted)


def test_bottlenecks_of_the_backbone_keep_their_input() -> None:
    """With second convolutions that say nothing, a shortcut hands its input on and a plain one does not."""
    for shortcut in (True, False):
        block = C2f(4, 4, 1, shortcut).eval()
        bottleneck = block.m[0]
        torch.nn.init.zeros_(bottleneck.cv2.conv.weight)
        x = torch.rand(1, 2, 5, 5)
        with torch.inference_mode():
            assert torch.equal(bottleneck(x), x if shortcut else torch.zeros_like(x))


def test_networks_of_other_classes_are_known_by_their_size() -> None:
    shapes = expected_shapes(CONFIGS["yolov8s-seg"])
    mine = {name: (7, *shape[1:]) if ".cv3." in name and name.split(".")[4] == "2" else shape
            for name, shape in shapes.items()}  # fmt: skip
    config = infer_config(mine)
    assert config is not None
    assert config.classes == 7
    assert expected_shapes(config) == mine
    assert config_name(config) == "yolov8s-seg with 7 classes"


@pytest.mark.parametrize("found", [{}, {"model.0.conv.weight": (16, 3, 3, 3)}, {"model.0.conv.weight": ()}])
def test_what_is_no_yolo_has_no_config(found: dict[str, tuple[int, ...]]) -> None:
    assert infer_config(found) is None


def test_every_tensor_learns() -> None:
    network = YOLOv8(SMALL)
    found = network(torch.rand(2, 3, 64, 64))
    assert found.coefficients_BAM is not None
    assert found.prototypes_BMHW is not None
    parts = (found.xyxy_BA4, found.scores_BAK, found.coefficients_BAM, found.prototypes_BMHW)
    torch.stack([part.mean() for part in parts]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
