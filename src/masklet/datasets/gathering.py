"""From folders to a data set: which of them are sources, and what there is in all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from masklet.datasets.base import Dataset, Entry, Finding
from masklet.datasets.listing import chosen, folders_in
from masklet.errors import SourceError

__all__ = ["Part", "gathered", "parts_of", "sources_in"]

Part = tuple[Sequence[Entry], Sequence[Finding]]
"""What one folder or file of a data set holds: its entries, and what is broken."""


def sources_in(path: Path, is_source: Callable[[Path], bool], split: str | None, what: str) -> list[Path]:
    """`path` itself where it is a source, or else those directly below it; of several, `split` names one.

    Example:
        >>> sources_in(Path("stills"), is_source, "ants", "source")
        [PosixPath('stills/ants')]

    Raises:
        SourceError: no source of that name; says which there are (`what` is what they are called).
    """
    if split is None and is_source(path):
        return [path]
    below = [folder for folder in folders_in(path) if is_source(folder)]
    if split is None:
        return below
    named = {folder.name: folder for folder in ([path, *below] if is_source(path) else below)}
    return [named[chosen(path, split, named, what)]]


def parts_of(path: Path, folders: Iterable[Path], read: Callable[[Path, str], Part]) -> Iterator[Part]:
    """What `read` finds in each folder, told what goes before its names: its own name, nothing for `path` itself."""
    for folder in folders:
        yield read(folder, "" if folder == path else f"{folder.name}/")


def gathered(kind: str, path: Path, parts: Iterable[Part], nothing: str, allowed: str) -> Dataset:
    """All parts as one data set, in their order.

    Raises:
        SourceError: there is no entry; what `nothing` calls it, the first finding, and what is `allowed`.
    """
    entries: list[Entry] = []
    problems: list[Finding] = []
    for found, wrong in parts:
        entries += found
        problems += wrong
    if not entries:
        first = f": {problems[0].reason}" if problems else ""
        raise SourceError(f"{path} holds {nothing}{first}; allowed are {allowed}")
    return Dataset(kind, path, tuple(entries), tuple(problems))
