"""`make_app`: the ASGI application, and `serve`, which runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from masklet.errors import InputError, MissingExtraError
from masklet.server.api_errors import ApiError, error_body, status_of
from masklet.server.server_options import ServerOptions

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles
except ImportError as _error:
    raise MissingExtraError.for_package(_error.name or "starlette", "app") from _error

from masklet.server.api_fields import check_fields, parse_query
from masklet.server.api_routes import ROUTES, ApiCall, ApiFile, ApiRoute, MaskAnswer
from masklet.server.openapi import describe_api
from masklet.server.request_guard import RequestGuard
from masklet.server.session_socket import SessionSocket
from masklet.server.wire_format import parse_json_object
from masklet.server.work_sessions import ServerState

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__all__ = ["make_app", "run_server", "serve", "server_config"]

CHECK_SECONDS = 10.0
"""How often idle sessions and an idle model are searched for."""
STOP_SECONDS = 5.0
"""How long a server that gets a signal to stop waits for work under way: docker and others kill after ten."""
_log = logging.getLogger("masklet.server")


def make_app(options: ServerOptions, load: Callable[[], Any] | None = None) -> Starlette:
    """Make the application; `load` returns the model, by default that of the options.

    Example:
        >>> app = make_app(ServerOptions(Path("projects")))  # doctest: +SKIP
    """
    state = ServerState(options, load)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                with suppress(ApiError):
                    await run_in_threadpool(state.close_idle)
                    await run_in_threadpool(state.queue.release_idle)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            await run_in_threadpool(state.close)

    async def describe(request: Request) -> Response:
        return JSONResponse(describe_api())

    routes: list[Route | Mount | WebSocketRoute] = [
        Route(one.path, _endpoint(state, one), methods=[one.method], name=one.handler.__name__) for one in ROUTES
    ]
    if options.page is not None:
        page = StaticFiles(directory=options.page)
        routes += [Route("/", partial(_send_page, options.page)), Mount("/page", page)]
    routes += [
        Route("/api/openapi.json", describe),
        WebSocketRoute("/api/sessions/{session}/socket", partial(_open_socket, state)),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(RequestGuard, state=state)],
        exception_handlers={HTTPException: _refuse, Exception: _refuse},
    )
    app.state.masklet = state
    return app


def serve(options: ServerOptions) -> None:
    """Run a server until it is interrupted.

    Raises:
        MissingExtraError: if the extra `app` is not installed.
        InputError: if the address is taken, or not of this machine.
    """
    run_server(make_app(options), options)


def run_server(app: Starlette, options: ServerOptions, on_start: Callable[[int], None] | None = None) -> None:
    """Run an application until it is interrupted; `on_start` gets the port when the server listens.

    Raises:
        InputError: if the address is taken, or not of this machine.
    """
    os.environ.setdefault("MASKLET_MAX_IMAGE_PIXELS", str(options.limits.max_pixels))
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        bound = socket.create_server(address[:2], family=family)
    except OSError as error:
        app.state.masklet.close()
        raise InputError(
            f"{options.host}:{options.port} cannot be listened on ({error.strerror or error}): choose another --port, "
            "or a --host of this machine"
        ) from error
    with bound:
        if on_start is not None:
            on_start(bound.getsockname()[1])
        _BoundedStopServer(server_config(app, options)).run([bound])


class _BoundedStopServer(uvicorn.Server):
    """A server that ends soon after a signal, even in the middle of work that cannot be interrupted.

    It may: an action is on disk before it is acknowledged, and all else is given up as by `kill -9`.
    """

    stop_signal: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.stop_signal = sig
        if sig == signal.SIGTERM:  # the usual end of a service: status 0, and no second signal afterward
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = threading.Timer(STOP_SECONDS, self._give_up)
        timer.daemon = True
        if self.stop_signal is not None:  # not where a test ends a server within its own process
            timer.start()
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        number = signal.Signals(self.stop_signal or signal.SIGTERM)
        _log.warning(
            "masklet: %s: work under way did not end within %g s and is given up; what was acknowledged is stored",
            number.name,
            STOP_SECONDS,
        )
        os._exit(128 + number)


def server_config(app: Starlette, options: ServerOptions) -> uvicorn.Config:
    """Return how uvicorn runs an application: with bounds, without its own log of addresses."""
    return uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=options.limits.max_body_bytes,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
        h11_max_incomplete_event_size=64 << 10,
    )


def _endpoint(state: ServerState, route: ApiRoute) -> Callable[[Request], Awaitable[Response]]:
    """Make what Starlette calls: read the body within its bound, check the fields, call the handler on a thread."""

    async def answer(request: Request) -> Response:
        status = 500
        try:
            body = b"".join([chunk async for chunk in _bounded(request, state.limits.max_body_bytes)])
            path = parse_query(request.path_params, route.path_fields)
            query = parse_query(dict(request.query_params), route.query)
            fields = {} if route.binary or not body else check_fields(parse_json_object(body), route.body)
            if not route.binary and not body:
                check_fields({}, route.body)
            call = ApiCall(state, {**query, **fields, **path}, body if route.binary else b"")
            response = _to_response(await run_in_threadpool(route.handler, call))
            status = response.status_code
        except ClientDisconnect:
            status = 400
            response = JSONResponse({}, status)  # nobody reads it
        except Exception as error:
            response = await _refuse(request, error)
            status = response.status_code
        finally:
            state.metrics.add("masklet_requests_total", route=route.handler.__name__, status=status)
        return response

    return answer


async def _send_page(folder: Path, request: Request) -> Response:
    """Send the page."""
    return FileResponse(folder / "index.html", media_type="text/html; charset=utf-8")


async def _bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body of a request.

    Raises:
        ApiError: if it has more bytes than the limit, as soon as that is known.
    """
    declared = request.headers.get("content-length", "0")
    count = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else 0
    if count > limit:
        raise ApiError(413, f"a body of {count} bytes is above max_body_bytes={limit}: send it in chunks")
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > limit:
            raise ApiError(413, f"the body is above max_body_bytes={limit}: send it in chunks")
        yield chunk


