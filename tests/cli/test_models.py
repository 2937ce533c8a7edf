"""`masklet models` and `masklet info`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers.yolo_files import TINY, network, save
from masklet import __version__, registry
from masklet.registry import MODELS

Masklet = Callable[..., Any]


def rows(shown: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}


def millions(path: Path) -> str:
    with safe_open(path, "np") as file:
        return f"{sum(file.get_tensor(name).size for name in file.keys()) / 1e6:.1f}"  # noqa: SIM118


def test_models_lists_every_model_with_its_terms(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("models")
    assert outcome.code == 0
    table = rows(outcome.out)
    assert set(MODELS) <= set(table)
    assert table["sam2.1_hiera_base_plus"][1:] == [
        "sam2.1_b.pt", "80.9", "M", "323.6", "MB", "Apache-2.0,", "Apache-2.0", "no",
    ]  # fmt: skip
    assert table["yolov8n-seg"][1:] == ["yolov8n-seg.pt", "3.4", "M", "?", "Apache-2.0,", "AGPL-3.0", "no"]
    assert table["FastSAM-s"][1:] == ["FastSAM-s.pt", "11.8", "M", "?", "Apache-2.0,", "AGPL-3.0", "no"]
    assert str(folder / "cache") in outcome.out


def test_models_sees_downloaded_files(
    masklet: Masklet, folder: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sam2_hiera_tiny.pt").write_bytes(b"some bytes")
    monkeypatch.setattr(registry, "_builtin_path", lambda card: builtin_file)
    table = rows(masklet("models").out)
    assert table["sam2_hiera_tiny"][-1] == "yes"
    assert table["masklet-builtin"][-3:] == ["in", "the", "package"]
    assert table["masklet-builtin"][2:6] == [
        millions(builtin_file),
        "M",
        f"{builtin_file.stat().st_size / 1e6:.1f}",
        "MB",
    ]


def test_info_names_versions_and_the_model(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    shutil.copy(builtin_file, "mine.safetensors")
    outcome = masklet("info", "mine.safetensors")
    assert outcome.code == 0, outcome.err
    table = rows(outcome.out)
    assert table["masklet"][1] == __version__
    assert table["torch"][1] == torch.__version__
    assert table["numpy"][1] == np.__version__
    assert {"python", "device", "cache", "license:"} <= set(table)
    assert table["file:"] == ["file:", "mine.safetensors"]
    assert f"{millions(builtin_file)} M parameters" in outcome.out


def test_info_describes_a_missing_file_and_downloads_nothing(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("info", "sam2_b.pt")
    assert outcome.code == 0, outcome.err
    assert "sam2_hiera_base_plus: 80.83 M parameters, 323.5 MB" in outcome.out
    assert "not here" in outcome.out
    assert not (folder / "cache").exists()


def test_info_describes_detectors_too(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("info", str(save(folder / "yolov8n.pt", network(TINY))))
    assert outcome.code == 0, outcome.err
    assert "boxes of 3 classes" in outcome.out
    assert "license: code Apache-2.0, weights AGPL-3.0" in outcome.out


def test_info_of_a_broken_file_is_about_the_file(masklet: Masklet, folder: Path) -> None:
    (folder / "mine.pt").write_bytes(b"hello")
    outcome = masklet("info", "mine.pt")
    assert outcome.code != 0
    assert "mine.pt cannot be read as a checkpoint: it is a text file" in outcome.err
