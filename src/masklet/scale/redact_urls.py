"""Take credentials out of addresses before they are stored or printed."""

from __future__ import annotations

import re

__all__ = ["redact_url", "redact_urls"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_KEY_VALUE = re.compile(
    r"(?i)\b(authorization|x-amz-[a-z-]*|aws_\w+|\w*(?:secret|token|passw(?:or)?d|signature|api_?key|account_key)\w*)"
    r"(['\"]?\s*[=:]\s*['\"]?)(?:(?:bearer|basic)\s+)?[^\s'\",;&)}\]]+"
)


def redact_url(url: str) -> str:
    """Return an address without user, password, query and fragment, which may hold tokens; paths stay as they are.

    Example:
        >>> redact_url("https://me:secret@example.org/a/b.jpg?X-Amz-Signature=12ab")
        'https://example.org/a/b.jpg'
        >>> redact_url("photos/what?.jpg")
        'photos/what?.jpg'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def redact_urls(text: str) -> str:
    """Return a text with each address in it redacted, and with the values of words such as token and secret hidden.

    Example:
        >>> redact_urls("403 for url='https://h/a.jpg?sig=1', Authorization: Bearer abc")
        "403 for url='https://h/a.jpg', Authorization: ..."
    """
    return _KEY_VALUE.sub(r"\1\2...", _URL.sub(lambda match: redact_url(match[0]), text))
