"""Options and steps of the commands of `masklet bench` that compare with other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.benchmarking.showing import listed

__all__ = ["USUAL_MODEL", "PeerPythons", "Peers", "PictureFile", "interpreters"]

USUAL_MODEL = "sam2.1_hiera_tiny"
"""What is compared where no model is named: the built-in one is masklet's alone."""

Peers = Annotated[
    str | None,
    typer.Option(help="Programs to compare with, with commas between them; `masklet bench peers` lists them."),
]
PeerPythons = Annotated[
    list[str] | None,
    typer.Option("--peer-python", metavar="PEER=FILE", help="The interpreter of an environment that you made."),
]

PictureFile = Annotated[Path | None, typer.Option("--picture", help="A file; default: one that is made.")]


def interpreters(peers: str | None, given: list[str] | None) -> Mapping[str, Path]:
    """The interpreter of each program, masklet first; nothing where there are no peers.

    Raises:
        InputError, StateError: what cannot be meant, and a peer whose environment is not here.
    """
    from masklet.bench.programs import pythons_of

    return pythons_of(listed(peers or ""), given or ()) if peers or given else {}
