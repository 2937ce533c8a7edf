"""The modules that are traced compute what the network does, with padding and broadcasting."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from helpers.networks import CONVNET, HIERA, PLAIN_VIT, REPVIT, Trunk, small_network
from helpers.small_sam1 import small_sam1
from masklet.export.export_model import sample_images, sample_video
from masklet.export.export_parity import ParityMeter, compare_images, compare_video
from masklet.export.graph_parts import image_parts, pointer_slots, video_parts
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2


def eager_graphs(network: SAM2 | SAM1, *, expands: bool = False) -> ParityMeter:
    """A meter whose graphs are the modules themselves."""
    parts = list(image_parts(network, expands=expands))
    if isinstance(network, SAM2):
        parts += video_parts(network)
    graphs = {}
    for part in parts:

        def run(inputs, part=part):  # type: ignore[no-untyped-def]
            assert list(inputs) == list(part.inputs)
            outputs = part.module(*map(torch.from_numpy, inputs.values()))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return {name: value.numpy() for name, value in zip(part.outputs, outputs, strict=True)}

        graphs[part.name] = run
    return ParityMeter(graphs)


@pytest.mark.parametrize("expands", [False, True])
@pytest.mark.parametrize("name", ["hiera", "convnet", "repvit", "plain_vit", "sam_vit_b", "mobile_sam"])
def test_image_parts_are_those_of_the_network(name: str, expands: bool) -> None:
    trunks = {"hiera": HIERA, "convnet": CONVNET, "repvit": REPVIT, "plain_vit": PLAIN_VIT}
    network = small_network(trunks[name]).eval() if name in trunks else small_sam1(name)
    meter = eager_graphs(network, expands=expands)
    compare_images(meter, network, sample_images(1))
    for part in ("image_encoder", "prompt_decoder"):
        assert max(meter.parts[part].errors.values()) < 1e-4, meter.report()
        assert min(meter.parts[part].ious) > 0.99


@pytest.mark.parametrize(
    ("trunk", "pooling"),
    [
        pytest.param(HIERA, None, id="hiera", marks=pytest.mark.slow),
        pytest.param(CONVNET, None, id="convnet"),
        pytest.param(REPVIT, None, id="edgetam", marks=pytest.mark.slow),
        pytest.param(PLAIN_VIT, None, id="efficienttam", marks=pytest.mark.slow),
        pytest.param(PLAIN_VIT, "logits", id="efficienttam_1"),
        pytest.param(PLAIN_VIT, "keys", id="efficienttam_2", marks=pytest.mark.slow),
    ],
)
def test_video_parts_are_those_of_the_network_with_any_number_of_memories(
    trunk: Trunk, pooling: Literal["logits", "keys"] | None
) -> None:
    network = small_network(trunk).eval()
    assert network.config.memory is not None
    network.key_pooling = pooling
    meter = eager_graphs(network)
    frames, masks = sample_video()
    compare_video(meter, network, frames, masks)
    names = {"memory_encoder", "memory_attention_1", "memory_attention_4", "memory_attention_7"}
    assert names <= meter.parts.keys()
    for part in names:
        assert max(meter.parts[part].errors.values()) < 1e-4, meter.report()
        assert min(meter.parts[part].ious) > 0.99


def test_padding_changes_no_bit_of_what_a_frame_attends_to() -> None:
    network = small_network().eval()
    part = next(part for part in video_parts(network) if part.name == "memory_attention_4")
    torch.manual_seed(0)
    inputs = {name: torch.randn_like(x) if x.is_floating_point() else x for name, x in part.inputs.items()}
    inputs["ages"] = torch.tensor([0, 2, 1, 0])
    inputs["memory_valid"] = torch.tensor([1.0, 1, 1, 0])
    inputs["pointer_valid"] = (torch.arange(pointer_slots(4)) < 5).float()
    other = {**inputs, "memories": inputs["memories"].clone(), "pointers": inputs["pointers"].clone()}
    other["memories"][:, 3] = 7
    other["pointers"][:, 5:] = -7
    with torch.no_grad():
        assert torch.equal(part.module(*inputs.values()), part.module(*other.values()))
        changed = {**inputs, "memories": inputs["memories"].flip(0)}
        assert not torch.equal(part.module(*inputs.values()), part.module(*changed.values()))


def test_features_of_one_image_are_shared_or_one_for_each_object() -> None:
    network = small_network().eval()
    part = list(image_parts(network))[1]
    torch.manual_seed(0)
    inputs = {name: torch.randn_like(x) for name, x in part.inputs.items()}
    inputs["point_labels"] = torch.ones_like(inputs["point_labels"])
    inputs["has_mask_input"] = torch.tensor([1.0, 0, 1])
    repeated = {**inputs, "image_embeddings": inputs["image_embeddings"].expand(3, -1, -1, -1)}
    with torch.no_grad():
        for one, other in zip(part.module(*inputs.values()), part.module(*repeated.values()), strict=True):
            torch.testing.assert_close(one, other)
        without = part.module(*{**inputs, "mask_input": inputs["mask_input"] + 5}.values())[0]
        with_mask = part.module(*inputs.values())[0]
    assert torch.equal(without[1], with_mask[1])
    assert not torch.equal(without[0], with_mask[0])
