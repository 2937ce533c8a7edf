"""Score how well images match texts, by a CLIP model of the `transformers` extra.

Shapes: N images, T texts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from masklet.detect.detector import Rgb
from masklet.detect.huggingface_files import TRANSFORMERS_EXTRA, resolve_model_dir, silence_transformers
from masklet.errors import CheckpointError, MissingExtraError
from masklet.runtime import resolve_device

__all__ = ["DEFAULT_CLIP_MODEL", "TextScorer", "load_clip"]

DEFAULT_CLIP_MODEL = "openai/clip-vit-base-patch32"
"""The default model."""
MAX_BATCH_SIZE = 32

TextScorer = Callable[[Sequence[Rgb], Sequence[str]], npt.NDArray[np.float32]]
"""A function of N images and T texts to scores (N, T), larger for a better match."""


@dataclass(frozen=True, eq=False)
class ClipScorer:
    """A CLIP model, opened by `load_clip`."""

    network: Any
    """On `device`, in evaluation mode."""
    processor: Any
    tokenizer: Any
    device: str

    @torch.inference_mode()
    def __call__(self, images: Sequence[Rgb], texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Compute the cosines of images and texts, (N, T), times the model's scale."""
        words = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        parts = [np.zeros((0, len(texts)), np.float32)]
        for start in range(0, len(images), MAX_BATCH_SIZE):
            batch = [Image.fromarray(rgb) for rgb in images[start : start + MAX_BATCH_SIZE]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"].to(self.device)
            output = self.network(
                input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels
            )
            parts.append(output.logits_per_image.float().cpu().numpy())
        return np.concatenate(parts)


def load_clip(name_or_path: str = DEFAULT_CLIP_MODEL, device: str = "") -> ClipScorer:
    """Load a CLIP model by its name on the hub, or from a folder.

    Example:
        >>> load_clip()([crop], ["a dog", "a cat"]).shape  # doctest: +SKIP
        (1, 2)

    Raises:
        MissingExtraError: if the extra `transformers` is not installed.
        DownloadError: if a published model is not cached and cannot be downloaded.
        CheckpointError: if the folder has no CLIP model, or a damaged one.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError.for_package("transformers", TRANSFORMERS_EXTRA)
    resolved_device, folder = resolve_device(device), resolve_model_dir(name_or_path)
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    try:
        with silence_transformers():
            network, info = CLIPModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the library raises OSError, ValueError, KeyError, ImportError and others alike
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"{name_or_path!r} cannot be opened as a CLIP model: {reason}. Name another, such as {DEFAULT_CLIP_MODEL!r}"
        ) from error
    if info["missing_keys"]:
        raise CheckpointError(
            f"{name_or_path!r} lacks {len(info['missing_keys'])} of a CLIP model's tensors, the first is "
            f"{min(info['missing_keys'])}; name another, such as {DEFAULT_CLIP_MODEL!r}"
        )
    return ClipScorer(network.to(resolved_device).eval(), processor, tokenizer, resolved_device)
