"""`masklet bench`: measure the speed of models on this machine (`masklet.benchmark`)."""

from __future__ import annotations

import typer

from masklet.cli.bench.bench_app import bench_app
from masklet.cli.bench.bench_models import models
from masklet.cli.bench.image import image, startup
from masklet.cli.bench.records import compare, update_docs
from masklet.cli.bench.video import video

__all__ = ["app"]

app = typer.Typer(help="Measure the speed of models on this machine.", no_args_is_help=True)
app.command("image")(image)
app.command("video")(video)
app.command("models")(models)
app.command("startup")(startup)
app.command("app")(bench_app)
app.command("compare")(compare)
app.command("update-docs")(update_docs)
