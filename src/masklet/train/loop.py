"""The training loop: one, visible, from the first step to the last."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from masklet.errors import StateError
from masklet.models.base import ImageFeatures
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.inference import FastEncoder
from masklet.train.checkpoint import Average, RunState, restore, save
from masklet.train.clips import ClipBatch, Clips
from masklet.train.config import Stage, TrainConfig
from masklet.train.data import Batch, Stills, batches, find_sources
from masklet.train.losses import Cost
from masklet.train.prompting import ask
from masklet.train.start import fill_trunk, go_on_from, initialise
from masklet.train.synth import Synthesiser
from masklet.train.unroll import follow

__all__ = ["Progress", "begin", "train"]

Encode = Callable[[Tensor], ImageFeatures]
STATE_FILE, LOG_FILE = "state.pt", "log.csv"


@dataclass(frozen=True)
class Progress:
    """What is reported every so often."""

    step: int
    steps: int
    loss: float
    box_iou: float
    """Best of three, first round."""
    click_iou: float
    """Best of three, first round."""
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


def begin(config: TrainConfig) -> RunState:
    """The state before the first step: the model to go on from, or random weights and the photograph-trained trunk."""
    torch.manual_seed(config.seed)
    model = SAM2(CONFIGS[config.model])
    initialise(model)
    if config.start:
        go_on_from(model, config.start)
    elif isinstance(model.image_encoder.trunk, ConvNet):
        fill_trunk(model.image_encoder.trunk)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(model, config), lr=0.0, betas=(0.9, 0.98), foreach=True)
    return RunState(model, Average(model, config.ema), optimizer, torch.Generator().manual_seed(config.seed))


def _groups(model: SAM2, config: TrainConfig) -> list[dict[str, object]]:
    """By share of the learning rate, and matrices and vectors apart: vectors are not decayed."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = config.share_of(name)
        if share > 0:
            groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "scale": share, "weight_decay": config.weight_decay if matrix else 0.0}
        for (share, matrix), parameters in groups.items()
    ]


def _freeze(model: nn.Module, config: TrainConfig, stage: Stage) -> None:
    """Let learn what the run teaches, but for the first stages of the trunk where the stage says so."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(config.share_of(name) > 0)
    trunk = model.get_submodule("image_encoder.trunk")
    if isinstance(trunk, ConvNet) and stage.frozen:
        for part in (trunk.stem, *trunk.stages[: stage.frozen]):
            part.requires_grad_(False)


def _encoder(model: SAM2) -> Encode:
    """How pictures are encoded: without gradients, in half the time, where nothing of the encoder learns."""
    decoder = model.sam_mask_decoder
    parts = (model.image_encoder, decoder.conv_s0, decoder.conv_s1)
    if any(parameter.requires_grad for part in parts for parameter in part.parameters()):
        return model.encode_image
    fast = FastEncoder(model)
    return torch.no_grad()(lambda pixels_B3SS: fast(pixels_B3SS))


def _batches(config: TrainConfig, stage: Stage, first: int, data: Path) -> Iterator[Batch | ClipBatch]:
    """What a stage learns from, from sample number `first` on: stills, or clips made of them."""
    sources, objects = find_sources(data, config.sources), stage.prompts.objects
    if stage.frames == 1:
        return batches(
            Stills(sources, size=stage.size, batch=stage.batch, objects=objects, seed=config.seed, first=first)
        )
    cutouts = find_sources(data, config.cutouts or config.sources)
    maker = Synthesiser(sources, cutouts, size=stage.size, frames=stage.frames, objects=objects)
    return batches(Clips(maker, batch=stage.batch, seed=config.seed, first=first))


def train(config: TrainConfig, data: Path, out: Path) -> Iterator[Progress]:
    """Run or resume `config` on the sources under `data`; the state lives in `out`.

    Yields a `Progress` every `report_every` steps. Stop the iteration, or the process, at any moment: the next call
    goes on from the last checkpoint and gives what an uninterrupted run gives.

    Raises:
        SourceError: a source is missing or damaged.
        CheckpointError: `out` holds the state of another run.
        StateError: the loss is no longer a number.
    """
    find_sources(data, config.sources + config.cutouts)
    state = begin(config)
    if (out / STATE_FILE).exists():
        restore(out / STATE_FILE, state)
    while state.step < config.steps:
        stage, first = config.stage_at(state.step)
        _freeze(state.model, config, stage)
        encode = _encoder(state.model)
        clock, seen = time.perf_counter(), 0
        for batch in _batches(config, stage, state.samples, data):
            costs = _step(config, state, encode, batch)
            seen += stage.batch
            state.samples += stage.batch
            if state.step % config.report_every == 0:
                speed = seen / (time.perf_counter() - clock)
                clock, seen = time.perf_counter(), 0
                progress = _report(config, state.step, costs, speed / stage.batch)
                _log(out / LOG_FILE, progress)
                yield progress
            stage_over = state.step == first + stage.steps
            if state.step % config.save_every == 0 or stage_over:
                save(out / STATE_FILE, state, config)
            if stage_over:
                break


def _step(config: TrainConfig, state: RunState, encode: Encode, batch: Batch | ClipBatch) -> dict[str, list[Cost]]:
    """One update of the weights."""
    rate = config.rate_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    state.optimizer.zero_grad(set_to_none=True)
    costs = _costs(config, state, encode, batch)
    loss = torch.stack([cost.total for rounds in costs.values() for cost in rounds]).mean()
    if not torch.isfinite(loss):
        raise StateError(f"the loss is {float(loss)} at step {state.step}; lower the learning rate and resume")
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    state.optimizer.step()
    state.average.update(state.model)
    state.step += 1
    return costs


def _costs(config: TrainConfig, state: RunState, encode: Encode, batch: Batch | ClipBatch) -> dict[str, list[Cost]]:
    """Encode each picture once, then ask for its objects; in clips, follow them."""
    prompts = config.stage_at(state.step)[0].prompts
    if isinstance(batch, ClipBatch):
        features = encode(normalised(batch.pixels_BT3SS.flatten(0, 1)))
        return follow(state.model, features, batch, prompts=prompts, losses=config.losses, generator=state.generator)
    features = state.model.without_memory(encode(normalised(batch.pixels_B3SS)))
    return ask(state.model, features, batch, prompts=prompts, losses=config.losses, generator=state.generator)


def normalised(pixels_B3SS: Tensor) -> Tensor:
    """uint8 RGB to what the networks see."""
    mean = 255 * torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)
    deviation = 255 * torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    return ((pixels_B3SS.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)


def _report(config: TrainConfig, step: int, costs: dict[str, list[Cost]], steps_per_second: float) -> Progress:
    every = [cost for rounds in costs.values() for cost in rounds]
    first = [rounds[-1].single_iou for kind, rounds in costs.items() if kind not in ("tracked", "corrected")]
    tracked = costs.get("tracked", [])
    return Progress(
        step=step,
        steps=config.steps,
        loss=sum(float(cost.total.detach()) for cost in every) / len(every),
        box_iou=costs["box"][0].best_iou if "box" in costs else math.nan,
        click_iou=costs["click"][0].best_iou if "click" in costs else math.nan,
        single_iou=_mean(first),
        rate=config.rate_at(step - 1),
        steps_per_second=steps_per_second,
        tracked_iou=_mean([cost.settled_iou for cost in tracked]),
        presence=_mean([cost.presence for cost in tracked]),
    )


def _mean(values: list[float]) -> float:
    """Of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _log(path: Path, progress: Progress) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(Progress.__dataclass_fields__)
        writer.writerow([f"{value:.6g}" for value in vars(progress).values()])
