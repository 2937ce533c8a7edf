"""The training loop: one, visible, from the first step to the last."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from masklet.errors import StateError
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.sam2.convnet import ConvNet
from masklet.train.checkpoint import Average, RunState, restore, save
from masklet.train.config import TrainConfig
from masklet.train.data import Batch, Stills, batches, find_sources
from masklet.train.losses import Cost
from masklet.train.prompting import unroll
from masklet.train.start import fill_trunk, initialise

__all__ = ["Progress", "begin", "train"]

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

    @property
    def seconds_left(self) -> float:
        """Were every remaining step as fast as the last ones."""
        return math.nan if self.steps_per_second == 0 else (self.steps - self.step) / self.steps_per_second


def begin(config: TrainConfig) -> RunState:
    """The state before the first step: our own random weights, and the photograph-trained trunk."""
    torch.manual_seed(config.seed)
    model = SAM2(CONFIGS[config.model])
    initialise(model)
    if isinstance(model.image_encoder.trunk, ConvNet):
        fill_trunk(model.image_encoder.trunk)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(model, config), lr=0.0, betas=(0.9, 0.98), foreach=True)
    return RunState(model, Average(model, config.ema), optimizer, torch.Generator().manual_seed(config.seed))


def _groups(model: SAM2, config: TrainConfig) -> list[dict[str, object]]:
    """Trunk and rest, matrices and vectors: vectors are not decayed, the trunk learns slower."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_trunk = name.startswith(("image_encoder.trunk.stem", "image_encoder.trunk.stages"))
        groups.setdefault((in_trunk, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "scale": config.trunk_rate if in_trunk else 1.0,
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for (in_trunk, matrix), parameters in groups.items()
    ]


def _freeze(model: nn.Module, stages: int) -> None:
    """Let the trunk learn from stage number `stages` on, and all the rest."""
    trunk = model.get_submodule("image_encoder.trunk")
    if isinstance(trunk, ConvNet):
        for number, part in enumerate((trunk.stem, *trunk.stages)):
            part.requires_grad_(stages == 0 or number > stages)


def train(config: TrainConfig, data: Path, out: Path) -> Iterator[Progress]:
    """Run or resume `config` on the sources under `data`; the state lives in `out`.

    Yields a `Progress` every `report_every` steps. Stop the iteration, or the process, at any moment: the next call
    goes on from the last checkpoint and gives what an uninterrupted run gives.

    Raises:
        SourceError: a source is missing or damaged.
        CheckpointError: `out` holds the state of another run.
        StateError: the loss is no longer a number.
    """
    sources = find_sources(data, config.sources)
    state = begin(config)
    if (out / STATE_FILE).exists():
        restore(out / STATE_FILE, state)
    while state.step < config.steps:
        stage, first = config.stage_at(state.step)
        stills = Stills(
            sources,
            size=stage.size,
            batch=stage.batch,
            objects=stage.prompts.objects,
            seed=config.seed,
            first=state.samples,
        )
        _freeze(state.model, stage.frozen)
        clock, seen = time.perf_counter(), 0
        for batch in batches(stills):
            costs = _step(config, state, batch)
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


def _step(config: TrainConfig, state: RunState, batch: Batch) -> dict[str, list[Cost]]:
    """One update of the weights."""
    rate = config.rate_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    state.optimizer.zero_grad(set_to_none=True)
    costs = _costs(config, state, batch)
    loss = torch.stack([cost.total for rounds in costs.values() for cost in rounds]).mean()
    if not torch.isfinite(loss):
        raise StateError(f"the loss is {float(loss)} at step {state.step}; lower the learning rate and resume")
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    state.optimizer.step()
    state.average.update(state.model)
    state.step += 1
    return costs


def _costs(config: TrainConfig, state: RunState, batch: Batch) -> dict[str, list[Cost]]:
    """Encode each picture once, then ask for its objects: some by a box, the others by a click."""
    model, random = state.model, state.generator
    assert isinstance(model, SAM2)
    features = model.without_memory(model.encode_image(normalised(batch.pixels_B3SS)))
    prompts = config.stage_at(state.step)[0].prompts
    rounds = 1 + int(torch.multinomial(torch.tensor(prompts.rounds), 1, generator=random))
    lot_N = torch.rand(len(batch.picture_N), generator=random)
    by_box_N, by_mask_N = lot_N < prompts.box_share, lot_N >= 1 - prompts.mask_share
    costs = {}
    for kind, chosen_N in (("box", by_box_N), ("click", ~by_box_N & ~by_mask_N), ("mask", by_mask_N)):
        if chosen_N.any():
            costs[kind] = unroll(
                model,
                features.take(batch.picture_N[chosen_N]),
                batch.masks_NSS[chosen_N],
                first=kind,
                rounds=rounds,
                noise=prompts.box_noise,
                losses=config.losses,
                generator=random,
            )
    return costs


def normalised(pixels_B3SS: Tensor) -> Tensor:
    """uint8 RGB to what the networks see."""
    mean = 255 * torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)
    deviation = 255 * torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    return ((pixels_B3SS.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)


def _report(config: TrainConfig, step: int, costs: dict[str, list[Cost]], steps_per_second: float) -> Progress:
    every = [cost for rounds in costs.values() for cost in rounds]
    return Progress(
        step=step,
        steps=config.steps,
        loss=sum(float(cost.total.detach()) for cost in every) / len(every),
        box_iou=costs["box"][0].best_iou if "box" in costs else math.nan,
        click_iou=costs["click"][0].best_iou if "click" in costs else math.nan,
        single_iou=sum(rounds[-1].single_iou for rounds in costs.values()) / len(costs),
        rate=config.rate_at(step - 1),
        steps_per_second=steps_per_second,
    )


def _log(path: Path, progress: Progress) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(Progress.__dataclass_fields__)
        writer.writerow([f"{value:.6g}" for value in vars(progress).values()])
