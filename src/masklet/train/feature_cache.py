"""Encode the images of a run: with gradients if the encoder learns, else fast, and cached on disk on request.

The cache stores features in half precision, one file per key. Features always come back as half precision holds them,
also the first time, so that a run does not depend on the content of the cache.

Shapes: B clips, T frames, S side.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from masklet.atomic_files import atomic_path
from masklet.damaged_files import decoder_errors
from masklet.errors import InputError, MaskletWarning, OutputError
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam2 import SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.types import ImageFeatures
from masklet.train.config import TrainConfig
from masklet.train.data import ClipBatch

__all__ = ["BatchEncoder", "EmbeddingCache", "cache_key", "make_encoder", "normalize_pixels", "weights_fingerprint"]

TENSOR_NAMES = ("embed_BCHW", "fine_8", "fine_4")
CHECKSUM_KEY = "check"
"""A checksum of the other tensors, so that a flipped bit is not learned from."""
SUFFIX = ".safetensors"
RESCAN_EVERY = 64
"""Files written between two scans of the folder, to which other processes may write."""
MAX_CACHE_BYTES = 20 << 30

BatchEncoder = Callable[[ClipBatch], ImageFeatures]
"""Maps a batch to the features of all its frames, clip after clip."""


class EmbeddingCache:
    """Features by key in a folder of at most `max_bytes`; the oldest are evicted. Several processes may use it.

    Example:
        >>> cache = EmbeddingCache("runs/mine/embeddings", max_bytes=20 << 30)
        >>> key = cache_key(weights_fingerprint(model), "davis/bear", 12, "size 512, flipped")
        >>> features = cache.get(key) or cache.put(key, model.encode_image(pixels))

    Raises:
        InputError: if `max_bytes` is below 1.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        if max_bytes < 1:
            raise InputError(f"max_bytes {max_bytes} must be at least 1; 20 << 30 is 20 GiB")
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.total_bytes = sum(size for _, size, _ in self._files())
        self.num_written, self.disabled = 0, False

    def get(self, key: str) -> ImageFeatures | None:
        """Return the features of `key` as fp32 on the CPU; None if they are missing. A damaged file is removed."""
        path = self._path(key)
        try:
            tensors = load(path.read_bytes())
            first, *others = TENSOR_NAMES
            parts = [tensors[first], *(tensors[name] for name in others if name in tensors)]
            if int(tensors[CHECKSUM_KEY]) != zlib.crc32(b"".join(part.numpy().tobytes() for part in parts)):
                raise ValueError
        except OSError:  # missing or unreadable
            return None
        except decoder_errors():
            path.unlink(missing_ok=True)
            return None
        return _to_image_features(parts)

    def put(self, key: str, features: ImageFeatures) -> ImageFeatures:
        """Store features under `key`, atomically; return them as `get` will, on the device they came on.

        Features that half precision cannot hold (above 65504) are not stored and come back unchanged. If the disk is
        full or read-only, one warning says so and nothing more is stored.
        """
        parts = [
            part.detach().to(torch.float16).contiguous() for part in (features.embed_BCHW, *features.high_res_features)
        ]
        if not all(bool(part.isfinite().all()) for part in parts):
            return features
        rounded, parts = _to_image_features(parts), [part.cpu() for part in parts]
        checksum = torch.tensor(zlib.crc32(b"".join(part.numpy().tobytes() for part in parts)))
        tensors = {**dict(zip(TENSOR_NAMES, parts, strict=False)), CHECKSUM_KEY: checksum}
        content = save(tensors)
        if self.disabled or len(content) > self.max_bytes:
            return rounded
        try:
            with atomic_path(self._path(key)) as temporary:
                temporary.write_bytes(content)
        except OutputError as error:
            self.disabled = True
            warnings.warn(f"features are no longer cached: {error}", MaskletWarning, stacklevel=2)
            return rounded
        self.total_bytes, self.num_written = self.total_bytes + len(content), self.num_written + 1
        if self.total_bytes > self.max_bytes or self.num_written % RESCAN_EVERY == 0:
            files = sorted(self._files())
            self.total_bytes = sum(size for _, size, _ in files)
            for _, size, path in files:  # the oldest first
                if self.total_bytes <= self.max_bytes:
                    break
                path.unlink(missing_ok=True)
                self.total_bytes -= size
        return rounded

    def _path(self, key: str) -> Path:
        assert key.isalnum(), f"key {key!r} is not one of cache_key"
        return self.folder / f"{key}{SUFFIX}"

    def _files(self) -> list[tuple[int, int, Path]]:
        """List modification time, size and path of every file, also of those that a killed process left."""
        files = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # evicted by another process
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        return files


