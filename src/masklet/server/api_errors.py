"""What a request that fails is answered with: a status of HTTP, and one sentence with value, rule and remedy."""

from __future__ import annotations

from masklet.errors import InputError, MaskletError, MissingExtraError, ModelError, OutputError, SourceError, StateError

__all__ = ["ApiError", "error_body", "status_of"]

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (SourceError, 400),
    (InputError, 400),
    (StateError, 409),
    (MissingExtraError, 501),
    (ModelError, 503),
    (OutputError, 507),
)
_KINDS = {400: "invalid", 401: "token", 403: "forbidden", 404: "missing", 405: "method", 409: "state", 413: "too_large"}
_KINDS |= {429: "busy", 500: "internal", 501: "extra", 503: "model", 507: "storage"}


class ApiError(MaskletError):
    """A request that is refused; `status` is that of HTTP.

    Example:
        >>> ApiError(404, "there is no session 'x': open one").status
        404
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: BaseException) -> int:
    """Return the status of an error; 500 for what masklet does not raise on purpose."""
    if isinstance(error, ApiError):
        return error.status
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def error_body(error: BaseException) -> dict[str, object]:
    """Return the JSON of an error; a fault of masklet itself keeps its text in the log of the server.

    Example:
        >>> error_body(ApiError(404, "there is no session 'x': open one"))["error"]["kind"]
        'missing'
    """
    status = status_of(error)
    message = str(error)
    if status == 500:
        message = f"masklet failed with {type(error).__name__}; the log of the server has the details: try again"
    return {"error": {"status": status, "kind": _KINDS.get(status, "error"), "message": message}}
