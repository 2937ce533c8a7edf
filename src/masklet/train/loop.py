"""Train: one visible loop from the first step to the last, in one process or in several."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from masklet.atomic_files import check_replaceable, write_image
from masklet.datasets import DataPaths
from masklet.errors import MaskletWarning, OutputError, StateError
from masklet.runtime import resolve_device, standard_torch
from masklet.train.checkpoint import TrainState, load_checkpoint, save_checkpoint
from masklet.train.config import TrainConfig, TrainStage
from masklet.train.data import ClipBatch, make_loader, open_train_data
from masklet.train.distributed import DistributedContext, any_rank, average_gradients, broadcast_model, init_distributed
from masklet.train.export_weights import check_export_target
from masklet.train.feature_cache import BatchEncoder, make_encoder
from masklet.train.initialization import build_state, supports_gradient_checkpointing
from masklet.train.losses import LossTerms
from masklet.train.memory_budget import is_out_of_memory, memory_advice
from masklet.train.monitoring import TensorBoardLogger, append_log, draw_prediction_sheet, truncate_log
from masklet.train.prompt_simulation import image_forward
from masklet.train.video_rollout import predict_clip, video_forward

__all__ = [
    "DEFAULT_RUNTIME",
    "RuntimeConfig",
    "TrainContext",
    "TrainProgress",
    "build_context",
    "compute_losses",
    "stage_encoder",
    "train",
    "train_step",
]

STATE_FILE, LOG_FILE, RESULT_FILE = "state.pt", "log.csv", "model.safetensors"
IMAGES_DIR, EMBEDDINGS_DIR, TENSORBOARD_DIR = "predictions", "embeddings", "board"

StepLosses = list[dict[str, list[LossTerms]]]
"""For each pass of a step, the loss terms of each round by type of prompt."""


@dataclass(frozen=True)
class RuntimeConfig:
    """Where a run takes place; its results do not depend on it, except for rounding."""

    device: str = "cpu"
    workers: int = 1
    """Loader processes."""
    tensorboard: bool = False
    """Also write for TensorBoard (extra `board`)."""


DEFAULT_RUNTIME = RuntimeConfig()


@dataclass(frozen=True)
class TrainProgress:
    """What is reported every `log_every` steps; IoU is from 0 to 1, NaN where there was no such prompt."""

    step: int
    steps: int
    loss: float
    first_box_iou: float
    """Best of three masks, first round."""
    first_click_iou: float
    """Best of three masks, first round."""
    single_mask_iou: float
    """Single mask, last round."""
    lr: float
    steps_per_second: float
    tracked_iou: float
    """The mask that a tracker uses, on frames without a prompt where the object is visible."""
    object_score_accuracy: float
    """Fraction of objects whose visibility is predicted correctly, on frames without a prompt."""

    @property
    def seconds_left(self) -> float:
        """Seconds to the end, at the speed of the last steps."""
        return math.nan if self.steps_per_second == 0 else (self.steps - self.step) / self.steps_per_second


@dataclass
class TrainContext:
    """Everything that a step needs."""

    config: TrainConfig
    state: TrainState
    distributed: DistributedContext
    device: torch.device


def train(
    config: TrainConfig, data: DataPaths, run_dir: Path, runtime: RuntimeConfig = DEFAULT_RUNTIME
) -> Iterator[TrainProgress]:
    """Run or resume `config` on `data` (anything that `masklet.datasets.open_mixture` takes) in the folder `run_dir`.

    Yields a `TrainProgress` every `log_every` steps. Stop the iteration, or the process, at any moment: the next call
    resumes from the last checkpoint and gives what an uninterrupted run gives. If torchrun started several processes,
    each learns from its own part of the batches.

    Example:
        >>> for progress in train(config, "photos", Path("runs/photos")):
        ...     print(progress.step, progress.loss)

    Raises:
        SourceError: if a data set is missing, or so damaged that nothing can be learned from it.
        CheckpointError: if `run_dir` holds the state of another run.
        StateError: if the loss is no longer a number, or memory runs out.
    """
    train_data = open_train_data(data, config)
    with init_distributed(runtime.device) as distributed:
        context = build_context(config, run_dir, runtime, distributed)
        state, is_main = context.state, distributed.is_main_process
        with (
            TensorBoardLogger(run_dir / TENSORBOARD_DIR, resume_step=state.step)
            if runtime.tensorboard and is_main
            else nullcontext() as logger
        ):
            while state.step < config.total_steps:
                stage, first = config.stage_at(state.step)
                encode = stage_encoder(context, stage, run_dir / EMBEDDINGS_DIR)
                clips = train_data.clip_dataset(config, stage, state.step, distributed.rank, distributed.world_size)
                batches = make_loader(clips, runtime.workers)
                clock, logged_step = time.perf_counter(), state.step
                while state.step < first + stage.steps:
                    batch, losses = train_step(context, encode, batches)
                    progress = None
                    if state.step % config.log_every == 0:
                        speed = (state.step - logged_step) / (time.perf_counter() - clock)
                        clock, logged_step = time.perf_counter(), state.step
                        progress = _summarize(config, state.step, losses, speed)
                        if is_main:
                            append_log(run_dir / LOG_FILE, vars(progress), logger)
                    if config.image_every and state.step % config.image_every == 0 and is_main:
                        _save_predictions(context, encode, batch, run_dir / IMAGES_DIR, logger)
                    if (state.step % config.save_every == 0 or state.step == first + stage.steps) and is_main:
                        save_checkpoint(run_dir / STATE_FILE, state, config)
                    if progress is not None:  # last: a caller that stops here loses nothing
                        yield progress
        any_rank(False, distributed)  # all wait until the last state is on disk


@standard_torch()
def build_context(
    config: TrainConfig, run_dir: Path, runtime: RuntimeConfig, distributed: DistributedContext
) -> TrainContext:
    """Build the state before the first step, or load it from `run_dir`; the same in all processes.

    Raises:
        InputError: if the device cannot be used.
        OutputError: if `run_dir` cannot be created, or has files of somebody else where those of a run go.
        CheckpointError: if `run_dir` holds the state of another run.
    """
    name = f"cuda:{distributed.local_rank}" if runtime.device == "cuda" else runtime.device
    device = torch.device(resolve_device(name))
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{run_dir} cannot be the folder of a run ({error.strerror or error}); "
            "name a folder that exists or can be made"
        ) from error
    if distributed.is_main_process:
        remedy = "choose another folder for the run, or move the file away"
        check_replaceable(run_dir / LOG_FILE, b"step,", "log of a run", remedy)
        check_export_target(run_dir / RESULT_FILE)
        images = run_dir / IMAGES_DIR
        if not (run_dir / LOG_FILE).exists() and images.is_dir() and any(images.iterdir()):
            raise OutputError(f"{images} has files, and no run has been in {run_dir}, and they are kept: {remedy}")
    state = build_state(config, device)
    if (run_dir / STATE_FILE).exists():
        load_checkpoint(run_dir / STATE_FILE, state, config)
    if distributed.is_main_process:
        truncate_log(run_dir / LOG_FILE, state.step)
    broadcast_model(state.model, distributed)
    return TrainContext(config, state, distributed, device)


@standard_torch()
def stage_encoder(context: TrainContext, stage: TrainStage, cache_dir: Path) -> BatchEncoder:
    """Set which weights learn in `stage`, and return the encoder that fits."""
    context.state.set_trainable(context.config, stage)
    return make_encoder(context.state.model, context.config, cache_dir if context.config.cached_views else None)


@standard_torch()
def train_step(
    context: TrainContext, encode: BatchEncoder, batches: Iterator[ClipBatch]
) -> tuple[ClipBatch, StepLosses]:
    """Update the weights once, from `grad_accum` batches. Returns the last batch and the losses of each.

    Raises:
        StateError: if the loss is no longer a number, or memory runs out.
    """
    config, state, distributed = context.config, context.state, context.distributed
    lr = config.lr_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["scale"]
    state.optimizer.zero_grad(set_to_none=True)
    step_losses: StepLosses = []
    try:
        for i in range(config.grad_accum):
            batch = next(batches)
            for warning in batch.warnings:
                warnings.warn(f"left out: {warning}", MaskletWarning, stacklevel=2)
            batch = batch.to(context.device)
            index = (state.step * config.grad_accum + i) * distributed.world_size + distributed.rank
            losses = compute_losses(context, encode, batch, index)
            loss = torch.stack([terms.total for rounds in losses.values() for terms in rounds]).mean()
            if any_rank(not bool(torch.isfinite(loss)), distributed):  # all stop before one of them spoils the weights
                raise StateError(
                    f"the loss is {float(loss.detach())} at step {state.step}; earlier checkpoints are sound: lower "
                    "the learning rate, or take precision fp32, in another folder"
                )
            (loss / config.grad_accum).backward()  # type: ignore[no-untyped-call]
            step_losses.append(losses)
        average_gradients(state.model.parameters(), distributed)
        nn.utils.clip_grad_norm_((p for p in state.model.parameters() if p.grad is not None), config.grad_clip)
        state.optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, StateError) or not is_out_of_memory(error):
            raise
        raise _out_of_memory_error(context) from error
    state.ema.update(state.model)
    state.step += 1
    return batch, step_losses


def compute_losses(
    context: TrainContext, encode: BatchEncoder, batch: ClipBatch, batch_index: int
) -> dict[str, list[LossTerms]]:
    """Encode each image once, then prompt its objects; track them through videos.

    Returns the loss terms of each round by type of prompt. `batch_index` counts the batches of the run.
    """
    config, model = context.config, context.state.model
    prompts = config.stage_at(context.state.step)[0].prompts
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + batch_index)
    with torch.autocast(context.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features = encode(batch)
        if batch.num_frames == 1:
            features = model.add_no_memory_embedding(features)
            return image_forward(model, features, batch, prompts=prompts, losses=config.losses, generator=generator)
        return video_forward(model, features, batch, prompts=prompts, losses=config.losses, generator=generator)


def _out_of_memory_error(context: TrainContext) -> StateError:
    config, state = context.config, context.state
    stage = config.stage_at(state.step)[0]
    has_checkpointing = supports_gradient_checkpointing(state.model)
    advice = memory_advice(
        batch=stage.batch,
        objects=stage.prompts.max_objects,
        clip_length=stage.clip_length,
        image_size=stage.image_size,
        grad_accum=config.grad_accum,
        gradient_checkpointing=config.gradient_checkpointing if has_checkpointing else None,
        frozen_encoder=config.lr_multiplier("image_encoder") == 0,
    )
    return StateError(f"there is not enough memory for step {state.step + 1}; {advice}")


def _summarize(config: TrainConfig, step: int, step_losses: StepLosses, steps_per_second: float) -> TrainProgress:
    all_terms = [terms for losses in step_losses for rounds in losses.values() for terms in rounds]
    prompted = [rounds for losses in step_losses for kind, rounds in losses.items() if kind in ("box", "click", "mask")]
    tracked = [terms for losses in step_losses for terms in losses.get("tracked", [])]
    return TrainProgress(
        step=step,
        steps=config.total_steps,
        loss=sum(float(terms.total.detach()) for terms in all_terms) / len(all_terms),
        first_box_iou=_nan_mean([losses["box"][0].best_iou for losses in step_losses if "box" in losses]),
        first_click_iou=_nan_mean([losses["click"][0].best_iou for losses in step_losses if "click" in losses]),
        single_mask_iou=_nan_mean([rounds[-1].single_mask_iou for rounds in prompted]),
        lr=config.lr_at(step - 1),
        steps_per_second=steps_per_second,
        tracked_iou=_nan_mean([terms.selected_iou for terms in tracked]),
        object_score_accuracy=_nan_mean([terms.object_score_accuracy for terms in tracked]),
    )


def _nan_mean(values: list[float]) -> float:
    """Return the mean of the values that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


@standard_torch()
@torch.no_grad()
def _save_predictions(
    context: TrainContext, encode: BatchEncoder, batch: ClipBatch, folder: Path, logger: TensorBoardLogger | None
) -> None:
    """Draw what a user would get for the last batch: a box on the first frame, then tracking."""
    with torch.autocast(context.device.type, torch.bfloat16, enabled=context.config.precision == "bf16"):
        predicted_NTSS: Tensor = predict_clip(context.state.model, encode(batch), batch)
    tensors = (batch.pixels_BT3SS, batch.masks_NTSS, predicted_NTSS, batch.clip_index_N)
    sheet = draw_prediction_sheet(*(tensor.cpu() for tensor in tensors))
    write_image(folder / f"step_{context.state.step:06d}.png", sheet)
    if logger is not None:
        logger.add_image(context.state.step, "predictions", sheet)
