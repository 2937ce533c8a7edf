"""From the state of a run to a file that `SAM(path)` opens."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from masklet.files import atomic_path
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.weights import config_of, shapes_of
from masklet.train.checkpoint import read_record

__all__ = ["publish"]


def publish(state_file: Path, target: Path, licence: str = "Apache-2.0") -> Path:
    """Write the averaged weights of a run as fp16 safetensors, with config and licence in the header.

    Raises:
        CheckpointError: `state_file` is not the state of a run.
    """
    record = read_record(state_file)
    weights = record.average
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
