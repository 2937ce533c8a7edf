"""`SAM` on images, with a small network of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.reference import golden_image
from masklet import SAM
from masklet.errors import InputError

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
