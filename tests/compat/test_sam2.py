"""`masklet.compat.sam2` and `.segment_anything` with the built-in model and small networks, beside masklet itself."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import masklet
from helpers.known_models import photograph
from helpers.small_sam1 import small_sam1
from masklet.compat.sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from masklet.compat.sam2.build_sam import (
    build_sam2,
    build_sam2_camera_predictor,
    build_sam2_hf,
    build_sam2_video_predictor,
)
from masklet.compat.sam2.sam2_image_predictor import SAM2ImagePredictor
from masklet.compat.segment_anything import Sam, SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from masklet.compat.segment_anything.utils.onnx import SamOnnxModel
from masklet.compat.segment_anything.utils.transforms import ResizeLongestSide
from masklet.errors import CheckpointError, InputError, PromptError, StateError
from masklet.nn.meta_init import network_from_state

BOX = np.array([100, 60, 220, 180])
SMALL = {"hydra_overrides_extra": ["++model.image_size=128"]}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return np.array(Image.open(photograph(tmp_path_factory.mktemp("image") / "dog.png")))


@pytest.fixture(scope="module")
def predictor(image: np.ndarray) -> SAM2ImagePredictor:
    made = SAM2ImagePredictor(build_sam2(None, "builtin", device="cpu"))
    made.set_image(image)
    return made


def test_masks_are_those_of_masklet(predictor: SAM2ImagePredictor, image: np.ndarray) -> None:
    masks, scores, logits = predictor.predict(box=BOX, multimask_output=False)
    native = masklet.SAM(device="cpu").predictor
    native.set_image(image)
    expected = native.predict(box=BOX.tolist(), multimask_output=False)
    assert masks.dtype == np.float32
    assert np.array_equal(masks, expected.masks[0])
    assert np.array_equal(scores, expected.scores[0])
    assert np.array_equal(logits, expected.logits[0])


def test_shapes_follow_the_number_of_objects(predictor: SAM2ImagePredictor) -> None:
    click = {"point_coords": np.array([[150, 150]]), "point_labels": np.array([1])}
    assert predictor.predict(**click)[0].shape == (3, 240, 320)
    boxes = np.array([BOX, [250, 20, 300, 70]])
    masks, scores, _ = predictor.predict(box=boxes, multimask_output=False)
    assert masks.shape == (2, 1, 240, 320)
    assert scores.shape == (2, 1)
    padded = {"point_coords": np.array([[[150, 150], [0, 0]]]), "point_labels": np.array([[1, -1]])}
    assert np.array_equal(predictor.predict(**padded)[0], predictor.predict(**click)[0])
    unit = {"point_coords": np.array([[150 / 320, 150 / 240]]), "point_labels": np.array([1])}
    assert np.array_equal(predictor.predict(**unit, normalize_coords=False)[0], predictor.predict(**click)[0])
    assert predictor.get_image_embedding().shape[-1] == predictor.model.still_image_size // 16


def test_logits_at_the_size_of_the_image_refine_a_mask(predictor: SAM2ImagePredictor) -> None:
    full, scores, low = predictor.predict(box=BOX, multimask_output=True, return_logits=True)
    assert full.shape == (3, 240, 320)
    assert full.min() < 0 < full.max()
    best = low[np.argmax(scores)][None]
    click = {"point_coords": np.array([[150, 150]]), "point_labels": np.array([1])}
    (mask,), _, _ = predictor.predict(**click, mask_input=best, multimask_output=False)
    assert mask[120, 160] == 1


def test_images_are_set_in_batches(image: np.ndarray) -> None:
    batched = SAM2ImagePredictor(build_sam2(None, "builtin", device="cpu"))
    batched.set_image_batch([image, image[:100]])
    masks, scores, _ = batched.predict_batch(box_batch=[BOX, np.array([250, 20, 300, 70])], multimask_output=False)
    assert [one.shape for one in masks] == [(1, 240, 320), (1, 100, 320)]
    assert len(scores) == 2
    with pytest.raises(StateError, match="no image"):
        batched.predict(box=BOX)
    batched.reset_predictor()
    with pytest.raises(StateError, match="set_image_batch"):
        batched.predict_batch(box_batch=[BOX])


def test_everything_is_a_list_of_records(predictor: SAM2ImagePredictor, image: np.ndarray) -> None:
    options = {"points_per_side": 4, "pred_iou_thresh": 0.2, "stability_score_thresh": 0.05}
    records = SAM2AutomaticMaskGenerator(predictor.model, **options).generate(image)
    assert records
    for record in records:
        rows, columns = np.nonzero(record["segmentation"])
        left, top = columns.min(), rows.min()
        assert record["bbox"] == [left, top, columns.max() - left, rows.max() - top]
        assert record["area"] == len(rows)


def test_the_config_and_the_checkpoint_agree() -> None:
    with pytest.raises(CheckpointError, match=r"not sam2\.1_hiera_base_plus"):
        build_sam2("configs/sam2.1/sam2.1_hiera_b+.yaml", "builtin")
    with pytest.raises(InputError, match="random weights"):
        build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml")
    with pytest.raises(InputError, match="image_size"):
        build_sam2(None, "builtin", hydra_overrides_extra=["++model.num_maskmem=3"])
    with pytest.raises(InputError, match="apply_postprocessing"):
        build_sam2_video_predictor(None, "builtin", apply_postprocessing=False)
    assert build_sam2_hf("builtin", device="cpu", apply_postprocessing=False).stability_threshold == 0


def test_a_video_is_tracked_as_in_the_notebook(tmp_path: Path, small_video: np.ndarray) -> None:
    for number, frame in enumerate(small_video[:5]):
        Image.fromarray(frame).save(tmp_path / f"{number:05d}.jpg", quality=95)
    predictor = build_sam2_video_predictor(None, "builtin", device="cpu", **SMALL)
    state = predictor.init_state(video_path=str(tmp_path), offload_video_to_cpu=True, async_loading_frames=True)
    assert (state["num_frames"], state["video_height"], state["video_width"]) == (5, 64, 96)
    click: dict[str, Any] = {"points": np.array([[20, 25]], np.float32), "labels": np.array([1], np.int32)}
    frame, ids, masks = predictor.add_new_points_or_box(state, frame_idx=1, obj_id=4, **click)
    assert (frame, ids, tuple(masks.shape)) == (1, [4], (1, 1, 64, 96))
    assert masks[0, 0, 25, 20] > 0
    tracked = {frame: (ids, masks) for frame, ids, masks in predictor.propagate_in_video(state)}
    assert list(tracked) == [1, 2, 3, 4]
    assert tracked[4][1][0, 0, 25, 30] > 0  # the square has moved
    back = [frame for frame, _, _ in predictor.propagate_in_video(state, start_frame_idx=1, reverse=True)]
    assert back == [1, 0]
    part = predictor.propagate_in_video(state, start_frame_idx=2, max_frame_num_to_track=1)
    assert [frame for frame, _, _ in part] == [2, 3]
    _, ids, masks = predictor.add_new_mask(state, 2, 9, np.pad(np.ones((20, 20), bool), ((5, 39), (60, 16))))
    assert ids == [4, 9]
    assert masks[1, 0, 10, 70] > 0
    assert predictor.clear_all_prompts_in_frame(state, 1, 4, need_output=False) is None
    with pytest.raises(PromptError, match="no object 5"):
        predictor.remove_object(state, 5, strict=True)
    ids, _ = predictor.remove_object(state, 4)
    assert ids == state["obj_ids"] == [9]
    predictor.reset_state(state)
    assert state["obj_ids"] == []
    with pytest.raises(InputError, match="both None"):
        predictor.add_new_points_or_box(state, 0, 1)


def test_points_replace_or_join_earlier_ones(tmp_path: Path, small_video: np.ndarray) -> None:
    predictor = build_sam2_video_predictor(None, "builtin", device="cpu", **SMALL)
    state = predictor.init_state(small_video[:2])
    first = {"points": [[20, 25]], "labels": [1]}
    predictor.add_new_points_or_box(state, 0, 1, **first)
    predictor.add_new_points_or_box(state, 0, 1, points=[[80, 50]], labels=[0], clear_old_points=False)
    (points,) = [prompt.points for prompt in state.session.tracker.objects[1].prompts.values()]
    assert points is not None
    assert points.labels.tolist() == [1, 0]
    predictor.add_new_points_or_box(state, 0, 1, **first)
    (points,) = [prompt.points for prompt in state.session.tracker.objects[1].prompts.values()]
    assert points is not None
    assert points.labels.tolist() == [1]


def test_a_camera_hands_in_frames(small_video: np.ndarray) -> None:
    predictor = build_sam2_camera_predictor(None, "builtin", device="cpu", **SMALL)
    with pytest.raises(StateError, match="load_first_frame"):
        predictor.track(small_video[0])
    predictor.load_first_frame(small_video[0])
    _, ids, masks = predictor.add_new_prompt(0, 1, bbox=np.array([[10, 15], [35, 40]], np.float32))
    assert ids == [1]
    assert masks[0, 0, 25, 20] > 0
    for frame in small_video[1:4]:
        ids, masks = predictor.track(frame)
    assert masks[0, 0, 25, 30] > 0
    with pytest.raises(StateError, match="frame_idx=3"):
        predictor.add_new_prompt(0, 2, points=[[5, 5]], labels=[1])


def test_segment_anything_has_bool_masks(image: np.ndarray) -> None:
    network = small_sam1("mobile_sam")
    predictor = SamPredictor(network)
    assert not predictor.is_image_set
    predictor.set_image(image[..., ::-1], "BGR")
    masks, scores, logits = predictor.predict(box=BOX[None], multimask_output=True)
    assert masks.dtype == bool
    assert (masks.shape, scores.shape, len(logits)) == ((3, 240, 320), (3,), 3)
    boxes = predictor.transform.apply_boxes_torch(torch.tensor(BOX[None]), image.shape[:2])
    same, _, _ = predictor.predict_torch(None, None, boxes=boxes, multimask_output=True)
    assert isinstance(same, torch.Tensor)
    assert np.array_equal(same[0].numpy(), masks)
    options = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    for record in SamAutomaticMaskGenerator(network, **options).generate(image):
        assert all(isinstance(number, int) for number in record["bbox"])
    with pytest.raises(InputError, match="random weights"):
        sam_model_registry["vit_b"]()
    with pytest.raises(CheckpointError, match="not sam_vit_b"):
        sam_model_registry["vit_b"](checkpoint="builtin")


@pytest.fixture(scope="module")
def sam() -> Sam:
    network = small_sam1("sam_vit_b")
    return network_from_state(Sam, network.config, network.state_dict())


def test_a_network_is_called_with_several_images(sam: Sam, image: np.ndarray) -> None:
    transform = ResizeLongestSide(sam.image_encoder.img_size)
    boxes = torch.tensor([BOX.tolist(), [20, 10, 90, 200]])
    batch = [
        {
            "image": torch.as_tensor(transform.apply_image(one)).permute(2, 0, 1),
            "boxes": transform.apply_boxes_torch(boxes[:count], one.shape[:2]),
            "original_size": one.shape[:2],
        }
        for one, count in ((image, 2), (image[:, :200], 1))
    ]
    first, second = sam(batch, multimask_output=False)
    assert list(first) == ["masks", "iou_predictions", "low_res_logits"]
    assert (first["masks"].shape, second["masks"].shape) == ((2, 1, 240, 320), (1, 1, 240, 200))
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    masks, scores, _ = predictor.predict_torch(None, None, boxes=batch[0]["boxes"], multimask_output=False)
    assert torch.equal(first["masks"], masks)
    assert torch.allclose(first["iou_predictions"], scores, atol=1e-5)


def test_the_decoder_is_exported(sam: Sam, image: np.ndarray, tmp_path: Path) -> None:
    """The calls of the notebook on ONNX, and its graph beside the network itself."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    size, grid = sam.prompt_encoder.embed_dim, sam.prompt_encoder.image_embedding_size
    dummy = {
        "image_embeddings": torch.randn(1, size, *grid),
        "point_coords": torch.rand(1, 5, 2) * 64,
        "point_labels": torch.tensor([[1.0, 0, 2, 3, -1]]),
        "mask_input": torch.randn(1, 1, *(4 * side for side in grid)),
        "has_mask_input": torch.ones(1),
        "orig_im_size": torch.tensor([150.0, 225.0]),
    }
    model = SamOnnxModel(sam, return_single_mask=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter of graphs with inputs of any size is an older one
        torch.onnx.export(
            model,
            tuple(dummy.values()),
            tmp_path / "sam.onnx",
            input_names=list(dummy),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}},
            opset_version=17,
            dynamo=False,
        )
    session = runtime.InferenceSession(tmp_path / "sam.onnx")
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    coords = predictor.transform.apply_coords(np.array([[[150.0, 120], [0, 0]]]), image.shape[:2])
    inputs = {
        **{name: torch.zeros_like(value) for name, value in dummy.items()},
        "image_embeddings": predictor.get_image_embedding(),
        "point_coords": torch.from_numpy(coords).float(),
        "point_labels": torch.tensor([[1.0, -1]]),
        "orig_im_size": torch.tensor([240.0, 320.0]),
    }
    masks, scores, _ = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    native, native_scores, _ = predictor.predict(np.array([[150, 120]]), np.array([1]), return_logits=True)
    best = native_scores.argmax()
    assert masks.shape == (1, 1, 240, 320)
    assert masks[0, 0] == pytest.approx(native[best], abs=1e-3)
    assert scores.item() == pytest.approx(native_scores[best], abs=1e-4)


def test_what_notebooks_look_at(predictor: SAM2ImagePredictor) -> None:
    features = predictor._features
    side = predictor.model.still_image_size
    assert features["image_embed"].shape[-1] == side // 16
    assert [level.shape[-1] for level in features["high_res_feats"]] == [side // 4, side // 8]
    assert SAM2AutomaticMaskGenerator(predictor.model, min_mask_region_area=25.0).options.min_mask_region_area == 25
