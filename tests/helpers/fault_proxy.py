"""An HTTP proxy that fails as a test wants: refuse, cut, slow down or stall single answers."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_HEADERS = {"transfer-encoding", "connection", "keep-alive", "date", "server"}


@dataclass
class FaultProxy:
    """Faults wait for requests whose method and path match; each happens once.

    Kinds: "503", "403", "cut" (half a body, then the end), "slow" (in small pieces), "stall" (half a body, then
    nothing), and "before" with a function that runs before the request is passed on.
    """

    url: str = ""
    requests: list[str] = field(default_factory=list)
    faults: list[tuple[str, str, str, Callable[[], object] | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, method: str, path: str, action: Callable[[], object] | None = None) -> None:
        with self.lock:
            self.faults.append((kind, method, path, action))

    def take(self, method: str, path: str) -> tuple[str, Callable[[], object] | None]:
        with self.lock:
            self.requests.append(f"{method} {path}")
            for fault in self.faults:
                if fault[1] == method and fault[2] in path:
                    self.faults.remove(fault)
                    return fault[0], fault[3]
        return "", None


@contextmanager
def fault_proxy(port: int, stall_s: float = 4.0) -> Iterator[FaultProxy]:
    """Run a proxy for the server on `port` of this machine."""
    proxy = FaultProxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            kind, action = proxy.take(self.command, self.path)
            if action is not None:
                action()
            if kind in ("503", "403"):
                code = "SlowDown" if kind == "503" else "AccessDenied"
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} secret=hidden</Message></Error>"
                self.answer(int(kind), [("Content-Type", "application/xml")], text.encode(), "")
                return
            headers = {key: value for key, value in self.headers.items() if key.lower() != "transfer-encoding"}
            if body:
                headers["Content-Length"] = str(len(body))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
                self.answer(response.status, response.getheaders(), response.read(), kind)
            finally:
                connection.close()

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, kind: str) -> None:
            self.send_response(status)
            has_length = False
            for key, value in headers:
                if key.lower() not in HOP_HEADERS:
                    has_length = has_length or key.lower() == "content-length"
                    self.send_header(key, value)
            if not has_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if kind in ("cut", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(stall_s if kind == "stall" else 0)
                self.close_connection = True
                return
            step = max(1, len(body) // 10) if kind == "slow" else max(1, len(body))
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.wfile.flush()
                time.sleep(0.05 if kind == "slow" else 0)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_one

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the client has gone
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
