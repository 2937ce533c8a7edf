"""Export the weights of a run to a file that `SAM(path)` opens."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes

from masklet.atomic_files import atomic_path, check_replaceable
from masklet.checkpoints import read_tensors
from masklet.errors import InputError
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.state_dict import expected_shapes
from masklet.train.checkpoint import read_checkpoint
from masklet.train.lora import add_lora, merge_lora

__all__ = ["check_export_target", "export_weights"]

SUFFIXES = (".safetensors", ".pt")
UNBLENDED_PREFIX = "sam_mask_decoder.pred_obj_score_head"
"""The object score head is never blended: a model for images has not learned it."""


def export_weights(
    state_file: Path,
    path: Path,
    license: str | None = None,
    *,
    base_weights: Path | None = None,
    blend_fraction: float = 1.0,
    half: bool | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the weights of a run with the published tensor names, with config and license inside.

    A .safetensors file has config and license in its header. A .pt file holds the weights under `model`, as the
    published files do. Adapters are merged into the weights.

    With `base_weights`, the file that the run started from, weights of both are interpolated, except for the object
    score head: the model forgets less of what it knew before (Wortsman et al. 2022).

    Args:
        license: None: the license of the weights that the run started from.
        blend_fraction: weight of the run in the interpolation.
        half: whether to write fp16; None: for the built-in model only.
        overwrite: whether to replace a file that is no export of a run.

    Raises:
        CheckpointError: if `state_file` is not the state of a run, or `base_weights` holds no weights.
        InputError: if `blend_fraction` is outside 0 to 1, or `path` has another suffix.
        OutputError: if `path` cannot be written, or is a file that is no export of a run.
    """
    if not 0 <= blend_fraction <= 1:
        raise InputError(
            f"blend_fraction {blend_fraction!r} must be from 0 (all of the base weights) to 1 (all of the run)"
        )
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not overwrite:
        check_export_target(path)
    checkpoint = read_checkpoint(state_file)
    config = json.loads(checkpoint.config)
    config["pretrained"] = Path(config["pretrained"]).name  # without the folders of this machine
    weights = dict(checkpoint.ema)
    if config["lora"]:
        model = SAM2(CONFIGS[config["model"]])
        add_lora(model, config["lora"])
        model.load_state_dict(weights)
        merge_lora(model)
        weights = model.state_dict()
    if base_weights is not None:
        for name, base in read_tensors(base_weights).items():
            known = name in weights and weights[name].shape == base.shape and base.is_floating_point()
            if known and not name.startswith(UNBLENDED_PREFIX):
                weights[name] = blend_fraction * weights[name].float() + (1 - blend_fraction) * base.float()
    assert set(expected_shapes(CONFIGS[config["model"]])) == set(weights)
    header = {
        "format": "pt",
        "model": config["model"],
        "config": json.dumps(asdict(CONFIGS[config["model"]])),
        "license": license or checkpoint.license,
        "step": str(checkpoint.step),
        "run": json.dumps(config),
    }
    if half is None:
        half = config["model"] == "builtin"
    dtype = torch.float16 if half else torch.float32
    tensors = {name: (t.to(dtype) if t.is_floating_point() else t).contiguous().clone() for name, t in weights.items()}
    with atomic_path(path) as temporary:
        if path.suffix == ".pt":
            torch.save({"model": tensors, "masklet": header}, temporary)
        else:
            temporary.write_bytes(to_bytes(tensors, metadata=header))  # safetensors' save_file sets private permissions
    return path


def check_export_target(path: Path) -> None:
    """Check that weights may be written to `path`: nothing is there, an empty file, or an earlier export of a run.

    Raises:
        OutputError: if another file is there.
    """
    if zipfile.is_zipfile(path):  # a .pt file: its pickle, which has the keys, may be longer than a beginning
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if any(b"masklet" in archive.read(name) for name in names):
                return
    check_replaceable(path, b'"run":"', "export of a run")
