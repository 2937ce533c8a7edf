"""From the state of a run to a file that `SAM(path)` opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from masklet.atomic_files import atomic_path
from masklet.checkpoints import read_tensors
from masklet.errors import InputError
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.state_dict import expected_shapes
from masklet.train.checkpoint import read_checkpoint
from masklet.train.lora import add_lora, merge_lora

__all__ = ["export_weights"]


SUFFIXES = (".safetensors", ".pt")
UNBLENDED_PREFIX = "sam_mask_decoder.pred_obj_score_head"
"""The score of presence: a model of images never learnt it."""


def export_weights(
    state_file: Path,
    path: Path,
    license: str | None = None,
    *,
    base_weights: Path | None = None,
    blend_fraction: float = 1.0,
    half: bool | None = None,
) -> Path:
    """Write the weights of a run in the published naming, with config and license inside.

    A `target` that ends in .safetensors has config and license in its header; one in .pt holds the weights under
    `model`, as the published files do, and can be opened by what opens those. `half`: as fp16, by default the built-in
    model's. Adapters become part of the weights. `license` None: that of the weights that the run went on from.

    With `start`, the file that the run went on from, weights that both have are `share` of the run's and the rest of
    the start's, but for the score of presence: what the run learnt, without forgetting as much (Wortsman et al. 2022).

    Raises:
        CheckpointError: `state_file` is not the state of a run, or `start` is no file of weights.
        InputError: a share outside 0 to 1, or a target of another kind.
    """
    if not 0 <= blend_fraction <= 1:
        raise InputError(f"share {blend_fraction!r} must be from 0 (all of the start) to 1 (all of the run)")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}")
    record = read_checkpoint(state_file)
    config = json.loads(record.config)
    config["start"] = Path(config["start"]).name  # where it lay on this machine is nobody's business
    weights = _merge_adapters(record.ema, config["model"], config["lora"])
    if base_weights is not None:
        weights = _blend(weights, read_tensors(base_weights), blend_fraction)
    assert set(expected_shapes(CONFIGS[config["model"]])) == set(weights)
    header = {
        "format": "pt",
        "model": config["model"],
        "config": json.dumps(asdict(CONFIGS[config["model"]])),
        "licence": license or record.license,
        "step": str(record.step),
        "run": json.dumps(config),
    }
    small = config["model"] == "builtin" if half is None else half
    out = {name: (t.half() if small else t.float()).contiguous().clone() for name, t in weights.items()}
    with atomic_path(path) as temporary:
        if path.suffix == ".pt":
            torch.save({"model": out, "masklet": header}, temporary)
        else:
            temporary.write_bytes(to_bytes(out, metadata=header))  # its own writer makes files that others cannot read
    return path


def _merge_adapters(weights: dict[str, Tensor], name: str, lora_rank: int) -> dict[str, Tensor]:
    """Weights with their adapters merged."""
    if not lora_rank:
        return weights
    model = SAM2(CONFIGS[name])
    add_lora(model, lora_rank)
    model.load_state_dict(weights)
    merge_lora(model)
    return model.state_dict()


def _blend(trained: Mapping[str, Tensor], base: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    out = dict(trained)
    for name, before in base.items():
        if name in trained and trained[name].shape == before.shape and not name.startswith(UNBLENDED_PREFIX):
            out[name] = fraction * trained[name].float() + (1 - fraction) * before.float()
    return out
