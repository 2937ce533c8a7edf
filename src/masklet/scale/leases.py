"""Leases: which process works on an item at this moment, in files that all of them see.

A lease is a file that one process creates, of those that try; it names its owner and says when it ends. The owner
writes it again before that, so the lease of a process that was killed ends soon, and at once where another process of
the same machine sees that it is gone. The next owner creates the next file of the item, so that again one process gets
it. The clocks of the machines agree within the time of a lease.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from types import TracebackType

from masklet.damaged_files import decoder_errors
from masklet.errors import InputError, MaskletError
from masklet.scale.storage import Storage, join_location

__all__ = ["MIN_LEASE_S", "LeaseOwner", "Leases"]

MIN_LEASE_S = 2.0
RENEWALS = 3
"""How often a lease is renewed within its time."""


@dataclass(frozen=True)
class LeaseOwner:
    """A process that has leases: `key` is unique, `machine` and `pid` say where it runs."""

    key: str
    machine: str
    pid: int

    @classmethod
    def of_this_process(cls) -> LeaseOwner:
        """Return a new owner, whose leases belong to this process."""
        return cls(secrets.token_hex(8), _machine(), os.getpid())

    def has_ended(self) -> bool:
        """Whether the process is one of this machine, and gone; False where nobody knows."""
        if self.machine != _machine() or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


def _machine() -> str:
    """Return a name for what has the process numbers of this process: a machine since its start, or a container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


@dataclass
class _Lease:
    """A lease that this process has: its file, and the monotonic time at which it was last written."""

    name: str
    number: int
    written_at: float


class Leases:
    """The leases of this process in a folder; a context manager, which renews them on a thread and releases them.

    Example:
        >>> from tempfile import mkdtemp
        >>> from masklet.scale.storage import LocalStorage
        >>> storage, folder = LocalStorage(), mkdtemp()
        >>> with Leases(storage, folder) as ours, Leases(storage, folder) as theirs:
        ...     ours.take("a.jpg"), theirs.take("a.jpg"), theirs.take("b.jpg")
        (True, False, True)

    Raises:
        InputError: if `seconds` is too short.
    """

    def __init__(self, storage: Storage, folder: str, seconds: float = 120.0, owner: LeaseOwner | None = None) -> None:
        if not seconds >= MIN_LEASE_S:
            raise InputError(f"a lease of {seconds!r} s is too short: use {MIN_LEASE_S:g} or more; 120 is usual")
        self.storage, self.folder, self.seconds = storage, folder, seconds
        self.owner = owner or LeaseOwner.of_this_process()
        self._held: dict[str, _Lease] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """A lease is not renewed while it is given back: it would be written over that of the next owner."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="masklet leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Take the lease of an item; False if another process has it.

        Raises:
            OutputError: if the folder cannot be written.
        """
        for number in count():
            if self.storage.create(self._location(name, number), self._content()):
                with self._lock:
                    self._held[name] = _Lease(name, number, time.monotonic())
                return True
            if not self._has_ended(name, number):
                return False
        raise AssertionError("count() does not end")

    def release(self, name: str) -> None:
        """Give the lease of an item back."""
        with self._writing, self._lock:
            lease = self._held.pop(name, None)
        if lease is not None:
            with suppress(MaskletError):  # it ends by itself
                for number in range(lease.number, -1, -1):  # those of earlier owners too
                    self.storage.remove(self._location(name, number))

    def num_ended(self, name: str) -> int:
        """Return how many processes ended, or stood still, that had the lease of an item before this one."""
        return self._held[name].number

    def is_lost(self, name: str) -> bool:
        """Whether another process has taken the lease, as this one stood still for longer than it lasts."""
        lease = self._held[name]
        if time.monotonic() - lease.written_at < self.seconds:
            return False
        return self.storage.find(self._location(name, lease.number + 1)) is not None

    def _has_ended(self, name: str, number: int) -> bool:
        """Whether the lease of another process is over; False if it was released just now."""
        try:
            document = json.loads(self.storage.read(self._location(name, number)))
            owner = LeaseOwner(**document["owner"])
            return bool(time.time() > document["ends"]) or owner.has_ended()
        except MaskletError:
            return False
        except decoder_errors():  # a file that a crash of the machine left empty
            file = self.storage.find(self._location(name, number))
            return file is not None and file.modified is not None and time.time() > file.modified + self.seconds

    def _location(self, name: str, number: int) -> str:
        digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return join_location(self.folder, f"{digest[:2]}/{digest[2:]}.{number}")

    def _content(self) -> bytes:
        return json.dumps({"owner": asdict(self.owner), "ends": time.time() + self.seconds}).encode()

    def _renew(self) -> None:
        """Write the leases again from time to time."""
        while not self._stop.wait(self.seconds / RENEWALS):
            with self._lock:
                leases = list(self._held.values())
            for lease in leases:
                started = time.monotonic()
                with self._writing, suppress(MaskletError):  # the next time is before the lease ends
                    if self._held.get(lease.name) is lease:
                        self.storage.write(self._location(lease.name, lease.number), self._content())
                        lease.written_at = started
