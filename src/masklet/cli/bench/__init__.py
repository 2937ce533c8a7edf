"""`masklet bench`: how fast models are on this machine; what is measured is in `masklet.benchmark`."""

from __future__ import annotations

import typer

from masklet.cli.bench.bench_mask_generation import everything
from masklet.cli.bench.bench_models import models
from masklet.cli.bench.image import image, startup
from masklet.cli.bench.peers import peers
from masklet.cli.bench.records import compare, update_docs
from masklet.cli.bench.video import video

__all__ = ["app"]

app = typer.Typer(help="Measure how fast models are here.", no_args_is_help=True)
app.command("image")(image)
app.command("everything")(everything)
app.command("video")(video)
app.command("startup")(startup)
app.command("compare")(compare)
app.command("page")(update_docs)
app.command("family")(models)
app.command("peers")(peers)


@app.callback()
def _group() -> None:
    """Measure how fast models are here."""
