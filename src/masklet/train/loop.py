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
from masklet.train.checkpoint import RunState, restore, save
from masklet.train.config import Stage, TrainConfig
from masklet.train.data import ClipBatch, batches, open_material
from masklet.train.distributed import Ranks, any_rank, average_gradients, ranks, spread
from masklet.train.feature_cache import Encode, encoder_of
from masklet.train.initialization import begin, has_checkpointing
from masklet.train.losses import Cost
from masklet.train.memory_budget import advice, out_of_memory
from masklet.train.monitoring import Board, draw_sheet
from masklet.train.prompt_simulation import ask
from masklet.train.video_rollout import follow, shown

__all__ = ["HERE", "Machine", "Progress", "Run", "costs_of", "encoder_for", "one_step", "start_run", "train"]

STATE_FILE, LOG_FILE, PICTURES, EMBEDDINGS, BOARD = "state.pt", "log.csv", "pictures", "embeddings", "board"


@dataclass(frozen=True)
class Machine:
    """Where a run takes place; what is learnt does not depend on it, but for rounding."""

    device: str = "cpu"
    workers: int = 1
    """Processes that make batches."""
    board: bool = False
    """Write for TensorBoard too (extra `board`)."""


HERE = Machine()
"""The processor."""


@dataclass(frozen=True)
class Progress:
    """What is reported every so often. IoU is of the best of three, 0 to 1; NaN: there was none."""

    step: int
    steps: int
    loss: float
    box_iou: float
    """First round."""
    click_iou: float
    """First round."""
    single_iou: float
    """Unambiguous mask, last round."""
    rate: float
    steps_per_second: float
    tracked_iou: float
    """Of what a tracker goes on with, on frames without a prompt where the object is in sight."""
    presence: float
    """Share of objects and frames, the same, of which it is known whether the object is in sight."""

    @property
    def seconds_left(self) -> float:
        """Were every remaining step as fast as the last ones."""
        return math.nan if self.steps_per_second == 0 else (self.steps - self.step) / self.steps_per_second


@dataclass
class Run:
    """What a step needs."""

    config: TrainConfig
    state: RunState
    own: Ranks
    device: torch.device


def train(config: TrainConfig, data: DataPaths, out: Path, machine: Machine = HERE) -> Iterator[Progress]:
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
    material = open_material(data, config)
    with ranks(machine.device) as own:
        run = start_run(config, out, machine, own)
        state = run.state
        with Board(out / BOARD, resumed=state.step) if machine.board and own.first else nullcontext() as board:
            while state.step < config.steps:
                stage, first = config.stage_at(state.step)
                encode = encoder_for(run, stage, out / EMBEDDINGS)
                source = batches(material.samples(config, stage, state.step, own.rank, own.world), machine.workers)
                clock, before = time.perf_counter(), state.step
                while state.step < first + stage.steps:
                    batch, costs = one_step(run, encode, source)
                    progress = None
                    if state.step % config.report_every == 0:
                        speed = (state.step - before) / (time.perf_counter() - clock)
                        clock, before = time.perf_counter(), state.step
                        progress = _report(config, state.step, costs, speed)
                        if own.first:
                            _log(out / LOG_FILE, board, progress)
                    if config.picture_every and state.step % config.picture_every == 0 and own.first:
                        _picture(run, encode, batch, out / PICTURES, board)
                    if (state.step % config.save_every == 0 or state.step == first + stage.steps) and own.first:
                        save(out / STATE_FILE, state, config)
                    if progress is not None:  # last: whoever stops here loses nothing
                        yield progress
        any_rank(False, own)  # all wait until the last state is on disk


def start_run(config: TrainConfig, out: Path, machine: Machine, own: Ranks) -> Run:
    """The state before the first step, or as it was left; the same in all processes."""
    device = _device(f"cuda:{own.local}" if machine.device == "cuda" else machine.device)
    _make(out)
    state = begin(config, device)
    if (out / STATE_FILE).exists():
        restore(out / STATE_FILE, state, config)
    if own.first:
        _forget(out / LOG_FILE, state.step)
    spread(state.model, own)
    return Run(config, state, own, device)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here ({reason}); name cpu, or leave it out") from error
    return device


