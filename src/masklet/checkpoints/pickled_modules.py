"""Read a network that was pickled with its classes: tensors, class names and metadata.

YOLO files are such: a pickle of a tree of foreign modules. The tree is read as inert objects (`pickle_reader`), and
its tensors get the names that a state dict would have.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
import zipfile
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.checkpoints.file_type import DOWNLOAD_AGAIN, detect_file_type, unreadable_error
from masklet.checkpoints.load import check_finite, check_storage_sizes, read_metadata, read_tensors
from masklet.checkpoints.pickle_reader import GlobalName, InertObject, StoredTensor, read_pickle
from masklet.damaged_files import decoder_errors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SavedNetwork", "read_network"]

MAX_MODULES = 20_000
"""Limit on modules and tensors; the largest published network has some 2000."""
MAX_NAME = 300
"""Limit on the characters of a tensor's name, and of a class's."""
MAX_PICKLE = 1 << 24
"""Limit on the bytes of the pickle; that of the largest published network has 153 thousand."""
MAX_CLASSES = 100_000

Tree = InertObject | dict[str, StoredTensor]


@dataclass(frozen=True)
class SavedNetwork:
    """The network in a file."""

    tensors: dict[str, Tensor]
    names: dict[int, str] = field(default_factory=dict)
    """Class names by number; empty if the file has none."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Version, date, license and task, as far as the file has them."""
    image_size: int | None = None
    """Image size it was trained at, if the file has it."""


def read_network(path: str | PathLike[str]) -> SavedNetwork:
    """Read the tensors of a `.pt` or `.safetensors` file, a state dict or a pickled network, without running anything.

    From a training checkpoint the averaged network (`ema`) is read if there is one. Numbers keep the type that they
    have in the file.

    Example:
        >>> saved = read_network("yolov8n.pt")
        >>> saved.names[0], saved.tensors["model.0.conv.weight"].shape
        ('person', torch.Size([16, 3, 3, 3]))

    Raises:
        CheckpointError: as `read_tensors`, except that pickled classes are no error; also if there is no network.
    """
    file = Path(path).expanduser()
    file_type = detect_file_type(file)
    if file_type.kind == "foreign":
        raise unreadable_error(file, file_type.description, file_type.remedy)
    if file_type.kind != "torch-zip":
        names: object = None
        with contextlib.suppress(ValueError, RecursionError):
            names = json.loads(read_metadata(file).get("names", ""))
        if isinstance(names, dict):
            names = {int(key): value for key, value in names.items() if key.isdecimal() and len(key) < 9}
        return SavedNetwork(read_tensors(file), _clean_class_names(names))
    try:
        with zipfile.ZipFile(file) as archive:
            root, content = _read_content(archive)
            tree = _find_network(content)
            stored = _module_state(tree) if isinstance(tree, InertObject) else tree
            reader = _StorageReader(archive, root)
            tensors = {name: reader.tensor(part) for name, part in stored.items()}
    except decoder_errors() as error:
        reason = str(error)[:120] or type(error).__name__
        raise unreadable_error(
            file, f"a PyTorch file that is damaged, or holds no network ({reason})", DOWNLOAD_AGAIN
        ) from error
    if not tensors:
        raise unreadable_error(file, "a checkpoint without a single tensor")
    check_storage_sizes(tensors, file)
    check_finite(tensors, path=file)
    fields = content if isinstance(content, dict) else {}
    words = {key: fields.get(key) for key in ("version", "date", "license", "task")}
    metadata = {key: _printable(text) for key, text in words.items() if isinstance(text, str)}
    arguments = fields.get("train_args")
    side = arguments.get("imgsz") if isinstance(arguments, dict) else None
    return SavedNetwork(
        tensors,
        _clean_class_names(tree.state.get("names") if isinstance(tree, InertObject) else None),
        metadata,
        side if type(side) is int and 32 <= side <= 8192 else None,
    )


def _read_content(archive: zipfile.ZipFile) -> tuple[str, object]:
    """Read the pickle of an archive; return the folder within the archive, and the content."""
    entry = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
    root = entry.rpartition("/")[0]
    order = f"{root}/byteorder"
    if order in archive.namelist() and archive.read(order).strip() != b"little":
        raise ValueError("its numbers are stored with the highest byte first; save it on another machine")
    if archive.getinfo(entry).file_size > MAX_PICKLE:
        raise ValueError("its description is larger than any network's")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escape sequences in strings of damaged files
        return root, read_pickle(archive.read(entry))


