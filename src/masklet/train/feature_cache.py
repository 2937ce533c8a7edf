"""What a frozen encoder says of images, kept on disk: the second time an image is seen costs no encoding.

Features are kept in half precision, a file a key. What comes out is always what half precision holds, also the first
time, so that a run does not depend on what was in the cache.

How a run encodes images: with gradients where the encoder learns, else fast, and each view once where asked.

Shapes: B clips, T frames, S side.
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

from masklet.atomic_files import atomic_path
from masklet.errors import InputError, MaskletWarning, OutputError
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam2 import SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.types import ImageFeatures
from masklet.train.config import TrainConfig
from masklet.train.data import ClipBatch

__all__ = ["BatchEncoder", "EmbeddingCache", "cache_key", "weights_fingerprint", "make_encoder", "normalize_pixels"]  # noqa: RUF022

TENSOR_NAMES = ("embed_BCHW", "fine_8", "fine_4")
CHECKSUM_KEY = "check"
"""A sum over the others, so that a flipped bit is not learnt from."""
SUFFIX = ".safetensors"
RESCAN_EVERY = 64
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

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        if max_bytes < 1:
            raise InputError(f"limit_bytes {max_bytes} must be at least 1; 20 << 30 is 20 GiB")
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.total_bytes = sum(size for _, size, _ in self._files())
        self.num_written, self.disabled = 0, False

    def get_or_compute(self, key: str, compute: Callable[[], ImageFeatures]) -> ImageFeatures:
        """What is kept under `key`, or what `make` makes, kept from now on."""
        found = self.get(key)
        return self.put(key, compute()) if found is None else found

    def get(self, key: str) -> ImageFeatures | None:
        """What is kept under `key`, fp32 on the CPU; None where there is nothing, and a damaged file is removed."""
        path = self._path(key)
        try:
            tensors = load(path.read_bytes())
            parts = [tensors[name] for name in TENSOR_NAMES]
            if int(tensors[CHECKSUM_KEY]) != _checksum(parts):
                raise ValueError
        except OSError:  # not there, or not to be read
            return None
        except (SafetensorError, KeyError, ValueError, RuntimeError):
            path.unlink(missing_ok=True)
            return None
        return _to_image_features(parts)

    def put(self, key: str, features: ImageFeatures) -> ImageFeatures:
        """Keep `features` under `key`, atomically; return them as `get` will, on the device they came on.

        Features that half precision does not hold (above 65504) are not kept and come back as they are. Where the disk
        is full, or closed, a warning says so once and nothing more is kept.
        """
        device = features.embed_BCHW.device
        parts = [
            part.detach().to(torch.float16).contiguous() for part in (features.embed_BCHW, *features.high_res_features)
        ]
        if not all(bool(part.isfinite().all()) for part in parts):
            return features
        rounded, parts = _to_image_features(parts), [part.cpu() for part in parts]
        assert rounded.embed_BCHW.device == device
        self._write(
            self._path(key),
            save({**dict(zip(TENSOR_NAMES, parts, strict=True)), CHECKSUM_KEY: torch.tensor(_checksum(parts))}),
        )
        return rounded

    def _path(self, key: str) -> Path:
        assert key.isalnum(), f"key {key!r} is not one of key_of"
        return self.folder / f"{key}{SUFFIX}"

    def _write(self, path: Path, content: bytes) -> None:
        if self.disabled or len(content) > self.max_bytes:
            return
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OutputError as error:
            self.disabled = True
            warnings.warn(f"features are no longer kept: {error}", MaskletWarning, stacklevel=3)
            return
        self.total_bytes, self.num_written = self.total_bytes + len(content), self.num_written + 1
        if self.total_bytes > self.max_bytes or self.num_written % RESCAN_EVERY == 0:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        """Remove the oldest files until the others fit."""
        files = sorted(self._files())
        self.total_bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self.total_bytes <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            self.total_bytes -= size

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


def _to_image_features(parts: list[Tensor]) -> ImageFeatures:
    embed, fine_8, fine_4 = (part.float() for part in parts)
    return ImageFeatures(embed, (fine_8, fine_4))


def _checksum(parts: list[Tensor]) -> int:
    total = 0
    for part in parts:
        total = zlib.crc32(part.numpy().tobytes(), total)
    return total


def weights_fingerprint(model: SAM2, *, dtype: torch.dtype = torch.float32) -> str:
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


def cache_key(fingerprint: str, name: str, frame: int, view: str | int) -> str:
    """The key of a frame of an entry, as seen by a view: all that its pixels depend on, in words or a number.

    Example:
        >>> key_of("3f0c9a6b41d2e87a", "davis/bear", 12, "size 512, flipped")
        'b7c5a3...'
    """
    words = json.dumps([fingerprint, name, frame, view]).encode()
    return hashlib.sha256(words).hexdigest()[:32]


BatchEncoder = Callable[[ClipBatch], ImageFeatures]
MAX_CACHE_BYTES = 20 << 30
"""Of embeddings on disk, at most."""


def make_encoder(model: SAM2, config: TrainConfig, cache_dir: Path | None = None) -> BatchEncoder:
    """From a batch to the features of all its frames, clip after clip.

    Raises:
        InputError: embeddings are to be kept of an encoder that learns.
    """
    decoder = model.sam_mask_decoder
    parts = (model.image_encoder, decoder.conv_s0, decoder.conv_s1)
    if any(parameter.requires_grad for part in parts for parameter in part.parameters()):
        if cache_dir is not None:
            raise InputError(
                f"views={config.cached_views} keeps embeddings, but the encoder learns and they would be out of date; freeze "  # noqa: E501
                "it (--freeze encoder; in a recipe, rates with image_encoder and sam_mask_decoder.conv_s at 0), or set "
                "views to 0"
            )
        return lambda batch: model.encode_image(normalize_pixels(batch.flat_pixels))
    fast = FastSAM2Encoder(model, torch.bfloat16 if config.precision == "bf16" else None)

    @torch.no_grad()
    def plain(pixels_B3SS: Tensor) -> ImageFeatures:
        return fast(normalize_pixels(pixels_B3SS))

    if cache_dir is None:
        return lambda batch: plain(batch.flat_pixels)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return _CachingEncoder(plain, EmbeddingCache(cache_dir, MAX_CACHE_BYTES), weights_fingerprint(model, dtype=dtype))


class _CachingEncoder:
    """Encodes what is not on disk yet."""

    def __init__(self, encode: Callable[[Tensor], ImageFeatures], cache: EmbeddingCache, fingerprint: str) -> None:
        self.encode, self.cache, self.fingerprint = encode, cache, fingerprint

    def __call__(self, batch: ClipBatch) -> ImageFeatures:
        if not batch.cache_keys:
            return self.encode(batch.flat_pixels)
        found = [
            self._encode_one(pixels_3SS, name)
            for pixels_3SS, name in zip(batch.flat_pixels, batch.cache_keys, strict=True)
        ]
        return ImageFeatures(
            torch.cat([features.embed_BCHW for features in found]),
            (
                torch.cat([features.high_res_features[0] for features in found]),
                torch.cat([features.high_res_features[1] for features in found]),
            ),
        )

    def _encode_one(self, pixels_3SS: Tensor, name: str) -> ImageFeatures:
        kept = self.cache.get_or_compute(
            cache_key(self.fingerprint, name, 0, ""), lambda: self.encode(pixels_3SS[None])
        )
        device = pixels_3SS.device
        return ImageFeatures(
            kept.embed_BCHW.float().to(device),
            (kept.high_res_features[0].float().to(device), kept.high_res_features[1].float().to(device)),
        )


def normalize_pixels(pixels_B3SS: Tensor) -> Tensor:
    """uint8 RGB to what the networks see."""
    mean = 255 * torch.tensor(PIXEL_MEAN, device=pixels_B3SS.device).view(1, 3, 1, 1)
    deviation = 255 * torch.tensor(PIXEL_STD, device=pixels_B3SS.device).view(1, 3, 1, 1)
    return ((pixels_B3SS.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)
