"""Weight files that mean harm, or are not what they seem."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from masklet.errors import CheckpointError

Maker = Callable[[Path], bytes]
"""The content of a file; a hostile one makes `proof` in the folder."""


class Hostile:
    """Unpickled by an ordinary unpickler, this makes a folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.proof),)


def saved(value: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def repickled(change: Callable[[bytes], bytes]) -> bytes:
    """A file of 77 numbers with another pickle in it."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(77)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    key = next(name for name in entries if name.endswith("data.pkl"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {**entries, key: change(entries[key])}.items():
            archive.writestr(name, data)
    return out.getvalue()


def words_of_refusal(read: Callable[[Path], object], make: Maker, folder: Path) -> str:
    """The message with which a file is refused; it names the file, and nothing in the file was run."""
    file = folder / "weights.pt"
    file.write_bytes(make(folder))
    with pytest.raises(CheckpointError) as caught:
        read(file)
    assert str(file) in str(caught.value), str(caught.value)
    assert not (folder / "proof").exists()
    return str(caught.value)
