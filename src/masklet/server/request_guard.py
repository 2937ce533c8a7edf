"""Who may call: the check of Host, Origin and token before anything of a request is read, and headers of answers.

A page of another site that a browser shows can send requests to servers on the same machine. It cannot set Host to
a name that we allow unless that name leads here (DNS rebinding: hence the check of Host), and cannot hide its Origin.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from masklet.server.api_errors import ApiError, error_body
from masklet.server.work_sessions import ServerState

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SECURITY_HEADERS", "TOKEN_PROTOCOL", "RequestGuard"]

TOKEN_PROTOCOL = "masklet.token."
"""A browser sends the token of a WebSocket as a protocol that begins with this, as it can set no headers there."""
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "font-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class RequestGuard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 401, 403 or 429, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if self.is_page(scope):  # its files have an ETag, so a browser asks whether they changed
                    message["headers"] = [*message["headers"], (b"cache-control", b"no-cache")]
                names = {name.lower() for name, _ in message["headers"]}
                extra = [(key.encode(), value.encode()) for key, value in SECURITY_HEADERS.items()]
                message["headers"] = [*message["headers"], *(one for one in extra if one[0] not in names)]
            await send(message)

        from starlette.responses import JSONResponse

        state = self.state
        try:
            self.check(scope)
            if scope["type"] == "http" and state.num_requests >= state.limits.max_requests:
                raise ApiError(429, f"max_requests={state.limits.max_requests} are under way: repeat this one later")
        except ApiError as error:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:100]})
                return
            response = JSONResponse(error_body(error), error.status)
            if error.status == 401:
                response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send_guarded)
            return
        state.num_requests += scope["type"] == "http"
        try:
            await self.app(scope, receive, send_guarded)
        finally:
            state.num_requests -= scope["type"] == "http"

    def check(self, scope: dict[str, Any] | Any) -> None:
        """Check where a request comes from.

        Raises:
            ApiError: if Host or Origin is not allowed, or the token is missing or wrong.
        """
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name = raw_name.decode("latin-1").lower()
            if name in headers and name in ("host", "origin", "authorization"):
                raise ApiError(400, f"there are two headers {name}: send one")
            headers[name] = raw_value.decode("latin-1")
        host = headers.get("host", "")
        try:
            hostname = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            hostname = ""
        if not self._is_allowed(hostname):
            raise ApiError(
                403,
                f"Host {host!r:.80} is none of this server; call it by localhost or its address, or start it with "
                "--allow-host NAME",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit_netloc(origin) != host.lower():
            raise ApiError(
                403, f"Origin {origin!r:.80} is another site than {host!r:.80}: open the page of this server"
            )
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ApiError(403, "the request comes from a page of another site: open the page of this server")
        token = self.state.options.token
        if token is None or self.is_page(scope):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            protocols = [one.strip() for one in headers.get("sec-websocket-protocol", "").split(",")]
            found = [one for one in protocols if one.startswith(TOKEN_PROTOCOL)] if scope["type"] == "websocket" else []
            given = found[0].removeprefix(TOKEN_PROTOCOL) if found else ""
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode()):
            raise ApiError(401, "the token is missing or wrong: send the header Authorization: Bearer TOKEN")

    def is_page(self, scope: dict[str, Any] | Any) -> bool:
        """Whether a request is for a file of the page, which is no secret."""
        if scope["type"] != "http" or self.state.options.page is None:
            return False
        return scope["path"] == "/" or bool(scope["path"].startswith("/page/"))

    def _is_allowed(self, hostname: str) -> bool:
        """Whether a name is one of this server: localhost, an address of numbers, or one that was allowed."""
        options = self.state.options
        if hostname in ("localhost", options.host.lower(), *map(str.lower, options.allowed_hosts)):
            return True
        try:
            address = ipaddress.ip_address(hostname)
        except ValueError:
            return False
        return address.is_loopback or not options.is_loopback


def urlsplit_netloc(origin: str) -> str:
    """Return host and port of an origin in small letters; empty if it is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""
