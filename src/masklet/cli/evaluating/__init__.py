"""`masklet eval`: a command a protocol, one file each; the protocols are in `masklet.evaluate`."""

from __future__ import annotations

import typer

from masklet.cli.evaluating.clicks import clicks
from masklet.cli.evaluating.davis import davis, synthetic
from masklet.cli.evaluating.everything import everything
from masklet.cli.evaluating.interactive import interactive
from masklet.cli.evaluating.predicting import davis16, davis17, lvos, mose, sav, ytvos
from masklet.cli.evaluating.report import report
from masklet.cli.evaluating.scoring import score
from masklet.cli.evaluating.scribbles import scribbles
from masklet.cli.evaluating.sets import sets
from masklet.cli.evaluating.stills import stills

__all__ = ["app"]

app = typer.Typer(help="Measure how good a model is.", no_args_is_help=True)
COMMANDS = (
    stills,
    clicks,
    everything,
    davis,
    synthetic,
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
    sets,
)
for command in COMMANDS:
    app.command(command.__name__)(command)


@app.callback()
def _group() -> None:
    """Measure how good a model is."""
