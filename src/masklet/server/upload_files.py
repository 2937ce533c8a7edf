"""Uploads in chunks: each says where it belongs, so that a broken connection costs one chunk at most."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path

from masklet.errors import OutputError
from masklet.media.image_source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix
from masklet.server.api_errors import ApiError
from masklet.server.server_options import ServerLimits

__all__ = ["UploadFolder"]

UPLOAD_NAME = re.compile(r"[^\W_][\w .()+,-]{0,199}")
"""One name without folders, and without a first character that means something to a shell or to a file system."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
PART = ".part"
CHUNK_BYTES = 1 << 20


class UploadFolder:
    """The uploaded files of a project: images and videos, and nothing that is a model."""

    def __init__(self, folder: Path, limits: ServerLimits) -> None:
        self.folder, self.limits = folder, limits
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """Return where an upload is stored when it is whole.

        Raises:
            ApiError: if the name is none of an image or a video.
        """
        if not UPLOAD_NAME.fullmatch(name) or RESERVED.fullmatch(name) or name.endswith((".", " ")):
            raise ApiError(
                400, f"{name!r:.80} is no name of a file; give letters, digits, spaces and .-_()+, without folders"
            )
        if not has_suffix(name, IMAGE_SUFFIXES) and not has_suffix(name, VIDEO_SUFFIXES):
            raise ApiError(
                400, f"{name!r:.80} is no image and no video; uploads are these alone: choose such a file, no model"
            )
        return self.folder / name

    def num_bytes(self, name: str) -> int:
        """Return how much of an upload is here, which is the offset of its next chunk.

        Raises:
            ApiError: if the name is invalid.
        """
        path = self.path(name)
        for one in (path, path.with_name(name + PART)):
            if one.is_file():
                return one.stat().st_size
        return 0

    def write(self, name: str, offset: int, chunk: bytes) -> int:
        """Append a chunk at `offset`, and return the size so far; a chunk that is here already changes nothing.

        Raises:
            ApiError: if it leaves a gap, if the file is finished, or a bound is exceeded.
            OutputError: if it cannot be written.
        """
        path = self.path(name)
        part, end = path.with_name(name + PART), offset + len(chunk)
        if end > self.limits.max_upload_bytes:
            raise ApiError(
                413,
                f"{name!r} has more than max_upload_bytes={self.limits.max_upload_bytes}: cut it, or raise the limit",
            )
        with self._lock:
            if path.exists():
                raise ApiError(409, f"{name!r} is uploaded already: choose another name")
            here = self.num_bytes(name)
            if offset > here:
                raise ApiError(409, f"offset={offset} of {name!r} leaves a gap, {here} bytes are here: send from there")
            if end <= here:
                return here
            try:
                self.folder.mkdir(exist_ok=True)
                stored = sum(one.stat().st_size for one in self.folder.iterdir())
                if stored + end - here > self.limits.max_stored_bytes:
                    raise ApiError(
                        413,
                        f"the uploads of this project have max_stored_bytes={self.limits.max_stored_bytes}: delete "
                        "some, or raise the limit",
                    )
                with open(part, "r+b" if part.exists() else "xb") as stream:
                    stream.seek(offset)
                    stream.write(chunk)
            except OSError as error:
                raise OutputError(f"{part} cannot be written ({error.strerror or error}): free some space") from error
        return end

    def finish(self, name: str, sha256: str | None) -> Path:
        """Check the hash of an upload, give it its name and return the path; once more changes nothing.

        Raises:
            ApiError: if there is no such upload, or it has another hash, and then it is deleted.
        """
        path = self.path(name)
        part = path.with_name(name + PART)
        with self._lock:
            if not path.exists():
                if not part.is_file():
                    raise ApiError(404, f"there is no upload {name!r}: send its chunks first")
                digest = hashlib.sha256()
                with open(part, "rb") as stream:
                    while chunk := stream.read(CHUNK_BYTES):
                        digest.update(chunk)
                if sha256 is not None and digest.hexdigest() != sha256.lower():
                    part.unlink()
                    raise ApiError(
                        400, f"{name!r} has the SHA-256 {digest.hexdigest()}, not {sha256:.80}: upload it once more"
                    )
                os.replace(part, path)
        return path
