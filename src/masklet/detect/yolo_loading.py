"""From a name or a file to a YOLOv8 network: found, read, recognised, checked, filled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from masklet.checkpoints import Progress, SavedNetwork, check_fit, read_network
from masklet.errors import InputError, UnknownModelError
from masklet.models.yolo import CONFIGS, YOLOv8, build, config_of, name_of, shapes_of
from masklet.registry import MODELS, ModelCard, find, locate

__all__ = ["LoadedYOLO", "load_yolo"]

FAMILIES = ("yolo", "fastsam")
USUAL = "yolov8n"
log = logging.getLogger("masklet")
_told: set[Path] = set()


@dataclass(frozen=True)
class LoadedYOLO:
    """A network with where it came from."""

    network: YOLOv8
    name: str
    """Canonical name of the config its tensors have, such as `yolov8n-seg`, with its classes where they are others."""
    path: Path
    card: ModelCard | None
    """The published model of that name; a fine-tuned file has the same card."""
    names: Mapping[int, str]
    """One for every class."""
    parameters: int
    """Values that were learnt, as published tables count them."""
    licence_weights: str
    image_size: int | None
    """Side the file says it was trained at."""


def load_yolo(model: str | PathLike[str], progress: Progress | None = None) -> LoadedYOLO:
    """The detector or segmenter that `model` names: a published name, or a file of published or own making.

    The licence of its weights is logged once for each file, as a warning of the logger "masklet".

    Example:
        >>> load_yolo("yolov8n-seg.pt").names[16]
        'dog'

    Raises:
        UnknownModelError: neither a known name nor a file.
        InputError: a known model of another kind.
        DownloadError: a published file that is not here and could not be fetched.
        CheckpointError: a file that is damaged, hostile, or another network.
    """
    path = _path(model, progress)
    saved = read_network(path)
    found = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    config = config_of(found) or CONFIGS[USUAL]
    name = name_of(config)
    check_fit(shapes_of(config), found, path=path, model_name=name)
    loaded = LoadedYOLO(
        network=build(config, saved.tensors),
        name=name,
        path=path,
        card=MODELS.get(name),
        names=_names(saved, config.classes),
        parameters=sum(t.numel() for n, t in saved.tensors.items() if n.endswith((".weight", ".bias"))),
        licence_weights=_licence(saved, MODELS.get(name)),
        image_size=saved.image_size,
    )
    _say_licence(loaded)
    return loaded


def _path(model: str | PathLike[str], progress: Progress | None) -> Path:
    path = Path(model).expanduser()
    if path.is_file():
        return path
    known = ", ".join(card.file for card in MODELS.values() if card.family in FAMILIES)
    try:
        card = find(str(model))
    except UnknownModelError:
        raise UnknownModelError(f"{str(model)!r} is neither a file that exists nor one of {known}") from None
    if card.family not in FAMILIES:
        raise InputError(f"{card.name} is no YOLOv8; open it with masklet.SAM({card.file!r}), or name one of {known}")
    return locate(card, progress)


def _names(saved: SavedNetwork, count: int) -> dict[int, str]:
    usual = "object" if count == 1 else "class{}"
    return {number: saved.names.get(number, usual.format(number)) for number in range(count)}


def _licence(saved: SavedNetwork, card: ModelCard | None) -> str:
    said = saved.facts.get("license", "")
    return said or (card.licence_weights if card else "unknown")


def _say_licence(loaded: LoadedYOLO) -> None:
    key = loaded.path.resolve()
    if key not in _told:
        _told.add(key)
        log.warning(
            "%s: its weights (%s) have the licence %s, which is another than masklet's own Apache-2.0",
            loaded.path,
            loaded.name,
            loaded.licence_weights,
        )
