"""What a server is started with: address, folders, token, and bounds that keep one client from stopping the others."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path

from masklet.errors import InputError, OutputError
from masklet.exported import RuntimeOptions

__all__ = ["MIN_TOKEN_LENGTH", "ServerLimits", "ServerOptions"]

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True)
class ServerLimits:
    """The bounds of a server; a request beyond one is answered with 413 (size) or 429 (number, time).

    Example:
        >>> ServerLimits(max_sessions=2).max_sessions
        2

    Raises:
        InputError: if a bound is not above 0.
    """

    max_upload_bytes: int = 4 << 30
    """One uploaded file."""
    max_stored_bytes: int = 64 << 30
    """All uploaded files of a project."""
    max_body_bytes: int = 16 << 20
    """One request, so one chunk of an upload, and one message of a WebSocket."""
    max_pixels: int = 64_000_000
    """Width times height of an image or frame."""
    max_frames: int = 200_000
    """Frames of a video."""
    max_sessions: int = 32
    """Sessions that are open; of closed pages they make room for new ones."""
    max_sockets: int = 4
    """WebSockets of a session."""
    max_requests: int = 64
    """Requests that are answered at the same time."""
    max_queue: int = 32
    """Work that waits for the model."""
    max_wait_s: float = 60.0
    """Waiting for the model."""
    max_job_s: float = 7200.0
    """One run of tracking."""
    max_unacknowledged: int = 8
    """Frames of tracking that are sent before the client has acknowledged them."""
    idle_session_s: float = 3600.0
    """A session that is not used for longer is closed."""
    idle_model_s: float = 900.0
    """A model that is not used for longer is released, and loaded again when it is needed."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise InputError(f"{one.name}={value!r} must be a number above 0; leave it out for {one.default}")


@dataclass(frozen=True)
class ServerOptions:
    """How to start a server.

    `projects` is a folder in which projects are made, or one project NAME.masklet. Sources lie in `folders`, in the
    projects, or are uploaded. `host` is the address to listen on; all but those of this machine need a `token`.
    `allowed_hosts` are the names by which browsers may call it, beside localhost and addresses of numbers. `page` is a
    folder of files that are sent at `/` and `/page/`, without a token: the page itself is no secret.

    Example:
        >>> ServerOptions(Path("projects")).is_loopback
        True

    Raises:
        InputError: if the host needs a token, or the token is too short.
    """

    projects: Path
    folders: tuple[Path, ...] = ()
    model: str | None = None
    host: str = "127.0.0.1"
    port: int = 8700
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    limits: ServerLimits = field(default_factory=ServerLimits)
    page: Path | None = None
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    """Threads of the model, and where an exported folder runs."""

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < MIN_TOKEN_LENGTH or not self.token.isascii()):
            raise InputError(
                f"a token of {len(self.token)} characters is refused; it has at least {MIN_TOKEN_LENGTH} of ASCII: "
                'make one with python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        if self.token is None and not self.is_loopback:
            raise InputError(
                f"host {self.host!r} can be reached by other machines, and then a token is needed: give --token, or "
                "set MASKLET_TOKEN, or leave the host out to serve this machine only"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the host."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def roots(self) -> tuple[str, ...]:
        """The real paths of the folders and files from which sources may come."""
        return tuple(os.path.realpath(os.path.expanduser(one)) for one in (*self.folders, self.projects))

    def make_projects_folder(self) -> None:
        """Make the folder of the projects where it is missing, and check that they can be written.

        Raises:
            OutputError: if they cannot.
        """
        is_new_project = self.projects.suffix == ".masklet" and not self.projects.exists()
        folder = self.projects.parent if is_new_project else self.projects
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OutputError(
                f"no project can be written in {folder} ({error.strerror or error}): give this user the right to write "
                "there, or name another folder by --project"
            ) from error

    def confine(self, path: str | os.PathLike[str]) -> Path:
        """Return the real path of a file that lies in one of the folders, links followed.

        Raises:
            InputError: if it does not.
        """
        real = os.path.realpath(os.path.expanduser(path))
        for root in self.roots:
            if real == root or real.startswith(root.rstrip(os.sep) + os.sep):
                return Path(real)
        raise InputError(
            f"{str(path)!r:.200} lies outside of the folders of this server: start it with `masklet serve FOLDER`, or "
            "upload the file"
        )
