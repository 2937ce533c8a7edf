"""`masklet train`: teach a model with one's own data; `masklet publish`: a run's weights as a file to use."""

from __future__ import annotations

import time
from math import isnan
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import print_error

if TYPE_CHECKING:
    from masklet.datasets import DataPaths
    from masklet.train.config import TrainConfig
    from masklet.train.loop import RuntimeConfig, TrainProgress

__all__ = ["export_weights", "train"]


def train(
    data: Annotated[list[str], typer.Option(help="What to learn from: PATH or PATH=WEIGHT; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there already is resumed.")],
    model: Annotated[
        str | None, typer.Option(help="A name or a file to go on from; default: the built-in one.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="How often everything is seen; or say --steps.")] = None,
    steps: Annotated[int | None, typer.Option(help="Changes of the weights.", min=1)] = None,
    batch: Annotated[int, typer.Option(help="Videos or stills at once.", min=1)] = 1,
    clip_length: Annotated[int, typer.Option(help="Of a video.", min=1)] = 8,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input; default: what the model was made for.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; it falls to a tenth. Default: by the model.")] = None,
    freeze: Annotated[list[str] | None, typer.Option(help="What stays as it is: encoder, memory or decoder.")] = None,
    lora: Annotated[int, typer.Option(help="Rank of adapters on attention, which then are all that learns.")] = 0,
    grad_accum: Annotated[int, typer.Option(help="Passes before the weights change.", min=1)] = 1,
    precision: Annotated[str | None, typer.Option(help="bf16 or fp32; default: bf16 on cuda, else fp32.")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory, a third more time.")
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any field: losses.focal=10, stage.frozen=2.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A run of ours instead, such as builtin (masklet/train/recipes.py).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: the best there is.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare images.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="Processor threads; 0: what torch chooses.")] = 0,
    tensorboard: Annotated[bool, typer.Option("--board", help="Write for TensorBoard too (extra board).")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and stop.")] = False,
) -> None:
    """Teach a model with your own images and videos; stop it and call it again to go on.

    The data is COCO, YOLO-seg, masks beside images, DAVIS, YouTube-VOS, MOSE, LVOS, SA-1B or SA-V: see
    masklet data check. The result is OUT/model.safetensors. Several cards: torchrun --nproc-per-node 2 -m masklet
    train ...

    \b
    Examples:
      masklet train --data photos --out runs/photos --epochs 20 --dry-run
      masklet train --data photos --out runs/photos --epochs 20
      masklet train --data videos --data photos=0.5 --model sam2.1_t.pt --out runs/mine --steps 2000 --freeze encoder
      masklet train --data photos --model sam2.1_t.pt --out runs/lora --epochs 10 --lora 8
      masklet train --data stills --out runs/builtin --recipe builtin
    """
    import torch

    from masklet.errors import InputError, StateError
    from masklet.train.distributed import is_main_process
    from masklet.train.finetune import FinetuneOptions, apply_overrides, build_config, default_device, export_result
    from masklet.train.loop import RuntimeConfig

    if threads > 0:
        torch.set_num_threads(threads)
    machine = RuntimeConfig(device or default_device(), workers, tensorboard)
    wanted = _parse_weighted_data(data)
    wish = FinetuneOptions(
        epochs=epochs,
        steps=steps,
        batch=batch,
        clip_length=clip_length,
        image_size=image_size,
        lr=lr,
        freeze=tuple(freeze or ()),
        lora=lora,
        grad_accum=grad_accum,
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
    )
    if recipe and (model or wish != FinetuneOptions()):
        raise InputError(f"--recipe {recipe} says all of this itself; change single values by --set, as stage.batch=4")
    config = build_config(recipe or wish, model, wanted, machine)
    config = apply_overrides(config, overrides or ())
    try:
        if dry_run:
            from masklet.train.dry_run import estimate_run

            typer.echo(estimate_run(config, wanted, machine))
            return
        _run_training(config, wanted, out, machine)
    except StateError as error:  # what to lower where memory is short takes lines, and all of them are wanted
        print_error(str(error), verbose=True)
        raise typer.Exit(2) from None
    if not is_main_process():
        return
    path = export_result(out)
    typer.echo(f"done: {path} ({path.stat().st_size / 1e6:.1f} MB); masklet val --data ... --model {path} measures it")


def _parse_weighted_data(data: list[str]) -> DataPaths:
    """A path, or paths with their weights."""
    from masklet.errors import InputError

    if len(data) == 1 and ("=" not in data[0] or Path(data[0]).exists()):
        return data[0]
    found: dict[str | PathLike[str], float] = {}
    for item in data:
        path, equals, weight = (item, "", "1") if Path(item).exists() else item.rpartition("=")
        try:
            found[path or item] = float(weight) if equals or path == item else 1.0
        except ValueError:
            raise InputError(f"--data {item!r} must be PATH or PATH=WEIGHT, such as photos=0.5") from None
    return found


def _run_training(config: TrainConfig, data: DataPaths, out: Path, runtime: RuntimeConfig) -> None:
    from masklet.train.distributed import is_main_process
    from masklet.train.loop import train as run

    first = True
    for progress in run(config, data, out, runtime):
        if first and is_main_process() and progress.step > config.log_every:
            typer.echo(f"went on from step {progress.step - config.log_every}")
        first = False
        if is_main_process():
            typer.echo(_format_progress(progress))


def _format_progress(progress: TrainProgress) -> str:
    """One line of progress; what there was none of is left out."""
    left = "" if isnan(progress.seconds_left) else time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
    shown = {
        "box": progress.first_box_iou,
        "click": progress.first_click_iou,
        "tracked": progress.tracked_iou,
        "presence": progress.object_score_accuracy,
    }
    figures = "".join(f"{name} {value:.3f}  " for name, value in shown.items() if not isnan(value))
    return (
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  {figures and 'IoU '}{figures}"
        f"{progress.steps_per_second:.2f} steps/s  {left} left"
    )


def export_weights(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors or .pt file to write.")],
    base_weights: Annotated[
        Path | None, typer.Option("--start", metavar="FILE", help="The file the run went on from, to be mixed in.")
    ] = None,
    fraction: Annotated[float, typer.Option("--share", help="Of the run's weights in the mixture, 0 to 1.")] = 0.7,
) -> None:
    """Write a run's weights as a file to use, with config and license inside.

    \b
    Example:
      masklet publish runs/builtin mine.safetensors
      masklet publish runs/video mine.safetensors --start before.safetensors --share 0.7
      masklet segment dog.jpg --point 150,150 --model mine.safetensors
    """
    from masklet.train.export_weights import export_weights as write

    path = write(run_dir / "state.pt", target, base_weights=base_weights, blend_fraction=fraction)
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
