from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.synthetic_truth import Oracle, store_image
from masklet.errors import SourceError
from masklet.evaluate import ImageResult, evaluate_image, find_image_samples, image_report


def oracle(truth: np.ndarray, shift: int) -> Any:
    """A model that predicts the truth, moved by some pixels."""
    return Oracle(truth, np.zeros((0, *truth.shape[1:]), np.uint8), shift=shift)


@pytest.fixture
def truth(tmp_path: Path) -> np.ndarray:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:20, 10:30] = True
    masks[1, 22:36, 30:50] = True
    store_image(tmp_path / "src", "a", masks)
    return masks


def test_the_truth_scores_one_everywhere(truth: np.ndarray, tmp_path: Path) -> None:
    model = oracle(truth, 0)
    figures = image_report([evaluate_image(model, sample) for sample in find_image_samples(tmp_path)]).total
    assert (figures.objects, figures.box, figures.click, figures.click_best, figures.clicks_5) == (2, 1, 1, 1, 1)
    assert model.click_counts == [0, 1, 2, 3, 4, 5]


def test_a_shifted_prediction_scores_its_iou(truth: np.ndarray, tmp_path: Path) -> None:
    figures = image_report([evaluate_image(oracle(truth, 10), sample) for sample in find_image_samples(tmp_path)]).total
    assert figures.box == pytest.approx(1 / 3)
    assert figures.clicks_3 == pytest.approx(1 / 3)


def test_sources_count_the_same_in_their_mean() -> None:
    rows = [ImageResult("x", "a", ((1.0,) * 5,) * 9), ImageResult("y", "b", ((0.0,) * 5,))]
    found = image_report(rows)
    assert found.total.box == pytest.approx(0.9)
    assert found.mean_over_sources.box == pytest.approx(0.5)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"images/ID\.jpg"):
        find_image_samples(tmp_path)


def test_images_come_in_the_plain_order_of_their_names(truth: np.ndarray, tmp_path: Path) -> None:
    """Every tenth of them is the same one in every version, whatever order data sets have."""
    for name in ("a-1", "a2", "a10"):
        store_image(tmp_path / "src", name, truth)
    assert [sample.name for sample in find_image_samples(tmp_path)] == ["src/a-1", "src/a", "src/a10", "src/a2"]


def test_images_without_objects_are_no_figures(truth: np.ndarray, tmp_path: Path) -> None:
    store_image(tmp_path / "src", "b", np.zeros_like(truth))
    rows = [evaluate_image(oracle(truth, 0), sample) for sample in find_image_samples(tmp_path)]
    assert [len(row.ious) for row in rows] == [2, 0]
    assert image_report(rows).total.objects == 2
    with pytest.raises(SourceError, match="no image has an object"):
        image_report(rows[1:])


def test_a_image_that_cannot_be_read_is_named(truth: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "src" / "images" / "a.jpg").write_bytes(b"not an image")
    with pytest.raises(SourceError, match=r"a\.jpg"):
        [evaluate_image(oracle(truth, 0), sample) for sample in find_image_samples(tmp_path)]
