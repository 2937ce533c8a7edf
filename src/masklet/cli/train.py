"""`masklet train`: train a model on your own data; `masklet export-weights`: the weights of a run as a file."""

from __future__ import annotations

import time
from math import isnan
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_error

if TYPE_CHECKING:
    from masklet.datasets import DataPaths
    from masklet.train.loop import TrainProgress

__all__ = ["export_weights", "train"]


def train(
    data: Annotated[list[str], typer.Option(help="Training data: PATH or PATH=WEIGHT; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run in it resumes.")],
    model: Annotated[
        str | None, typer.Option(help="A name or a file to start from; default: the built-in model.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data; or give --steps.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.", min=1)] = None,
    batch: Annotated[int, typer.Option(help="Videos or images per batch.", min=1)] = 1,
    clip_length: Annotated[int, typer.Option(help="Frames per clip of a video.", min=1)] = 8,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", "--imgsz", help="Side of the input in pixels; default: that of the model."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; it decays to a tenth. Default: by the model.")
    ] = None,
    freeze: Annotated[list[str] | None, typer.Option(help="Frozen parts: encoder, memory or decoder.")] = None,
    lora: Annotated[
        int, typer.Option(help="Rank of LoRA adapters on attention, which then are all that is trained.")
    ] = 0,
    grad_accum: Annotated[int, typer.Option(help="Batches per optimizer step.", min=1)] = 1,
    precision: Annotated[str | None, typer.Option(help="bf16 or fp32; default: bf16 on cuda, else fp32.")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--override", help="Any field: losses.focal=10, stage.frozen=2; repeatable.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A built-in recipe instead, such as builtin (masklet/train/recipes.py).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, 0 (cuda:0), mps; default: the best available.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare images.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: chosen by torch.")] = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard logs too (extra board).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print time and memory, and stop.")] = False,
) -> None:
    """Train a model on your own images and videos; stopped, the same command resumes.

    The data is COCO, YOLO-seg, image masks, DAVIS, YouTube-VOS, MOSE, LVOS, SA-1B or SA-V: see
    masklet data check. The result is OUT/model.safetensors. Several GPUs: torchrun --nproc-per-node 2 -m masklet
    train ...

    \b
    Examples:
      masklet train --data photos --out runs/photos --epochs 20 --dry-run
      masklet train --data photos --out runs/photos --epochs 20
      masklet train --data videos --data photos=0.5 --model sam2.1_t.pt --out runs/mine --steps 2000 --freeze encoder
      masklet train --data photos --model sam2.1_t.pt --out runs/lora --epochs 10 --lora 8
      masklet train --data images --out runs/builtin --recipe builtin
    """
    from masklet.cpu_threads import fix_threads
    from masklet.errors import InputError, StateError
    from masklet.runtime import resolve_device
    from masklet.train.distributed import is_main_process
    from masklet.train.dry_run import estimate_run
    from masklet.train.finetune import FinetuneOptions, apply_overrides, build_config, export_result
    from masklet.train.loop import RuntimeConfig
    from masklet.train.loop import train as run

    if threads > 0:
        fix_threads(threads)
    runtime = RuntimeConfig(resolve_device(device), workers, tensorboard)
    paths = _parse_weighted_data(data)
    options = FinetuneOptions(
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
    if recipe and (model or options != FinetuneOptions()):
        raise InputError(
            f"--recipe {recipe} has all of these settings itself; change single values by --override, as stage.batch=4"
        )
    config = apply_overrides(build_config(recipe or options, model, paths, runtime), overrides or ())
    try:
        if dry_run:
            typer.echo(estimate_run(config, paths, runtime))
            return
        for number, progress in enumerate(run(config, paths, out, runtime)):
            if is_main_process():
                if number == 0 and progress.step > config.log_every:
                    typer.echo(f"resumed from step {progress.step - config.log_every}")
                typer.echo(_format_progress(progress))
    except StateError as error:  # the remedies for too little memory take several lines
        print_error(str(error), verbose=True)
        raise typer.Exit(ExitCode.ERROR) from None
    if not is_main_process():
        return
    path = export_result(out)
    typer.echo(f"done: {path} ({path.stat().st_size / 1e6:.1f} MB); masklet val --data ... --model {path} measures it")


def export_weights(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors or .pt file to write.")],
    base_weights: Annotated[
        Path | None,
        typer.Option("--base", metavar="FILE", help="The file the run started from, to blend in."),
    ] = None,
    blend_fraction: Annotated[
        float, typer.Option("--weight", metavar="0..1", help="Weight of the run in the blend with --base.")
    ] = 0.7,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file too that is no export of a run.")
    ] = False,
) -> None:
    """Write the weights of a run as a file to use, with config and license inside.

    \b
    Examples:
      masklet export-weights runs/builtin mine.safetensors
      masklet export-weights runs/video mine.safetensors --base before.safetensors --weight 0.7
      masklet segment dog.jpg --point 150,150 --model mine.safetensors
    """
    from masklet.train.export_weights import export_weights as write

    path = write(
        run_dir / "state.pt", target, base_weights=base_weights, blend_fraction=blend_fraction, overwrite=overwrite
    )
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _parse_weighted_data(data: list[str]) -> DataPaths:
    """Read a path, or paths with their weights."""
    from masklet.errors import InputError

    if len(data) == 1 and ("=" not in data[0] or Path(data[0]).exists()):
        return data[0]
    weights: dict[str | PathLike[str], float] = {}
    for item in data:
        path, equals, weight = (item, "", "1") if Path(item).exists() else item.rpartition("=")
        try:
            weights[path or item] = float(weight) if equals or path == item else 1.0
        except ValueError:
            raise InputError(f"--data {item!r} must be PATH or PATH=WEIGHT, such as photos=0.5") from None
    return weights


def _format_progress(progress: TrainProgress) -> str:
    """Format one line of progress, without the metrics that are unknown."""
    left = "" if isnan(progress.seconds_left) else time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
    metrics = {
        "box": progress.first_box_iou,
        "click": progress.first_click_iou,
        "tracked": progress.tracked_iou,
        "presence": progress.object_score_accuracy,
    }
    text = "".join(f"{name} {value:.3f}  " for name, value in metrics.items() if not isnan(value))
    return (
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  {text and 'IoU '}{text}"
        f"{progress.steps_per_second:.2f} steps/s  {left} left"
    )