def _find_network(content: object) -> Tree:
    """Return the averaged network of a file, else the network, else the state dict."""
    fields = content if isinstance(content, dict) else {}
    for candidate in (fields.get("ema"), fields.get("model"), fields.get("state_dict"), content):
        if isinstance(candidate, InertObject) and isinstance(candidate.state.get("_modules"), dict):
            return candidate
        if isinstance(candidate, dict):
            tensors = {k: v for k, v in candidate.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
            if tensors:
                return tensors
    known = content.path if isinstance(content, (InertObject, GlobalName)) else ", ".join(map(str, list(fields)[:5]))
    raise ValueError(f"in it: {known or type(content).__name__}")


def _module_state(network: InertObject) -> dict[str, StoredTensor]:
    """Return the tensors of a tree of modules under the names of its state dict."""
    tensors: dict[str, StoredTensor] = {}
    waiting: list[tuple[str, InertObject]] = [("", network)]
    visited = 0
    while waiting:
        prefix, module = waiting.pop()
        states = (module.state.get(name) for name in ("_parameters", "_buffers", "_modules"))
        tables = [table for table in states if isinstance(table, dict)]
        visited += 1 + sum(map(len, tables))
        if visited > MAX_MODULES or len(prefix) > MAX_NAME:
            raise ValueError("its modules hold each other in a circle, or are more than any network's")
        # Buffers that a state dict leaves out: a set, which is an inert object of a list here.
        listed = module.state.get("_non_persistent_buffers_set")
        non_persistent: object = []
        if isinstance(listed, InertObject):
            non_persistent = listed.arguments[0] if listed.arguments else listed.elements
        skipped = non_persistent[:MAX_NAME] if isinstance(non_persistent, list) else []
        for name, part in [item for table in tables for item in table.items()]:
            full = f"{prefix}{name[:MAX_NAME]}" if isinstance(name, str) else f"{prefix}?"
            if isinstance(part, StoredTensor) and name not in skipped:
                tensors[full] = part
            elif isinstance(part, InertObject):
                waiting.append((f"{full}.", part))
    return tensors


@dataclass(eq=False)
class _StorageReader:
    """Arrays of an archive, each read once, when a tensor views it."""

    archive: zipfile.ZipFile
    root: str
    cache: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read one tensor as a view of its array, within the array's bounds."""
        values = self.values(stored)
        size, stride, numbers = stored.size, stored.stride, math.prod([int(n) for n in stored.size])
        if len(size) != len(stride):
            raise ValueError("a tensor whose shape and strides do not match")
        last = stored.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if stored.offset < 0 or (numbers and last >= len(values)):
            raise ValueError(f"a tensor that reaches beyond the {len(values)} numbers stored for it")
        return values.as_strided(size, stride, stored.offset) if numbers else values.new_empty(size)

    def values(self, stored: StoredTensor) -> Tensor:
        """Read the array of a tensor."""
        import torch

        key = (stored.storage, stored.storage_type)
        if key not in self.cache:
            kinds = {
                "Half": torch.float16, "BFloat16": torch.bfloat16, "Float": torch.float32, "Double": torch.float64,
                "Char": torch.int8, "Byte": torch.uint8, "Short": torch.int16, "Int": torch.int32, "Long": torch.int64,
                "Bool": torch.bool,
            }  # fmt: skip
            dtype = {f"torch.{name}Storage": dtype for name, dtype in kinds.items()}.get(stored.storage_type)
            if dtype is None:
                raise ValueError(f"numbers of the kind {stored.storage_type[:60]}")
            data = bytearray(self.archive.read(f"{self.root}/data/{stored.storage}"))
            if stored.count < 0 or stored.count * dtype.itemsize > len(data):
                raise ValueError(f"{stored.count} numbers where {len(data) // dtype.itemsize} are stored")
            empty = torch.empty(0, dtype=dtype)
            self.cache[key] = torch.frombuffer(data, dtype=dtype, count=stored.count) if stored.count else empty
        return self.cache[key]


def _clean_class_names(names: object) -> dict[int, str]:
    """Return printable class names by number, from a list or a dictionary of untrusted values."""
    entries = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
    return {
        number: _printable(name)
        for number, name in list(entries.items())[:MAX_CLASSES]
        if type(number) is int and number >= 0 and isinstance(name, str)
    }


def _printable(text: str) -> str:
    """Make text safe to print: one line, bounded length, no lone surrogates."""
    clean = text[:MAX_NAME].encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in clean).strip()
