"""Webdataset archives: tar files whose members with one stem are a sample, read and written in order.

000000.tar             cats/1.jpg, cats/1.json, cats/2.jpg, cats/2.json, ...

Archives are read as streams, so they can be as long as they like, and may be compressed.
"""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from masklet.damaged_files import damage_named
from masklet.errors import InputError
from masklet.scale.redact_urls import redact_url
from masklet.scale.storage import is_url, join_location, storage_of

__all__ = ["ARCHIVE_SUFFIXES", "WebDatasetWriter", "expand_braces", "read_archive", "sample_key"]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_MEMBER_BYTES = 2 << 30
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern with {000..012} or {a,b} stands for.

    Example:
        >>> expand_braces("train-{08..10}.tar")
        ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    first, last, words = match.groups()
    if words is None:
        middles = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        middles = words.split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [one for middle in middles for one in expand_braces(before + middle + after)]


def read_archive(stream: BinaryIO, location: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the members that end in one of `suffixes`, in the order of the archive.

    Example:
        >>> with open("000000.tar", "rb") as file:  # doctest: +SKIP
        ...     names = [name for name, _ in read_archive(file, "000000.tar", (".jpg", ".png"))]

    Raises:
        SourceError: where the archive is damaged; the members before have been yielded.
    """
    with damage_named(redact_url(location), "tar archive"), tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            parts = [part for part in name.split("/") if part not in (".", "..")]
            is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
            if not member.isfile() or is_hidden or not name.lower().endswith(suffixes):
                continue
            if member.size > MAX_MEMBER_BYTES:
                raise OSError(f"{name} claims {member.size} bytes, at most {MAX_MEMBER_BYTES} are read")
            file = archive.extractfile(member)
            assert file is not None
            content = file.read()
            if len(content) != member.size:
                raise OSError(f"{name} ends after {len(content)} of {member.size} bytes")
            yield name, content


def sample_key(name: str) -> str:
    """Return the key of the sample of an item: its name without suffix. Keys have no dots, which end them.

    Example:
        >>> sample_key("cats/1.jpg"), sample_key("cats/1.v2.jpg")
        ('cats/1', 'cats/1_v2-6ce20fd1')
    """
    folder, slash, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    if "." in stem:
        stem = f"{stem.replace('.', '_')}-{sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    return folder.replace(".", "_") + slash + stem


class WebDatasetWriter:
    """Writes samples to archives OUT/000000.tar and so on, which appear when they are complete; a context manager.

    The same samples give the same bytes.

    Args:
        out: A folder or URL.
        max_samples: Samples of an archive.
        max_bytes: Where an archive ends before that.

    Example:
        >>> from tempfile import mkdtemp
        >>> with WebDatasetWriter(mkdtemp()) as writer:
        ...     writer.add("cats/1", {"jpg": b"...", "json": b"{}"})

    Raises:
        InputError: if a number is not positive.
    """

    def __init__(self, out: str, *, max_samples: int = 1000, max_bytes: int = 512 << 20) -> None:
        if max_samples < 1 or max_bytes < 1:
            raise InputError(f"archives of {max_samples} samples and {max_bytes} bytes: both must be 1 or more")
        self.out, self.max_samples, self.max_bytes = out, max_samples, max_bytes
        self.locations: list[str] = []
        """Of the archives that are complete."""
        self._name: str | None = None
        self._file: BinaryIO | None = None
        self._archive: tarfile.TarFile | None = None
        self._num_samples = self._num_numbered = 0

    def __enter__(self) -> WebDatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish_archive()
        elif self._file is not None:
            self._file.close()

    def add(self, key: str, files: Mapping[str, bytes], archive: str | None = None) -> None:
        """Add a sample: its files by suffix, without the dot; `archive` names another archive to begin or continue.

        Raises:
            OutputError: if a complete archive cannot be written.
        """
        if self._file is not None:
            is_full = self._num_samples >= self.max_samples or self._file.tell() > self.max_bytes
            if archive != self._name or (archive is None and is_full):
                self.finish_archive()
        if self._archive is None:
            self._name, self._num_samples = archive, 0
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._archive = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        for suffix, content in files.items():
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size, member.mode = len(content), 0o644
            self._archive.addfile(member, io.BytesIO(content))
        self._num_samples += 1

    def finish_archive(self) -> None:
        """Write the archive that was begun; the next sample begins another one.

        Raises:
            OutputError: if it cannot be written.
        """
        if self._archive is None or self._file is None:
            return
        name = self._name
        if name is None:
            name = f"{self._num_numbered:06d}.tar"
            self._num_numbered += 1
        self._archive.close()
        self._file.seek(0)
        location = join_location(self.out, name)
        storage_of(location).write(location, self._file.read())
        self._file.close()
        self._archive = self._file = None
        self.locations.append(location if is_url(location) else str(Path(location)))
