"""One step of fine-tuning published networks, with generated weights: it changes only the trainable weights."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from helpers.train_data import different
from masklet import SAM
from masklet.checkpoints import read_metadata, read_tensors
from masklet.errors import InputError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import expected_shapes
from masklet.train.config import PromptConfig
from masklet.train.export_weights import export_weights
from masklet.train.finetune import FinetuneOptions, finetune_config, run
from masklet.train.loop import RuntimeConfig
from masklet.train.recipes import FREEZE_PREFIXES

NAME = "sam2.1_hiera_tiny"
GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.slow


def published_file(name: str, path: Path) -> Path:
    """Write generated weights under the names of a published network."""
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    shapes = expected_shapes(CONFIGS[name])
    tensors = {key: tensor.reshape(shapes[key]) for key, tensor in fill.fill_state_dict(shapes).items()}
    save_file({key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_file(NAME, tmp_path_factory.mktemp("published") / "tiny.safetensors")


def test_with_a_frozen_encoder(published: Path, squares: Path, tmp_path: Path) -> None:
    options = FinetuneOptions(steps=1, image_size=128, clip_length=3, freeze=("encoder",), precision="fp32")
    config = finetune_config(NAME, str(published), options)
    prompts = PromptConfig(
        mask_prob=0.0, box_prob=0.0, round_probs=(0.0, 1.0), correction_frame_prob=1.0, correction_clicks=1
    )
    config = replace(config, stages=(replace(config.stages[0], prompts=prompts),))
    path = run(config, squares, tmp_path, RuntimeConfig("cpu", workers=0))
    before, after = read_tensors(published), read_tensors(path)

    manifest = json.loads((GOLDEN / "manifests" / f"{NAME}.json").read_text())
    assert {name: tuple(tensor.shape) for name, tensor in after.items()} == {n: tuple(s) for n, s in manifest.items()}

    moved = different(before, after)
    assert not [name for name in moved if name.startswith(FREEZE_PREFIXES["encoder"])]
    assert all(float((after[name] - before[name]).abs().max()) < 3e-5 for name in moved), (
        "larger than the learning rate"
    )
    for part in ("memory_attention.", "memory_encoder.", "sam_mask_decoder.", "sam_prompt_encoder.", "obj_ptr_proj."):
        assert any(name.startswith(part) for name in moved), part
    matrices = {name for name, tensor in before.items() if tensor.ndim == 2 and name.startswith("memory_attention.")}
    assert matrices <= moved, "every matrix"

    header = read_metadata(path)
    assert (header["model"], header["license"], header["step"]) == (NAME, "Apache-2.0", "1")
    assert json.loads(header["config"]) == json.loads(json.dumps(asdict(CONFIGS[NAME])))
    assert load(path).name == NAME

    other = export_weights(tmp_path / "state.pt", tmp_path / "mine.pt")
    assert SAM(other, device="cpu").info().name == NAME
    assert not different(after, read_tensors(other))


@pytest.mark.parametrize("name", ["edgetam", "efficienttam_ti_2"])
def test_edgetam_and_efficienttam_learn(name: str, squares: Path, tmp_path: Path) -> None:
    """Every part learns but the statistics of batch normalization, and the result is the same variant by its header."""
    before_file = published_file(name, tmp_path / f"{name}.safetensors")
    options = FinetuneOptions(steps=1, image_size=256, clip_length=3, precision="fp32")
    config = finetune_config(load(before_file).name, str(before_file), options)
    prompts = PromptConfig(mask_prob=0.0, box_prob=0.0, round_probs=(1.0,), correction_frame_prob=0.0)
    config = replace(config, stages=(replace(config.stages[0], prompts=prompts),))
    path = run(config, squares, tmp_path, RuntimeConfig("cpu", workers=0))
    before, after = read_tensors(before_file), read_tensors(path)
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in after.items()} == {
        key: (tensor.shape, tensor.dtype) for key, tensor in before.items()
    }
    moved = different(before, after)
    assert not [key for key in moved if "running_" in key or "num_batches" in key]
    for part in (
        "image_encoder.trunk.",
        "image_encoder.neck.",
        "memory_attention.",
        "memory_encoder.",
        "obj_ptr_proj.",
    ):
        assert any(key.startswith(part) for key in moved), part
    if name == "edgetam":
        learnt = {key for key in before if key.startswith("spatial_perceiver.")}
        assert learnt
        assert learnt <= moved
    other = export_weights(tmp_path / "state.pt", tmp_path / "mine.pt")
    for file in (path, other):
        loaded = load(file)
        assert loaded.name == name
        assert loaded.network.config == CONFIGS[name]
    assert read_metadata(other)["model"] == name


def test_sizes_that_the_perceiver_cannot_cut_into_windows_are_refused(squares: Path, tmp_path: Path) -> None:
    file = published_file("edgetam", tmp_path / "edgetam.safetensors")
    config = finetune_config("edgetam", str(file), FinetuneOptions(steps=1, image_size=288))
    with pytest.raises(InputError, match="image_size=288 must be a multiple of 256"):
        run(config, squares, tmp_path, RuntimeConfig("cpu", workers=0))
