"""Options and steps of the commands of `masklet bench` that compare with other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import split_commas
from masklet.cli.console import progress_bar

if TYPE_CHECKING:
    from masklet.benchmark.peers.interleaved import ComparisonResult

__all__ = [
    "DEFAULT_PEER_MODEL",
    "ImageFile",
    "PeerPythons",
    "Peers",
    "measure_with_progress",
    "peer_interpreters",
    "reject_with_peers",
    "validate_choices",
]

DEFAULT_PEER_MODEL = "sam2.1_hiera_tiny"
"""What is compared where no model is named: the built-in one is masklet's alone."""

Peers = Annotated[
    str | None,
    typer.Option(help="Programs to compare with, with commas between them; `masklet bench peers` lists them."),
]
PeerPythons = Annotated[
    list[str] | None,
    typer.Option("--peer-python", metavar="PEER=FILE", help="The interpreter of an environment that you made."),
]
ImageFile = Annotated[Path | None, typer.Option("--picture", help="A file; default: one that is made.")]


def peer_interpreters(peers: str | None, given: list[str] | None) -> Mapping[str, Path]:
    """The interpreter of each program, masklet first; nothing where there are no peers.

    Raises:
        InputError, StateError: what cannot be meant, and a peer whose environment is not here.
    """
    from masklet.benchmark.peers.process import resolve_interpreters

    return resolve_interpreters(split_commas(peers or ""), given or ()) if peers or given else {}


def validate_choices(values: Sequence[str], allowed: Iterable[str], noun: str) -> tuple[str, ...]:
    """The words, each once.

    Raises:
        InputError: there are none, or one of them is not allowed.
    """
    from masklet.errors import InputError

    unknown = [word for word in values if word not in allowed]
    if unknown or not values:
        raise InputError(f"{noun} {', '.join(unknown) or 'none'}: choose from {', '.join(allowed)}")
    return tuple(dict.fromkeys(values))


def reject_with_peers(given: Mapping[str, bool]) -> None:
    """Say which options were given that are of masklet alone.

    Raises:
        InputError: there are some.
    """
    from masklet.errors import InputError

    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise InputError(f"{', '.join(wrong)} cannot go with --peers: that is measured of masklet alone; leave one out")


def measure_with_progress(
    description: str,
    count: int,
    measure: Callable[[Callable[[ComparisonResult], None]], ComparisonResult],
    on_partial: Callable[[ComparisonResult], object],
) -> ComparisonResult:
    """What `measure` found; after each of its `count` parts what is there is kept, so that nothing is lost."""
    with progress_bar(description, count, enabled=True) as step:

        def done(found: ComparisonResult) -> None:
            on_partial(found)
            step()

        return measure(done)
