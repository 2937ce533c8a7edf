"""One step of fine-tuning SAM 2.1 tiny, with generated weights: it changes only the trainable weights."""

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


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    path = tmp_path_factory.mktemp("published") / "tiny.safetensors"
    tensors = fill.fill_state_dict(expected_shapes(CONFIGS[NAME]))
    save_file({name: tensor.float() for name, tensor in tensors.items()}, path)
    return path


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
