"""`masklet bench app`: the server as a page uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import make_record, show_record
from masklet.cli.console import progress_bar
from masklet.cli.shared_options import EvalModel, ReportFile

if TYPE_CHECKING:
    from masklet.benchmark.record import BenchmarkCase

__all__ = ["bench_app"]


def bench_app(
    model: EvalModel = None,
    requests: Annotated[int, typer.Option(help="Requests of each kind.", min=1)] = 100,
    frames: Annotated[int, typer.Option(help="Frames that are shown and tracked.", min=5)] = 60,
    images: Annotated[int, typer.Option(help="Images that are opened and closed.", min=2)] = 200,
    clients: Annotated[int, typer.Option(help="Clients that click at once.", min=1, max=16)] = 8,
    report_file: ReportFile = None,
) -> None:
    """Time hovering, clicks, frames and tracking through the socket of a server, and measure its memory.

    A server starts on synthetic images and a video, and ends with the command. The same video is tracked by the
    library alone, for comparison.

    \b
    Examples:
      masklet bench app --report app.json
      masklet bench app --requests 20 --frames 20 --images 20
    """
    from masklet.benchmark.app_latency import PROTOCOL, AppBenchmarkJob, measure_app

    job = AppBenchmarkJob(model or "builtin", requests, frames, images, clients)
    options = {"requests": requests, "frames": frames, "images": images, "clients": clients}
    cases: list[BenchmarkCase] = []
    with progress_bar("readings", None, enabled=True) as step:

        def on_case(case: BenchmarkCase) -> None:
            cases.append(case)
            if report_file is not None:
                make_record(PROTOCOL, job.model, options, "cpu", None, cases, report_file)
            step()

        measure_app(job, on_case)
    show_record(make_record(PROTOCOL, job.model, options, "cpu", None, cases, report_file))
