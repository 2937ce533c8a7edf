"""`masklet train`: run or resume a recipe; `masklet publish`: its weights as a file to use."""

from __future__ import annotations

import time
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from masklet.train.loop import Progress

__all__ = ["publish", "train"]


def train(
    data: Annotated[Path, typer.Option(help="Folder of sources, each with images/ID.jpg and masks/ID.json.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there already is resumed.")],
    recipe: Annotated[str, typer.Option(help="Which run: builtin, builtin_video or smoke.")] = "builtin",
    threads: Annotated[int, typer.Option(help="Processor threads; 0: what torch chooses.")] = 0,
) -> None:
    """Train the built-in model on stills, or its memory on clips made of them; stop it and call it again to go on.

    \b
    Examples:
      masklet train --data stills --out runs/builtin
      masklet train --data stills --out runs/video --recipe builtin_video
      masklet train --data stills --out runs/try --recipe smoke
    """
    import torch

    from masklet.errors import InputError
    from masklet.train.loop import train as run
    from masklet.train.recipes import RECIPES

    if recipe not in RECIPES:
        raise InputError(f"recipe {recipe!r} is unknown; choose one of {', '.join(RECIPES)}")
    if threads > 0:
        torch.set_num_threads(threads)
    for progress in run(RECIPES[recipe](), data, out):
        left = time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
        typer.echo(
            f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  "
            f"first-round IoU: box {progress.box_iou:.3f}, click {progress.click_iou:.3f}  {_tracked(progress)}"
            f"{progress.steps_per_second:.2f} steps/s  {left} left"
        )
    typer.echo(f"done; its state is in {out}; masklet publish {out} FILE.safetensors makes a file to use")


def _tracked(progress: Progress) -> str:
    """What a line says of the frames that were followed; nothing where there were none."""
    if isnan(progress.tracked_iou):
        return ""
    return f"tracked IoU {progress.tracked_iou:.3f}, presence {progress.presence:.3f}  "


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    start: Annotated[
        Path | None, typer.Option("--start", metavar="FILE", help="The file the run went on from, to be mixed in.")
    ] = None,
    share: Annotated[float, typer.Option("--share", help="Of the run's weights in the mixture, 0 to 1.")] = 0.7,
) -> None:
    """Write a run's averaged weights as fp16 safetensors, with config and licence inside.

    \b
    Example:
      masklet publish runs/builtin mine.safetensors
      masklet publish runs/video mine.safetensors --start before.safetensors --share 0.7
      masklet segment dog.jpg --point 150,150 --model mine.safetensors
    """
    from masklet.train.publish import publish as write

    path = write(run / "state.pt", target, start=start, share=share)
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
