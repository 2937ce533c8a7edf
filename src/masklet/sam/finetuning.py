"""Train a loaded model on your data, and load the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from masklet.datasets import DataPaths
from masklet.load_model import LoadedModel, load
from masklet.models.sam2.variants import variant_in_name
from masklet.train.finetune import FinetuneOptions, apply_overrides, build_config, require_single_process, run
from masklet.train.loop import RuntimeConfig, TrainProgress

__all__ = ["finetune"]


def finetune(
    loaded: LoadedModel,
    data: DataPaths,
    options: FinetuneOptions,
    run_dir: Path,
    *,
    runtime: RuntimeConfig,
    overrides: Iterable[str] = (),
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> LoadedModel:
    """Train `loaded` at the image size it has, and return the trained model with the same image sizes.

    Raises:
        InputError, SourceError, CheckpointError, StateError: see `SAM.train`.
        ModelError: if the model is not a SAM 2.
    """
    require_single_process()
    network = loaded.require_sam2("be trained here")
    if options.image_size is None and network.image_size != network.config.image_size:
        options = replace(options, image_size=network.image_size)
    variant = None if loaded.variant is None else variant_in_name(loaded.name)
    config = apply_overrides(build_config(options, str(loaded.path), data, runtime, variant), overrides)
    trained = load(run(config, data, run_dir, runtime, on_progress))
    trained_network = trained.require_sam2("be trained here")
    trained_network.image_size, trained_network.video_pixels = network.image_size, network.video_pixels
    trained_network.still_image_size_override = network.still_image_size_override
    return trained