def _to_image_features(parts: Sequence[Tensor]) -> ImageFeatures:
    embed, *finer = (part.float() for part in parts)
    return ImageFeatures(embed, tuple(finer))


def _encoder_parts(model: SAM2) -> list[nn.Module]:
    """Return all modules that the features of an image depend on."""
    decoder = dict(model.sam_mask_decoder.named_children())
    return [model.image_encoder, *(decoder[name] for name in ("conv_s1", "conv_s0") if name in decoder)]


def weights_fingerprint(model: SAM2, *, dtype: torch.dtype = torch.float32) -> str:
    """Hash every weight that features depend on, and the precision they are computed in, to a short text.

    Example:
        >>> weights_fingerprint(model)
        '3f0c9a6b41d2e87a'
    """
    digest = hashlib.sha256(str(dtype).encode())
    for part in _encoder_parts(model):
        for name, tensor in part.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def cache_key(fingerprint: str, name: str, frame: int, view: str | int) -> str:
    """Return the key of a frame in one view; `view` states everything its pixels depend on, as text or a number.

    Example:
        >>> cache_key("3f0c9a6b41d2e87a", "davis/bear", 12, "size 512, flipped")
        'b7c5a3...'
    """
    text = json.dumps([fingerprint, name, frame, view]).encode()
    return hashlib.sha256(text).hexdigest()[:32]


def make_encoder(model: SAM2, config: TrainConfig, cache_dir: Path | None = None) -> BatchEncoder:
    """Return a function from a batch to the features of all its frames, clip after clip.

    Raises:
        InputError: if embeddings are to be cached while the encoder learns.
    """
    if any(parameter.requires_grad for part in _encoder_parts(model) for parameter in part.parameters()):
        if cache_dir is not None:
            raise InputError(
                f"cached_views={config.cached_views} caches embeddings, but the encoder learns and they would be out "
                "of date; freeze it (--freeze encoder; in a recipe, lr_multipliers with image_encoder and "
                "sam_mask_decoder.conv_s at 0), or set cached_views to 0"
            )
        return lambda batch: model.encode_image(normalize_pixels(batch.flat_pixels))
    encode = FastSAM2Encoder(model, torch.bfloat16 if config.precision == "bf16" else None)

    cache, fingerprint = None, ""
    if cache_dir is not None:
        cache = EmbeddingCache(cache_dir, MAX_CACHE_BYTES)
        fingerprint = weights_fingerprint(model, dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32)

    @torch.no_grad()
    def encode_frozen(batch: ClipBatch) -> ImageFeatures:
        if cache is None or not batch.cache_keys:
            return encode(normalize_pixels(batch.flat_pixels))
        images = []
        for pixels_3SS, name in zip(batch.flat_pixels, batch.cache_keys, strict=True):
            key = cache_key(fingerprint, name, 0, "")
            features = cache.get(key)
            if features is None:
                features = cache.put(key, encode(normalize_pixels(pixels_3SS[None])))
            images.append((features.embed_BCHW, *features.high_res_features))
        device = batch.pixels_BT3SS.device
        return _to_image_features(
            [torch.cat([part.to(device) for part in parts]) for parts in zip(*images, strict=True)]
        )

    return encode_frozen


def normalize_pixels(pixels_B3SS: Tensor) -> Tensor:
    """Convert uint8 RGB to the input of the networks."""
    mean = 255 * torch.tensor(PIXEL_MEAN, device=pixels_B3SS.device).view(1, 3, 1, 1)
    deviation = 255 * torch.tensor(PIXEL_STD, device=pixels_B3SS.device).view(1, 3, 1, 1)
    return ((pixels_B3SS.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)
