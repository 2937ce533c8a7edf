"""`masklet bench peers`: the programs that others are compared with, and their environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import echo, show_table, split_commas
from masklet.cli.console import progress_bar

if TYPE_CHECKING:
    from masklet.benchmark.peers.environments import Peer

__all__ = ["peers"]

PEER_COLUMNS = ("peer", "what it is", "license of its code", "here")


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
    from masklet.benchmark.peers.environments import PEERS, environment_dir

    to_remove, to_make = _parse_peers(remove), _parse_peers(make)
    for peer in to_remove:
        echo(f"{peer.name}: {environments.remove_environments(peer)} removed")
    for peer in to_make:
        with progress_bar(f"making {peer.name}, parts", len(peer.installs) + 1, enabled=True) as step:
            echo(f"{peer.name}: {environments.create_environment(peer, step)}")
    show_table(PEER_COLUMNS, [_row(peer) for peer in PEERS.values()], left_aligned=PEER_COLUMNS)
    echo(
        f"Environments go to {environment_dir(next(iter(PEERS.values()))).parent} (MASKLET_HOME chooses another folder)."  # noqa: E501
    )


def _parse_peers(text: str | None) -> list[Peer]:
    from masklet.benchmark.peers.environments import PEERS, find_peer

    names = split_commas(text or "")
    return [find_peer(name) for name in (PEERS if names == ["all"] else names)]


def _row(peer: Peer) -> tuple[str, ...]:
    from masklet.benchmark.peers.environments import installed_packages

    there = installed_packages(peer)
    state = "no" if there is None else f"{there.get(peer.name, '?')}, torch {there.get('torch', '?')}"
    return (peer.name, peer.description, peer.license, state)
