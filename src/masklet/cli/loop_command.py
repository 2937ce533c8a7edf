"""`masklet loop`: rounds in which a model labels videos, people verify, and the model learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.console import print_notice, progress_bar
from masklet.cli.shared_options import Quiet

__all__ = ["loop"]

MAX_SHOWN_ENTRIES = 20
"""Masks of the queue that are printed; all are in loop.json."""


def loop(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data engine; made if it is new.")],
    add: Annotated[
        list[Path] | None, typer.Option("--add", metavar="VIDEOS", help="A video, or a folder of videos, to add.")
    ] = None,
    add_batch: Annotated[
        list[Path] | None,
        typer.Option("--add-batch", metavar="OUT", help="Output of `masklet batch --task track`: videos with masks."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The first model; default: the built-in one.")] = None,
    reviews: Annotated[int | None, typer.Option(min=1, help="Masks to look at in a round; default: 50.")] = None,
    selection: Annotated[
        str | None, typer.Option(help="doubts: the most doubtful masks. random: any. Default: doubts.")
    ] = None,
    everything: Annotated[str | None, typer.Option(help="Density of objects: fast, default, fine.")] = None,
    max_objects: Annotated[int | None, typer.Option(min=1, help="Objects of a video at a time; default: 16.")] = None,
    train_steps: Annotated[int | None, typer.Option(min=1, help="Steps of a training run; default: 500.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the input in training; default: the model's.")] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Fraction of the videos that only measure the models; default: 0.25.")
    ] = None,
    train_now: Annotated[
        bool, typer.Option("--train-now", help="Train on what is verified now, whatever is left of the queue.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Label videos, verify what is doubtful, train on it, and begin again; see docs/data_engine.md.

    The command does what it can and stops where people are needed: it prints which masks to look at. Verify them in
    `masklet app DIR/loop.masklet`, and run the same command again. Options stay as they were unless they are given.

    \b
    Examples:
      masklet loop engine --add clips/
      masklet app engine/loop.masklet
      masklet loop engine
      masklet loop engine --add-batch tracks
    """
    from masklet.data_engine import LoopOptions, LoopState, open_loop, run_loop
    from masklet.data_engine.review_queue import open_entries
    from masklet.projects import open_project

    given = {
        "model": model,
        "reviews": reviews,
        "selection": selection,
        "everything": everything,
        "max_objects": max_objects,
        "train_steps": train_steps,
        "image_size": image_size,
        "val_fraction": val_fraction,
    }
    before = LoopState.read(folder)
    options = replace(
        LoopOptions() if before is None else before.options,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    state = open_loop(folder, add or (), options, add_batch or ())
    is_waiting = False
    with progress_bar(f"round {state.current.number}", None, enabled=not quiet) as step:
        for event in run_loop(state, skip_review=train_now):
            if event.total is None:
                print_notice(event.text)
            elif event.step == "review":
                is_waiting = True
            else:
                step(event.text, completed=event.done)
    if not is_waiting:
        return
    current = LoopState.read(folder)
    assert current is not None
    with open_project(current.project_folder) as project:
        waiting = open_entries(project, current.current.queue)
        names = {one.id: one.name for one in project.objects()}
    for entry in waiting[:MAX_SHOWN_ENTRIES]:
        typer.echo(
            f"{entry.source}, frame {entry.frame}: {names[entry.object_id]} ({', '.join(entry.reasons) or 'any'})"
        )
    typer.echo(
        f"{len(waiting)} of {len(current.current.queue)} masks wait for people: verify, correct or delete them in "
        f"`masklet app {current.project_folder}`, then run `masklet loop {folder}` again"
    )
