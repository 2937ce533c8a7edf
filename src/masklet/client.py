"""`Client`: the verbs of `masklet.video.Session` on a server that runs elsewhere (`masklet serve`).

It needs no model: masks come as run-length codes, and are exactly those that the library gives on the server.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import atomic_path
from masklet.errors import InputError, MissingExtraError, OutputError, SourceError
from masklet.masks import rle
from masklet.server.api_errors import ApiError
from masklet.server.wire_format import unpack_masks, unpack_message

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client", "RemoteMasks", "RemoteSource"]

CHUNK_BYTES = 8 << 20
TIMEOUT_S = 120.0
MAX_MESSAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class RemoteMasks:
    """The masks of a frame: `masks` is (N, H, W) bool, `ids` are the objects', `scores` the predicted IoUs."""

    frame_idx: int
    ids: tuple[int, ...]
    masks: npt.NDArray[np.bool_]
    scores: tuple[float, ...]
    states: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


class Client:
    """A session on a server; close it, or use it as a context manager.

    Args:
        url: as `masklet serve` prints it, such as "http://127.0.0.1:8700".
        token: that of the server, if it has one.
        project: the project to work in; None: the one of the server, or "default".
        author: who sets what this client sets.

    Example:
        >>> with Client("http://127.0.0.1:8700") as client:  # doctest: +SKIP
        ...     clip = client.upload("clip.mp4")
        ...     clip.add_prompt(1, 0, points=[[210, 350]])
        ...     for masks in clip.propagate():
        ...         print(masks.frame_idx, masks.ids, masks.states)
        ...     client.export("coco", "clip_coco.zip")

    Raises:
        MissingExtraError: if the extra `app` is not installed.
        SourceError: if there is no server.
        ApiError: if it refuses the session.
    """

    def __init__(
        self, url: str, token: str | None = None, *, project: str | None = None, author: str | None = None
    ) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError.for_package("httpx2", "app") from error
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"url={url!r:.80} is no address of a server; write it as http://127.0.0.1:8700")
        self.url, self.token = url.rstrip("/"), token
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, follow_redirects=False)
        self._failures: tuple[type[Exception], ...] = (httpx2.HTTPError, ValueError)
        try:
            opened = self.request("POST", "/api/sessions", {"project": project, "author": author})
        except BaseException:
            self._http.close()
            raise
        self.session = f"/api/sessions/{opened['id']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the session; the project stays on the server."""
        try:
            self.request("DELETE", self.session)
        except (ApiError, SourceError):  # it is closed already, or the server has gone
            pass
        finally:
            self._http.close()

    def request(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """Call any route of /api/openapi.json and return its JSON.

        Raises:
            ApiError: if the server refuses; the message is its own.
            SourceError: if it does not answer.
        """
        sent: dict[str, Any] = {"content": query.pop("content")} if "content" in query else {"json": body or {}}
        try:
            given = {key: value for key, value in query.items() if value is not None}
            response = self._http.request(method, path, params=given, **({} if method == "GET" else sent))
            answer = response.json()
        except self._failures as error:
            raise SourceError(
                f"{self.url} does not answer as a server of masklet does ({error}): start it with masklet serve, or "
                "correct the address"
            ) from error
        if response.status_code != 200:
            raise ApiError(response.status_code, str(answer.get("error", {}).get("message", response.status_code)))
        return dict(answer)

    def upload(self, path: str | os.PathLike[str], *, name: str | None = None) -> RemoteSource:
        """Upload an image or a video in chunks, from where an earlier try ended, and return it as a source.

        Raises:
            SourceError: if the file cannot be read.
            ApiError: if the server refuses it: too large, no image or video, or another content than was sent.
        """
        file, digest = Path(path), hashlib.sha256()
        route = f"{self.session}/uploads/{quote(name or file.name, safe='')}"
        offset = int(self.request("GET", route)["offset"])
        try:
            with open(file, "rb") as stream:
                position = 0
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                    if position + len(chunk) > offset:
                        self.request("PUT", route, offset=position, content=chunk)
                    position += len(chunk)
        except OSError as error:
            raise SourceError(f"{file} cannot be read ({error.strerror or error}); upload another file") from error
        if position == 0:
            raise SourceError(f"{file} is empty: upload an image or a video")
        return RemoteSource(self, self.request("POST", f"{route}/finish", {"sha256": digest.hexdigest()}))

    def add_source(self, path: str) -> RemoteSource:
        """Add a file that lies on the server, in a folder that it was started with.

        Raises:
            ApiError: if it lies elsewhere, is too large or cannot be read.
        """
        return RemoteSource(self, self.request("POST", f"{self.session}/sources", {"path": path}))

    def sources(self) -> list[RemoteSource]:
        """Return the sources of the project."""
        return [RemoteSource(self, one) for one in self.request("GET", f"{self.session}/sources")["sources"]]

    def undo(self) -> list[int]:
        """Undo the last action, and return the numbers of what was reverted."""
        return list(self.request("POST", f"{self.session}/undo")["actions"])

    def redo(self) -> list[int]:
        """Repeat what was undone last, and return the numbers of the repeated actions."""
        return list(self.request("POST", f"{self.session}/redo")["actions"])

    def export(self, data_format: str, path: str | os.PathLike[str], *, verified_only: bool = False) -> Path:
        """Export the project in a format of `Project.export` to one ZIP file here, and return its path.

        Raises:
            ApiError: if there is no such format.
            OutputError: if the file cannot be written.
        """
        body = {"format": data_format, "verified_only": verified_only}
        made = self.request("POST", f"{self.session}/export", body)
        try:
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                with self._http.stream("GET", f"{self.session}/exports/{made['name']}") as response:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                if file.tell() != made["bytes"]:
                    raise OutputError(f"{path} has {file.tell()} bytes of {made['bytes']}: export once more")
        except self._failures as error:
            raise SourceError(f"{self.url} broke off ({error}): export once more") from error
        return Path(path)


class RemoteSource:
    """An image or a video of a session, with the verbs of `masklet.video.Session`.

    `info` has its id, name, size (height, width) and number of frames.
    """

    def __init__(self, client: Client, info: dict[str, Any]) -> None:
        self.client, self.info, self.id = client, info, int(info["id"])

    def frame(self, frame_idx: int = 0) -> npt.NDArray[np.uint8]:
        """Return a frame, (H, W, 3) RGB, with the pixels that the model sees.

        Raises:
            ApiError: if there is no such frame.
        """
        path = f"{self.client.session}/sources/{self.id}/frames/{frame_idx}"
        response = self.client._http.get(path)
        if response.status_code != 200:
            raise ApiError(response.status_code, str(response.json()["error"]["message"]))
        return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))

    def add_prompt(
        self,
        object_id: int,
        frame_idx: int = 0,
        *,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> RemoteMasks:
        """Set the prompts of an object on a frame, store the mask that the model answers, and return it.

        Unlike those of a `Session`, these replace the earlier ones of the object on the frame, as in a project.
        `object_id` is 1 or more: the number of the object in this source, which is added if it is missing.

        Raises:
            ApiError: if the prompt is malformed, or there is no such frame.
        """
        body = {
            "object": self._object(object_id),
            "frame": frame_idx,
            "points": None if points is None else np.asarray(points, float).reshape(-1, 2).tolist(),
            "labels": None if labels is None else np.asarray(labels, int).reshape(-1).tolist(),
            "box": None if box is None else np.asarray(box, float).reshape(-1).tolist(),
            "mask": None if mask is None else rle.encode(np.asarray(mask, bool)),
        }
        answer = self.client.request("POST", f"{self.client.session}/prompts", body)
        numbers = {body["object"]: object_id}
        return self._masks([(one, one["rle"]) for one in answer["objects"]], frame_idx, numbers)

    def everything(self, frame_idx: int = 0, *, preset: str = "default", store: bool = False) -> RemoteMasks:
        """Segment everything on a frame, best first; with `store`, each mask becomes an object of the project.

        Raises:
            ApiError: if there is no such frame or preset.
        """
        body = {"source": self.id, "frame": frame_idx, "preset": preset, "store": store}
        answer = self.client.request("POST", f"{self.client.session}/everything", body)
        return self._masks([(one, one["rle"]) for one in answer["objects"]], frame_idx, {})

    def propagate(
        self, start: int | None = None, stop: int | None = None, *, bidirectional: bool = False
    ) -> Iterator[RemoteMasks]:
        """Track the objects and yield the masks of each frame as it comes; the server stores them.

        Leave the loop to stop: what was tracked is kept. The server is at most a few frames ahead.

        Raises:
            ApiError: if there is nothing to track, or tracking fails.
            SourceError: if the connection breaks.
        """
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        token = self.client.token
        url = f"ws{self.client.url.removeprefix('http')}{self.client.session}/socket"
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        request = {"type": "track", "id": 1, "source": self.id, "bidirectional": bidirectional}
        request |= {key: value for key, value in (("start", start), ("stop", stop)) if value is not None}
        numbers = {one["id"]: one["number"] for one in self._objects()}
        try:
            with connect(url, additional_headers=headers, max_size=MAX_MESSAGE_BYTES, proxy=None) as socket:
                socket.send(json.dumps(request))
                running = True
                try:
                    while True:
                        header, payload = unpack_message(socket.recv())
                        running = header["type"] == "frame"
                        if header["type"] == "error":
                            raise ApiError(header["error"]["status"], header["error"]["message"])
                        if not running:
                            return
                        yield self._masks(unpack_masks(header, payload), header["frame"], numbers)
                        socket.send(json.dumps({"type": "ack", "seq": header["seq"]}))
                finally:
                    if running:  # the caller left: wait until what was tracked is stored
                        socket.send(json.dumps({"type": "cancel", "request": 1}))
                        while unpack_message(socket.recv(TIMEOUT_S))[0]["type"] == "frame":
                            pass
        except (WebSocketException, OSError) as error:
            raise SourceError(
                f"the connection to {self.client.url} broke ({error}): what was tracked is stored, continue from there"
            ) from error

    def _objects(self) -> list[dict[str, Any]]:
        return list(self.client.request("GET", f"{self.client.session}/objects", source=self.id)["objects"])

    def _object(self, number: int) -> int:
        """Return the id of the object of a number in this source, and add it if it is missing."""
        for one in self._objects():
            if one["number"] == number:
                return int(one["id"])
        body = {"source": self.id, "number": number}
        return int(self.client.request("POST", f"{self.client.session}/objects", body)["id"])

    def _masks(
        self, found: Sequence[tuple[dict[str, Any], rle.Rle]], frame_idx: int, numbers: dict[Any, int]
    ) -> RemoteMasks:
        """Decode masks; ids are the numbers of objects in the source."""
        height, width = self.info["size"]
        masks = [rle.decode(code) for _, code in found]
        return RemoteMasks(
            frame_idx,
            tuple(int(numbers.get(known["object"], known["object"])) for known, _ in found),
            np.stack(masks) if masks else np.zeros((0, height, width), bool),
            tuple(float(known["score"]) for known, _ in found),
            tuple(str(known.get("state", "visible")) for known, _ in found),
        )
