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
from masklet.models.sam2.state_dict import shapes_of
from masklet.train.checkpoint import read_record
from masklet.train.lora import add_lora, merge_lora

__all__ = ["publish"]


KINDS = (".safetensors", ".pt")
UNBLENDED = "sam_mask_decoder.pred_obj_score_head"
"""The score of presence: a model of pictures never learnt it."""


def publish(
    state_file: Path,
    target: Path,
    licence: str | None = None,
    *,
    start: Path | None = None,
    share: float = 1.0,
    half: bool | None = None,
) -> Path:
    """Write the weights of a run in the published naming, with config and licence inside.

    A `target` that ends in .safetensors has config and licence in its header; one in .pt holds the weights under
    `model`, as the published files do, and can be opened by what opens those. `half`: as fp16, by default the built-in
    model's. Adapters become part of the weights. `licence` None: that of the weights that the run went on from.

    With `start`, the file that the run went on from, weights that both have are `share` of the run's and the rest of
    the start's, but for the score of presence: what the run learnt, without forgetting as much (Wortsman et al. 2022).

    Raises:
        CheckpointError: `state_file` is not the state of a run, or `start` is no file of weights.
        InputError: a share outside 0 to 1, or a target of another kind.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share {share!r} must be from 0 (all of the start) to 1 (all of the run)")
    if target.suffix not in KINDS:
        raise InputError(f"{target} must end in {' or '.join(KINDS)}")
    record = read_record(state_file)
    config = json.loads(record.config)
    config["start"] = Path(config["start"]).name  # where it lay on this machine is nobody's business
    weights = _plain(record.average, config["model"], config["lora"])
    if start is not None:
        weights = _blended(weights, read_tensors(start), share)
    assert set(shapes_of(CONFIGS[config["model"]])) == set(weights)
    header = {
        "format": "pt",
        "model": config["model"],
        "config": json.dumps(asdict(CONFIGS[config["model"]])),
        "licence": licence or record.licence,
        "step": str(record.step),
        "run": json.dumps(config),
    }
    small = config["model"] == "builtin" if half is None else half
    out = {name: (t.half() if small else t.float()).contiguous().clone() for name, t in weights.items()}
    with atomic_path(target) as temporary:
        if target.suffix == ".pt":
            torch.save({"model": out, "masklet": header}, temporary)
        else:
            temporary.write_bytes(to_bytes(out, metadata=header))  # its own writer makes files that others cannot read
    return target


def _plain(weights: dict[str, Tensor], name: str, rank: int) -> dict[str, Tensor]:
    """Weights with their adapters merged."""
    if not rank:
        return weights
    model = SAM2(CONFIGS[name])
    add_lora(model, rank)
    model.load_state_dict(weights)
    merge_lora(model)
    return model.state_dict()


def _blended(run: Mapping[str, Tensor], start: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    out = dict(run)
    for name, before in start.items():
        if name in run and run[name].shape == before.shape and not name.startswith(UNBLENDED):
            out[name] = share * run[name].float() + (1 - share) * before.float()
    return out
