"""The WebSocket of a session: clicks, hovering and tracking, with masks in binary messages.

Each request has a `type` and an `id`. Each answer has a sequence number `seq`, and repeats the id as `request`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from masklet.errors import InputError, MaskletError
from masklet.masks.rle import Rle
from masklet.media import SourceImage
from masklet.results import Results
from masklet.server.api_errors import ApiError, error_body, status_of
from masklet.server.api_fields import ApiField, check_fields
from masklet.server.api_routes import (
    ROUTES,
    ApiCall,
    MaskAnswer,
    candidate_work,
    prompt_job,
    result_masks,
)
from masklet.server.backward_check import BackwardCheck
from masklet.server.model_queue import IDLE
from masklet.server.prompt_jobs import check_view, scale_logits
from masklet.server.track_jobs import JobStoppedError, TrackJob
from masklet.server.wire_format import pack_masks, pack_message, unpack_message
from masklet.server.work_sessions import ServerState, WorkSession

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__all__ = ["SessionSocket"]

MAX_PENDING = 16
"""Requests of one WebSocket that are under way."""
RETRY_SECONDS = 0.05
FOLLOW_SECONDS = 0.2
"""How often the project is polled for changes by other clients and processes."""
_BY_NAME = {route.path.rpartition("/")[2]: route for route in ROUTES if route.method == "POST"}
_VERBS = {"predict": _BY_NAME["predict"], "prompt": _BY_NAME["prompts"], "everything": _BY_NAME["everything"]}
_HOVER = {**_VERBS["predict"].body, "logits": ApiField("boolean", "Low-resolution logits as int8 instead of masks.")}
_FOLLOW = {"since": ApiField("integer", "The last revision that the client knows.")}
_PREPARE = {name: _HOVER[name] for name in ("source", "frame", "view")}
_LOGITS = {name: one for name, one in _VERBS["prompt"].body.items() if name not in ("class", "run", "threshold")}
_KINDS = (*_VERBS, "hover", "prepare", "logits", "track", "check_backward", "follow")
_CHECK = {"source": ApiField("integer", "Id of a source.", True)}
_TRACK = {
    "source": ApiField("integer", "Id of a source.", True),
    "objects": ApiField("integers", "Ids of objects; without, all that have prompts."),
    "start": ApiField("integer", "First frame."),
    "stop": ApiField("integer", "The frame after the last one."),
    "bidirectional": ApiField("boolean", "Both ways from the prompts."),
}
_log = logging.getLogger("masklet.server")


class SessionSocket:
    """One WebSocket, until the client leaves."""

    def __init__(self, socket: WebSocket, state: ServerState, session: WorkSession) -> None:
        self.socket, self.state, self.session = socket, state, session
        self.seq = 0
        self.acknowledged = 0
        self._sending = asyncio.Lock()
        self._moved = asyncio.Event()
        """Set by acknowledgements and cancellations, which tracking waits for."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: dict[int, TrackJob] = {}
        self._checks: dict[int, BackwardCheck] = {}
        self._hover: tuple[int, Future[Results]] | None = None
        self._prepared: Future[None] = Future()
        self._following: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer requests until the client leaves; then stop its tracking, which keeps what is done."""
        try:
            while True:
                message = await self.socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("text") if message.get("text") is not None else message.get("bytes")
                await self._take(data if data is not None else b"")
        except (WebSocketDisconnect, RuntimeError):  # it left while something was sent
            return
        finally:
            for job in self._jobs.values():
                job.stop()
            for check in self._checks.values():
                check.stop()
            self._moved.set()
            if self._following is not None:
                self._following.cancel()
                await asyncio.wait([self._following])
            if self._hover is not None:
                self._hover[1].cancel()
            self._prepared.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _take(self, data: bytes | str) -> None:
        """Begin what a message requests; what is malformed is answered, and changes nothing."""
        number, kind = 0, "unknown"
        try:
            self.state.session(self.session.id)
            if len(data) > self.state.limits.max_body_bytes:
                limit = self.state.limits.max_body_bytes
                raise ApiError(413, f"a message of {len(data)} is above max_body_bytes={limit}: send less at once")
            request, payload = unpack_message(data)
            given = request.pop("id", 0)
            number = check_fields({"id": given}, {"id": ApiField("integer", "Number of the request.")}).get("id", 0)
            given_kind = request.pop("type", None)
            if payload:
                raise ApiError(400, f"{len(payload)} bytes of payload came with a request that takes none: remove them")
            if given_kind == "ack":
                one = check_fields(request, {"seq": ApiField("integer", "Last number that was received.", True)})
                self.acknowledged = max(self.acknowledged, min(one["seq"], self.seq))
                self._moved.set()
                return
            if given_kind == "cancel":
                one = check_fields(request, {"request": ApiField("integer", "Id of the request.", True)})
                if one["request"] in self._jobs:
                    self._jobs[one["request"]].stop()
                if one["request"] in self._checks:
                    self._checks[one["request"]].stop()
                self._moved.set()
                return
            if given_kind not in _KINDS:
                known = ", ".join((*_KINDS, "cancel", "ack"))
                raise ApiError(400, f"type={given_kind!r:.40} is unknown; choose {known}")
            kind = given_kind
            if len(self._tasks) >= MAX_PENDING:
                raise ApiError(429, f"{MAX_PENDING} requests are under way: wait for an answer")
            if kind == "follow":
                one = check_fields(request, _FOLLOW)
                if self._following is not None:
                    raise ApiError(409, "this WebSocket follows the project already: one request is enough")
                self._following = asyncio.create_task(self._follow(number, one.get("since", 0)))
                return
            if kind == "track":
                fields = check_fields(request, _TRACK)
                if self._jobs:
                    raise ApiError(409, f"tracking {next(iter(self._jobs))} is under way here: cancel it, or wait")
                for check in self._checks.values():
                    check.stop()
                self._jobs[number] = TrackJob(self.session, self.state.queue, fields)
                work = self._track(number, self._jobs[number])
            elif kind == "check_backward":
                source = self.session.source(check_fields(request, _CHECK)["source"])
                if self._jobs or self._checks:
                    raise ApiError(409, "tracking is under way here: cancel it, or wait")
                self._checks[number] = BackwardCheck(self.session, self.state.queue, source)
                work = self._check_backward(number, self._checks[number])
            elif kind == "hover":
                work = self._answer_hover(number, check_fields(request, _HOVER))
            elif kind == "prepare":
                work = self._prepare(number, check_fields(request, _PREPARE))
            elif kind == "logits":
                work = self._answer_logits(number, check_fields(request, _LOGITS))
            else:
                work = self._answer(number, kind, check_fields(request, _VERBS[kind].body))
        except (InputError, ApiError) as error:
            await self._send_error(number, error)
            return
        finally:
            self.state.metrics.add("masklet_messages_total", type=kind)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, kind: str, fields: dict[str, Any]) -> None:
        """Answer a verb that HTTP has too."""
        call = ApiCall(self.state, {**fields, "session": self.session.id})
        try:
            answer: MaskAnswer = await run_in_threadpool(_VERBS[kind].handler, call)
            await self._send({"type": "masks", "request": number, **answer.header}, answer.codes)
        except Exception as error:  # every fault is one answer, and the socket goes on
            await self._send_error(number, error)

    async def _answer_logits(self, number: int, fields: dict[str, Any]) -> None:
        """Send the logits behind the mask of prompts, for other thresholds and soft edges; nothing is stored."""
        try:
            job = await run_in_threadpool(prompt_job, ApiCall(self.state, {**fields, "session": self.session.id}))
            if not job.given:
                raise ApiError(400, "logits are those of prompts: give points, box or mask")
            known, payload = await run_in_threadpool(self.state.queue.run, job.logits)
            header = {"type": "logits", "request": number, "source": job.source.id, "frame": job.frame}
            await self._send_message({**header, **known}, payload)
        except Exception as error:  # every fault is one answer, and the socket goes on
            await self._send_error(number, error)

    async def _answer_hover(self, number: int, fields: dict[str, Any]) -> None:
        """Preview what a click would give, unless a newer request overtakes this one while it waits."""
        with_logits = fields.pop("logits", False)
        call = ApiCall(self.state, {**fields, "session": self.session.id})
        if self._hover is not None:
            self._hover[1].cancel()
        mine: Future[Results] = Future()  # holds the place until the frame is read
        self._hover = (number, mine)
        try:
            work = await run_in_threadpool(candidate_work, call)
            if mine.cancelled():
                raise CancelledError
            future = self.state.queue.submit(work)
            self._hover = (number, future)
            results = await asyncio.wrap_future(future)
            header = {"type": "masks", "request": number, "source": fields["source"], "frame": fields.get("frame", 0)}
            if with_logits:
                assert results.logits is not None, "results of an image have logits"
                known, payload = scale_logits(results.logits)
                await self._send_message({**header, "type": "logits", **known}, payload)
            else:
                await self._send(header, result_masks(results))
        except (CancelledError, asyncio.CancelledError):
            self.state.metrics.add("masklet_hover_overtaken_total")
            await self._send({"type": "overtaken", "request": number})
        except Exception as error:
            await self._send_error(number, error)

    async def _prepare(self, number: int, fields: dict[str, Any]) -> None:
        """Encode a frame while nothing else waits, so that hovering begins at once; a newer request takes its place."""
        self._prepared.cancel()
        mine = self._prepared = Future()  # holds the place until the frame is read
        try:
            frame = await run_in_threadpool(self.session.frame, fields["source"], fields.get("frame", 0))
            if mine.cancelled():
                raise CancelledError
            image = SourceImage(frame.rgb, frame.path)
            view = check_view(fields.get("view"), frame.size)
            future = self._prepared = self.state.queue.submit(lambda model: model.prepare(image, view=view), IDLE)
            await asyncio.wrap_future(future)
            await self._send({"type": "prepared", "request": number})
        except (CancelledError, asyncio.CancelledError):
            await self._send({"type": "overtaken", "request": number})
        except Exception as error:
            await self._send_error(number, error)

    async def _follow(self, number: int, known: int) -> None:
        """Send the revision of the project whenever it moved, by whichever client or process."""
        try:
            while True:
                revision = await run_in_threadpool(lambda: self.session.project.revision)
                if revision != known:
                    known = revision
                    await self._send({"type": "changed", "request": number, "revision": revision})
                await asyncio.sleep(FOLLOW_SECONDS)
        except MaskletError as error:  # the project was closed, or cannot be read
            await self._send_error(number, error)

    async def _track(self, number: int, job: TrackJob) -> None:
        """Send the masks of each frame as it is tracked, at most `max_unacknowledged` ahead of the client."""
        frames, state = 0, self.state
        sent: list[int] = []
        future: Future[Results | None] | None = None
        try:
            while True:
                while future is None and not job.stopped and self._num_ahead(sent) >= state.limits.max_unacknowledged:
                    self._moved.clear()
                    await self._moved.wait()
                try:
                    future = future or job.step()
                except ApiError as error:
                    if error.status != 429:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)  # the clicks that fill the queue come first
                    continue
                results = await asyncio.wrap_future(future)
                future = None
                if results is None:
                    break
                frames += 1
                state.metrics.add("masklet_tracked_frames_total")
                header = {"type": "frame", "request": number, "source": job.request["source"]}
                header |= {"frame": int(results.frame_idx or 0), "time": results.time, "num_done": frames}
                if self._num_ahead(sent) + 1 < state.limits.max_unacknowledged:
                    with suppress(ApiError):  # the model tracks the next frame while this one is sent
                        future = job.step()
                sent = [one for one in sent if one > self.acknowledged]
                sent.append(await self._send(header, await run_in_threadpool(result_masks, results)))
            ended: dict[str, Any] = {"type": "done", "canceled": False}
        except JobStoppedError:
            ended = {"type": "done", "canceled": True}
        except Exception as error:  # the run ends; the session and the server do not
            ended = {"type": "error", **self._described(error)}
        finally:
            await run_in_threadpool(job.finish)
            self._jobs.pop(number, None)
        await self._send({**ended, "request": number, "num_frames": frames})

    async def _check_backward(self, number: int, check: BackwardCheck) -> None:
        """Track backward while nothing else waits for the model; what differs is in the doubts then."""
        try:
            while True:
                try:
                    future = check.step()
                except ApiError as error:
                    if error.status != 429:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if not await asyncio.wrap_future(future):
                    break
            ended: dict[str, Any] = {"type": "done", "canceled": check.stopped}
        except Exception as error:  # the run ends; the session and the server do not
            ended = {"type": "error", **self._described(error)}
        finally:
            await run_in_threadpool(check.finish)
            self._checks.pop(number, None)
        await self._send({**ended, "request": number, "num_frames": check.num_frames})

    def _num_ahead(self, sent: Sequence[int]) -> int:
        """Return how many messages the client has not acknowledged."""
        return sum(one > self.acknowledged for one in sent)

    def _described(self, error: BaseException) -> dict[str, Any]:
        """Return an error as the client sees it, and log those that are faults."""
        if status_of(error) == 500:
            self.state.metrics.add("masklet_errors_total")
            _log.error("a request of a WebSocket failed", exc_info=error)
        return error_body(error)

    async def _send_error(self, number: int, error: BaseException) -> None:
        await self._send_message({"type": "error", "request": number, **self._described(error)})

    async def _send(self, header: dict[str, Any], codes: Sequence[tuple[dict[str, Any], Rle]] = ()) -> int:
        """Send masks and return the number of the message."""
        objects, payload = pack_masks(codes)
        return await self._send_message({**header, "objects": objects}, payload)

    async def _send_message(self, header: dict[str, Any], payload: bytes = b"") -> int:
        """Number a message and send it; a client that has left gets none."""
        async with self._sending:
            self.seq += 1
            with suppress(WebSocketDisconnect, RuntimeError):
                await self.socket.send_bytes(pack_message({**header, "seq": self.seq}, payload))
            return self.seq
