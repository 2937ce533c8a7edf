"""The files of each layout, called as the programs call them, give the masks of masklet's own predictor."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.networks import CONVNET, HIERA, small_network
from helpers.reference import GOLDEN, module_at
from helpers.small_sam1 import small_sam1
from masklet.errors import InputError
from masklet.export.export_model import ModelExportOptions, export_model
from masklet.image import ImagePredictor
from masklet.load_model import LoadedModel
from masklet.models.sam1 import CONFIGS, SAM1
from masklet.transforms import ImageTransform

pytestmark = pytest.mark.slow
DECODER = small_sam1("mobile_sam")
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
POINT, BOX = [40.0, 20.0], [10.0, 8.0, 50.0, 40.0]


def exported(network: Any, layout: str, folder: Path) -> Path:
    loaded = LoadedModel(network, "small", Path("small.pt"), None)
    return export_model(loaded, folder / "out", ModelExportOptions(layout=layout), images=[IMAGE])


def session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pixels_of(network: Any) -> np.ndarray:
    return np.asarray(ImageTransform((48, 64), 64, network.keeps_aspect_ratio).preprocess(IMAGE))


def logits_of(network: Any, **prompt: Any) -> np.ndarray:
    """Logits (3, h, w) of the three candidates by masklet's predictor."""
    predictor = ImagePredictor(network)
    predictor.set_image(IMAGE)
    return predictor.predict(multimask_output=True, **prompt).logits[0]


def test_anylabeling_files_are_called_by_position(tmp_path: Path) -> None:
    network = small_network(HIERA).eval()
    out = exported(network, "anylabeling", tmp_path)
    with zipfile.ZipFile(out / "small.zip") as archive:
        assert sorted(archive.namelist()) == ["config.yaml", "small.decoder.onnx", "small.encoder.onnx"]
    config = (out / "config.yaml").read_text()
    assert 'type: "segment_anything_2"' in config
    assert 'encoder_model_path: "small.encoder.onnx"' in config
    encoder, decoder = session(out / "small.encoder.onnx"), session(out / "small.decoder.onnx")
    assert [one.name for one in encoder.get_outputs()] == ["high_res_feats_0", "high_res_feats_1", "image_embed"]
    assert encoder.get_inputs()[0].shape == [1, 3, 64, 64]
    first, second, embed = encoder.run(None, {"image": pixels_of(network)})
    point = np.array([[[40.0, 20 * 64 / 48]]], np.float32)
    values = (embed, first, second, point, np.ones((1, 1), np.float32))
    values += (np.zeros((1, 1, 16, 16), np.float32), np.zeros(1, np.float32))
    names = [one.name for one in decoder.get_inputs()]
    masks, scores = decoder.run(["masks", "iou_predictions"], dict(zip(names, values, strict=True)))
    np.testing.assert_allclose(masks[0].clip(-32, 32), logits_of(network, point_coords=POINT), atol=1e-4)
    assert scores.shape == (1, 3)


def test_samexporter_runs_the_anylabeling_files(tmp_path: Path) -> None:
    runner = pytest.importorskip("samexporter.sam2_onnx", reason="samexporter is not installed")
    network = small_network(HIERA).eval()
    out = exported(network, "anylabeling", tmp_path)
    model = runner.SegmentAnything2ONNX(str(out / "small.encoder.onnx"), str(out / "small.decoder.onnx"))
    found = model.predict_masks(model.encode(IMAGE[..., ::-1].copy()), [{"type": "point", "data": POINT, "label": 1}])
    predictor = ImagePredictor(network)
    predictor.set_image(IMAGE)
    best = predictor.predict(point_coords=POINT, multimask_output=True).best
    inside, expected = found[0, 0] > 0, best.masks[0, 0]
    assert (inside & expected).sum() / (inside | expected).sum() > 0.95


def test_samexporter_runs_mobile_sam(tmp_path: Path) -> None:
    runner = pytest.importorskip("samexporter.sam_onnx", reason="samexporter is not installed")
    network = SAM1(CONFIGS["mobile_sam"]).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(module_at(GOLDEN / "fill.py").fill_state_dict(shapes))
    out = exported(network, "anylabeling", tmp_path)
    model = runner.SegmentAnythingONNX(str(out / "small.encoder.onnx"), str(out / "small.decoder.onnx"))
    # a point alone: the runner pads boxes too, which the published network was not trained on
    prompts = [{"type": "point", "data": POINT, "label": 1}]
    found = model.predict_masks(model.encode(IMAGE[..., ::-1].copy()), prompts)
    predictor = ImagePredictor(network)
    predictor.set_image(IMAGE)
    expected = predictor.predict(point_coords=POINT, multimask_output=True).best.masks[0, 0]
    inside = found[0, 0] > 0
    assert (inside & expected).sum() / (inside | expected).sum() > 0.98


