"""What reading a damaged or hostile file raises: one list for every reader.

Libraries raise their own errors, and none of them documents all of them. Each reader that keeps its own tuple misses
some, so a damaged file ends a whole run. Here is the only list:

    except damage_errors():       around a reader of ours that parses with a library's help
    except decoder_errors():      around a library's decoder, whose bugs are the file's damage too, and where a parsed
                                  document is taken apart, which may have any shape
    with damage_named(path, ..):  the same as a SourceError, or another error of ours, that names the file

Nothing is imported for it: an `except` clause evaluates its list when something was raised, and by then the library
that raised it is there.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from masklet.errors import MaskletError, SourceError

__all__ = [
    "LIBRARY_ERRORS",
    "check_regular_file",
    "damage_errors",
    "damage_named",
    "decoder_errors",
    "describe_error",
    "open_regular_file",
]

LIBRARY_ERRORS = {
    "PIL.Image": "DecompressionBombError",
    "av": "FFmpegError",
    "binascii": "Error",
    "csv": "Error",
    "cv2": "error",
    "defusedxml": "DefusedXmlException",
    "lzma": "LZMAError",
    "pickle": "PickleError",
    "safetensors": "SafetensorError",
    "sqlite3": "DatabaseError",
    "struct": "error",
    "tarfile": "TarError",
    "xml.etree.ElementTree": "ParseError",
    "xml.parsers.expat": "ExpatError",
    "yaml": "YAMLError",
    "zipfile": "BadZipFile",
    "zlib": "error",
}
"""Module and name of the errors that libraries define themselves."""

_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, MemoryError, RuntimeError)
# ValueError has UnicodeError and JSONDecodeError in it, RuntimeError has RecursionError and NotImplementedError;
# Pillow's AVIF and WebP plugins and PyTorch's zip reader raise a plain RuntimeError, Pillow's PNG reader a SyntaxError.
_DECODER_BUGS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, TypeError)
_FILE_KINDS = {
    stat.S_IFDIR: ("a folder", "give a file in it"),
    stat.S_IFIFO: ("a pipe, which is read once", "write its content to a file and give that"),
    stat.S_IFCHR: ("a device, not a file", "give a file; a camera is opened by its number"),
    stat.S_IFBLK: ("a device, not a file", "give a file on it"),
    stat.S_IFSOCK: ("a socket, not a file", "write its content to a file and give that"),
}


def damage_errors() -> tuple[type[Exception], ...]:
    """Return what readers of damaged files raise, of the libraries that are imported at this moment.

    Errors of masklet are among them (SourceError is a ValueError): let them through before.

    Example:
        >>> issubclass(UnicodeDecodeError, damage_errors()), issubclass(KeyError, damage_errors())
        (True, False)
    """
    found = [getattr(sys.modules.get(module), name, None) for module, name in LIBRARY_ERRORS.items()]
    return (*_DAMAGE, *(error for error in found if isinstance(error, type) and issubclass(error, Exception)))


def decoder_errors() -> tuple[type[Exception], ...]:
    """Return `damage_errors()`, and what a decoder raises where it does not check what it reads.

    Only for calls of a library's decoder, and where a document that a file holds is taken apart: a key may be missing,
    or a text stand in place of a number. Around other code of ours these are bugs.

    Example:
        >>> issubclass(KeyError, decoder_errors())
        True
    """
    return (*damage_errors(), *_DECODER_BUGS)


def describe_error(error: BaseException) -> str:
    """Describe an error of a library in one short line.

    Example:
        >>> describe_error(MemoryError()), describe_error(IndexError("out of range"))
        ('it needs more memory than there is', 'out of range')
    """
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return (text if len(text) <= 200 else text[:200] + " ...") or type(error).__name__


@contextmanager
def damage_named(
    path: str | os.PathLike[str],
    what: str = "image",
    remedy: str = "copy or download it again",
    error: type[MaskletError] = SourceError,
) -> Iterator[None]:
    """Raise what a library's decoder raises in the block as `error`, with the file, the rule and the remedy.

    Example:
        >>> with damage_named("cut.png"):
        ...     raise SyntaxError("broken PNG file")
        Traceback (most recent call last):
        masklet.errors.SourceError: 'cut.png' is damaged or cut short (broken PNG file); a complete image is needed: ...

    Raises:
        MaskletError: `error`, if the block raises one of `decoder_errors()`; errors of masklet pass.
    """
    try:
        yield
    except MaskletError:
        raise
    except decoder_errors() as cause:
        raise error(
            f"{os.fspath(path)!r} is damaged or cut short ({describe_error(cause)}); a complete {what} is needed: "
            f"{remedy}"
        ) from cause


def check_regular_file(path: str, what: str) -> int:
    """Return the size in bytes of a file that can be opened without waiting; `what` was expected there.

    Example:
        >>> check_regular_file(".", "image")
        Traceback (most recent call last):
        masklet.errors.SourceError: '.' is a folder; a readable file of an image is needed: give a file in it

    Raises:
        SourceError: if it is missing, empty, a folder, a pipe or a device, or its name has a zero byte.
    """
    article = "an" if what[0] in "aeiou" else "a"
    try:
        status = os.stat(path)
    except (OSError, ValueError) as cause:  # ValueError: a zero byte or a surrogate in the name
        raise SourceError(
            f"cannot read {path!r}: {describe_error(cause)}; a readable file of {article} {what} is needed: "
            "check the path and its permissions"
        ) from cause
    if not stat.S_ISREG(status.st_mode):
        kind, remedy = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), ("no regular file", "give a file"))
        raise SourceError(f"{path!r} is {kind}; a readable file of {article} {what} is needed: {remedy}")
    if status.st_size == 0:
        raise SourceError(f"{path!r} is empty (0 bytes); {article} {what} is needed: copy or download it again")
    return status.st_size


def open_regular_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read bytes; a pipe, a socket or a device, on which a reader may wait forever, is refused.

    Example:
        >>> open_regular_file("/dev/zero")  # doctest: +SKIP
        Traceback (most recent call last):
        OSError: [Errno 22] it is a device, not a file: '/dev/zero'

    Raises:
        OSError: if it is no file, or cannot be opened.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder the system's own error is clear
        kind, _ = _FILE_KINDS.get(stat.S_IFMT(mode), ("no regular file", ""))
        raise OSError(errno.EINVAL, f"it is {kind}", os.fspath(path))
    return open(path, "rb")