def _make(out: Path) -> None:
    """Find out before the first step whether there is a place to write to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be the folder of a run ({error.strerror or error}); name a folder that exists or can be made"
        ) from error


def encoder_for(run: Run, stage: Stage, cache: Path) -> Encode:
    """How pictures are encoded in this stage; sets which weights learn in it."""
    run.state.let_learn(run.config, stage)
    return encoder_of(run.state.model, run.config, cache if run.config.views else None)


def one_step(run: Run, encode: Encode, source: Iterator[ClipBatch]) -> tuple[ClipBatch, list[dict[str, list[Cost]]]]:
    """One update of the weights."""
    config, state = run.config, run.state
    rate = config.rate_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    state.optimizer.zero_grad(set_to_none=True)
    found = []
    try:
        for turn in range(config.accumulate):
            batch = _delivered(next(source), run.device)
            number = (state.step * config.accumulate + turn) * run.own.world + run.own.rank
            costs = costs_of(run, encode, batch, number)
            loss = torch.stack([cost.total for rounds in costs.values() for cost in rounds]).mean()
            _check(run, loss)
            (loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            found.append(costs)
        average_gradients(state.model.parameters(), run.own)
        nn.utils.clip_grad_norm_((p for p in state.model.parameters() if p.grad is not None), config.clip)
        state.optimizer.step()
    except (RuntimeError, MemoryError) as error:
        _tell_memory(run, error)
    state.average.update(state.model)
    state.step += 1
    return batch, found


def costs_of(run: Run, encode: Encode, batch: ClipBatch, number: int) -> dict[str, list[Cost]]:
    """Encode each picture once, then ask for its objects; in films, follow them. `number` is that of the batch."""
    config, model = run.config, run.state.model
    prompts = config.stage_at(run.state.step)[0].prompts
    dice = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features = encode(batch)
        if batch.frames == 1:
            alone = model.without_memory(features)
            return ask(model, alone, batch, prompts=prompts, losses=config.losses, generator=dice)
        return follow(model, features, batch, prompts=prompts, losses=config.losses, generator=dice)


def _delivered(batch: ClipBatch, device: torch.device) -> ClipBatch:
    """The batch on its device, and what was broken told."""
    for note in batch.notes:
        warnings.warn(f"left out: {note}", MaskletWarning, stacklevel=2)
    return batch.to(device)


def _check(run: Run, loss: Tensor) -> None:
    """Stop all processes before one of them spoils the weights."""
    if any_rank(not bool(torch.isfinite(loss)), run.own):
        raise StateError(
            f"the loss is {float(loss.detach())} at step {run.state.step}; what was saved before it is sound: lower "
            "the learning rate, or take precision fp32, in another folder"
        )


def _tell_memory(run: Run, error: RuntimeError | MemoryError) -> NoReturn:
    """Say what would need less memory, where that was the matter."""
    if isinstance(error, StateError) or not out_of_memory(error):
        raise error
    stage = run.config.stage_at(run.state.step)[0]
    hint = advice(
        batch=stage.batch,
        objects=stage.prompts.objects,
        frames=stage.frames,
        size=stage.size,
        accumulate=run.config.accumulate,
        checkpointing=run.config.checkpointing if has_checkpointing(run.state.model) else None,
        frozen_encoder=run.config.share_of("image_encoder") == 0,
    )
    raise StateError(f"there is not enough memory for step {run.state.step + 1}; {hint}") from error


def _report(config: TrainConfig, step: int, found: list[dict[str, list[Cost]]], speed: float) -> Progress:
    every = [cost for costs in found for rounds in costs.values() for cost in rounds]
    prompted = [costs[kind] for costs in found for kind in costs if kind not in ("tracked", "corrected")]
    tracked = [cost for costs in found for cost in costs.get("tracked", [])]
    return Progress(
        step=step,
        steps=config.steps,
        loss=sum(float(cost.total.detach()) for cost in every) / len(every),
        box_iou=_mean([costs["box"][0].best_iou for costs in found if "box" in costs]),
        click_iou=_mean([costs["click"][0].best_iou for costs in found if "click" in costs]),
        single_iou=_mean([rounds[-1].single_iou for rounds in prompted]),
        rate=config.rate_at(step - 1),
        steps_per_second=speed,
        tracked_iou=_mean([cost.settled_iou for cost in tracked]),
        presence=_mean([cost.presence for cost in tracked]),
    )


def _mean(values: list[float]) -> float:
    """Of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _log(path: Path, board: Board | None, progress: Progress) -> None:
    """A line in the CSV file, and the same for TensorBoard."""
    try:
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(Progress.__dataclass_fields__)
            writer.writerow([value if isinstance(value, int) else f"{value:.6g}" for value in vars(progress).values()])
    except OSError as error:
        raise OutputError(f"{path} could not be written ({error.strerror or error}); make room, then go on") from error
    if board is not None:
        board.scalars(progress.step, {n: v for n, v in vars(progress).items() if n not in ("step", "steps")})


def _forget(path: Path, step: int) -> None:
    """Take from the log what lies behind `step`, which is about to be done again, and what was cut off."""
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    write_text(path, "".join(lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= step]))


@torch.no_grad()
def _picture(run: Run, encode: Encode, batch: ClipBatch, folder: Path, board: Board | None) -> None:
    """What the model makes of the last batch, as a user would get it: a box on the first frame, then alone."""
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.config.precision == "bf16"):
        found_NTSS = shown(run.state.model, encode(batch), batch)
    tensors = (batch.pixels_BT3SS, batch.masks_NTSS, found_NTSS, batch.clip_N)
    sheet = draw_sheet(*(tensor.cpu() for tensor in tensors))
    write_image(folder / f"step_{run.state.step:06d}.png", sheet)
    if board is not None:
        board.picture(run.state.step, "predictions", sheet)
