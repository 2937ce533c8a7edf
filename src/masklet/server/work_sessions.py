"""Sessions: a client's work on a project, with the videos it has open."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from masklet.errors import InputError, SourceError
from masklet.media import Frame, Video, open_video
from masklet.media.image_source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix
from masklet.projects import Project, ProjectObject, ProjectSource, open_project
from masklet.server.api_errors import ApiError
from masklet.server.model_queue import ModelQueue
from masklet.server.server_metrics import ServerMetrics
from masklet.server.server_options import ServerOptions
from masklet.server.upload_files import UPLOAD_NAME, UploadFolder
from masklet.server.video_review import DoubtFinder

if TYPE_CHECKING:
    from masklet.sam import SAM
    from masklet.video import Session

__all__ = ["ByteCache", "ServerState", "WorkSession"]

K = TypeVar("K")
V = TypeVar("V")

MAX_OPEN_VIDEOS = 4
"""Of a session; the one that was not used for longest is closed."""
MIN_IDLE_SECONDS = 60.0
"""How long a session that never had a WebSocket is kept when another one needs its place.

Pages have one as long as they are open: the sessions of closed ones make room at once.
"""
PLAYLISTS = (b"#EXTM3U", b"ffconcat")
"""How files begin that make FFmpeg open others, which nobody has checked."""
MAX_FRAME_BYTES = 128 << 20
"""Frames that a session keeps decoded: the one that is hovered over is read once."""
MAX_ENCODED_BYTES = 64 << 20
"""Frames that a session keeps as JPEG or PNG."""
ENCODED_IMAGES = 8
"""Images whose encodings the model keeps, so that as many clients click by turns."""
STOP_SECONDS = 60.0
"""How long closing a session waits for the frame that is being tracked."""
SUFFIX = ".masklet"


class ByteCache(Generic[K, V]):
    """Values by key, those used last, of at most `max_bytes` together; for any thread.

    Example:
        >>> cache = ByteCache[int, str](5)
        >>> cache.put(1, "one", 3), cache.put(2, "two", 3), cache.get(1), cache.get(2)
        (None, None, None, 'two')
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._lock = threading.Lock()
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return a value, which is used last by that; None if it is not here."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: K, value: V, num_bytes: int) -> None:
        """Keep a value, unless it is larger than all that may be kept."""
        with self._lock:
            self.num_bytes += num_bytes - self._values.pop(key, (value, 0))[1]
            self._values[key] = (value, num_bytes)
            while self.num_bytes > self.max_bytes:
                _, (_, freed) = self._values.popitem(last=False)
                self.num_bytes -= freed

    def remove(self, unwanted: Callable[[K], bool]) -> None:
        """Remove the values of the keys for which `unwanted` is true."""
        with self._lock:
            for key in list(filter(unwanted, self._values)):
                self.num_bytes -= self._values.pop(key)[1]


class OpenVideo:
    """A source whose frames are read, by one thread at a time."""

    def __init__(self, source: ProjectSource, video: Video) -> None:
        self.source, self.video = source, video
        self.lock = threading.Lock()

    def read(self, index: int) -> Frame:
        """Read a frame."""
        with self.lock:
            return self.video[index]

    def close(self) -> None:
        """Close the video after the frame that is being read."""
        with self.lock:
            self.video.close()


