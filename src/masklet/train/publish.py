"""From the state of a run to a file that `SAM(path)` opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from masklet.checkpoints import read_tensors
from masklet.errors import InputError
from masklet.files import atomic_path
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.weights import config_of, shapes_of
from masklet.train.checkpoint import read_record

__all__ = ["publish"]


UNBLENDED = "sam_mask_decoder.pred_obj_score_head"
"""The score of presence: a model of pictures never learnt it."""


def publish(
    state_file: Path, target: Path, licence: str = "Apache-2.0", *, start: Path | None = None, share: float = 1.0
) -> Path:
    """Write the averaged weights of a run as fp16 safetensors, with config and licence in the header.

    With `start`, the file that the run went on from, weights that both have are `share` of the run's and the rest of
    the start's, but for the score of presence: what the run learnt, without forgetting as much (Wortsman et al. 2022).

    Raises:
        CheckpointError: `state_file` is not the state of a run, or `start` is no file of weights.
        InputError: a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share {share!r} must be from 0 (all of the start) to 1 (all of the run)")
    record = read_record(state_file)
    weights = record.average if start is None else _blended(record.average, read_tensors(start), share)
    found = config_of({name: tuple(t.shape) for name, t in weights.items()})
    assert found is not None
    assert set(shapes_of(CONFIGS[found[0]])) == set(weights)
    header = {
        "format": "pt",
        "model": found[0],
        "config": json.dumps(asdict(found[1])),
        "licence": licence,
        "step": str(record.step),
        "samples": str(record.samples),
    }
    half = {name: t.half().contiguous() for name, t in weights.items()}
    with atomic_path(target) as temporary:
        save_file(half, temporary, metadata=header)
    return target


def _blended(run: Mapping[str, Tensor], start: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    out = dict(run)
    for name, before in start.items():
        if name in run and run[name].shape == before.shape and not name.startswith(UNBLENDED):
            out[name] = share * run[name].float() + (1 - share) * before.float()
    return out
