"""Folders that cannot be run: each gets one clear error, before anything in them runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.exported_folder import accept_changes, change_manifest, stub_graph, write_folder
from helpers.networks import CONVNET, small_network
from masklet import SAM
from masklet.errors import CheckpointError, InputError, ModelError, UnknownModelError
from masklet.load_model import load


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("exported") / "whole", small_network(CONVNET), slots={1: 16})


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def drop(*keys: str) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        def change(manifest: dict) -> None:
            for key in keys[:-1]:
                manifest = manifest[key]
            del manifest[keys[-1]]

        change_manifest(folder, change)

    return broken


def put(value: object, *keys: str) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        def change(manifest: dict) -> None:
            for key in keys[:-1]:
                manifest = manifest[key]
            manifest[keys[-1]] = value

        change_manifest(folder, change)

    return broken


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def foreign_graph(folder: Path) -> None:
    stub_graph(folder / "prompt_decoder.onnx", ("image_embeddings", "boxes"), ("low_res_masks",))
    accept_changes(folder)


def unknown_input(folder: Path) -> None:
    stub_graph(folder / "image_encoder.onnx", ("pixels", "gain"), ("image_embeddings", "high_res_features_0"))
    accept_changes(folder)


def newer_opset(folder: Path) -> None:
    maps = ("image_embeddings", "high_res_features_0", "high_res_features_1")
    stub_graph(folder / "image_encoder.onnx", ("pixels",), maps, opset=99)
    accept_changes(folder)


def no_graph(folder: Path) -> None:
    (folder / "image_encoder.onnx").write_bytes(b"<html>not found</html>")
    accept_changes(folder)


def one_byte_differs(folder: Path) -> None:
    content = bytearray((folder / "prompt_decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "prompt_decoder.onnx").write_bytes(content)


def cut_short(folder: Path) -> None:
    path = folder / "image_encoder.onnx"
    path.write_bytes(path.read_bytes()[:-9])


def other_shapes(folder: Path) -> None:
    with np.load(folder / "constants.npz") as arrays:
        changed = {name: array[:1] for name, array in arrays.items()}
    np.savez(folder / "constants.npz", **changed)
    accept_changes(folder)


def no_pointer(folder: Path) -> None:
    with np.load(folder / "constants.npz") as arrays:
        kept = {name: array for name, array in arrays.items() if name != "no_object_pointer"}
    np.savez(folder / "constants.npz", **kept)
    accept_changes(folder)


def objects_in_constants(folder: Path) -> None:
    np.savez(folder / "constants.npz", no_memory_embedding=np.array([{"a": 1}], object))
    accept_changes(folder)


def outside_of_the_folder(folder: Path) -> None:
    def change(manifest: dict) -> None:
        manifest["files"][0]["name"] = "../secret.onnx"

    change_manifest(folder, change)


def without_part(folder: Path) -> None:
    def change(manifest: dict) -> None:
        manifest["parts"].remove("prompt_decoder")

    change_manifest(folder, change)


BROKEN: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no manifest": (unlink("manifest.json"), ("no exported model", "manifest.json", "masklet export MODEL")),
    "a manifest that is no JSON": (
        lambda folder: (folder / "manifest.json").write_text("{"),
        ("manifest.json is damaged", "fresh copy"),
    ),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), ("manifest.json is invalid", "export")),
    "a newer version": (put(2, "format_version"), ("format_version 2", "reads up to 1", "install masklet")),
    "no version": (drop("format_version"), ("it has no 'format_version'", "export the model again")),
    "version 0": (put(0, "format_version"), ("format_version 0", "from 1")),
    "another layout": (put("anylabeling", "layout"), ("'anylabeling'", "--layout masklet")),
    "another format": (put("tflite", "format"), ("'tflite'", "onnx, openvino", "--format onnx")),
    "a missing graph": (unlink("prompt_decoder.onnx"), ("prompt_decoder.onnx is missing", "fresh copy")),
    "missing constants": (unlink("constants.npz"), ("constants.npz is missing",)),
    "another size": (cut_short, ("image_encoder.onnx has", "bytes, and manifest.json says")),
    "another content": (one_byte_differs, ("prompt_decoder.onnx has the SHA-256", "changed or damaged")),
    "a missing part": (without_part, ("the part prompt_decoder", "export the model again")),
    "a file outside": (outside_of_the_folder, ("'../secret.onnx'", "no file of its folder")),
    "a foreign graph": (foreign_graph, ("prompt_decoder.onnx is another graph", "no input", "the part prompt_decoder")),
    "an unknown input": (unknown_input, ("image_encoder.onnx is another graph", "gain")),
    "a newer opset": (newer_opset, ("image_encoder.onnx needs a newer ONNX Runtime", "pip install -U onnxruntime")),
    "no graph at all": (no_graph, ("image_encoder.onnx cannot be loaded by onnxruntime", "fresh copy")),
    "other shapes": (other_shapes, ("no_memory_embedding in constants.npz is (1,)", "not (32,)")),
    "a missing constant": (no_pointer, ("no_object_pointer", "export the model again")),
    "objects in constants": (objects_in_constants, ("manifest.json is invalid", "fresh copy")),
    "no preprocessing": (drop("preprocessing", "still_image_size"), ("it has no 'still_image_size'",)),
    "another side": (put(100, "preprocessing", "still_image_size"), ("still_image_size is 100", "multiple of 32")),
    "unknown matching": (put({"radius": 3}, "constants", "matching"), ("matching has the fields radius",)),
    "missing attention": (put({"7": 20}, "constants", "pointers"), ("memory_attention_7 is not in parts",)),
    "another family": (put("yolo", "model", "family"), ("family is 'yolo'",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_has_a_clear_error(kind: str, folder: Path) -> None:
    spoil, words = BROKEN[kind]
    spoil(folder)
    with pytest.raises(CheckpointError) as caught:
        SAM(folder)
    for word in words:
        assert word in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_whole_folder_opens(folder: Path) -> None:
    info = SAM(folder).info()
    assert info.name == "small"
    assert info.device.startswith("onnxruntime")
    assert info.megabytes == pytest.approx(sum(path.stat().st_size for path in folder.glob("*.onnx")) / 1e6)


def test_a_folder_without_a_model_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no exported model: it has no manifest\.json"):
        SAM(tmp_path)
    with pytest.raises(UnknownModelError):
        SAM(tmp_path / "missing")


def test_a_folder_with_the_name_of_a_model_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "builtin").mkdir()
    monkeypatch.chdir(tmp_path)
    assert SAM("builtin").info().name == "builtin"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:0"}, ("device='cuda:0'", "providers=")),
        ({"precision": "bf16"}, ("precision='bf16'", "export the model again")),
        ({"image_size": 128}, ("image_size=128", "export the model again")),
        ({"threads": 0}, ("threads=0", "from 1")),
        ({"threads": True}, ("threads=True",)),
        ({"providers": ["NoSuchProvider"]}, ("'NoSuchProvider'", "CPUExecutionProvider")),
        ({"providers": [3]}, ("providers=(3,)",)),
    ],
)
def test_options_that_do_not_go_with_a_folder(options: dict, words: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        SAM(folder, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("option", [{"providers": ["CPUExecutionProvider"]}, {"cache_dir": "cache"}])
def test_options_of_a_runtime_do_not_go_with_weights(option: dict) -> None:
    with pytest.raises(InputError, match="is for exported folders"):
        SAM(**option)


def test_a_folder_for_images_does_not_track(tmp_path: Path, small_video: np.ndarray) -> None:
    model = SAM(write_folder(tmp_path / "images", small_network(CONVNET)))
    assert not model.info().supports_video
    with pytest.raises(ModelError, match=r"exported for images only.*--parts all"):
        model.session(small_video)


def test_a_broken_graph_of_memory_is_found_before_the_first_frame(folder: Path, small_video: np.ndarray) -> None:
    stub_graph(folder / "memory_encoder.onnx", ("image_embeddings",), ("memory",))
    accept_changes(folder)
    model = SAM(folder)
    with pytest.raises(CheckpointError, match=r"memory_encoder\.onnx is another graph"):
        model.session(small_video)


def test_an_exported_model_is_neither_trained_nor_exported(folder: Path) -> None:
    model = SAM(folder)
    with pytest.raises(ModelError, match="cannot be trained: open the model that it was exported from"):
        model.train("photos", steps=1)
    with pytest.raises(ModelError, match="cannot be exported again"):
        model.export(folder.parent / "again")


def test_weights_are_not_read_from_an_exported_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"is an exported folder.*the model that it was exported from"):
        load(folder)


def test_prepared_graphs_are_kept_and_used_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = SAM(folder, cache_dir=cache)
    prepared = sorted(path.name for path in cache.iterdir())
    assert [name.partition("-")[0] for name in prepared] == ["image_encoder", "prompt_decoder"]
    stamps = [path.stat().st_mtime_ns for path in cache.iterdir()]
    assert SAM(folder, cache_dir=cache, threads=1).info() == first.info()
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == stamps


def test_the_manifest_is_only_text(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"]["parameters"] == sum(t.numel() for t in small_network(CONVNET).state_dict().values())
