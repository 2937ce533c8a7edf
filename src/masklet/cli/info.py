"""`masklet info`: what is installed, and what a model is."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.segment_job import open_model
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

    A published model that is not here is described, not downloaded.

    \b
    Examples:
      masklet info
      masklet info sam2.1_b.pt
      masklet info runs/mine.safetensors
    """
    card = _undownloaded_card(model)
    for line in _environment_lines():
        typer.echo(line)
    typer.echo("")
    typer.echo(_model_info(model) if card is None else _card_description(card))


def _model_info(model: str | None) -> str:
    """What a model says of itself; of a file that no `SAM` opens, what `YOLO` says."""
    try:
        return str(open_model(model).info())
    except ModelError:
        from masklet.yolo import YOLO

        if model is None:
            raise
        with contextlib.suppress(MaskletError):
            return str(YOLO(model).info())
        raise


def _environment_lines() -> list[str]:
    import numpy
    import torch

    from masklet import __version__
    from masklet.checkpoints import cache_dir

    rows = {
        "masklet": f"{__version__} in {Path(__file__).parents[1]}",
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": sys.version.split()[0],
        "device": _available_devices(),
        "cache": f"{cache_dir()} (MASKLET_HOME chooses another folder)",
    }
    return [f"{name:<8} {value}" for name, value in rows.items()]


def _available_devices() -> str:
    import torch

    if torch.cuda.is_available():
        return ", ".join(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu, {torch.get_num_threads()} threads"


def _undownloaded_card(model: str | None) -> ModelCard | None:
    """The card of a published model that would have to be downloaded first."""
    from masklet.registry import get_card, is_downloaded

    if model is None or not model.strip() or Path(model).expanduser().is_file():
        return None
    card = get_card(model)
    return None if is_downloaded(card) or card.is_builtin else card


def _card_description(card: ModelCard) -> str:
    size = f", {card.size / 1e6:.1f} MB" if card.size else ""
    return (
        f"{card.name}: {card.parameters_in_millions} M parameters{size}, {card.source}\n"
        f"file: not here; it is downloaded when it is first used, from {card.url}\n"
        f"license: code {card.license_code}, weights {card.license_weights}"
    )
