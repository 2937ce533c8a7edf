"""A server for the page and for `masklet.client`: projects, prompts and tracking over HTTP and WebSockets.

application      `make_app` and `serve`
server_options   address, folders, token, bounds
request_guard    Host, Origin, token, headers of answers
api_routes       the verbs, and the library calls that answer them
api_fields       checks of what comes in
api_errors       how errors go out
openapi          the description of the verbs
session_socket   clicks, hovering and tracking over a WebSocket
wire_format      its messages
track_jobs       tracking that stops between frames
model_queue      one model for all
work_sessions    sessions and the videos that they have open
upload_files     uploads in chunks
server_metrics   numbers for Prometheus

Starlette and uvicorn come with the extra `app`, and are imported by `application` alone and what it uses.
"""

from __future__ import annotations

from masklet.server.server_options import ServerLimits, ServerOptions

__all__ = ["ServerLimits", "ServerOptions"]
