"""`masklet serve`: projects, prompts and tracking over HTTP and WebSockets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.console import print_notice
from masklet.cli.shared_options import (
    AllowedHosts,
    GraphCache,
    Host,
    Model,
    Providers,
    Quiet,
    Threads,
    Token,
    parse_runtime,
)

__all__ = ["serve"]

MEBIBYTE = 1 << 20


def serve(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH ...]", help="Images, videos and folders that clients may open as sources."),
    ] = None,
    model: Model = None,
    project: Annotated[
        Path, typer.Option("--project", metavar="DIR", help="A folder for projects, or one project NAME.masklet.")
    ] = Path("masklet_projects"),
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8700,
    token: Token = None,
    allow_host: AllowedHosts = None,
    max_upload: Annotated[int, typer.Option("--max-upload", metavar="MB", help="Size of one upload.", min=1)] = 4096,
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Width times height of a frame.", min=1)] = 64_000_000,
    max_frames: Annotated[int, typer.Option(metavar="N", help="Frames of a video.", min=1)] = 200_000,
    max_sessions: Annotated[int, typer.Option(metavar="N", help="Sessions that are open.", min=1)] = 32,
    max_queue: Annotated[int, typer.Option(metavar="N", help="Requests that wait for the model.", min=1)] = 32,
    max_job: Annotated[float, typer.Option(metavar="S", help="Seconds of one run of tracking.", min=1)] = 7200.0,
    idle: Annotated[
        float, typer.Option(metavar="S", help="Seconds after which a model that is not used is released.", min=1)
    ] = 900.0,
    threads: Threads = None,
    providers: Providers = None,
    graph_cache: GraphCache = None,
    quiet: Quiet = False,
) -> None:
    """Serve projects over HTTP and WebSockets, for `masklet.client` and other programs; see docs/server.md.

    It listens on this machine only, unless --host names another address, which needs a token.

    \b
    Examples:
      masklet serve videos/
      masklet serve videos/ --project clip.masklet --model sam2.1_t.pt
      MASKLET_TOKEN=... masklet serve videos/ --host 0.0.0.0
    """
    from masklet.server import ServerLimits, ServerOptions

    options = ServerOptions(
        project,
        tuple(paths or ()),
        model,
        host,
        port,
        token,
        tuple(allow_host or ()),
        ServerLimits(
            max_upload_bytes=max_upload * MEBIBYTE,
            max_pixels=max_pixels,
            max_frames=max_frames,
            max_sessions=max_sessions,
            max_queue=max_queue,
            max_job_s=max_job,
            idle_model_s=idle,
        ),
        runtime=parse_runtime(threads, providers, graph_cache),
    )
    from masklet.server import application

    options.make_projects_folder()
    if not quiet:
        shown = f"[{host}]" if ":" in host else host
        print_notice(f"serving http://{shown}:{port} with projects in {project}; stop with Ctrl-C")
    application.serve(options)
