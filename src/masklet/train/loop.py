"""The training loop: one, visible, from the first step to the last, in one process or in many."""

from __future__ import annotations

import csv
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from masklet.atomic_files import write_image, write_text
from masklet.datasets import DataPaths
from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.train.checkpoint import TrainState, load_checkpoint, save_checkpoint
from masklet.train.config import Stage, TrainConfig
from masklet.train.data import ClipBatch, make_loader, open_train_data
from masklet.train.distributed import DistributedContext, any_rank, average_gradients, broadcast_model, init_distributed
from masklet.train.feature_cache import BatchEncoder, make_encoder
from masklet.train.initialization import build_state, supports_gradient_checkpointing
from masklet.train.losses import LossTerms
from masklet.train.memory_budget import is_out_of_memory, memory_advice
from masklet.train.monitoring import TensorBoardLogger, draw_prediction_sheet
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

STATE_FILE, LOG_FILE, IMAGES_DIR, EMBEDDINGS_DIR, TENSORBOARD_DIR = (
    "state.pt",
    "log.csv",
    "pictures",
    "embeddings",
    "board",
)


@dataclass(frozen=True)
class RuntimeConfig:
    """Where a run takes place; what is learnt does not depend on it, but for rounding."""

    device: str = "cpu"
    workers: int = 1
    """Processes that make batches."""
    tensorboard: bool = False
    """Write for TensorBoard too (extra `board`)."""


DEFAULT_RUNTIME = RuntimeConfig()
"""The processor."""


@dataclass(frozen=True)
class TrainProgress:
    """What is reported every so often. IoU is of the best of three, 0 to 1; NaN: there was none."""

    step: int
    steps: int
    loss: float
    first_box_iou: float
    """First round."""
    first_click_iou: float
    """First round."""
    single_mask_iou: float
    """Unambiguous mask, last round."""
    lr: float
    steps_per_second: float
    tracked_iou: float
    """Of what a tracker goes on with, on frames without a prompt where the object is in sight."""
    object_score_accuracy: float
    """Share of objects and frames, the same, of which it is known whether the object is in sight."""

    @property
    def seconds_left(self) -> float:
        """Were every remaining step as fast as the last ones."""
        return math.nan if self.steps_per_second == 0 else (self.steps - self.step) / self.steps_per_second


@dataclass
class TrainContext:
    """What a step needs."""

    config: TrainConfig
    state: TrainState
    distributed: DistributedContext
    device: torch.device


def train(
    config: TrainConfig, data: DataPaths, run_dir: Path, runtime: RuntimeConfig = DEFAULT_RUNTIME
) -> Iterator[TrainProgress]:
    """Run or resume `config` on `data` (what `masklet.datasets.open_mixture` takes); the state lives in `out`.

    Yields a `Progress` every `report_every` steps. Stop the iteration, or the process, at any moment: the next call
    goes on from the last checkpoint and gives what an uninterrupted run gives. Started by torchrun, every process
    learns from its own share of the batches.

    Example:
        >>> for progress in train(recipes.finetune("sam2.1_t.pt", steps=1000), "photos", Path("runs/photos")):
        ...     print(progress.step, progress.loss)

    Raises:
        SourceError: a data set is missing, or so damaged that nothing can be learnt from it.
        CheckpointError: `out` holds the state of another run.
        StateError: the loss is no longer a number, or there is not enough memory.
    """
    material = open_train_data(data, config)
    with init_distributed(runtime.device) as own:
        run = build_context(config, run_dir, runtime, own)
        state = run.state
        with (
            TensorBoardLogger(run_dir / TENSORBOARD_DIR, resume_step=state.step)
            if runtime.tensorboard and own.is_main_process
            else nullcontext() as board
        ):
            while state.step < config.total_steps:
                stage, first = config.stage_at(state.step)
                encode = stage_encoder(run, stage, run_dir / EMBEDDINGS_DIR)
                source = make_loader(
                    material.clip_dataset(config, stage, state.step, own.rank, own.world_size), runtime.workers
                )
                clock, before = time.perf_counter(), state.step
                while state.step < first + stage.steps:
                    batch, costs = train_step(run, encode, source)
                    progress = None
                    if state.step % config.log_every == 0:
                        speed = (state.step - before) / (time.perf_counter() - clock)
                        clock, before = time.perf_counter(), state.step
                        progress = _make_progress(config, state.step, costs, speed)
                        if own.is_main_process:
                            _write_log(run_dir / LOG_FILE, board, progress)
                    if config.image_every and state.step % config.image_every == 0 and own.is_main_process:
                        _save_predictions(run, encode, batch, run_dir / IMAGES_DIR, board)
                    if (
                        state.step % config.save_every == 0 or state.step == first + stage.steps
                    ) and own.is_main_process:
                        save_checkpoint(run_dir / STATE_FILE, state, config)
                    if progress is not None:  # last: whoever stops here loses nothing
                        yield progress
        any_rank(False, own)  # all wait until the last state is on disk


