"""`masklet info`: versions, device, and the description of a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.shared_options import open_model
from masklet.errors import MaskletError, ModelError

if TYPE_CHECKING:
    from masklet.registry import ModelCard

__all__ = ["info"]


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A name or a file; default: the built-in model.")
    ] = None,
) -> None:
    """Show versions, device, folders and a model.

    A published model that was not downloaded yet is described, not downloaded.

    \b
    Examples:
      masklet info
      masklet info sam2.1_b.pt
      masklet info runs/mine.safetensors
      masklet info exported/
    """
    from masklet.exported import is_exported_folder
    from masklet.registry import get_card, is_downloaded
    from masklet.tensors import HAS_TORCH

    card: ModelCard | None = None
    is_path = model is not None and (Path(model).expanduser().is_file() or is_exported_folder(model))
    if model is not None and model.strip() and not is_path:
        card = get_card(model)
    for line in _environment_lines():
        typer.echo(line)
    if model is None and not HAS_TORCH:
        return
    typer.echo("")
    if card is None or card.is_builtin or is_downloaded(card):
        try:
            description = str(open_model(model, precision="auto").info())
        except ModelError as error:  # a detector is a file that no SAM opens
            if model is None:
                raise
            try:
                from masklet import YOLO

                description = str(YOLO(model).info())
            except MaskletError:
                raise error from None
        typer.echo(description)
        return
    millions = None if card.parameters is None else round(card.parameters / 1e6, 2)
    size = f", {card.size / 1e6:.1f} MB" if card.size else ""
    typer.echo(
        f"{card.name}: {millions} M parameters{size}, {card.source}\n"
        f"file: not here; it is downloaded when it is first used, from {card.url}\n"
        f"license: code {card.license_code}, weights {card.license_weights}"
    )


def _environment_lines() -> list[str]:
    import numpy

    from masklet import __version__
    from masklet.checkpoints import cache_dir
    from masklet.tensors import HAS_TORCH, torch

    if torch.cuda.is_available():
        names = (f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))
        devices = ", ".join(names)
    elif torch.backends.mps.is_available():
        devices = "mps"
    else:
        devices = f"cpu, {torch.get_num_threads()} threads"
    rows = {
        "masklet": f"{__version__} in {Path(__file__).parents[1]}",
        "torch": torch.__version__ if HAS_TORCH else "not used: only exported folders run",
        "numpy": numpy.__version__,
        "python": sys.version.split()[0],
        "device": devices,
        "cache": f"{cache_dir()} (MASKLET_HOME chooses another folder)",
    }
    return [f"{name:<8} {value}" for name, value in rows.items()]
