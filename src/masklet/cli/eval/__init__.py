"""`masklet eval`: a command per protocol; the protocols are in `masklet.evaluate`."""

from __future__ import annotations

import typer

from masklet.cli.eval.benchmarks import davis16, davis17, lvos, mose, sav, ytvos
from masklet.cli.eval.clicks import clicks
from masklet.cli.eval.images import images
from masklet.cli.eval.interactive import interactive
from masklet.cli.eval.mask_generation import mask_generation
from masklet.cli.eval.scoring import datasets, report, score
from masklet.cli.eval.scribbles import scribbles
from masklet.cli.eval.vos import doubts, synthetic, vos

__all__ = ["app"]

app = typer.Typer(help="Measure the accuracy of a model.", no_args_is_help=True)
COMMANDS = (
    images,
    clicks,
    mask_generation,
    vos,
    synthetic,
    doubts,
    interactive,
    scribbles,
    davis17,
    davis16,
    ytvos,
    mose,
    lvos,
    sav,
    score,
    report,
    datasets,
)
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)
