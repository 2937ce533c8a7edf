"""Write files atomically, and read stored documents of earlier versions.

A file is written to a hidden file in the same folder, which then replaces it in one step, so a reader never sees a
partial one.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import OutputError
from masklet.written_files import output_guard

__all__ = [
    "IMAGE_SUFFIXES",
    "atomic_path",
    "check_replaceable",
    "current_keys",
    "defer_interrupt",
    "is_name_refused",
    "write_image",
    "write_text",
]

MAX_TEMPORARY_STEM = 32
"""Characters of a name in that of its temporary file."""
TORCH_WRITE_FAILURES = ("PytorchStreamWriter", "inline_container", "unexpected pos")

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; without an error it then becomes `path`, else it is removed.

    Missing folders are created. The temporary path has the suffix of `path`. In a block of `WrittenFiles.protect`, a
    file that masklet did not write is kept.

    Example:
        >>> with atomic_path("out/mask.png") as temporary:  # doctest: +SKIP
        ...     image.save(temporary)

    Raises:
        OutputError: if the folder or the file cannot be written, or `path` is somebody else's file.
    """
    target = Path(path)
    stem = target.stem[:MAX_TEMPORARY_STEM]  # a long name with the number would be too long
    temporary = target.with_name(f".{stem}.{secrets.token_hex(4)}{target.suffix}")
    guard = output_guard(target)
    try:
        if guard is not None:
            guard.check(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if guard is not None:
            guard.record(target, temporary)  # before: the file never has its name without an entry
        os.replace(temporary, target)
    except OutputError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _is_write_failure(error):
            raise
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise OutputError(
            f"{target} could not be written ({reason}); choose a file name in a folder that exists or can be made, is "
            "writable and has room, or make room and run the same again"
        ) from error
    finally:
        with suppress(OSError):  # if the folder is gone or closed to us, nothing is left behind
            temporary.unlink(missing_ok=True)


def check_replaceable(
    path: str | os.PathLike[str],
    marker: bytes,
    kind: str,
    remedy: str = "choose another name, or replace it (--overwrite, overwrite=True)",
) -> None:
    """Check that a file of masklet may take the place of `path`: nothing is there, an empty file, or one of its `kind`.

    A file of the kind has `marker` in its first 64 kB.

    Raises:
        OutputError: if another file is there.
    """
    try:
        with open(path, "rb") as file:
            beginning = file.read(1 << 16)
    except OSError:  # nothing is there, or writing will say what is wrong
        return
    if beginning and marker not in beginning:
        raise OutputError(f"{path} is there and is no {kind} of masklet, and is kept: {remedy}")


def is_name_refused(error: OutputError) -> bool:
    """Whether a file system does not take the name of a file: it is too long, or has a character it does not allow.

    Example:
        >>> is_name_refused(OutputError("no room"))
        False
    """
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


def _is_write_failure(error: Exception) -> bool:
    """Whether a library reports a failed write by another exception: safetensors, and torch's zip writer."""
    if type(error).__name__ == "SafetensorError":
        return "error" in str(error).lower() and "os error" in str(error)
    return isinstance(error, RuntimeError) and any(word in str(error) for word in TORCH_WRITE_FAILURES)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8 to `path`, atomically, and return the path.

    File names can have bytes that are no text, which Python holds as surrogates: JSON gets their escapes, other text
    the bytes.

    Example:
        >>> write_text("out/labels.txt", "0 0.1 0.2")  # doctest: +SKIP
    """
    with atomic_path(path) as temporary:
        errors = "backslashreplace" if Path(path).suffix in (".json", ".jsonl") else "surrogateescape"
        temporary.write_text(text, encoding="utf-8", errors=errors, newline="\n")
    return Path(path)


def write_image(path: str | os.PathLike[str], pixels: npt.NDArray[np.uint8]) -> Path:
    """Write (H, W), (H, W, 3) RGB or (H, W, 4) RGBA uint8 pixels in the format of the suffix of `path`.

    Example:
        >>> write_image("out/cat.png", results.plot())  # doctest: +SKIP

    Raises:
        OutputError: if the suffix names no image format or one without transparency that is needed, or the folder
            cannot be written.
    """
    from PIL import Image

    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OutputError(
            f"{path} ends in {suffix or 'no suffix'!r}, which is no image format; "
            f"end it in one of {', '.join(IMAGE_SUFFIXES)}"
        )
    if pixels.ndim == 3 and pixels.shape[2] == 4 and suffix in (".bmp", ".jpeg", ".jpg"):
        raise OutputError(f"{path}: a {suffix} file holds no transparency; end it in .png or .webp")
    options: dict[str, Any] = {"quality": 95} if suffix != ".png" else {}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, **options)
    return Path(path)


def current_keys(document: Any, kind: str) -> Any:
    """Rename the keys of a stored document that an earlier version wrote under other names.

    `kind` names a table in `masklet/old_keys`. Dictionaries inside dictionaries and lists are renamed too; a document
    with current keys comes back equal.

    Example:
        >>> current_keys({"stability": 0.95}, "weights_header")
        {'stability_threshold': 0.95}
    """
    renamed = _renamed_keys(kind)
    if isinstance(document, dict):
        return {renamed.get(key, key): current_keys(value, kind) for key, value in document.items()}
    return [current_keys(value, kind) for value in document] if isinstance(document, list) else document


@cache
def _renamed_keys(kind: str) -> dict[str, str]:
    path = Path(__file__).parent / "old_keys" / f"{kind}.json"
    table: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return table


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Delay Ctrl-C until the block has ended, so that what the block writes is complete.

    Outside the main thread, where Python delivers no signals, the block just runs.

    Example:
        >>> written = []
        >>> with defer_interrupt():
        ...     written.append("frame")

    Raises:
        KeyboardInterrupt: after the block, if Ctrl-C came inside it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if received:
        raise KeyboardInterrupt
