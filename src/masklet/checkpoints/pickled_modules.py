"""A network that was saved whole, class and all: its tensors, its class names and what it says of itself.

YOLO files are such: a pickle of a tree of foreign modules. The tree is read as inert records (`records`), from which
tensors come under the names that a state dict would have.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.checkpoints.file_type import DOWNLOAD_AGAIN, detect_file_type, unreadable_error
from masklet.checkpoints.load import LOAD_ERRORS, check_finite, check_storage_sizes, read_metadata, read_tensors
from masklet.checkpoints.pickle_reader import GlobalName, InertObject, StoredTensor, read_pickle

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["SavedNetwork", "read_network"]

MAX_MODULES = 20_000
"""Modules and tensors of a network; the largest published one has some 2000."""
MAX_NAME = 300
"""Letters of a tensor's name, and of a class's."""
MAX_PICKLE = 1 << 24
"""Bytes of the description; that of the largest published network has 153 thousand."""
MAX_CLASSES = 100_000

Tree = InertObject | dict[str, StoredTensor]


@dataclass(frozen=True)
class SavedNetwork:
    """What a file holds of a network."""

    tensors: dict[str, Tensor]
    names: dict[int, str] = field(default_factory=dict)
    """Of classes; empty where the file does not say."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What the file says of itself in words: version, date, license, task."""
    image_size: int | None = None
    """Side it was trained at, where the file says."""


def read_network(path: str | PathLike[str]) -> SavedNetwork:
    """The tensors of a `.pt` or `.safetensors` file, be it a state dict or a network saved whole. Nothing in it is run.

    Of a training checkpoint the averaged network (`ema`) is taken where there is one. Numbers come back as they stand
    in the file (half precision stays half).

    Example:
        >>> saved = read_network("yolov8n.pt")
        >>> saved.names[0], saved.tensors["model.0.conv.weight"].shape
        ('person', torch.Size([16, 3, 3, 3]))

    Errors: CheckpointError as for `read_tensors`; classes are no reason, but a file without a network in it is.
    """
    file = Path(path).expanduser()
    sniffed = detect_file_type(file)
    if sniffed.kind == "foreign":
        raise unreadable_error(file, sniffed.description, sniffed.remedy)
    if sniffed.kind != "torch-zip":
        return SavedNetwork(read_tensors(file), _class_names_from_json(read_metadata(file).get("names", "")))
    try:
        with zipfile.ZipFile(file) as archive:
            root, content = _read_content(archive)
            tree = _find_network(content)
            stored = _module_state(tree) if isinstance(tree, InertObject) else tree
            tensors = _StorageReader(archive, root).tensors(stored)
    except (*LOAD_ERRORS, zipfile.BadZipFile, RecursionError) as error:
        reason = str(error)[:120] or type(error).__name__
        raise unreadable_error(
            file, f"a PyTorch file that is damaged, or holds no network ({reason})", DOWNLOAD_AGAIN
        ) from error
    if not tensors:
        raise unreadable_error(file, "a checkpoint without a single tensor")
    check_storage_sizes(tensors, file)
    check_finite(tensors, path=file)
    return SavedNetwork(tensors, _class_names(tree), _file_metadata(content), _image_size(content))


def _read_content(archive: zipfile.ZipFile) -> tuple[str, object]:
    """The folder within the archive, and what its pickle describes."""
    entry = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
    root = entry.rpartition("/")[0]
    order = f"{root}/byteorder"
    if order in archive.namelist() and archive.read(order).strip() != b"little":
        raise ValueError("its numbers are stored with the highest byte first; save it on another machine")
    if archive.getinfo(entry).file_size > MAX_PICKLE:
        raise ValueError("its description is larger than any network's")
    return root, read_pickle(archive.read(entry))