@pytest.mark.parametrize(("name", "layout"), [("mobile_sam", "onnxruntime"), ("sam_vit_b", "anylabeling")])
def test_sam_1_is_called_as_in_the_notebook(name: str, layout: str, tmp_path: Path) -> None:
    network = small_sam1(name)
    network.prompt_encoder, network.mask_decoder = DECODER.prompt_encoder, DECODER.mask_decoder  # traced once
    out = exported(network, layout, tmp_path)
    if layout == "onnxruntime":
        decoder = session(out / "small_image_decoder.onnx")
        [embeddings] = session(out / "small_image_encoder.onnx").run(None, {"image": pixels_of(network)})
    else:
        decoder = session(out / "small.decoder.onnx")
        resized = IMAGE.astype(np.float32)  # the longer side has 64 pixels already
        [embeddings] = session(out / "small.encoder.onnx").run(None, {"input_image": resized})
    shared = {
        "image_embeddings": embeddings,
        "mask_input": np.zeros((1, 1, 16, 16), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array([48, 64], np.float32),
    }
    predictor = ImagePredictor(network)
    predictor.set_image(IMAGE)
    # one point: the best of three; a box: the single mask
    for points, labels, prompt, multimask in (
        ([POINT, [0, 0]], [1, -1], {"point_coords": POINT}, True),
        ([POINT, BOX[:2], BOX[2:]], [1, 2, 3], {"point_coords": POINT, "box": BOX}, False),
    ):
        coords = np.array([points], np.float32)
        masks, scores, low = decoder.run(
            ["masks", "iou_predictions", "low_res_masks"],
            {**shared, "point_coords": coords, "point_labels": np.array([labels], np.float32)},
        )
        assert masks.shape == (1, 1, 48, 64)
        best = predictor.predict(multimask_output=multimask, **prompt).best
        np.testing.assert_allclose(low[0], best.logits[0], atol=1e-3)
        np.testing.assert_allclose(scores[0], best.scores[0], atol=1e-3)
        assert ((masks[0] > 0) == best.masks[0]).mean() > 0.999


def test_onnxruntime_decoders_give_masks_of_the_images_size(tmp_path: Path) -> None:
    network = small_network(HIERA).eval()
    out = exported(network, "onnxruntime", tmp_path)
    encoder = session(out / "small_image_encoder.onnx")
    names = [one.name for one in encoder.get_outputs()]
    assert names == ["image_features_0", "image_features_1", "image_embeddings"]
    inputs = dict(zip(names, encoder.run(None, {"image": pixels_of(network)}), strict=True)) | {
        "point_coords": np.array([[[40.0, 20 * 64 / 48]]], np.float32),
        "point_labels": np.ones((1, 1), np.int32),
        "input_masks": np.zeros((1, 1, 16, 16), np.float32),
        "has_input_masks": np.zeros(1, np.float32),
        "original_image_size": np.array([48, 64], np.int32),
    }
    predictor = ImagePredictor(network)
    predictor.set_image(IMAGE)
    for ending, multimask in (("_multi", True), ("", False)):
        masks, scores, low = session(out / f"small_image_decoder{ending}.onnx").run(None, inputs)
        expected = predictor.predict(point_coords=POINT, multimask_output=multimask)
        assert masks.dtype == bool
        assert masks.shape == expected.masks.shape
        assert (masks == expected.masks).mean() > 0.999
        np.testing.assert_allclose(low, expected.logits, atol=1e-4)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-5)


def test_transformers_files_take_points_boxes_or_both(tmp_path: Path) -> None:
    network = small_network(CONVNET).eval()
    out = exported(network, "transformers", tmp_path)
    assert json.loads((out / "config.json").read_text())["model_type"] == "sam2"
    encoder = session(out / "onnx" / "vision_encoder.onnx")
    decoder = session(out / "onnx" / "prompt_encoder_mask_decoder.onnx")
    names = [one.name for one in encoder.get_outputs()]
    assert names == ["image_embeddings.0", "image_embeddings.1", "image_embeddings.2"]
    features = dict(zip(names, encoder.run(None, {"pixel_values": pixels_of(network)}), strict=True))
    scale = np.array([1, 64 / 48], np.float32)
    point = np.array(POINT, np.float32) * scale
    box = (np.array(BOX, np.float32).reshape(2, 2) * scale).reshape(4)
    no_points = np.zeros((1, 1, 0, 2), np.float32), np.zeros((1, 2, 0), np.int64)
    one_point = point.reshape(1, 1, 1, 2), np.ones((1, 1, 1), np.int64)
    two = np.stack([point, point[::-1]]).reshape(1, 2, 1, 2), np.ones((1, 2, 1), np.int64)
    no_box = np.zeros((1, 0, 4), np.float32)
    cases = [
        (*one_point, no_box, {"point_coords": POINT}),
        (*two, no_box, {"point_coords": POINT}),
        (*one_point, box.reshape(1, 1, 4), {"point_coords": POINT, "box": BOX}),
        (*no_points, np.stack([box, box])[None], {"box": BOX}),
    ]
    for points, labels, boxes, prompt in cases:
        inputs = {"input_points": points, "input_labels": labels, "input_boxes": boxes, **features}
        scores, masks, presence = decoder.run(["iou_scores", "pred_masks", "object_score_logits"], inputs)
        count = labels.shape[1]
        assert (scores.shape, masks.shape) == ((1, count, 3), (1, count, 3, 16, 16))
        assert presence.shape == (1, count, 1)
        expected = logits_of(network, **prompt)
        np.testing.assert_allclose(masks[0, 0].clip(-32, 32), expected, atol=1e-4)


def test_sam_1_is_refused_where_a_layout_has_no_place_for_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose the layout masklet, anylabeling or onnxruntime"):
        exported(small_sam1("mobile_sam"), "transformers", tmp_path)
    with pytest.raises(InputError, match="image parts as ONNX only"):
        ModelExportOptions(layout="anylabeling", parts="all")