class WorkSession:
    """A client's work on one project."""

    def __init__(self, project: Project, author: str, options: ServerOptions) -> None:
        self.id = secrets.token_urlsafe(16)
        self.project, self.author, self.options = project, author, options
        self.uploads = UploadFolder(project.folder / "uploads", options.limits)
        self.created = time.time()
        self.last_used = time.monotonic()
        self.num_sockets = 0
        self.had_socket = False
        self.jobs: list[tuple[Callable[[], None], threading.Event]] = []
        """How to stop each run of tracking, and what says that it has ended."""
        self.encoded = ByteCache[tuple[int, int, str, int], bytes](MAX_ENCODED_BYTES)
        """Frames as they are sent, by source, frame, format and quality."""
        self.doubts = DoubtFinder(project)
        self._frames = ByteCache[tuple[int, int], Frame](MAX_FRAME_BYTES)
        self._videos: OrderedDict[int, OpenVideo] = OrderedDict()
        self._lock = threading.RLock()
        self._clicks: tuple[int, Session] | None = None
        """The video that was clicked on last; used on the thread of the model alone."""

    def describe(self) -> dict[str, Any]:
        """Return what a client sees of the session."""
        name, revision = self.project.folder.name, self.project.revision
        return {"id": self.id, "project": name, "author": self.author, "created": self.created, "revision": revision}

    def source(self, number: int) -> ProjectSource:
        """Return a source.

        Raises:
            ApiError: if there is none of this id.
        """
        try:
            return self.project.source(number)
        except InputError as error:
            raise ApiError(404, str(error)) from None

    def object(self, number: int) -> ProjectObject:
        """Return an object.

        Raises:
            ApiError: if there is none of this id.
        """
        try:
            return self.project.object(number)
        except InputError as error:
            raise ApiError(404, str(error)) from None

    def check_path(self, path: str | os.PathLike[str]) -> Path:
        """Return the real path of an image, a video or a folder of images that may be opened here.

        Raises:
            ApiError: if it lies outside of the folders of the server, or has too many pixels or frames.
            SourceError: if it cannot be read.
        """
        limits = self.options.limits
        try:
            real = self.options.confine(path)
            if real.is_dir():
                for name in os.listdir(real):
                    self.options.confine(real / name)
            if real.is_file():
                with open(real, "rb") as file:
                    if file.read(16).startswith(PLAYLISTS):
                        raise ApiError(403, f"{real.name} is a playlist, which names other files: add those")
        except (InputError, ValueError) as error:
            raise ApiError(403, str(error)) from None
        except OSError as error:
            raise SourceError(f"{real.name} cannot be read ({error.strerror or error}): check its rights") from None
        with open_video(real) as video:
            height, width = video.size
            if height * width > limits.max_pixels:
                raise ApiError(
                    413,
                    f"{real.name} has {width} x {height} pixels, more than max_pixels={limits.max_pixels}: scale it, "
                    "or raise the limit",
                )
            count = video.num_frames if video.num_frames is not None else video.expected_num_frames
            if count is not None and count > limits.max_frames:
                raise ApiError(
                    413,
                    f"{real.name} has {count} frames, more than max_frames={limits.max_frames}: cut it",
                )
        return real

    def open(self, number: int) -> OpenVideo:
        """Return an open source; the last few stay open.

        Raises:
            ApiError: if there is no such source, or its file may not be opened here.
            SourceError: if its file is missing, has changed or cannot be read.
        """
        source = self.source(number)
        with self._lock:
            if number not in self._videos:
                self.check_path(self.project.source_path(source))
                self._videos[number] = OpenVideo(source, self.project.open_source(source))
            self._videos.move_to_end(number)
            while len(self._videos) > MAX_OPEN_VIDEOS:
                _, oldest = self._videos.popitem(last=False)
                oldest.close()
            return self._videos[number]

    def frame(self, number: int, index: int) -> Frame:
        """Read a frame of a source, with the pixels that the model gets.

        Raises:
            ApiError: if there is no such source or frame.
            SourceError: if it cannot be read.
        """
        self.source(number)
        known = self._frames.get((number, index))
        if known is not None:
            return known
        opened = self.open(number)
        count = opened.source.num_frames
        if index >= (self.options.limits.max_frames if count is None else count):
            raise ApiError(404, f"{opened.source.name!r} has no frame {index}; it has {count}: choose one from 0 on")
        frame = opened.read(index)
        frame.rgb.flags.writeable = False  # several threads have it, and the model knows it by that
        self._frames.put((number, index), frame, frame.rgb.nbytes)
        return frame

    def forget(self, number: int) -> None:
        """Release what is kept of a source that was removed."""
        with self._lock:
            opened = self._videos.pop(number, None)
        if opened is not None:
            opened.close()
        for cache in (self._frames, self.encoded):
            cache.remove(lambda key: key[0] == number)

    def clicks(self, model: SAM, number: int) -> Session:
        """Return the session of the library that answers clicks on a video, on the thread of the model.

        Raises:
            ApiError, SourceError: as for `open`.
        """
        source = self.open(number).source
        if self._clicks is None or self._clicks[0] != number:
            self.release()
            self._clicks = (number, model.session(self.project.open_source(source)))
        return self._clicks[1]

    def release(self) -> None:
        """Close what holds the model, on the thread of the model."""
        if self._clicks is not None:
            self._clicks[1].close()
            self._clicks = None

    def close(self) -> None:
        """Stop the jobs, and close the videos and the project; everything is stored already."""
        for stop, ended in list(self.jobs):
            stop()
            ended.wait(STOP_SECONDS)
        with self._lock:
            for one in self._videos.values():
                one.close()
            self._videos.clear()
        for cache in (self._frames, self.encoded):
            cache.remove(lambda key: True)
        self.project.close()


