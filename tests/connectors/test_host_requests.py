"""What the connectors share: the model of a process, prompts in pixels and percent."""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np
import pytest

from helpers.odd_masks import odd_masks
from masklet import SAM
from masklet.connectors import host_requests
from masklet.connectors.host_requests import make_prompt, open_model, outline_rings, percent_box, segment_objects
from masklet.errors import InputError, MissingExtraError, PromptError
from masklet.masks import iou
from masklet.masks.polygons import Polygon, polygons_to_mask


def test_the_model_is_that_of_the_argument_or_the_environment(monkeypatch: pytest.MonkeyPatch, small_sam: SAM) -> None:
    opened: list[tuple[object, object]] = []
    monkeypatch.setattr(host_requests, "_open_once", lambda name, device: opened.append((name, device)) or small_sam)
    monkeypatch.delenv("MASKLET_MODEL", raising=False)
    open_model()
    monkeypatch.setenv("MASKLET_MODEL", "sam2.1_t.pt")
    monkeypatch.setenv("MASKLET_DEVICE", "cpu")
    open_model()
    open_model("edgetam.pt")
    assert opened == [(None, None), ("sam2.1_t.pt", "cpu"), ("edgetam.pt", "cpu")]


def test_a_model_is_opened_once(monkeypatch: pytest.MonkeyPatch, tracking_file: object) -> None:
    monkeypatch.undo()
    first = open_model(str(tracking_file), "cpu")
    rgb = np.zeros((40, 60, 3), np.uint8)
    segment_objects(first, rgb, [make_prompt([(30, 20)], size=(40, 60))])
    again = open_model(str(tracking_file), "cpu")
    assert again is first
    encoded = []
    network = again.predictor.model
    monkeypatch.setattr(type(network), "add_no_memory_embedding", lambda *a: encoded.append(1))
    segment_objects(again, rgb, [make_prompt([(20, 20)], size=(40, 60))])  # on the image that was encoded
    assert not encoded


@pytest.mark.parametrize(("name", "mask"), odd_masks().items())
def test_outlines_keep_the_mask(name: str, mask: np.ndarray) -> None:
    exact, rough = outline_rings(mask, 1.0), outline_rings(mask, 0.9)
    assert np.array_equal(polygons_to_mask([Polygon(ring) for ring in exact], mask.shape), mask)
    assert iou(polygons_to_mask([Polygon(ring) for ring in rough], mask.shape), mask) >= 0.9
    assert sum(map(len, rough)) <= sum(map(len, exact))
    with pytest.raises(InputError, match="at most 1"):
        outline_rings(mask, 1.5)


def test_clicks_on_the_edge_and_boxes_beyond_it_are_moved_into_the_image() -> None:
    prompt = make_prompt([(96, 64), (-1, 3)], [(5, 70)], (-4, 10, 120, 64.5), size=(64, 96))
    assert prompt.points is not None
    assert prompt.box is not None
    assert (prompt.points.xy < [96, 64]).all()
    assert (prompt.points.xy >= 0).all()
    assert prompt.points.labels.tolist() == [1, 1, 0]
    assert prompt.box.xyxy.tolist() == [0, 10, 96, 64]
    prompt.fit_to_image((64, 96))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [(1, 1)]), "mark only what the object is not"),
        (([],), "is empty"),
        (([(1, float("nan"))],), "finite"),
        (([], [], (200, 10, 220, 20)), "lies outside the image"),
        (([], [], (20, 10, 10, 20)), "did you mean"),
    ],
)
def test_what_is_no_prompt_is_an_error(arguments: tuple, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make_prompt(*arguments, size=(64, 96))


def test_a_turned_rectangle_is_the_box_around_its_corners() -> None:
    assert percent_box(25, 50, 50, 25, size=(100, 200)) == (50, 50, 150, 75)
    turned = percent_box(50, 25, 20, 10, 90, size=(100, 200))  # 40 x 10 pixels, its corner at 100, 25, down and left
    assert np.allclose(turned, (90, 25, 100, 65))


def test_several_objects_have_several_masks(small_sam: SAM, square: np.ndarray) -> None:
    boxes = [(10, 15, 35, 40), (50, 10, 90, 60)]
    results = segment_objects(small_sam, square, [make_prompt([], box=box, size=(64, 96)) for box in boxes])
    assert len(results) == 2
    assert results.masks.data[0][27, 22]
    clicks = segment_objects(small_sam, square, [make_prompt([(22, 27)], [(80, 50)], size=(64, 96))])
    assert clicks.masks.data[0][27, 22]
    assert not clicks.masks.data[0][50, 80]


@pytest.mark.parametrize(
    ("module", "package", "message"),
    [
        ("cvat_detection", "cvat_sdk", r"masklet\[cvat\]"),
        ("cvat_interaction", "cvat_sdk", r"masklet\[cvat\]"),
        ("cvat_tracking", "cvat_sdk", r"masklet\[cvat\]"),
        ("label_studio", "label_studio_sdk.converter", r"masklet\[labelstudio\]"),
        ("label_studio", "label_studio_ml.model", "label-studio-ml|label-studio-sdk"),
        ("fiftyone_model", "fiftyone", r"masklet\[fiftyone\]"),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, module: str, package: str, message: str) -> None:
    for name in ("cvat_shapes", module):
        monkeypatch.delitem(sys.modules, f"masklet.connectors.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=message):
        import_module(f"masklet.connectors.{module}")
