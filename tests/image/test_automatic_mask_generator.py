"""Everything in an image, against the same steps written out plainly over the predictor's public face."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from helpers.networks import CONVNET, HIERA, small_network
from helpers.small_sam1 import small_sam1
from masklet.errors import InputError, MaskletWarning, StateError
from masklet.image.amg_candidates import Candidates, CandidateSampler, merge_candidates
from masklet.image.amg_grid import point_grid
from masklet.image.automatic_mask_generator import (
    PRESETS,
    GeneratedMasks,
    MaskGeneratorOptions,
    generate_masks,
    generate_masks_for_set_image,
    preset,
)
from masklet.image.predictor import ImagePredictor
from masklet.masks import iou_matrix
from masklet.masks.morphology import clean_edges
from masklet.masks.ops import masks_to_boxes
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.transforms import ImageTransform

LOOSE = MaskGeneratorOptions(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=0.9)
NETWORKS = {"hiera": lambda: small_network(HIERA), "convnet": lambda: small_network(CONVNET)}


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    generator = np.random.default_rng(4)
    image = np.kron(generator.integers(0, 255, (6, 9, 3)), np.ones((9, 9, 1))).astype(np.uint8)
    return np.ascontiguousarray(image[:50, :80])


@pytest.fixture(scope="module", params=["hiera", "convnet", "sam_vit_b", "mobile_sam"])
def predictor(request: pytest.FixtureRequest) -> ImagePredictor:
    name = request.param
    network = NETWORKS[name]() if name in NETWORKS else small_sam1(name)
    with torch.no_grad():
        for parameter in network.parameters():  # so that prompts differ, and masks have edges
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return ImagePredictor(network.eval())


def alone(predictor: ImagePredictor) -> ImagePredictor:
    """One whose prompts share nothing."""
    made = ImagePredictor(predictor.model)
    made._shared_context = lambda: None  # type: ignore[method-assign]
    return made


def plainly(
    predictor: ImagePredictor, rgb: np.ndarray, options: MaskGeneratorOptions
) -> list[tuple[np.ndarray, float]]:
    """Masks with scores, one question at a time and whole masks throughout."""
    predictor = alone(predictor)
    predictor.set_image(rgb)
    assert options.points_per_side is not None
    found = []
    for point in point_grid(options.points_per_side) * rgb.shape[1::-1]:
        answer = predictor.predict(point_coords=point.tolist(), multimask_output=options.multimask_output)
        for k, (score, low) in enumerate(zip(answer.scores[0], answer.logits[0], strict=True)):
            if options.use_m2m:
                better = predictor.predict(point_coords=point.tolist(), mask_input=low[None], multimask_output=False)
                score, low = better.scores[0, 0], better.logits[0, 0]
            full = (
                predictor._image_transform(predictor.size)
                .upsample_logits(torch.from_numpy(low)[None, None])[0, 0]
                .numpy()
            )
            if options.pred_iou_thresh > 0 and not score > options.pred_iou_thresh:
                continue
            outer = max(np.count_nonzero(full > -options.stability_score_offset), 1e-9)
            stability = np.count_nonzero(full > options.stability_score_offset) / outer
            if options.stability_score_thresh > 0 and not stability >= options.stability_score_thresh:
                continue
            found.append((full > 0, float(score), k))
    found.sort(key=lambda row: -row[1])
    kept: list[tuple[np.ndarray, float]] = []
    for mask, score, _ in found:
        if all(_box_iou(mask, other) <= options.box_nms_thresh for other, _ in kept):
            kept.append((mask, score))
    return kept


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    boxes = []
    for mask in (a, b):
        y, x = np.nonzero(mask)
        boxes.append((x.min(), y.min(), x.max(), y.max()) if len(x) else (0, 0, 0, 0))
    (ax, ay, ar, ab), (bx, by, br, bb) = boxes
    shared = max(0, min(ar, br) - max(ax, bx)) * max(0, min(ab, bb) - max(ay, by))
    union = (ar - ax) * (ab - ay) + (br - bx) * (bb - by) - shared
    return shared / union if union else 0.0


@pytest.mark.parametrize(
    "options",
    [
        LOOSE,
        replace(LOOSE, pred_iou_thresh=0.5, stability_score_thresh=0.3, stability_score_offset=0.2),
        replace(LOOSE, multimask_output=False),
        replace(LOOSE, points_per_side=2, use_m2m=True, box_nms_thresh=1.0),
    ],
    ids=["loose", "thresholds", "one mask", "second pass"],
)
def test_it_finds_what_plain_questions_find(
    predictor: ImagePredictor, rgb: np.ndarray, options: MaskGeneratorOptions
) -> None:
    expected = plainly(predictor, rgb, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskletWarning)
        found = generate_masks(predictor, rgb, options)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.predicted_ious, [score for _, score in expected], atol=1e-4)
    for mask, score in expected:  # in any order: equal scores may change places
        near = found.masks[np.abs(found.predicted_ious - score) < 2e-4]
        assert not mask.any() or iou_matrix(mask[None], near).max() > 0.98


def test_prompts_that_share_are_those_that_do_not(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    predictor.set_image(rgb)
    points = (point_grid(3) * rgb.shape[1::-1]).astype(np.float32)
    for options in (LOOSE, replace(LOOSE, multimask_output=False), replace(LOOSE, pred_iou_thresh=0.5)):
        with torch.inference_mode():
            shared, plain = (
                CandidateSampler(predictor, options, eager=plain).sample(points) for plain in (False, True)
            )
        np.testing.assert_allclose(shared.iou_N, plain.iou_N, atol=1e-5)
        np.testing.assert_array_equal(shared.points_N2, plain.points_N2)
        scale = plain.logits_NHW.std().item() if len(plain) else 1.0
        torch.testing.assert_close(shared.logits_NHW, plain.logits_NHW, atol=1e-3 * scale, rtol=1e-3)


@pytest.mark.parametrize(
    "prompts",
    [
        {"point_coords": [[20, 30], [60, 9], [41, 44]]},
        {"point_coords": [[[20, 30], [60, 9]]], "point_labels": [[1, 0]]},
        {"box": [[5, 5, 50, 40], [30, 10, 79, 49]]},
    ],
    ids=["clicks", "two clicks", "boxes"],
)
def test_answers_of_a_predictor_are_those_of_prompts_alone(
    predictor: ImagePredictor, rgb: np.ndarray, prompts: dict[str, list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.image.predictor.MIN_SHARED_TOKENS", 0)  # the networks here are small
    plain = alone(predictor)
    for one in (predictor, plain):
        one.set_image(rgb)
    for multimask in (None, True):
        found, expected = (one.predict(**prompts, multimask_output=multimask) for one in (predictor, plain))
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3 * expected.logits.std(), rtol=1e-3)


@pytest.mark.slow
def test_one_prompt_of_a_small_network_makes_nothing_to_share(rgb: np.ndarray) -> None:
    predictor, looks = ImagePredictor(small_network().eval()), []
    predictor._shared_context = lambda: looks.append(1)  # type: ignore[method-assign,assignment]
    predictor.set_image(rgb)
    predictor.predict(point_coords=[20, 30])
    assert not looks
    predictor.model.set_image_size(1024)
    predictor.set_image(rgb)
    predictor.predict(point_coords=[20, 30])
    assert looks


def test_what_prompts_share_is_of_one_image(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    fresh = ImagePredictor(predictor.model)
    fresh.set_image(rgb)
    first = fresh._shared_context()
    assert first is not None
    assert fresh._shared_context() is first
    fresh.set_image(rgb[::-1].copy())
    assert fresh._shared_context() is not first
    fresh.reset()
    with pytest.raises(StateError, match="no image"):
        fresh._shared_context()


def test_batches_change_nothing(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    one, many = (generate_masks(predictor, rgb, replace(LOOSE, points_per_batch=n)) for n in (3, 64))
    assert one.rles == many.rles
    assert one.points_prompted == many.points_prompted == 16


def test_rows_agree_with_their_masks(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    found = generate_masks(predictor, rgb, replace(LOOSE, sort_by="area"))
    assert isinstance(found, GeneratedMasks)
    assert found.areas.tolist() == [int(mask.sum()) for mask in found.masks]
    assert sorted(found.areas.tolist(), reverse=True) == found.areas.tolist()
    assert found.coverage == pytest.approx(found.masks.any(0).mean())
    results = found.to_results(rgb, "x.png")
    np.testing.assert_array_equal(results.boxes.xyxy, found.xyxy)
    assert results.ids.tolist() == list(range(len(found)))
    np.testing.assert_array_equal(results.scores, found.predicted_ious)
    for record, mask, code, runs in zip(
        found.to_annotations(),
        found.masks,
        found.to_annotations("coco_rle"),
        found.to_annotations("uncompressed_rle"),
        strict=True,
    ):
        np.testing.assert_array_equal(record["segmentation"], mask)
        assert coco.area(code["segmentation"]) == record["area"] == int(mask.sum())
        assert coco.frPyObjects(runs["segmentation"], *found.size)["counts"].decode() == code["segmentation"]["counts"]
        assert record["bbox"][2:] == [found_to - found_from for found_from, found_to in _sides(mask)]
        assert record["crop_box"] == [0, 0, 80, 50]


def _sides(mask: np.ndarray) -> list[tuple[int, int]]:
    y, x = np.nonzero(mask)
    return [(x.min(), x.max() + 1), (y.min(), y.max() + 1)] if len(x) else [(0, 0), (0, 0)]


def test_crops_are_prompted_and_their_masks_lie_in_them(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    big = np.kron(rgb, np.ones((2, 2, 1), np.uint8))
    options = replace(LOOSE, crop_n_layers=1, crop_n_points_downscale_factor=2, points_per_side=4, crop_nms_thresh=1.0)
    found = generate_masks(predictor, big, options)
    assert found.points_prompted == 16 + 4 * 4
    lefts, tops, rights, bottoms = found.crop_boxes.T
    assert (found.points >= found.crop_boxes[:, :2]).all()
    assert (found.points <= found.crop_boxes[:, 2:]).all()
    some = found.areas > 0
    assert (found.xyxy[some, 0] >= lefts[some]).all()
    assert (found.xyxy[some, 1] >= tops[some]).all()
    assert (found.xyxy[some, 2] <= rights[some]).all()
    assert (found.xyxy[some, 3] <= bottoms[some]).all()
    assert predictor.size == big.shape[:2]  # it still holds the whole image
    alone = generate_masks_for_set_image(predictor, big, replace(options, crop_n_layers=0))
    whole = (found.crop_boxes == [0, 0, 160, 100]).all(1)
    assert {str(code) for code, of_it in zip(found.rles, whole, strict=True) if of_it} == {str(c) for c in alone.rles}


def test_specks_are_cleared_and_what_became_the_same_goes(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    before = generate_masks(predictor, rgb, LOOSE)
    after = generate_masks(predictor, rgb, replace(LOOSE, min_mask_region_area=40))
    assert len(after) <= len(before)
    for mask in after.masks:
        for part in (mask, ~np.pad(mask, 1)):
            labels = _parts(part)
            sizes = np.bincount(labels.ravel())[1:]
            assert len(sizes) <= 1 or sizes.min() >= 40


def _parts(mask: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]


def test_adaptive_prompting_uses_fewer_points_and_finds_a_subset_of_masks(
    predictor: ImagePredictor, rgb: np.ndarray
) -> None:
    every = replace(LOOSE, points_per_side=8, box_nms_thresh=1.0, points_per_batch=4)
    full, found = (generate_masks(predictor, rgb, replace(every, adaptive=on)) for on in (False, True))
    assert full.points_prompted == 64
    assert found.points_prompted <= 64
    assert {str(code) for code in found.rles} <= {str(code) for code in full.rles}


def test_masks_that_share_most_of_their_pixels_are_one(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    every = replace(LOOSE, box_nms_thresh=1.0)
    full, found = (generate_masks(predictor, rgb, replace(every, mask_nms_thresh=t)) for t in (1.0, 0.4))
    assert 0 < len(found) < len(full)
    assert {str(code) for code in found.rles} <= {str(code) for code in full.rles}
    assert found.predicted_ious[0] == full.predicted_ious[0]
    kept = iou_matrix(found.masks, found.masks) - np.eye(len(found))
    assert kept.max() < 0.55  # the threshold holds on the cells of the network, which are coarser than pixels


def test_only_the_best_masks_are_kept(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    every = replace(LOOSE, box_nms_thresh=1.0)
    full, found = (generate_masks(predictor, rgb, replace(every, max_masks=n)) for n in (None, 3))
    assert len(full) > len(found) == 3
    assert found.rles == full.rles[:3]
    options = replace(every, crop_n_layers=1, crop_nms_thresh=1.0, max_masks=2, sort_by="area")
    assert len(generate_masks(predictor, rgb, options)) == 2


def test_the_best_masks_are_prompted_by_their_boxes_too(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    every = replace(LOOSE, box_nms_thresh=1.0)
    plain, found = (generate_masks(predictor, rgb, replace(every, refine=n)) for n in (0, 2))
    assert len(found) == len(plain) + 2
    new = [i for i, code in enumerate(found.rles) if code not in plain.rles or found.rles.count(code) > 1]
    best = int(np.argmax(plain.predicted_ious))
    answer = predictor.predict(box=plain.xyxy[best].tolist(), multimask_output=False)
    score = (plain.predicted_ious[best] + answer.scores[0, 0]) / 2
    [match, *_] = [i for i in new if found.predicted_ious[i] == pytest.approx(score, abs=1e-4)]
    assert iou_matrix(found.masks[match][None], answer.masks[0])[0, 0] > 0.98


def test_masks_that_points_agree_on_are_averaged_and_ranked_by_their_points() -> None:
    transform = ImageTransform((32, 64), 32)  # cells of 2 x 1 pixels
    logits = torch.full((4, 32, 32), -4.0)
    logits[0, 4:14, 4:14], logits[1, 4:14, 4:16], logits[2, 20:30, 20:30], logits[3, 22, 2:4] = 1.0, 3.0, 2.0, 2.0
    grid = np.array([[12, 6], [20, 10], [44, 24], [50, 28], [58, 22], [6, 22]], np.float32)
    found = Candidates(logits, np.array([0.6, 0.4, 0.7, 0.3], np.float32), grid[[0, 1, 2, 5]])
    options = replace(LOOSE, mask_nms_thresh=0.75, merge_thresh=0.7)
    merged = merge_candidates(found, grid, transform, options)
    # Both points of the first object agree; one of the three in the second one; the speck has one point, its own.
    expected = np.array([0.7 * (2 / 5) ** 0.15, 0.6 * (3 / 4) ** 0.15, 0.3 * (2 / 3) ** 0.15])
    np.testing.assert_allclose(merged.iou_N, expected, rtol=1e-6)
    np.testing.assert_array_equal(merged.points_N2, grid[[2, 0, 5]])
    torch.testing.assert_close(merged.logits_NHW[1], 0.6 * logits[0] + 0.4 * logits[1])
    several = merge_candidates(found, grid, transform, replace(options, min_points=2))
    np.testing.assert_allclose(several.iou_N, expected[1:2], rtol=1e-6)
    none = merge_candidates(found, grid, transform, replace(options, min_points=3))
    assert len(none) == len(none.logits_NHW) == 0
    assert len(merge_candidates(none, grid, transform, options)) == 0


def test_merged_masks_are_measured_again(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    every = replace(LOOSE, box_nms_thresh=1.0, mask_nms_thresh=0.9)
    plain, found = (generate_masks(predictor, rgb, replace(every, merge_thresh=t)) for t in (1.0, 0.5))
    assert 0 < len(found) <= len(plain)
    for mask, box, area in zip(found.masks, found.xyxy, found.areas, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert area == len(rows)
    strict = replace(every, merge_thresh=0.5, stability_score_thresh=float(np.median(found.stability_scores)))
    assert generate_masks(predictor, rgb, strict).stability_scores.min() >= strict.stability_score_thresh


def test_masks_follow_edges_as_those_of_a_prompted_object(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    every = replace(LOOSE, points_per_side=2, box_nms_thresh=1.0)
    drawn = generate_masks(predictor, rgb, every)
    predictor.model.edge_radius = 1
    try:
        found = generate_masks(predictor, rgb, every)
        prompted = predictor.predict(point_coords=found.points[:, None].tolist(), multimask_output=True)
    finally:
        predictor.model.edge_radius = None
    assert len(found) == len(drawn)
    assert any(one != other for one, other in zip(found.rles, drawn.rles, strict=True))
    best = np.abs(prompted.scores - found.predicted_ious[:, None]).argmin(1)
    for mask, box, candidate in zip(found.masks, found.xyxy, prompted.masks[np.arange(len(best)), best], strict=True):
        expected = clean_edges(candidate)
        assert not mask.any() or iou_matrix(mask[None], expected[None])[0, 0] > 0.98
        np.testing.assert_array_equal(box, masks_to_boxes(mask[None])[0])


def test_nothing_found_is_no_error(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskletWarning)
        none = replace(LOOSE, stability_score_thresh=1.0, stability_score_offset=1e9, refine=5, mask_nms_thresh=0.5)
        found = generate_masks(predictor, rgb, none)
    assert len(found) == 0
    assert found.coverage == 0
    assert found.masks.shape == (0, 50, 80)
    assert found.to_annotations() == []
    assert len(found.to_results(rgb)) == 0


@pytest.mark.slow
def test_thresholds_that_a_network_never_reaches_raise_a_warning() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = ImagePredictor(SAM2(CONFIGS["builtin"]).eval())
    image = np.zeros((40, 40, 3), np.uint8)
    assert preset(predictor.model).pred_iou_thresh < PRESETS["default"].pred_iou_thresh
    with pytest.warns(MaskletWarning, match=r"0\.99.*presets have 0\.25"):
        generate_masks(predictor, image, MaskGeneratorOptions(points_per_side=1, pred_iou_thresh=0.99))


def test_an_image_of_one_pixel_is_an_image(predictor: ImagePredictor) -> None:
    found = generate_masks(predictor, np.zeros((1, 1, 3), np.uint8), replace(LOOSE, crop_n_layers=1))
    assert found.size == (1, 1)


def test_custom_points_are_prompted(predictor: ImagePredictor, rgb: np.ndarray) -> None:
    own = replace(LOOSE, points_per_side=None, point_grids=[np.array([[0.25, 0.5], [0.75, 0.5]])])
    found = generate_masks(predictor, rgb, own)
    assert found.points_prompted == 2
    assert {tuple(point) for point in found.points.tolist()} <= {(20.0, 25.0), (60.0, 25.0)}


def test_presets_follow_the_network(predictor: ImagePredictor) -> None:
    default, fast = preset(predictor.model), preset(predictor.model, "fast")
    if isinstance(predictor.model, SAM2) and predictor.model.config.prompt_maps:  # as the built-in model
        expected = MaskGeneratorOptions(pred_iou_thresh=0.35, stability_score_thresh=0.2, min_mask_region_area=64)
        assert default == expected
        assert fast == replace(expected, points_per_side=16)
    else:
        iou = 0.8 if isinstance(predictor.model, SAM2) else 0.88
        assert default == MaskGeneratorOptions(pred_iou_thresh=iou)
        assert fast == MaskGeneratorOptions(points_per_side=16, pred_iou_thresh=iou)


def test_published_defaults() -> None:
    options = MaskGeneratorOptions()
    assert (options.points_per_side, options.points_per_batch) == (32, 64)
    assert (options.pred_iou_thresh, options.stability_score_thresh, options.stability_score_offset) == (0.8, 0.95, 1.0)
    assert (options.box_nms_thresh, options.crop_n_layers, options.crop_nms_thresh) == (0.7, 0, 0.7)
    assert (options.crop_overlap_ratio, options.crop_n_points_downscale_factor) == (512 / 1500, 1)
    assert (options.min_mask_region_area, options.use_m2m, options.multimask_output) == (0, False, True)
    assert (options.mask_nms_thresh, options.refine, options.max_masks) == (1.0, 0, None)
    assert (options.merge_thresh, options.min_points) == (1.0, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pred_iou_thresh": 2}, "pred_iou_thresh=2 .* 0 to 1"),
        ({"stability_score_thresh": float("nan")}, "nan"),
        ({"points_per_side": 0}, "1 to 512"),
        ({"points_per_side": None}, "exactly one"),
        ({"points_per_side": True}, "whole number"),
        ({"point_grids": [np.zeros((1, 2))]}, "points_per_side=None"),
        ({"points_per_side": None, "point_grids": [np.full((1, 2), 2.0)]}, "0 to 1"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1}, "each layer: 2"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 2))], "adaptive": True}, "adaptive"),
        ({"output_mode": "png"}, "binary_mask"),
        ({"sort_by": "size"}, "score, area"),
        ({"crop_n_layers": 9}, "0 to 4"),
        ({"mask_nms_thresh": 1.5}, "mask_nms_thresh=1.5 .* 0 to 1"),
        ({"refine": True}, "refine=True .* whole number"),
        ({"merge_thresh": -0.5}, "merge_thresh=-0.5 .* 0 to 1"),
        ({"merge_thresh": 0.5, "min_points": 0}, "min_points=0 .* from 1"),
        ({"min_points": 2}, "min_points=2 needs masks of several points.*lower merge_thresh"),
        ({"max_masks": 0}, "max_masks=0 .* from 1"),
    ],
)
def test_options_without_meaning_are_refused(words: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MaskGeneratorOptions(**words)


def test_an_unknown_preset_is_refused(predictor: ImagePredictor) -> None:
    with pytest.raises(InputError, match="fast, default, fine"):
        preset(predictor.model, "best")
