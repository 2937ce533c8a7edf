"""What is to be fetched, as the parts of `fetch` and `transfer` hand it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Order", "Progress", "megabytes", "size_of"]

Progress = Callable[[int, int | None], None]
"""Called with (bytes there, bytes in all or None) after every block."""


@dataclass(frozen=True)
class Order:
    """What to fetch, where to, and what it must be."""

    url: str
    target: Path
    size: int | None
    sha256: str | None
    progress: Progress | None

    @property
    def part(self) -> Path:
        """Where the bytes go until they are whole and checked."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def resumable(self) -> bool:
        """Only a hash would notice that the publisher changed the file between two pieces."""
        return self.sha256 is not None

    def report(self, done: int, total: int | None) -> None:
        """Tell the caller how far it is."""
        if self.progress:
            self.progress(done, total)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def megabytes(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.1f} MB"
