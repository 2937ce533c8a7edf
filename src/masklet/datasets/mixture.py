"""Mixtures: several datasets with weights, which say how often each is sampled compared with the others."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from masklet.atomic_files import current_keys
from masklet.datasets.dataset import DataError, Dataset
from masklet.datasets.json_reader import as_json_list, as_json_object, read_json
from masklet.datasets.open_dataset import open_dataset
from masklet.errors import SourceError

__all__ = ["DataPaths", "Mixture", "is_mixture", "open_mixture"]

StrPath = str | os.PathLike[str]
DataPaths = StrPath | Sequence[StrPath] | Mapping[StrPath, float]
"""A path, paths, or paths with weights."""
Mixture = tuple[tuple[Dataset, float], ...]
"""Datasets and their weights."""
RECORD_KEYS = ("path", "weight", "data_format", "split", "include_crowds")


def open_mixture(data: DataPaths) -> Mixture:
    """Open datasets and their weights: paths with weights, a list of paths, one path, or a JSON file.

    Weights are positive and finite, 1 by default; in a list every dataset counts the same, however large it is. The
    JSON file is a list of `{"path": ..., "weight": ..., "data_format": ..., "split": ..., "include_crowds": ...}`; only
    the path is required, relative to the file's folder. `data_format` was called `kind` earlier, which is still read.

    Raises:
        SourceError: if there is no dataset, a weight is not positive and finite, or `open_dataset` raises it.

    Example:
        >>> [(data.data_format, weight) for data, weight in open_mixture({"coco": 3, "DAVIS": 1})]  # doctest: +SKIP
        [('coco', 3.0), ('davis', 1.0)]
    """
    if isinstance(data, (str, os.PathLike)):
        path = Path(data).expanduser()
        return _read_mixture_file(path) if is_mixture(path) else ((open_dataset(data), 1.0),)
    pairs = list(data.items()) if isinstance(data, Mapping) else [(path, 1.0) for path in data]
    if not pairs:
        raise SourceError(
            f"{data!r} names no data; give a path, a list of paths, or paths with weights: {{path: weight}}"
        )
    weights = [_validate_weight(weight, f"{os.fspath(path)!r}") for path, weight in pairs]
    return tuple((open_dataset(path), weight) for (path, _), weight in zip(pairs, weights, strict=True))


def is_mixture(path: StrPath) -> bool:
    """Return whether `path` is a JSON file that holds a list, which no dataset does.

    Example:
        >>> is_mixture("mixture.json")  # doctest: +SKIP
        True
    """
    file = Path(path)
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _read_mixture_file(file: Path) -> Mixture:
    items = as_json_list(read_json(file), file, "the whole file")
    if not items:
        raise DataError.for_file(file, 'names no data; it is a list of {"path": ..., "weight": ...}: add one')
    records = [current_keys(as_json_object(item, file, "each item of the list"), "mixture") for item in items]
    for record in records:
        unknown = [key for key in record if key not in RECORD_KEYS]
        if unknown or not isinstance(record.get("path"), str):
            fault = f"the key {unknown[0]!r}" if unknown else "no path"
            raise DataError.for_file(
                file, f"has {fault} in {json.dumps(record)[:80]}; keys are {', '.join(RECORD_KEYS)}: fix it"
            )
    mixture = []
    for record in records:
        for key in ("data_format", "split"):
            value = record.get(key)
            if value is not None and not isinstance(value, str):
                raise DataError.for_file(file, f"has {key} {value!r}; it is a name in quotes, or left out: fix it")
        path = file.parent / Path(record["path"]).expanduser()
        data_format, split = record.get("data_format") or None, record.get("split") or None
        include_crowds = record.get("include_crowds", False)
        if not isinstance(include_crowds, bool):
            raise DataError.for_file(file, f"has include_crowds {include_crowds!r}; it is true or false: fix it")
        data = open_dataset(path, data_format=data_format, split=split, include_crowds=include_crowds)
        mixture.append((data, _validate_weight(record.get("weight", 1), f"{file}")))
    return tuple(mixture)


def _validate_weight(weight: object, description: str) -> float:
    if isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight) and weight > 0:
        return float(weight)
    raise SourceError(
        f"{description} has weight {weight!r}; weights are positive, finite numbers: 2 is drawn twice as often as 1"
    )
