"""Texts and images by a CLIP model, tiny and random, against the library's own way."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from masklet.detect.clip import load_clip
from masklet.detect.huggingface_files import silence_transformers
from masklet.errors import CheckpointError, DownloadError, MissingExtraError

pytestmark = pytest.mark.slow  # loads transformers, a hundred megabytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    path = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    side = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**side, "vocab_size": len(vocabulary), "max_position_embeddings": 16, "eos_token_id": 53},
        vision_config={**side, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    with silence_transformers():
        CLIPModel(config).save_pretrained(path)
        CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt")).save_pretrained(path)
        small = {"height": 32, "width": 32}
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=small).save_pretrained(path)
    return path


def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (20 + 3 * i, 50 - i, 3), np.uint8) for i in range(35)]


def test_it_is_what_the_library_says(folder: Path) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    found = load_clip(str(folder), "cpu")(images(), ["a dog", "cat"])
    with torch.inference_mode(), silence_transformers():
        model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
        words = tokenizer(["a dog", "cat"], padding=True, return_tensors="pt")
        prepare = CLIPImageProcessorPil.from_pretrained(folder)
        pixels = prepare(images=[Image.fromarray(p) for p in images()], return_tensors="pt")["pixel_values"]
        wanted = model(**words, pixel_values=pixels).logits_per_image.numpy()
    assert found.shape == (35, 2)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.ptp(found[:, 0]) > 0.01


def test_no_images_are_like_nothing(folder: Path) -> None:
    assert load_clip(str(folder), "cpu")([], ["a dog"]).shape == (0, 1)


def test_folders_that_hold_no_such_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_clip(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="cannot be opened as a CLIP model"):
        load_clip(str(tmp_path))
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    with pytest.raises(DownloadError, match="MASKLET_OFFLINE"):
        load_clip("nobody/nothing")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"masklet\[transformers\]"):
        load_clip()
