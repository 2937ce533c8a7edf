"""`masklet bench peers`: the programs that others are compared with, and their environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import listed, show_table, tell
from masklet.cli.console import counting

if TYPE_CHECKING:
    from masklet.benchmark.peers.environments import Peer

__all__ = ["peers"]

COLUMNS = ("peer", "what it is", "licence of its code", "here")


def peers(
    make: Annotated[
        str | None, typer.Option("--make", metavar="NAMES", help="Make these environments; commas between, or all.")
    ] = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="NAMES", help="Remove these, of all versions.")
    ] = None,
) -> None:
    """List the programs that masklet is compared with; make or remove the environments they run in.

    Each is a folder of its own in the cache folder, one to two GB, filled by pip with versions that are written down.

    \b
    Examples:
      masklet bench peers
      masklet bench peers --make sam2,transformers
      masklet bench peers --remove all
    """
    from masklet.benchmark.peers import environments
    from masklet.benchmark.peers.environments import PEERS, folder_of

    to_remove, to_make = _named(remove), _named(make)
    for peer in to_remove:
        tell(f"{peer.name}: {environments.remove(peer)} removed")
    for peer in to_make:
        with counting(f"making {peer.name}, parts", len(peer.installs) + 1, wanted=True) as step:
            tell(f"{peer.name}: {environments.make(peer, step)}")
    show_table(COLUMNS, [_row(peer) for peer in PEERS.values()], left=COLUMNS)
    tell(f"Environments go to {folder_of(next(iter(PEERS.values()))).parent} (MASKLET_HOME chooses another folder).")


def _named(text: str | None) -> list[Peer]:
    from masklet.benchmark.peers.environments import PEERS, find_peer

    names = listed(text or "")
    return [find_peer(name) for name in (PEERS if names == ["all"] else names)]


def _row(peer: Peer) -> tuple[str, ...]:
    from masklet.benchmark.peers.environments import made_of

    there = made_of(peer)
    state = "no" if there is None else f"{there.get(peer.name, '?')}, torch {there.get('torch', '?')}"
    return (peer.name, peer.about, peer.licence, state)
