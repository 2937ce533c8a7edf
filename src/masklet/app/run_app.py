"""`run_app`: a project with the images and videos that were named, a server with the page, and a browser."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masklet.errors import InputError
from masklet.exported import RuntimeOptions
from masklet.media.image_source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix
from masklet.projects import open_project

__all__ = ["PAGE", "AppOptions", "run_app", "source_files"]

PAGE = Path(__file__).parent / "page"
DEFAULT_PROJECT = Path("masklet_projects/default.masklet")
MAX_SOURCES = 5000
"""Sources that one start adds."""


@dataclass(frozen=True)
class AppOptions:
    """How to start the app; `project` None is NAME.masklet beside the first path.

    Example:
        >>> AppOptions((Path("clips/dog.mp4"),)).project_folder
        PosixPath('clips/dog.masklet')
    """

    paths: tuple[Path, ...] = ()
    model: str | None = None
    project: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8700
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    opens_browser: bool = True
    folders_are_videos: bool = False
    """A folder is one video, whose frames are its images by name, and not so many images."""
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    """Threads, and where an exported folder runs."""

    @property
    def project_folder(self) -> Path:
        """The project that is opened, and made if it is missing."""
        if self.project is not None:
            return self.project if self.project.suffix == ".masklet" else self.project.with_suffix(".masklet")
        if not self.paths:
            return DEFAULT_PROJECT
        first = self.paths[0].absolute()
        return first if first.suffix == ".masklet" else first.with_name(f"{first.stem or 'images'}.masklet")


def source_files(paths: tuple[Path, ...], *, folders_are_videos: bool = False) -> list[Path]:
    """Return the images and videos that paths name: files, and those of folders, sorted by name.

    With `folders_are_videos`, a folder of images is one video.

    Raises:
        InputError: if a path does not exist or is neither image nor video, a folder has none, or there are too many.
    """
    found: list[Path] = []
    for path in paths:
        if path.suffix == ".masklet":
            continue
        if path.is_dir():
            inside = [one for one in sorted(path.iterdir()) if has_suffix(one.name, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))]
            if not inside:
                raise InputError(f"{str(path)!r} has no image and no video: name a folder with some, or files")
            found += [path] if folders_are_videos else inside
        elif path.is_file() and has_suffix(path.name, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)):
            found.append(path)
        else:
            problem = "is neither image nor video" if path.exists() else "does not exist"
            raise InputError(f"{str(path)!r} {problem}: name images, videos or folders of them")
    if len(found) > MAX_SOURCES:
        raise InputError(f"{len(found)} images and videos are above {MAX_SOURCES}: name a smaller folder")
    return found


def run_app(options: AppOptions, notify: Callable[[str], None] | None = None) -> None:
    """Serve the page until interrupted; `notify` gets its address, and what could not be opened.

    Raises:
        InputError: if a path is none of an image or video, the address is taken, or it needs a token.
        MissingExtraError: if the extra `app` is not installed.
    """
    from masklet.server import ServerOptions
    from masklet.server.application import make_app, run_server

    files = source_files(options.paths, folders_are_videos=options.folders_are_videos)
    folder = options.project_folder
    server_options = ServerOptions(
        folder,
        options.paths,
        options.model,
        options.host,
        options.port,
        options.token,
        options.allowed_hosts,
        page=PAGE,
        runtime=options.runtime,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open_project(folder, author="person") as project:
        known = {str(project.source_path(one)) for one in project.sources if project.source_state(one) == "present"}
        for path in files:
            if str(path.absolute()) in known or str(path.resolve()) in known:
                continue
            try:
                project.add_source(path)
            except InputError as error:
                if notify is not None:
                    notify(f"left out: {error}")
    app = make_app(server_options)
    shown = f"[{options.host}]" if ":" in options.host else options.host
    shown = "127.0.0.1" if shown in ("0.0.0.0", "[::]") else shown

    def on_start(port: int) -> None:
        address = f"http://{shown}:{port}/" + (f"#token={options.token}" if options.token else "")
        if notify is not None:
            notify(f"masklet app on {address} with the project {folder}; stop with Ctrl-C")
        threading.Thread(target=_load_model, args=(app.state.masklet,), daemon=True).start()
        if options.opens_browser:
            webbrowser.open(address)

    run_server(app, server_options, on_start)


def _load_model(state: Any) -> None:
    """Load the model, so that the first click does not wait for it; a failure is shown by that click."""
    try:
        state.queue.run(lambda model: model.info())
    except Exception as error:  # the page says so when the model is used
        state.metrics.add("masklet_errors_total", kind=type(error).__name__)
