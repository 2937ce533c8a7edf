"""`masklet bench`: how fast models are on this machine; what is measured is in `masklet.bench`."""

from __future__ import annotations

import typer

from masklet.cli.benchmarking.compare import compare
from masklet.cli.benchmarking.everything import everything
from masklet.cli.benchmarking.family import family
from masklet.cli.benchmarking.image import image
from masklet.cli.benchmarking.page import page
from masklet.cli.benchmarking.peers import peers
from masklet.cli.benchmarking.startup import startup
from masklet.cli.benchmarking.video import video

__all__ = ["app"]

app = typer.Typer(help="Measure how fast models are here.", no_args_is_help=True)
app.command("image")(image)
app.command("everything")(everything)
app.command("video")(video)
app.command("startup")(startup)
app.command("compare")(compare)
app.command("page")(page)
app.command("family")(family)
app.command("peers")(peers)


@app.callback()
def _group() -> None:
    """Measure how fast models are here."""
