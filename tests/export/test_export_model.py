"""Folders that are written: complete or not there, with hashes that match, refused where options are wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.networks import network_to_export
from helpers.small_sam1 import small_sam1
from masklet.errors import InputError, ModelError, OutputError
from masklet.export import graph_files as module
from masklet.export.export_model import ModelExportOptions, complete_folder, export_model
from masklet.load_model import LoadedModel

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def small_model(*, video: bool = True) -> LoadedModel:
    network = network_to_export() if video else small_sam1("mobile_sam")
    return LoadedModel(network, "small", Path("small.pt"), None)


@pytest.mark.parametrize("name", ["format", "parts", "precision", "layout"])
def test_unknown_options_name_the_choices(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} 'tflite' is unknown; choose one of"):
        ModelExportOptions(**{name: "tflite"})


def test_sam_1_has_no_parts_for_videos(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="images only"):
        export_model(small_model(video=False), tmp_path / "out", ModelExportOptions(parts="all"))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_complete_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(ZeroDivisionError), complete_folder(out, overwrite=False) as folder:
        (folder / "image_encoder.onnx").write_bytes(bytes(1 // 0 if folder.is_dir() else 0))
    assert not list(out.parent.iterdir())
    with complete_folder(out, overwrite=False) as folder:
        (folder / "manifest.json").write_text("1")
    assert [path.name for path in out.iterdir()] == ["manifest.json"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_only_an_export_is_replaced_and_only_with_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no export of masklet"), complete_folder(out, overwrite=True):
        pass
    (out / "manifest.json").write_text("old")
    with pytest.raises(OutputError, match="--overwrite"), complete_folder(out, overwrite=False):
        pass
    with pytest.raises(ZeroDivisionError), complete_folder(out, overwrite=True):
        raise ZeroDivisionError
    assert (out / "manifest.json").read_text() == "old"
    with complete_folder(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text("new")
    assert (out / "manifest.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_folder_has_what_its_manifest_lists(tmp_path: Path) -> None:
    loaded = small_model()
    steps: list[str] = []
    out = export_model(loaded, tmp_path / "out", ModelExportOptions(parts="all"), images=[IMAGE], on_step=steps.append)
    manifest = json.loads((out / "manifest.json").read_text())
    listed = {entry["name"]: entry for entry in manifest["files"]}
    assert sorted(path.name for path in out.iterdir()) == sorted([*listed, "manifest.json"])
    for name, entry in listed.items():
        content = (out / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
        assert str(Path(__file__).parents[2]).encode() not in content, f"{name} names a folder of this machine"
    assert manifest["constants"]["pointers"] == {"1": 16, "4": 19, "7": 22}
    measured = manifest["parity"]["measured"]
    assert set(measured) == set(manifest["parts"]) == set(listed_roles(listed))
    assert all(max(part["relative_error"].values()) < 1e-3 for part in measured.values())
    constants = np.load(out / "constants.npz")
    network: Any = loaded.network
    np.testing.assert_array_equal(constants["no_object_pointer"], network.no_obj_ptr.detach()[0])
    assert "writing memory_attention_7" in steps


def listed_roles(listed: dict[str, dict[str, Any]]) -> list[str]:
    return [entry["role"] for entry in listed.values() if entry["role"] != "constants"]


@pytest.mark.slow
def test_a_changed_graph_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    write: Callable[..., None] = module.write_onnx

    def write_changed(part: Any, path: Path) -> None:
        write(part, path)
        if part.name == "prompt_decoder":
            model = onnx.load(path)
            weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
            values = np.frombuffer(weight.raw_data, np.float32).copy()
            values[: len(values) // 2] *= 1.5
            weight.raw_data = values.tobytes()
            onnx.save(model, path)

    monkeypatch.setattr(module, "write_onnx", write_changed)
    with pytest.raises(OutputError, match="prompt_decoder"):
        export_model(small_model(), tmp_path / "out", images=[IMAGE])
    assert not list(tmp_path.iterdir())
