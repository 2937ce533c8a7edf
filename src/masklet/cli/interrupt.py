"""Ctrl-C at a good moment: what is being written is written whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["unbroken"]


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C inside the block takes effect when the block has ended.

    Example:
        >>> with unbroken():
        ...     sink.write(frame)

    Raises:
        KeyboardInterrupt: after the block, when Ctrl-C came inside.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
