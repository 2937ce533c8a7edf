"""`SAM` on images, with a small network of random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.reference import golden_image
from masklet import SAM
from masklet.errors import InputError, PromptError
from masklet.image import ImagePredictor, Prediction
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.masks import iou_matrix
from masklet.masks.morphology import clean_edges, fill_holes, remove_islands
from masklet.media import SourceImage

RGB = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def model(builtin_file: Path) -> SAM:
    return SAM(builtin_file)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"image{i}.png" for i in (2, 10, 1)]
    for path in paths:
        Image.fromarray(RGB).save(path)
    return paths


def test_one_click_is_one_object_with_all_fields(model: SAM) -> None:
    (result,) = model(RGB, points=[30, 20], labels=[1])
    assert len(result) == 1
    assert result.masks.data.shape == (1, 48, 64)
    assert result.masks.data.dtype == bool
    assert result.boxes.xyxy.shape == (1, 4)
    assert 0 <= float(result.boxes.conf[0]) <= 1
    assert result.orig_img.shape == (48, 64, 3)
    assert result.logits.shape == (1, 128, 128)
    assert set(result.speed) == {"preprocess", "encode", "decode", "postprocess"}
    assert result.names == {0: "object"}


def test_two_points_flat_are_two_objects_and_nested_are_one(model: SAM) -> None:
    assert len(model(RGB, points=[[5, 5], [30, 20]], labels=[1, 1])[0]) == 2
    assert len(model(RGB, points=[[[5, 5], [30, 20]]], labels=[[1, 0]])[0]) == 1


def test_several_objects_have_the_results_of_each_alone(model: SAM) -> None:
    boxes = [[2, 2, 20, 20], [10, 5, 40, 40], [30, 8, 60, 44]]
    together = model(RGB, bboxes=boxes)[0]
    for i, box in enumerate(boxes):
        alone = model(RGB, bboxes=box)[0]
        np.testing.assert_allclose(together.logits[i], alone.logits[0], atol=1e-3)
        assert together.ids[i] == i


def test_objects_with_prompts_of_different_lengths_keep_their_order(model: SAM) -> None:
    points = [[[5, 5]], [[30, 20], [40, 30]], [[50, 40]]]
    labels = [[1], [1, 0], [1]]
    together = model(RGB, points=points, labels=labels)[0]
    for i in range(3):
        alone = model(RGB, points=[points[i]], labels=[labels[i]])[0]
        np.testing.assert_allclose(together.logits[i], alone.logits[0], atol=1e-3)


def test_multimask_gives_three_candidates_best_first(model: SAM) -> None:
    result = model(RGB, points=[[5, 5], [30, 20]], multimask=True)[0]
    assert list(result.ids) == [0, 0, 0, 1, 1, 1]
    assert (np.diff(result.scores[:3]) <= 0).all()
    single = model(RGB, points=[[5, 5], [30, 20]])[0]
    np.testing.assert_allclose(single.scores, result.scores[[0, 3]])
    assert (single.masks.data == result.masks.data[[0, 3]]).all()


def test_box_with_points_and_a_mask_are_prompts_too(model: SAM) -> None:
    both = model(RGB, bboxes=[2, 2, 40, 40], points=[[[10, 10]]], labels=[[0]])[0]
    box = model(RGB, bboxes=[2, 2, 40, 40])[0]
    assert not np.allclose(both.logits, box.logits)
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:40] = True
    assert len(model(RGB, masks=mask)[0]) == 1


def test_logits_fed_back_change_the_result(model: SAM) -> None:
    first = model(RGB, points=[[[30, 20]]])[0]
    again = model(RGB, points=[[[30, 20], [5, 5]]], labels=[[1, 0]], logits=first.logits)[0]
    plain = model(RGB, points=[[[30, 20], [5, 5]]], labels=[[1, 0]])[0]
    assert not np.allclose(again.logits, plain.logits)


def test_the_same_image_is_encoded_once(model: SAM) -> None:
    model(RGB[::-1], points=[5, 5])
    assert model(RGB, points=[5, 5])[0].speed["preprocess"] > 0
    again = model(RGB.copy(), points=[9, 9])[0]
    assert again.speed["preprocess"] == 0
    assert model(RGB[:, ::-1], points=[5, 5])[0].speed["preprocess"] > 0


def test_an_image_set_on_the_predictor_is_not_used_for_another(model: SAM) -> None:
    expected = model(RGB, points=[30, 20])[0].logits
    model.predictor.set_image(np.ascontiguousarray(RGB[::-1, :32]))
    np.testing.assert_array_equal(model(RGB, points=[30, 20])[0].logits, expected)


def test_every_kind_of_source_gives_the_same_mask(model: SAM, files: list[Path]) -> None:
    expected = model(RGB, points=[30, 20])[0].logits
    sources = [str(files[0]), files[0], Image.fromarray(RGB), [RGB], RGB[..., ::-1]]
    for source in sources:
        channels = "bgr" if isinstance(source, np.ndarray) else "rgb"
        found = model(source, points=[30, 20], channels=channels)
        np.testing.assert_array_equal(found[0].logits, expected)


def test_folders_and_globs_come_in_natural_order(model: SAM, files: list[Path]) -> None:
    for source in (files[0].parent, str(files[0].parent / "*.png")):
        found = model(source, points=[30, 20])
        assert [Path(r.path).name for r in found] == ["image1.png", "image2.png", "image10.png"]


def test_a_stream_reads_an_image_when_it_is_needed(model: SAM, files: list[Path]) -> None:
    stream = model.stream(files, points=[30, 20])
    next(stream)
    files[1].unlink()
    assert Path(files[1]).exists() is False
    with pytest.raises(ValueError, match="image10"):
        next(stream)


def test_info_has_name_size_file_and_license(model: SAM, builtin_file: Path) -> None:
    info = model.info()
    assert info.name == "builtin"
    assert info.parameters > 1e6
    assert info.path == str(builtin_file)
    assert "Apache-2.0" in str(info)


@pytest.mark.parametrize("side", [0, 33, 32, 8192, 100.0, True, "512"])
def test_an_invalid_image_size_is_named(side: object) -> None:
    with pytest.raises(InputError, match="multiple of 32"):
        SAM(image_size=side)  # type: ignore[arg-type]


def test_a_smaller_input_works() -> None:
    model = SAM(image_size=192)
    assert model.info().image_size == 192
    assert model(golden_image(), bboxes=[45, 85, 135, 175])[0].masks.data[0, 130, 90]


def test_answers_lose_specks_and_pinholes_and_logits_stay(model: SAM) -> None:
    model.predictor.set_image(RGB)
    published = model.predictor.predict(box=[10, 8, 50, 40], multimask_output=False)
    by_area = {area: model(RGB, bboxes=[10, 8, 50, 40], fill_hole_area=area)[0] for area in (None, 0, 6)}
    raw = published.masks[0, 0]
    np.testing.assert_array_equal(by_area[0].masks.data[0], raw)
    np.testing.assert_array_equal(by_area[None].masks.data[0], clean_edges(raw))
    np.testing.assert_array_equal(by_area[6].masks.data[0], remove_islands(fill_holes(raw, 6), 6))
    for result in by_area.values():
        np.testing.assert_array_equal(result.logits, published.logits[:, 0])


@pytest.mark.parametrize("area", [-1, 1.5, True, "8"])
def test_an_invalid_area_is_named(model: SAM, area: Any) -> None:
    with pytest.raises(InputError, match="must be a number of pixels"):
        model(RGB, points=[30, 20], fill_hole_area=area)


def test_an_area_without_prompts_is_refused(model: SAM) -> None:
    with pytest.raises(PromptError, match="fill_hole_area=8 needs prompts"):
        model(RGB, fill_hole_area=8)


def test_a_mask_too_small_to_be_seen_is_its_own_answer(model: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: ImagePredictor, prompts: Any, **options: Any) -> Prediction:
        return Prediction(np.zeros((1, 1, 48, 64), bool), np.zeros((1, 1)), np.zeros((1, 1, 128, 128)))

    mask = np.zeros((48, 64), bool)
    mask[20, 30] = True
    monkeypatch.setattr(ImagePredictor, "predict_prompts", blind)
    np.testing.assert_array_equal(model(RGB, masks=mask)[0].masks.data, mask[None])
    assert not model(RGB, points=[30, 20])[0].masks.data.any()


@pytest.mark.parametrize("side", [4, 8, 12, 20])
def test_an_object_within_a_cell_of_the_network_is_not_lost(side: int) -> None:
    model = SAM()
    rgb = np.full((1080, 1920, 3), (40, 90, 40), np.uint8)
    square = np.zeros((1080, 1920), bool)
    square[501 : 501 + side, 903 : 903 + side] = True
    rgb[square] = (230, 60, 40)
    center, box = [903 + side / 2, 501 + side / 2], [903, 501, 903 + side, 501 + side]
    by_mask, by_box, by_point = (model(rgb, **p)[0] for p in ({"masks": square}, {"bboxes": box}, {"points": center}))
    assert (by_mask.masks.data[0] & square).sum() == side**2
    for result in (by_mask, by_box, by_point):
        assert (result.masks.data[0] & square).sum() > 0.8 * side**2
        assert result.scores[0] > 0


@pytest.mark.parametrize(
    ("prompt", "pixels"),
    [
        ({"bboxes": [20.5, 10.2, 21.5, 11.1]}, 4),
        ({"bboxes": [20, 10, 22, 11], "points": [[[21, 10]]]}, 2),
        ({"bboxes": [20, 10, 22, 11], "points": [[[21, 10]]], "labels": [[0]]}, 0),
        ({"bboxes": [5, 5, 40, 40]}, 0),
    ],
)
def test_a_box_within_a_cell_is_the_answer_where_the_network_has_none(
    model: SAM, monkeypatch: pytest.MonkeyPatch, prompt: Any, pixels: int
) -> None:
    def blind(self: ImagePredictor, prompts: Any, **options: Any) -> Prediction:
        return Prediction(np.zeros((1, 1, 48, 64), bool), np.full((1, 1), 0.7), np.zeros((1, 1, 128, 128)))

    monkeypatch.setattr(ImagePredictor, "predict_prompts", blind)
    result = model(RGB, **prompt)[0]
    assert result.masks.data.sum() == pixels == result.masks.data[:, 10:12, 20:22].sum()
    assert result.scores[0] == (0.7 if pixels else 0)  # an empty answer is not a confident one


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 8), *(pytest.param(size, marks=pytest.mark.slow) for size in ((8, 1), (2, 8), (3, 3)))]
)
def test_an_image_of_one_color_has_one_mask(size: tuple[int, int]) -> None:
    rgb = np.full((*size, 3), 120, np.uint8)
    options = MaskGeneratorOptions(8, points_per_batch=16, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    assert len(SAM()(rgb, everything=options)[0]) == 1


@pytest.mark.filterwarnings("ignore::masklet.errors.MaskletWarning")
def test_one_pixel_is_one_mask(model: SAM) -> None:
    options = MaskGeneratorOptions(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0.01)
    found = model(RGB[:1, :1], everything=options)[0]
    assert len(found) <= 1
    thin = model(RGB[:1, :8], everything=options)[0].masks.data
    overlaps = iou_matrix(thin, thin)[np.triu_indices(len(thin), 1)]
    assert (overlaps <= options.box_nms_thresh).all()


def test_as_many_images_as_wanted_are_not_encoded_again(tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.copy(tracker)
    model.keep_images(2)
    encoded: list[tuple[int, int]] = []
    usual = ImagePredictor._set_preprocessed

    def count(self: ImagePredictor, pixels: torch.Tensor, size: tuple[int, int]) -> None:
        encoded.append(size)
        usual(self, pixels, size)

    monkeypatch.setattr(ImagePredictor, "_set_preprocessed", count)
    images = [SourceImage(np.full((20 + number, 30, 3), 50 * number, np.uint8), "") for number in range(3)]
    images[1].rgb.flags.writeable = False
    for number in (0, 1, 0, 1, 2, 1, 0):  # 2 takes the place of 0
        model(images[number], points=[15, 10])
    assert [height - 20 for height, _ in encoded] == [0, 1, 2, 0]
    images[0].rgb[:] = 200  # another image in the same array
    model(images[0], points=[15, 10])
    assert len(encoded) == 5
    with pytest.raises(InputError, match="1 or more"):
        model.keep_images(0)


def test_a_higher_threshold_gives_smaller_masks_and_the_same_logits(model: SAM) -> None:
    usual, same, small, large = (
        model(golden_image(), points=[300, 200], threshold=value, fill_hole_area=0)[0] for value in (None, 0, 2, -2)
    )
    assert (usual.masks.data == same.masks.data).all()
    areas = [int(one.masks.data.sum()) for one in (small, usual, large)]
    assert areas[0] < areas[1] < areas[2]
    assert (usual.logits == small.logits).all()


def test_a_view_is_the_part_of_the_image_alone(model: SAM) -> None:
    image = golden_image()
    left, top, right, bottom = view = (120, 60, 320, 240)
    (whole,) = model(image, points=[[[200, 150], [5, 5]]], labels=[[1, 0]], bboxes=[100, 100, 300, 220], view=view)
    (part,) = model(
        np.ascontiguousarray(image[top:bottom, left:right]), points=[[80, 90]], labels=[1], bboxes=[0, 40, 180, 160]
    )
    assert whole.masks.data.shape == (1, *image.shape[:2])
    assert (whole.masks.data[:, top:bottom, left:right] == part.masks.data).all()
    assert whole.masks.data.sum() == part.masks.data.sum() > 0
    assert (whole.logits == part.logits).all()


def test_prepared_views_are_not_encoded_again(tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = copy.copy(tracker), []
    usual = ImagePredictor._set_preprocessed
    monkeypatch.setattr(
        ImagePredictor,
        "_set_preprocessed",
        lambda self, pixels, size: (sizes.append(size), usual(self, pixels, size))[1],
    )
    model.prepare(RGB, view=[8, 4, 40, 36])
    model(RGB, points=[20, 20], view=[8, 4, 40, 36])
    assert sizes == [(32, 32)]


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        ({"points": [30, 20], "view": [40, 4, 60, 40]}, PromptError, "nothing that marks the object lies in the view"),
        ({"points": [30, 20], "view": [4, 4, 60]}, PromptError, "must be one box"),
        ({"points": [30, 20], "view": [400, 4, 600, 40]}, PromptError, "lies outside the image"),
        ({"points": [30, 20], "threshold": float("nan")}, InputError, "must be a finite number"),
        ({"threshold": 1.0}, PromptError, "needs prompts"),
    ],
)
def test_what_a_view_and_a_threshold_cannot_be_is_named(
    model: SAM, request_: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        model(RGB, **request_)
