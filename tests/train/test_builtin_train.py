"""The stages of the built-in model: each starts from the best before it, and is taken only if it is better."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helpers.scripts import load_script


@pytest.fixture
def script() -> ModuleType:
    return load_script("builtin_train")


def test_a_stage_is_better_if_the_mean_rises_and_nothing_falls_much(script: ModuleType) -> None:
    before = {"box": 0.7, "davis": 0.8}
    assert script.is_better({"box": 0.71, "davis": 0.8}, before)
    assert script.is_better({"box": 0.72, "davis": 0.796}, before)
    assert not script.is_better({"box": 0.9, "davis": 0.79}, before)
    assert not script.is_better(dict(before), before)


def test_a_stage_starts_from_the_best_before_it_and_figures_are_kept(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, str]] = []
    boxes = {"builtin": 0.7, "1_builtin_images": 0.6, "2_builtin_both": 0.75, "3_builtin_prior": 0.76}

    def train_stage(recipe: str, start: str, data: Path, folder: Path, rest: list[str]) -> Path:
        trained.append((recipe, Path(start).parent.name or start))
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(folder.name)
        return folder / "model.safetensors"

    def measure(model: str, data: Path, davis: Path | None, folder: Path) -> dict[str, float]:
        return {"box": boxes[Path(model).parent.name or model]}

    monkeypatch.setattr(script, "train_stage", train_stage)
    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["builtin_train.py", str(tmp_path / "data"), str(tmp_path / "runs")])
    script.main()
    assert trained == [
        ("builtin_images", "builtin"),
        ("builtin_both", "builtin"),
        ("builtin_prior", "2_builtin_both"),
    ]
    assert (tmp_path / "runs" / "best.safetensors").read_text() == "3_builtin_prior"
    figures = json.loads((tmp_path / "runs" / "figures.json").read_text())
    assert figures == {
        "start": {"box": 0.7},
        **{name: {"box": box} for name, box in boxes.items() if name != "builtin"},
    }