def _find_network(content: object) -> Tree:
    """The averaged network, else the network, else the state dict of a file."""
    held = content if isinstance(content, dict) else {}
    for candidate in (held.get("ema"), held.get("model"), held.get("state_dict"), content):
        if isinstance(candidate, InertObject) and isinstance(candidate.state.get("_modules"), dict):
            return candidate
        if isinstance(candidate, dict):
            found = {k: v for k, v in candidate.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
            if found:
                return found
    known = content.path if isinstance(content, (InertObject, GlobalName)) else ", ".join(map(str, list(held)[:5]))
    raise ValueError(f"in it: {known or type(content).__name__}")


def _module_state(network: InertObject) -> dict[str, StoredTensor]:
    """Names and tensors of a tree of modules, as its state dict would have them."""
    found: dict[str, StoredTensor] = {}
    waiting: list[tuple[str, InertObject]] = [("", network)]
    visited = 0
    while waiting:
        prefix, module = waiting.pop()
        tables = [_module_table(module, name) for name in ("_parameters", "_buffers", "_modules")]
        visited += 1 + sum(map(len, tables))
        if visited > MAX_MODULES or len(prefix) > MAX_NAME:
            raise ValueError("its modules hold each other in a circle, or are more than any network's")
        passing = _non_persistent_buffers(module)
        for name, part in [item for table in tables for item in table.items()]:
            full = f"{prefix}{name[:MAX_NAME]}" if isinstance(name, str) else f"{prefix}?"
            if isinstance(part, StoredTensor) and name not in passing:
                found[full] = part
            elif isinstance(part, InertObject):
                waiting.append((f"{full}.", part))
    return found


def _module_table(module: InertObject, name: str) -> dict[object, object]:
    table = module.state.get(name)
    return table if isinstance(table, dict) else {}


def _non_persistent_buffers(module: InertObject) -> list[object]:
    """Names of buffers that a state dict leaves out: a set, which stands in the file as a record of a list."""
    named = module.state.get("_non_persistent_buffers_set")
    if not isinstance(named, InertObject):
        return []
    first = named.arguments[0] if named.arguments else named.elements
    return first[:MAX_NAME] if isinstance(first, list) else []


class _StorageReader:
    """Arrays of an archive, each read once, when a tensor views it."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive, self.root = archive, root
        self.cache: dict[tuple[str, str], Tensor] = {}

    def tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """All of them, by name."""
        return {name: self.tensor(one) for name, one in stored.items()}

    def tensor(self, stored: StoredTensor) -> Tensor:
        """One, viewing its array; it never reaches beyond it."""
        values = self.values(stored)
        size, stride, numbers = stored.size, stored.stride, math.prod([int(n) for n in stored.size])
        if len(size) != len(stride):
            raise ValueError("a tensor whose shape and strides do not match")
        last = stored.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if stored.offset < 0 or (numbers and last >= len(values)):
            raise ValueError(f"a tensor that reaches beyond the {len(values)} numbers stored for it")
        return values.as_strided(size, stride, stored.offset) if numbers else values.new_empty(size)

    def values(self, stored: StoredTensor) -> Tensor:
        """The whole array."""
        import torch

        key = (stored.storage, stored.storage_type)
        if key not in self.cache:
            dtype = _dtypes().get(stored.storage_type)
            if dtype is None:
                raise ValueError(f"numbers of the kind {stored.storage_type[:60]}")
            data = bytearray(self.archive.read(f"{self.root}/data/{stored.storage}"))
            if stored.count < 0 or stored.count * dtype.itemsize > len(data):
                raise ValueError(f"{stored.count} numbers where {len(data) // dtype.itemsize} are stored")
            empty = torch.empty(0, dtype=dtype)
            self.cache[key] = torch.frombuffer(data, dtype=dtype, count=stored.count) if stored.count else empty
        return self.cache[key]


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    kinds = {
        "Half": torch.float16, "BFloat16": torch.bfloat16, "Float": torch.float32, "Double": torch.float64,
        "Char": torch.int8, "Byte": torch.uint8, "Short": torch.int16, "Int": torch.int32, "Long": torch.int64,
        "Bool": torch.bool,
    }  # fmt: skip
    return {f"torch.{name}Storage": dtype for name, dtype in kinds.items()}


def _class_names(tree: Tree) -> dict[int, str]:
    """Class names that the network carries, as a list or by number."""
    held = tree.state.get("names") if isinstance(tree, InertObject) else None
    return _clean_class_names(held)


def _class_names_from_json(text: str) -> dict[int, str]:
    import json

    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(held, dict):
        held = {int(key): value for key, value in held.items() if key.isdecimal() and len(key) < 9}
    return _clean_class_names(held)


def _clean_class_names(held: object) -> dict[int, str]:
    entries = dict(enumerate(held)) if isinstance(held, list) else held if isinstance(held, dict) else {}
    return {
        number: _printable(name)
        for number, name in list(entries.items())[:MAX_CLASSES]
        if type(number) is int and number >= 0 and isinstance(name, str)
    }


def _file_metadata(content: object) -> dict[str, str]:
    held = content if isinstance(content, dict) else {}
    wanted = ("version", "date", "license", "task")
    return {name: _printable(held[name]) for name in wanted if isinstance(held.get(name), str)}


def _printable(text: str) -> str:
    """Text that can be shown: of one line, of bounded length, without halves of letters."""
    clean = text[:MAX_NAME].encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in clean).strip()


def _image_size(content: object) -> int | None:
    arguments = content.get("train_args") if isinstance(content, dict) else None
    side = arguments.get("imgsz") if isinstance(arguments, dict) else None
    return side if type(side) is int and 32 <= side <= 8192 else None