class ServerState:
    """All that the requests of a server share: options, model, metrics and sessions."""

    def __init__(self, options: ServerOptions, load: Callable[[], Any] | None = None) -> None:
        def load_model() -> Any:
            from masklet.sam import SAM

            runtime = options.runtime
            model = SAM(
                options.model, threads=runtime.threads, providers=runtime.providers, cache_dir=runtime.cache_dir
            )
            model.keep_images(ENCODED_IMAGES)
            return model

        self.options, self.limits = options, options.limits
        self.metrics = ServerMetrics()
        self.queue = ModelQueue(load or load_model, self.limits, self.metrics)
        self.queue.on_release.append(self.release_all)
        self.num_requests = 0
        self._sessions: dict[str, WorkSession] = {}
        self._lock = threading.RLock()

    def projects(self) -> list[str]:
        """Return the names of the projects that a session may open."""
        folder = self.options.projects
        if folder.suffix == SUFFIX:
            return [folder.name]
        return sorted(one.name for one in folder.glob(f"*{SUFFIX}") if (one / "project.sqlite").is_file())

    def files(self, max_files: int) -> list[str]:
        """Return the images and videos of the folders of the server, not of those below."""
        found: list[str] = []
        for root in map(Path, self.options.roots[:-1]):
            for one in [root] if root.is_file() else sorted(root.iterdir()) if root.is_dir() else []:
                if one.is_dir() or has_suffix(one.name, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)):
                    found.append(str(one))
                if len(found) >= max_files:
                    return found
        return found

    def sessions(self) -> list[WorkSession]:
        """Return the open sessions."""
        with self._lock:
            return list(self._sessions.values())

    def session(self, number: str) -> WorkSession:
        """Return a session, which is in use by that.

        Raises:
            ApiError: if there is none of this id.
        """
        with self._lock:
            found = self._sessions.get(number)
        if found is None:
            raise ApiError(404, f"there is no session {number!r:.40}; idle ones are closed: open another one")
        found.last_used = time.monotonic()
        return found

    def open_session(self, name: str | None, author: str | None) -> WorkSession:
        """Open a session on a project, which is made if it is missing.

        Raises:
            ApiError: if there are too many sessions, or the name is none of a project of this server.
            ProjectError, OutputError: if the project cannot be opened.
        """
        folder = self.options.projects
        if folder.suffix == SUFFIX:
            if name not in (None, folder.name, folder.stem):
                raise ApiError(403, f"this server has one project, {folder.name}, and not {name!r:.80}: leave it out")
        else:
            name = "default" if name is None else name.removesuffix(SUFFIX)
            if not UPLOAD_NAME.fullmatch(name):
                raise ApiError(400, f"{name!r:.80} is no name of a project; give letters, digits, spaces and .-_()+,")
            folder = folder / f"{name}{SUFFIX}"
        with self._lock:
            self.close_idle()
            unused = [one for one in self._sessions.values() if not one.num_sockets and not one.jobs]
            now = time.monotonic()
            left = [one for one in unused if one.had_socket or now - one.last_used > MIN_IDLE_SECONDS]
            oldest = min(left, key=lambda one: one.last_used, default=None)
            if len(self._sessions) >= self.limits.max_sessions and oldest is not None:
                self.close_session(oldest.id)
            if len(self._sessions) >= self.limits.max_sessions:
                raise ApiError(429, f"max_sessions={self.limits.max_sessions} are open: close one")
            folder.parent.mkdir(parents=True, exist_ok=True)
            session = WorkSession(open_project(folder, author=author or "person"), author or "person", self.options)
            self._sessions[session.id] = session
        return session

    def close_session(self, number: str) -> None:
        """Close a session.

        Raises:
            ApiError: if there is none of this id.
        """
        session = self.session(number)
        with self._lock:
            self._sessions.pop(number, None)
        session.close()
        if self.queue.model is not None:
            self.queue.submit(lambda model: session.release(), bounded=False)

    def release_all(self) -> None:
        """Close what holds the model in all sessions, on the thread of the model."""
        for session in self.sessions():
            session.release()

    def close_idle(self) -> None:
        """Close the sessions that nobody has used for `idle_session_s` and that have no WebSocket."""
        now = time.monotonic()
        for session in self.sessions():
            if not session.num_sockets and now - session.last_used > self.limits.idle_session_s:
                self.close_session(session.id)

    def close(self) -> None:
        """Close all sessions, and end the thread of the model."""
        for session in self.sessions():
            session.close()
        self.queue.close()
        for session in self.sessions():
            session.release()
        self._sessions.clear()