def _to_response(answer: Any) -> Response:
    """Make a response of what a handler returned."""
    if isinstance(answer, MaskAnswer):
        return JSONResponse({**answer.header, "objects": [{**known, "rle": code} for known, code in answer.codes]})
    if isinstance(answer, ApiFile):
        headers = {"content-disposition": "inline"}
        if isinstance(answer.content, Path):
            return FileResponse(answer.content, media_type=answer.media_type, filename=answer.content.name)
        return Response(answer.content, media_type=answer.media_type, headers=headers)
    return JSONResponse(answer)


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error as JSON; faults go to the log."""
    if isinstance(error, HTTPException):
        known = {404: "there is no such address", 405: "the method is not allowed here"}
        text = f"{request.method} {request.url.path!r:.100}: {known.get(error.status_code, error.detail)}"
        refused = ApiError(error.status_code, f"{text}; /api/openapi.json lists all: use one of these")
        return JSONResponse(error_body(refused), error.status_code, error.headers)
    status = status_of(error)
    if status == 500:
        request.app.state.masklet.metrics.add("masklet_errors_total")
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    headers = {"retry-after": "1"} if status == 429 else None
    return JSONResponse(error_body(error), status, headers)


async def _open_socket(state: ServerState, websocket: WebSocket) -> None:
    """Accept the WebSocket of a session that is open and has not too many."""
    try:
        session = state.session(websocket.path_params["session"])
        if session.num_sockets >= state.limits.max_sockets:
            raise ApiError(429, f"max_sockets={state.limits.max_sockets} are open in this session: close one")
    except ApiError as error:
        await websocket.close(1008, str(error)[:100])
        return
    protocols = websocket.headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
    session.num_sockets += 1
    session.had_socket = True
    try:
        await websocket.accept("masklet" if "masklet" in protocols else None)
        await SessionSocket(websocket, state, session).run()
    finally:
        session.num_sockets -= 1
