"""What a frozen encoder says of pictures, kept on disk: the second time a picture is seen costs no encoding.

Features are kept in half precision, a file a key. What comes out is always what half precision holds, also the first
time, so that a run does not depend on what was in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from masklet.errors import InputError, MaskletWarning, OutputError
from masklet.files import atomic_path
from masklet.models.base import ImageFeatures
from masklet.models.sam2 import SAM2

__all__ = ["EmbeddingCache", "fingerprint", "key_of"]

NAMES = ("embed_BCHW", "fine_8", "fine_4")
CHECK = "check"
"""A sum over the others, so that a flipped bit is not learnt from."""
SUFFIX = ".safetensors"
LOOK_AGAIN = 64
"""Files written until the folder is looked through again: other processes may write to it."""


class EmbeddingCache:
    """Features by key in a folder that holds at most `limit_bytes`; the oldest make room. Processes may share it.

    Example:
        >>> cache = EmbeddingCache("runs/mine/embeddings", limit_bytes=20 << 30)
        >>> key = key_of(fingerprint(model), "davis/bear", 12, "size 512, flipped")
        >>> features = cache.of(key, lambda: model.encode_image(pixels))

    Raises:
        InputError: a limit that holds nothing.
    """

    def __init__(self, folder: str | os.PathLike[str], limit_bytes: int) -> None:
        if limit_bytes < 1:
            raise InputError(f"limit_bytes {limit_bytes} must be at least 1; 20 << 30 is 20 GiB")
        self.folder, self.limit = Path(folder), limit_bytes
        self.held = sum(size for _, size, _ in self._files())
        self.written, self.closed = 0, False

    def of(self, key: str, make: Callable[[], ImageFeatures]) -> ImageFeatures:
        """What is kept under `key`, or what `make` makes, kept from now on."""
        found = self.get(key)
        return self.put(key, make()) if found is None else found

    def get(self, key: str) -> ImageFeatures | None:
        """What is kept under `key`, fp32 on the CPU; None where there is nothing, and a damaged file is removed."""
        path = self._path(key)
        try:
            tensors = load(path.read_bytes())
            parts = [tensors[name] for name in NAMES]
            if int(tensors[CHECK]) != _check(parts):
                raise ValueError
        except OSError:  # not there, or not to be read
            return None
        except (SafetensorError, KeyError, ValueError, RuntimeError):
            path.unlink(missing_ok=True)
            return None
        return _features(parts)

    def put(self, key: str, features: ImageFeatures) -> ImageFeatures:
        """Keep `features` under `key`, atomically; return them as `get` will, on the device they came on.

        Features that half precision does not hold (above 65504) are not kept and come back as they are. Where the disk
        is full, or closed, a warning says so once and nothing more is kept.
        """
        device = features.embed_BCHW.device
        parts = [part.detach().to(torch.float16).contiguous() for part in (features.embed_BCHW, *features.fine)]
        if not all(bool(part.isfinite().all()) for part in parts):
            return features
        rounded, parts = _features(parts), [part.cpu() for part in parts]
        assert rounded.embed_BCHW.device == device
        self._write(self._path(key), save({**dict(zip(NAMES, parts, strict=True)), CHECK: torch.tensor(_check(parts))}))
        return rounded

    def _path(self, key: str) -> Path:
        assert key.isalnum(), f"key {key!r} is not one of key_of"
        return self.folder / f"{key}{SUFFIX}"

    def _write(self, path: Path, content: bytes) -> None:
        if self.closed or len(content) > self.limit:
            return
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OutputError as error:
            self.closed = True
            warnings.warn(f"features are no longer kept: {error}", MaskletWarning, stacklevel=3)
            return
        self.held, self.written = self.held + len(content), self.written + 1
        if self.held > self.limit or self.written % LOOK_AGAIN == 0:
            self._make_room()

    def _make_room(self) -> None:
        """Remove the oldest files until the others fit."""
        files = sorted(self._files())
        self.held = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self.held <= self.limit:
                return
            path.unlink(missing_ok=True)
            self.held -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """Age (as the time of writing), size and path of every file, also of those that a killed process began."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        return found


def _features(parts: list[Tensor]) -> ImageFeatures:
    embed, fine_8, fine_4 = (part.float() for part in parts)
    return ImageFeatures(embed, (fine_8, fine_4))


def _check(parts: list[Tensor]) -> int:
    total = 0
    for part in parts:
        total = zlib.crc32(part.numpy().tobytes(), total)
    return total


def fingerprint(model: SAM2, *, dtype: torch.dtype = torch.float32) -> str:
    """Every weight that features depend on, and the precision they are made in, as a short text.

    Example:
        >>> fingerprint(model)
        '3f0c9a6b41d2e87a'
    """
    decoder = model.sam_mask_decoder
    made = hashlib.sha256(str(dtype).encode())
    for part in (model.image_encoder, decoder.conv_s1, decoder.conv_s0):
        for name, tensor in part.state_dict().items():
            made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            made.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return made.hexdigest()[:16]


def key_of(weights_fingerprint: str, name: str, frame: int, view: str | int) -> str:
    """The key of a frame of an entry, as seen by a view: all that its pixels depend on, in words or a number.

    Example:
        >>> key_of("3f0c9a6b41d2e87a", "davis/bear", 12, "size 512, flipped")
        'b7c5a3...'
    """
    words = json.dumps([weights_fingerprint, name, frame, view]).encode()
    return hashlib.sha256(words).hexdigest()[:32]
