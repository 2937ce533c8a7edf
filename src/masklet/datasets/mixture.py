"""Several data sets with weights: how often each is drawn from, compared with the others."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from masklet.datasets.dataset import DataError, Dataset
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, read_json
from masklet.datasets.open_dataset import open_dataset
from masklet.errors import SourceError

__all__ = ["DataPaths", "Mixture", "is_mixture", "open_mixture"]

StrPath = str | os.PathLike[str]
DataPaths = StrPath | Sequence[StrPath] | Mapping[StrPath, float]
"""A path, paths, or paths with weights."""
Mixture = tuple[tuple[Dataset, float], ...]
_RECORD_KEYS = ("path", "weight", "kind", "split")


def open_mixture(data: DataPaths) -> Mixture:
    """Data sets and their weights: from paths with weights, from a list of paths, from one path, or from a JSON file.

    Weights are as they are given, positive and finite, 1 where none is; a list counts every data set the same,
    however large it is. The JSON file is a list of `{"path": ..., "weight": ..., "kind": ..., "split": ...}`, of which
    only the path is needed, counted from the file's folder.

    Example:
        >>> [(data.kind, weight) for data, weight in open_mixture({"coco": 3, "DAVIS": 1})]
        [('coco', 3.0), ('davis', 1.0)]

    Raises:
        SourceError: nothing to mix, a weight that is not positive and finite, or what `open_dataset` raises.
    """
    if isinstance(data, (str, os.PathLike)):
        path = Path(data).expanduser()
        return _read_file(path) if is_mixture(path) else ((open_dataset(data), 1.0),)
    pairs = list(data.items()) if isinstance(data, Mapping) else [(path, 1.0) for path in data]
    if not pairs:
        raise SourceError(
            f"{data!r} names no data; give a path, a list of paths, or paths with weights: {{path: weight}}"
        )
    weights = [_validate_weight(weight, f"{os.fspath(path)!r}") for path, weight in pairs]
    return tuple((open_dataset(path), weight) for (path, _), weight in zip(pairs, weights, strict=True))


def is_mixture(path: StrPath) -> bool:
    """Whether a path is a JSON file with a list in it, which no other data set is.

    Example:
        >>> is_mixture("mixture.json")
        True
    """
    file = Path(path)
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _read_file(file: Path) -> Mixture:
    items = as_json_list(read_json(file), file, "the whole file")
    if not items:
        raise DataError.for_file(file, 'names no data; it is a list of {"path": ..., "weight": ...}: add one')
    records = [_validate_record(as_json_object(item, file, "each item of the list"), file) for item in items]
    return tuple(
        (_open_record(record, file), _validate_weight(record.get("weight", 1), f"{file}")) for record in records
    )


def _validate_record(record: JsonObject, file: Path) -> JsonObject:
    unknown = [key for key in record if key not in _RECORD_KEYS]
    if unknown or not isinstance(record.get("path"), str):
        wrong = f"the key {unknown[0]!r}" if unknown else "no path"
        raise DataError.for_file(
            file, f"has {wrong} in {json.dumps(record)[:80]}; keys are {', '.join(_RECORD_KEYS)}: mend it"
        )
    return record


def _open_record(record: JsonObject, file: Path) -> Dataset:
    kind, split = record.get("kind"), record.get("split")
    for key, value in (("kind", kind), ("split", split)):
        if value is not None and not isinstance(value, str):
            raise DataError.for_file(file, f"has {key} {value!r}; it is a name in quotes, or left out: mend it")
    path = file.parent / Path(str(record["path"])).expanduser()
    return open_dataset(path, data_format=str(kind) if kind else None, split=str(split) if split else None)


def _validate_weight(weight: object, description: str) -> float:
    if isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight) and weight > 0:
        return float(weight)
    raise SourceError(
        f"{description} has weight {weight!r}; weights are positive, finite numbers: 2 is drawn twice as often as 1"
    )
