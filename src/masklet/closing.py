"""Things to let go of when a `with` block ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

__all__ = ["Closeable"]

AnyCloseable = TypeVar("AnyCloseable", bound="Closeable")


class Closeable(ABC):
    """A context manager that is itself what the block works with, and is closed at its end, also after an error.

    Example:
        >>> class Door(Closing):
        ...     def close(self) -> None:
        ...         print("closed")
        >>> with Door():
        ...     print("open")
        open
        closed
    """

    def __enter__(self: AnyCloseable) -> AnyCloseable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held."""
