"""Train a model on what people have verified, and measure whether it got better.

The verified masks of the training videos are written as a COCO dataset, which the trainer reads. Both models are then
measured on the verified masks of the other videos: the score is the mean IoU of masks prompted by a box, and of masks
prompted by one click.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from masklet.atomic_files import write_text
from masklet.data_engine.loop_state import LoopOptions
from masklet.errors import StateError
from masklet.evaluate.image_prompts import image_ious
from masklet.projects import Project, ProjectSource
from masklet.scale.shards import name_hash

if TYPE_CHECKING:
    from masklet.sam import SAM
    from masklet.train.loop import TrainProgress

__all__ = ["is_held_out", "score_model", "train_model"]

PROMPTS = ("box", "click")


def is_held_out(source: ProjectSource, val_fraction: float) -> bool:
    """Whether the masks of a video measure the models, and train none: by a hash of its content."""
    return name_hash(source.sha256) % 10_000 < val_fraction * 10_000


def train_model(
    project: Project,
    model: SAM,
    folder: Path,
    options: LoopOptions,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> Path:
    """Train `model` on the verified masks of the videos that are not held out, and return the file of the new model.

    A run in `folder` that was stopped is resumed.

    Raises:
        StateError: if nobody has verified a mask there, or training fails.
    """
    sources = [one for one in project.sources if not is_held_out(one, options.val_fraction)]
    data, exported = folder / "verified", folder / "verified.json"
    if not exported.is_file():  # a run that was stopped goes on with the data that it began with
        shutil.rmtree(data, ignore_errors=True)
        result = project.export("coco", data, sources=sources, verified_only=True)
        if not result.num_objects:
            raise StateError(
                "there is no verified mask to learn from in the videos that are not held out: verify some, or lower "
                "val_fraction"
            )
        write_text(exported, json.dumps({"revision": project.revision, "objects": result.num_objects}) + "\n")
    return model.train(
        str(data),
        steps=options.train_steps,
        out=folder / "train",
        image_size=options.image_size,
        on_progress=on_progress,
    )


def score_model(project: Project, model: SAM, options: LoopOptions) -> float | None:
    """Return the mean IoU of a model on the verified masks of the held-out videos; None if there are none."""
    sources = [one for one in project.sources if is_held_out(one, options.val_fraction)]
    scores = []
    for sample in project.dataset(sources, verified_only=True).samples if sources else ():
        for frame_idx in sample.frame_indices:
            [frame] = sample.read([frame_idx])
            scores += np.nanmean(image_ious(model.predictor, frame, prompts=PROMPTS)[:, :2], axis=1).tolist()
    return round(float(np.mean(scores)), 4) if scores else None
