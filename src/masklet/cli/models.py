"""`masklet models`: the models to choose from."""

from __future__ import annotations

from importlib.util import find_spec
from math import prod

__all__ = ["models"]

PIPE_WIDTH = 140
"""Columns if the output is not a terminal."""


def models() -> None:
    """List all models.

    With names, parameters, size of the file, licenses of code and weights, and whether the file is downloaded.

    Any of the names goes after --model; a published file is downloaded when it is first used.

    \b
    Examples:
      masklet models
      masklet segment dog.jpg --point 150,150 --model sam2.1_t.pt
    """
    from rich.console import Console
    from rich.table import Table

    from masklet.checkpoints import cache_dir
    from masklet.registry import MODELS, is_downloaded, locate

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("model", "short name", "parameters", "size", "license (code, weights)", "here"):
        table.add_column(title, justify="right" if title in ("parameters", "size") else "left", no_wrap=True)
    for card in MODELS.values():
        here = is_downloaded(card)
        parameters, size = card.parameters, card.size
        if card.is_builtin and here and find_spec("safetensors") is not None:  # as the file in the package has it
            from safetensors import safe_open

            path = locate(card)
            with safe_open(path, framework="numpy") as tensors:
                parameters = sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
            size = path.stat().st_size
        table.add_row(
            card.name,
            card.short_name,
            "?" if parameters is None else f"{parameters / 1e6:.1f} M",
            "?" if size is None else f"{size / 1e6:.1f} MB",
            f"{card.license_code}, {card.license_weights}",
            ("in the package" if here else "missing") if card.is_builtin else ("yes" if here else "no"),
        )
    console.print(table)
    console.print(f"Downloads go to {cache_dir()} (MASKLET_HOME chooses another folder).", soft_wrap=True)
