"""Find the item that ends the process that runs it, by a crash of a decoder or by more memory than there is.

The items of a process that ended are run again by another one, and with such an item that would go on forever. A lease
says that an item was in a process that ended, together with others. So it then runs alone, and before it a mark is
written that is removed after it; an item with too many marks is given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from masklet.scale.storage import Storage, join_location

__all__ = ["CrashMarks"]


@dataclass(frozen=True)
class CrashMarks:
    """The marks of items in a folder; an item with `max_crashes` of them is given up.

    Example:
        >>> from tempfile import mkdtemp
        >>> from masklet.scale.storage import LocalStorage
        >>> marks = CrashMarks(LocalStorage(), mkdtemp(), 1)
        >>> marks.add("a.jpg"), marks.add("a.jpg")  # here a process ended between the two
        (True, False)
    """

    storage: Storage
    folder: str
    max_crashes: int

    def add(self, name: str) -> bool:
        """Mark that an item runs alone; False if it has so many marks that it is given up."""
        return any(self.storage.create(location, b"1") for location in self._locations(name))

    def clear(self, name: str) -> None:
        """Remove the marks of an item, which ran to its end or was given up."""
        for location in self._locations(name):
            self.storage.remove(location)

    def _locations(self, name: str) -> list[str]:
        key = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return [join_location(self.folder, f"{key[:2]}/{key[2:]}.{number}") for number in range(self.max_crashes)]
