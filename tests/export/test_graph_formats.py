"""Formats and precisions: what is written runs and has the masks of the model, what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from helpers.exported_folder import write_memory_attentions
from helpers.networks import HIERA, network_to_export, small_network
from masklet import SAM
from masklet.cli.main import app
from masklet.errors import InputError, MissingExtraError
from masklet.export.export_model import ModelExportOptions, export_model, sample_video
from masklet.export.reduced_precision import part_precision
from masklet.load_model import LoadedModel
from masklet.masks.ops import iou

IMAGE = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"format": "onnx", "precision": "bf16"}, "choose the format torch, or fp16 or int8"),
        ({"format": "openvino", "precision": "bf16"}, "choose fp32 or fp16"),
        ({"format": "torch", "precision": "int8"}, "choose the format onnx or openvino"),
        ({"parts": "video", "precision": "int8"}, "choose parts all"),
        ({"min_iou": 1.5}, "from 0 to 1"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        ModelExportOptions(**options)


def test_what_feeds_itself_stays_in_fp32() -> None:
    names = ("image_encoder", "prompt_decoder", "memory_encoder", "memory_attention_7")
    assert [part_precision(name, "fp16") for name in names] == ["fp16", "fp32", "fp32", "fp16"]
    assert [part_precision(name, "int8") for name in names] == ["int8", "fp32", "fp32", "fp32"]


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    loaded = LoadedModel(small_network(HIERA).eval(), "small", Path("small.pt"), None)
    with pytest.raises(MissingExtraError, match=r"pip install 'masklet\[export\]'"):
        export_model(loaded, tmp_path / "out", images=[IMAGE])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "precision", "parts"),
    [
        ("torch", "fp32", "all"),
        ("torch", "bf16", "image"),
        ("onnx", "fp16", "image"),
        ("onnx", "int8", "image"),
        ("openvino", "fp16", "all"),
    ],
)
def test_every_format_holds_what_it_promises(
    format: str, precision: str, parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_memory_attentions(monkeypatch, 7)
    loaded = LoadedModel(network_to_export(), "small", Path("small.pt"), None)
    options = ModelExportOptions(format=format, precision=precision, parts=parts)
    out = export_model(loaded, tmp_path / "out", options, images=[IMAGE])
    manifest = json.loads((out / "manifest.json").read_text())
    measured = manifest["parity"]["measured"]
    for entry in manifest["files"]:
        role = entry["role"]
        if "precision" not in entry:
            continue
        assert entry["precision"] == part_precision(role, precision)
        error = max(measured[role]["relative_error"].values())
        # rounding shows where it is promised, and nowhere else
        assert error < 1e-3 if entry["precision"] == "fp32" else error > 1e-4, (role, error)
        assert measured[role]["mask_iou_mean"] > 0.95
    assert {path.name for path in out.iterdir()} == {"manifest.json", *(one["name"] for one in manifest["files"])}
    if precision == "int8":
        import onnx
        from onnx import numpy_helper

        weights = [numpy_helper.to_array(one) for one in onnx.load(out / "image_encoder.onnx").graph.initializer]
        integers = [one for one in weights if one.dtype == np.int8 and one.size > 1]  # beside zero points
        assert integers
        # two products with a byte in 16 bits, as processors without VNNI add them
        assert max(np.abs(one.astype(int)).max() for one in integers) <= 64


@pytest.mark.slow
def test_an_openvino_folder_tracks_in_the_precision_of_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_memory_attentions(monkeypatch, 7)
    loaded = LoadedModel(network_to_export(), "small", Path("small.pt"), None)
    options = ModelExportOptions(format="openvino", precision="fp32", parts="all")
    out = export_model(loaded, tmp_path / "out", options, images=[IMAGE])
    exact, automatic = SAM(out, precision="fp32"), SAM(out)
    has_bf16 = "bf16" in exact.predictor.model.engine.precisions
    assert automatic.video_precision == ("bf16" if has_bf16 else "fp32")
    assert automatic.info().precision == "fp32"
    stored = [path.stat().st_size for path in out.iterdir() if path.suffix in (".xml", ".bin")]
    assert automatic.info().megabytes == pytest.approx(sum(stored) / 1e6)
    frames, masks = sample_video()
    tracked = [
        np.stack([frame.masks.data for frame in model.track(frames[:5], masks=masks)]) for model in (exact, automatic)
    ]
    assert iou(*(each.reshape(-1, each.shape[-1]) for each in tracked)) > 0.97
    assert np.array_equal(*tracked) is not has_bf16
    stills = [model(IMAGE, points=[30, 30])[0].masks.data for model in (exact, automatic)]
    assert np.array_equal(*stills)


@pytest.mark.slow
def test_the_command_prints_files_and_deviations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = LoadedModel(network_to_export(), "small", Path("small.pt"), None)
    monkeypatch.setattr("masklet.sam.model.load", lambda *given: loaded)
    command = ["export", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "prompt_decoder.onnx" in result.output
    assert "mask IoU 1.0000" in result.output
    again = CliRunner().invoke(app, command)
    assert "--overwrite" in str(again.exception)