def build_context(
    config: TrainConfig, run_dir: Path, runtime: RuntimeConfig, distributed: DistributedContext
) -> TrainContext:
    """The state before the first step, or as it was left; the same in all processes."""
    device = _check_device(f"cuda:{distributed.local_rank}" if runtime.device == "cuda" else runtime.device)
    _create_run_dir(run_dir)
    state = build_state(config, device)
    if (run_dir / STATE_FILE).exists():
        load_checkpoint(run_dir / STATE_FILE, state, config)
    if distributed.is_main_process:
        _truncate_log(run_dir / LOG_FILE, state.step)
    broadcast_model(state.model, distributed)
    return TrainContext(config, state, distributed, device)


def _check_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here ({reason}); name cpu, or leave it out") from error
    return device


def _create_run_dir(out: Path) -> None:
    """Find out before the first step whether there is a place to write to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be the folder of a run ({error.strerror or error}); name a folder that exists or can be made"
        ) from error


def stage_encoder(context: TrainContext, stage: Stage, cache_dir: Path) -> BatchEncoder:
    """How images are encoded in this stage; sets which weights learn in it."""
    context.state.set_trainable(context.config, stage)
    return make_encoder(context.state.model, context.config, cache_dir if context.config.cached_views else None)


def train_step(
    context: TrainContext, encode: BatchEncoder, batches: Iterator[ClipBatch]
) -> tuple[ClipBatch, list[dict[str, list[LossTerms]]]]:
    """One update of the weights."""
    config, state = context.config, context.state
    rate = config.lr_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    state.optimizer.zero_grad(set_to_none=True)
    found = []
    try:
        for turn in range(config.grad_accum):
            batch = _to_device(next(batches), context.device)
            number = (state.step * config.grad_accum + turn) * context.distributed.world_size + context.distributed.rank
            costs = compute_losses(context, encode, batch, number)
            loss = torch.stack([cost.total for rounds in costs.values() for cost in rounds]).mean()
            _check_finite(context, loss)
            (loss / config.grad_accum).backward()  # type: ignore[no-untyped-call]
            found.append(costs)
        average_gradients(state.model.parameters(), context.distributed)
        nn.utils.clip_grad_norm_((p for p in state.model.parameters() if p.grad is not None), config.grad_clip)
        state.optimizer.step()
    except (RuntimeError, MemoryError) as error:
        _raise_memory_error(context, error)
    state.ema.update(state.model)
    state.step += 1
    return batch, found


def compute_losses(
    context: TrainContext, encode: BatchEncoder, batch: ClipBatch, batch_index: int
) -> dict[str, list[LossTerms]]:
    """Encode each image once, then ask for its objects; in videos, follow them. `number` is that of the batch."""
    config, model = context.config, context.state.model
    prompts = config.stage_at(context.state.step)[0].prompts
    dice = torch.Generator().manual_seed(config.seed * 1_000_003 + batch_index)
    with torch.autocast(context.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features = encode(batch)
        if batch.num_frames == 1:
            alone = model.add_no_memory_embedding(features)
            return image_forward(model, alone, batch, prompts=prompts, losses=config.losses, generator=dice)
        return video_forward(model, features, batch, prompts=prompts, losses=config.losses, generator=dice)


def _to_device(batch: ClipBatch, device: torch.device) -> ClipBatch:
    """The batch on its device, and what was broken told."""
    for note in batch.warnings:
        warnings.warn(f"left out: {note}", MaskletWarning, stacklevel=2)
    return batch.to(device)


def _check_finite(context: TrainContext, loss: Tensor) -> None:
    """Stop all processes before one of them spoils the weights."""
    if any_rank(not bool(torch.isfinite(loss)), context.distributed):
        raise StateError(
            f"the loss is {float(loss.detach())} at step {context.state.step}; what was saved before it is sound: lower "  # noqa: E501
            "the learning rate, or take precision fp32, in another folder"
        )


def _raise_memory_error(context: TrainContext, error: RuntimeError | MemoryError) -> NoReturn:
    """Say what would need less memory, where that was the matter."""
    if isinstance(error, StateError) or not is_out_of_memory(error):
        raise error
    stage = context.config.stage_at(context.state.step)[0]
    hint = memory_advice(
        batch=stage.batch,
        objects=stage.prompts.max_objects,
        clip_length=stage.clip_length,
        image_size=stage.image_size,
        grad_accum=context.config.grad_accum,
        gradient_checkpointing=context.config.gradient_checkpointing
        if supports_gradient_checkpointing(context.state.model)
        else None,
        frozen_encoder=context.config.lr_multiplier("image_encoder") == 0,
    )
    raise StateError(f"there is not enough memory for step {context.state.step + 1}; {hint}") from error


def _make_progress(
    config: TrainConfig, step: int, step_losses: list[dict[str, list[LossTerms]]], steps_per_second: float
) -> TrainProgress:
    every = [cost for costs in step_losses for rounds in costs.values() for cost in rounds]
    prompted = [costs[kind] for costs in step_losses for kind in costs if kind not in ("tracked", "corrected")]
    tracked = [cost for costs in step_losses for cost in costs.get("tracked", [])]
    return TrainProgress(
        step=step,
        steps=config.total_steps,
        loss=sum(float(cost.total.detach()) for cost in every) / len(every),
        first_box_iou=_nan_mean([costs["box"][0].best_iou for costs in step_losses if "box" in costs]),
        first_click_iou=_nan_mean([costs["click"][0].best_iou for costs in step_losses if "click" in costs]),
        single_mask_iou=_nan_mean([rounds[-1].single_mask_iou for rounds in prompted]),
        lr=config.lr_at(step - 1),
        steps_per_second=steps_per_second,
        tracked_iou=_nan_mean([cost.selected_iou for cost in tracked]),
        object_score_accuracy=_nan_mean([cost.object_score_accuracy for cost in tracked]),
    )


def _nan_mean(values: list[float]) -> float:
    """Of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _write_log(path: Path, logger: TensorBoardLogger | None, progress: TrainProgress) -> None:
    """A line in the CSV file, and the same for TensorBoard."""
    try:
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(TrainProgress.__dataclass_fields__)
            writer.writerow([value if isinstance(value, int) else f"{value:.6g}" for value in vars(progress).values()])
    except OSError as error:
        raise OutputError(f"{path} could not be written ({error.strerror or error}); make room, then go on") from error
    if logger is not None:
        logger.add_scalars(progress.step, {n: v for n, v in vars(progress).items() if n not in ("step", "steps")})


def _truncate_log(path: Path, step: int) -> None:
    """Take from the log what lies behind `step`, which is about to be done again, and what was cut off."""
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    write_text(path, "".join(lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= step]))


@torch.no_grad()
def _save_predictions(
    context: TrainContext, encode: BatchEncoder, batch: ClipBatch, folder: Path, logger: TensorBoardLogger | None
) -> None:
    """What the model makes of the last batch, as a user would get it: a box on the first frame, then alone."""
    with torch.autocast(context.device.type, torch.bfloat16, enabled=context.config.precision == "bf16"):
        found_NTSS = predict_clip(context.state.model, encode(batch), batch)
    tensors = (batch.pixels_BT3SS, batch.masks_NTSS, found_NTSS, batch.clip_index_N)
    sheet = draw_prediction_sheet(*(tensor.cpu() for tensor in tensors))
    write_image(folder / f"step_{context.state.step:06d}.png", sheet)
    if logger is not None:
        logger.add_image(context.state.step, "predictions", sheet)
