"""`masklet app`: the page on which images and videos are segmented."""

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

__all__ = ["app"]


def app(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH ...]", help="Images, videos, folders of them, or a project NAME.masklet."),
    ] = None,
    model: Model = None,
    project: Annotated[
        Path | None, typer.Option("--project", metavar="DIR", help="Default: NAME.masklet beside the first path.")
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="A folder is one video: its images are the frames, by name.")
    ] = False,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65535)] = 8700,
    token: Token = None,
    allow_host: AllowedHosts = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
    threads: Threads = None,
    providers: Providers = None,
    graph_cache: GraphCache = None,
    quiet: Quiet = False,
) -> None:
    """Open a page on which you point at objects in images and videos, and export their masks; see docs/app.md.

    Everything is saved in the project as you do it. It works without network, and is for this machine only unless
    --host names another address, which needs a token.

    \b
    Examples:
      masklet app photos/
      masklet app clip.mp4 dog.jpg --model sam2.1_t.pt
      masklet app JPEGImages/lucia --frames
      masklet app clip.masklet
    """
    from masklet.app import AppOptions, run_app

    options = AppOptions(
        tuple(paths or ()),
        model,
        project,
        host,
        port,
        token,
        tuple(allow_host or ()),
        opens_browser=not no_browser,
        folders_are_videos=frames,
        runtime=parse_runtime(threads, providers, graph_cache),
    )
    run_app(options, None if quiet else print_notice)
