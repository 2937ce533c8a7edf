"""`masklet bench`: how fast models are on this machine; what is measured is in `masklet.bench`."""

from __future__ import annotations

import typer

from masklet.cli.benchmarking.family import family

__all__ = ["app"]

app = typer.Typer(help="Measure how fast models are here.", no_args_is_help=True)
app.command("family")(family)


@app.callback()
def _group() -> None:
    """Measure how fast models are here."""
