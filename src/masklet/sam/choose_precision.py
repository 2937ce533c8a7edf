"""What `precision="auto"` becomes on this machine: bf16 where it is faster and masks stay the same, else fp32.

Small networks follow a rule. Others are tried once (`masklet.sam.bf16_trial`), and what was measured is stored in the
cache folder under everything that it depends on, so that a model has the same precision from then on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.atomic_files import write_text
from masklet.checkpoints import cache_dir
from masklet.damaged_files import decoder_errors
from masklet.errors import OutputError
from masklet.exported import ExportedModel
from masklet.load_model import LoadedModel
from masklet.runtime import processor_name
from masklet.tensors import torch
from masklet.video.session_save import model_fingerprint

if TYPE_CHECKING:
    from masklet.models.sam1 import SAM1
    from masklet.models.sam2 import SAM2
    from masklet.sam.bf16_trial import Bf16Trial

__all__ = ["TRIALS_FILE", "PrecisionChoice", "choose_precision"]

log = logging.getLogger("masklet")

TRIALS_FILE = "precision_trials.json"
MIN_TRIAL_GFLOP = 20.0
"""Operations of encoding an image below which no network is tried: the trial would be felt, and little be saved."""

_trials: dict[Path, dict[str, Bf16Trial]] = {}
"""What was measured or read in this process, by file: it stays where the cache folder cannot be written."""


@dataclass(frozen=True)
class PrecisionChoice:
    """The precisions of a model, and why "auto" became these."""

    image: str
    video: str
    """Of memory attention; with the built-in model of the encoder too."""
    reason: str | None = None
    """None: they were given."""


MATCHING_CHOICE = PrecisionChoice("fp32", "bf16", "in bf16 the built-in model keeps masks in videos, not all in images")


def choose_precision(loaded: LoadedModel | ExportedModel, device: str, precision: str) -> PrecisionChoice:
    """Return the precisions of a model on a device.

    "auto" is fp32, and bf16 on processors with instructions for it: for videos of the built-in model, and for whatever
    a trial has found to be faster with masks of the same IoU to 0.99. MASKLET_PRECISION_TRIAL=0 rules trials out. Of
    exported folders it is bf16 for videos of the built-in model, in OpenVINO's format, on such processors.

    Example:
        >>> choose_precision(loaded, "cpu", "auto").video  # doctest: +SKIP
        'bf16'
    """
    if isinstance(loaded, ExportedModel):
        return _choose_exported(loaded) if precision == "auto" else PrecisionChoice(precision, precision)
    from masklet.models.sam2 import SAM2
    from masklet.nn.fused_ops import has_bfloat16_matmul, has_fused_operators, has_native_bfloat16

    if precision != "auto":
        if precision == "bf16" and device == "cpu" and not has_bfloat16_matmul():
            log.warning("this processor has no bf16 products; emulated ones take many times as long as fp32")
        return PrecisionChoice(precision, precision)
    network = loaded.network
    if device != "cpu":
        return PrecisionChoice("fp32", "fp32", "bf16 is tried on a CPU alone; name it to have it")
    if not (has_native_bfloat16() and has_fused_operators(next(network.parameters()))):
        return PrecisionChoice("fp32", "fp32", "this processor or PyTorch has no bf16 products")
    if isinstance(network, SAM2) and network.config.matching is not None:
        return MATCHING_CHOICE
    if encode_gflop(network) < MIN_TRIAL_GFLOP or os.environ.get("MASKLET_PRECISION_TRIAL") == "0":
        return PrecisionChoice("fp32", "fp32", "bf16 was not tried")
    trial = _stored_trial(loaded)
    reason = str(trial.image) if trial.attention is None else f"{trial.image}; in memory attention {trial.attention}"
    image, video = ("bf16" if one.wins else "fp32" for one in (trial.image, trial.attention or trial.image))
    log.info("%s: images in %s, memory attention in %s, because %s", loaded.name, image, video, reason)
    return PrecisionChoice(image, video, reason)


def _choose_exported(loaded: ExportedModel) -> PrecisionChoice:
    """Return what "auto" is for an exported folder: nothing is tried, as a graph is compiled for each precision."""
    if loaded.network.manifest.matching is not None and "bf16" in loaded.network.engine.precisions:
        return MATCHING_CHOICE
    return PrecisionChoice("fp32", "fp32")


def encode_gflop(network: SAM1 | SAM2) -> float:
    """Estimate the operations of encoding an image in 10^9: each weight once for every cell of 16 x 16 pixels."""
    weights = sum(parameter.numel() for parameter in network.image_encoder.parameters())
    return 2e-9 * weights * (network.still_image_size / 16) ** 2


def _stored_trial(loaded: LoadedModel) -> Bf16Trial:
    """Return what was measured of a network on such a machine, from the cache folder or by a trial that is stored.

    Of processes that try a network at the same time, the one that ends first decides for all.
    """
    from masklet.sam.bf16_trial import try_bf16

    file, key = cache_dir() / TRIALS_FILE, _trial_key(loaded)
    trials = _trials.setdefault(file, {})
    trials.update(_read_trials(file))
    if key not in trials:
        log.info("trying %s in fp32 and bf16, once on this machine", loaded.name)
        trials[key] = try_bf16(loaded.network)
        trials.update(_read_trials(file))
        with suppress(OutputError):
            write_text(file, json.dumps({name: asdict(trial) for name, trial in trials.items()}, indent=1))
    return trials[key]


def _read_trials(file: Path) -> dict[str, Bf16Trial]:
    """Read what was measured, by `_trial_key`; a file that is not there or damaged holds nothing."""
    from masklet.sam.bf16_trial import Bf16Comparison, Bf16Trial

    trials: dict[str, Bf16Trial] = {}
    with suppress(FileNotFoundError, *decoder_errors()):
        for key, doc in json.loads(file.read_text(encoding="utf-8")).items():
            attention = None if doc["attention"] is None else Bf16Comparison(**doc["attention"])
            trials[key] = Bf16Trial(Bf16Comparison(**doc["image"]), attention)
    return trials


def _trial_key(loaded: LoadedModel) -> str:
    """Name a network, its weights and sizes, the processor and the versions: what a trial depends on."""
    network = loaded.network
    config = hashlib.sha256(repr(network.config).encode()).hexdigest()[:8]
    pooling = getattr(network, "key_pooling", None)
    sizes = f"{network.still_image_size} {network.image_size} {pooling}"
    _, weights = model_fingerprint(network)
    version = import_module("masklet").__version__
    machine = f"{processor_name()} x {os.cpu_count()}"
    return f"{loaded.name} {weights} {config} at {sizes}, {machine}, torch {torch.__version__}, masklet {version}"
