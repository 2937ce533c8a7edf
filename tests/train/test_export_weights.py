"""Exporting a run to a file that opens: names, precision, adapters, interpolation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from helpers.networks import small_network
from helpers.train_data import tiny
from masklet import SAM
from masklet.checkpoints import read_metadata, read_tensors
from masklet.errors import CheckpointError, InputError, OutputError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import expected_shapes
from masklet.train.checkpoint import TrainState, save_checkpoint
from masklet.train.config import TrainConfig
from masklet.train.export_weights import export_weights
from masklet.train.initialization import build_state
from masklet.train.lora import is_adapter

TOKEN = "sam_mask_decoder.iou_token.weight"
OBJECT_SCORE = "sam_mask_decoder.pred_obj_score_head.layers.0.weight"


@pytest.fixture(scope="module")
def trained(builtin_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    """The state of a run of the built-in model that moved every weight by 1/64."""
    config = tiny(model="builtin", pretrained=str(builtin_file))
    state = build_state(config)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1 / 64)
    path = tmp_path_factory.mktemp("run") / "state.pt"
    save_checkpoint(path, state, config)
    return path, state


@pytest.mark.slow
def test_the_built_in_model_is_exported_as_a_small_file(trained: tuple[Path, TrainState], tmp_path: Path) -> None:
    target = export_weights(trained[0], tmp_path / "mine.safetensors")
    loaded, state = load(target), trained[1].model.state_dict()
    assert loaded.name == "builtin"
    assert target.stat().st_size < 20e6
    assert {name: tuple(t.shape) for name, t in read_tensors(target).items()} == expected_shapes(CONFIGS["builtin"])
    torch.testing.assert_close(loaded.network.state_dict()[TOKEN], state[TOKEN], atol=1e-3, rtol=1e-3)
    header = read_metadata(target)
    assert header["model"] == "builtin"
    assert header["license"] == "Apache-2.0"
    assert json.loads(header["config"]) == json.loads(json.dumps(asdict(CONFIGS["builtin"])))
    assert json.loads(header["run"])["model"] == "builtin"


def test_a_pt_file_holds_the_same_weights(trained: tuple[Path, TrainState], tmp_path: Path) -> None:
    path = export_weights(trained[0], tmp_path / "mine.pt", half=False, license="MIT")
    assert SAM(path).info().name == "builtin"
    content = torch.load(path, weights_only=True)
    assert content["masklet"]["license"] == "MIT"
    state = trained[1].model.state_dict()
    assert all(torch.equal(content["model"][name], tensor) for name, tensor in state.items())


def test_blending_interpolates_with_the_base_weights(
    trained: tuple[Path, TrainState], builtin_file: Path, tmp_path: Path
) -> None:
    blended = export_weights(
        trained[0], tmp_path / "blended.safetensors", base_weights=builtin_file, blend_fraction=0.25, half=False
    )
    own, before, between = (
        trained[1].model.state_dict(),
        *(load(p).network.state_dict() for p in (builtin_file, blended)),
    )
    torch.testing.assert_close(between[TOKEN], 0.25 * own[TOKEN] + 0.75 * before[TOKEN])
    assert torch.equal(between[OBJECT_SCORE], own[OBJECT_SCORE]), "the object score head is the run's"


def test_invalid_arguments_are_refused(trained: tuple[Path, TrainState], builtin_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from 0"):
        export_weights(trained[0], tmp_path / "a.safetensors", base_weights=builtin_file, blend_fraction=2.0)
    with pytest.raises(InputError, match=r"must end in \.safetensors or \.pt"):
        export_weights(trained[0], tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        export_weights(tmp_path / "state.pt", tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_adapters_are_merged_into_the_weights(tiny_network: None, tmp_path: Path) -> None:
    config: TrainConfig = tiny(lora=2)
    state = build_state(config)
    before = {name: tensor.clone() for name, tensor in build_state(tiny()).model.state_dict().items()}
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            if is_adapter(name):
                parameter.fill_(0.25)
    save_checkpoint(tmp_path / "state.pt", state, config)
    found = read_tensors(export_weights(tmp_path / "state.pt", tmp_path / "mine.safetensors"))
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        name: tuple(t.shape) for name, t in small_network().state_dict().items()
    }
    adapted = "memory_attention.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(found[adapted], before[adapted] + 2 * 0.25 * 0.25)
    assert torch.equal(
        found["memory_attention.layers.0.linear1.weight"], before["memory_attention.layers.0.linear1.weight"]
    )


@pytest.mark.parametrize("name", ["mine.pt", "mine.safetensors"])
def test_an_export_takes_the_place_of_an_export_only(
    name: str, trained: tuple[Path, TrainState], tmp_path: Path
) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save({"model": {}}, path)
    else:
        path.write_bytes(b"weights of somebody else")
    before = path.read_bytes()
    with pytest.raises(OutputError, match=rf"{name} is there and is no export of a run of masklet, and is kept"):
        export_weights(trained[0], path)
    assert path.read_bytes() == before
    export_weights(trained[0], path, overwrite=True)
    assert export_weights(trained[0], path).stat().st_size > 1e6
