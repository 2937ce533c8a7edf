"""Pictures behind http and https addresses."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request

from masklet.errors import SourceError
from masklet.media.pictures import Picture, from_bytes

__all__ = ["MAX_BYTES", "TIMEOUT_S", "fetch_picture"]

MAX_BYTES = 200 * 1024 * 1024
TIMEOUT_S = 30.0
_CHUNK = 1 << 16
_SAFE = "/:?#[]@!$&'()*+,;=%~-._"


def fetch_picture(url: str) -> Picture:
    """Download the picture at `url` (http or https, at most 200 MB) and decode it.

    Raises SourceError when there is no network or no such address, the server refuses, the body is
    larger than the limit or cut short, or it is not a picture.

    Example:
        >>> fetch_picture("https://example.org/dog.jpg").path  # doctest: +SKIP
        'https://example.org/dog.jpg'
    """
    return from_bytes(_download(url), url)


def _download(url: str) -> bytes:
    try:
        request = urllib.request.Request(
            urllib.parse.quote(url, safe=_SAFE), headers={"User-Agent": "masklet (Python urllib)"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return _body(response, url)
    except SourceError:
        raise
    except urllib.error.HTTPError as cause:
        cause.close()
        raise SourceError(
            f"the server answered {cause.code} {cause.reason} for {url!r}; a public address of a picture is "
            "needed: open it in a browser to check it, or download the picture and give its path"
        ) from cause
    except (OSError, http.client.HTTPException, ValueError) as cause:
        raise SourceError(
            f"cannot fetch {url!r}: {getattr(cause, 'reason', cause)}; a reachable http or https address is "
            "needed: check the address and the network, or download the picture and give its path"
        ) from cause


def _body(response: http.client.HTTPResponse, url: str) -> bytes:
    stated = response.headers.get("Content-Length", "")
    expected = int(stated) if stated.isdecimal() else None
    _check_size(expected or 0, url)
    body = bytearray()
    while chunk := response.read(_CHUNK):
        body += chunk
        _check_size(len(body), url)
    if expected is not None and len(body) < expected:
        raise SourceError(
            f"{url!r} was cut short: {len(body)} of {expected} bytes came; the whole picture is needed: "
            "try again, or download it and give its path"
        )
    return bytes(body)


def _check_size(count: int, url: str) -> None:
    if count > MAX_BYTES:
        raise SourceError(
            f"{url!r} holds at least {count} bytes; at most {MAX_BYTES} are fetched for one picture: "
            "download it, make it smaller and give its path"
        )
