"""The CVAT functions with CVAT's own SDK and command line."""

from __future__ import annotations

import logging
import pickle
import re
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.odd_masks import SIZE, odd_masks
from masklet import SAM
from masklet.image.automatic_mask_generator import preset

pytest.importorskip("cvat_sdk")
from cvat_sdk import auto_annotation, models
from cvat_sdk.masks import decode_mask, encode_mask

from masklet.connectors import cvat_detection, cvat_interaction, cvat_tracking
from masklet.connectors.cvat_detection import CvatDetector
from masklet.connectors.cvat_interaction import CvatInteractor
from masklet.connectors.cvat_shapes import mask_from_shape, shape_points
from masklet.connectors.cvat_tracking import CvatTracker


@dataclass(frozen=True)
class Prompts(auto_annotation.InteractionPrompts):
    pos_points: tuple[tuple[float, float], ...] = ()
    neg_points: tuple[tuple[float, float], ...] = ()
    bounding_box: tuple[tuple[float, float], tuple[float, float]] | None = None


@dataclass(frozen=True)
class DetectionContext(auto_annotation.DetectionFunctionContext):
    conf_threshold: float | None = None
    conv_mask_to_poly: bool = False
    frame_name: str = "frame.png"


class ShapeContext(auto_annotation.TrackingFunctionShapeContext):
    original_shape_type = "mask"


def decoded(points: list[float], size: tuple[int, int] = (64, 96)) -> np.ndarray:
    return decode_mask(points, image_width=size[1], image_height=size[0])


@pytest.mark.parametrize(("name", "mask"), odd_masks().items())
def test_masks_and_polygons_are_lossless(name: str, mask: np.ndarray) -> None:
    assert shape_points("mask", mask) == encode_mask(mask)
    for shape_type in ("mask", "polygon"):
        assert np.array_equal(mask_from_shape(shape_type, shape_points(shape_type, mask), SIZE), mask), shape_type
    x1, y1, x2, y2 = shape_points("rectangle", mask)
    rows, columns = np.nonzero(mask)
    assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize(("name", "mask"), odd_masks().items())
def test_polygons_are_filled_alike_by_coco_tools(name: str, mask: np.ndarray) -> None:
    """CVAT's server turns polygons into masks with pycocotools."""
    coco = pytest.importorskip("pycocotools.mask")
    points = shape_points("polygon", mask)
    filled = coco.decode(coco.merge(coco.frPyObjects([points], *SIZE))).astype(bool)
    assert np.array_equal(filled, mask)


def test_clicks_and_boxes_become_a_mask(square: np.ndarray) -> None:
    function = cvat_interaction.create()
    context: Any = None
    prepared = function.preprocess_image(context, Image.fromarray(square))
    [shape] = function.detect(context, prepared, Prompts(pos_points=((22, 27),), neg_points=((80, 50),)))
    mask = decoded(shape.points)
    assert shape.type == "mask"
    assert mask[27, 22]
    assert not mask[50, 80]
    [boxed] = function.detect(context, prepared, Prompts(bounding_box=((10, 15), (35, 40))))
    truth = np.zeros((64, 96), bool)
    truth[15:40, 10:35] = True
    overlap = decoded(boxed.points)
    assert (overlap & truth).sum() / (overlap | truth).sum() > 0.8
    [confidence] = boxed.attributes
    assert 0 < float(confidence.value) <= 1


def test_an_image_is_encoded_once(square: np.ndarray, small_sam: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    function = CvatInteractor()
    prepared = function.preprocess_image(None, Image.fromarray(square[:, ::-1]))
    results = []
    call = type(small_sam).__call__
    monkeypatch.setattr(type(small_sam), "__call__", lambda *a, **k: results.append(call(*a, **k)) or results[-1])
    function.detect(None, prepared, Prompts(pos_points=((70, 27),)))
    function.detect(None, prepared, Prompts(pos_points=((71, 27),)))
    assert [found[0].speed["encode"] < 5 for found in results] == [True, True]


def test_prompts_that_are_none_are_errors_of_the_host(square: np.ndarray) -> None:
    function = CvatInteractor()
    for prompts in (Prompts(), Prompts(neg_points=((5, 5),)), Prompts(bounding_box=((30, 30), (30, 40)))):
        with pytest.raises(auto_annotation.BadFunctionError) as caught:
            function.detect(None, square, prompts)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # it crosses a process


@pytest.mark.parametrize("shape_type", ["mask", "polygon", "rectangle"])
def test_a_shape_is_tracked(small_video: np.ndarray, shape_type: str) -> None:
    function = cvat_tracking.create()
    truth = np.zeros((10, 64, 96), bool)
    for number in range(10):
        truth[number, 15:40, 10 + 3 * number : 35 + 3 * number] = True
    frames = [function.preprocess_image(None, Image.fromarray(frame)) for frame in small_video]
    shape = auto_annotation.TrackableShape(type=shape_type, points=shape_points(shape_type, truth[0]))
    state = function.init_tracking_state(ShapeContext(), frames[0], shape)
    for number in range(1, 10):
        found = function.track(ShapeContext(), frames[number], state)
        assert found is not None
        assert found.type == shape_type
        if shape_type == "rectangle":
            assert np.abs(np.array(found.points) - shape_points("rectangle", truth[number])).max() < 8
        else:
            mask = mask_from_shape(shape_type, found.points, (64, 96))
            assert (mask & truth[number]).sum() / (mask | truth[number]).sum() > 0.6


def test_tracking_is_that_of_a_session_with_all_memories(small_sam: SAM, small_video: np.ndarray) -> None:
    """Thirty frames: more than the seven memories and sixteen pointers that a frame attends to."""
    video = np.concatenate([small_video, small_video[::-1], small_video])
    mask = np.zeros((64, 96), bool)
    mask[15:40, 10:35] = True
    function = CvatTracker()
    shape = auto_annotation.TrackableShape(type="mask", points=encode_mask(mask))
    frames = [function.preprocess_image(None, Image.fromarray(frame)) for frame in video]
    states = [function.init_tracking_state(ShapeContext(), frames[0], shape) for _ in range(2)]
    with small_sam.session(video) as session:
        session.add_prompt(1, 0, mask=mask)
        expected = [results.masks.data[0] for results in session.propagate()]
    for number in range(1, 30):
        found = [function.track(ShapeContext(), frames[number], state) for state in states]
        for one in found:
            assert one is not None
            assert np.array_equal(decoded(one.points), expected[number]), number


def test_shapes_out_of_sight_and_malformed_ones(small_video: np.ndarray) -> None:
    function = CvatTracker()
    frame = function.preprocess_image(None, Image.fromarray(small_video[0]))
    bad = [("mask", [1.0, 2.0]), ("mask", encode_mask(np.zeros((64, 96), bool))), ("polygon", [1.0, 2.0, 3.0])]
    for shape_type, points in [*bad, ("rectangle", [5.0, 5.0, 5.0, 9.0]), ("rectangle", [5.0])]:
        with pytest.raises(auto_annotation.BadFunctionError, match="cannot be tracked"):
            function.init_tracking_state(
                ShapeContext(), frame, auto_annotation.TrackableShape(type=shape_type, points=points)
            )
    shape = auto_annotation.TrackableShape(type="rectangle", points=[10.0, 15.0, 35.0, 40.0])
    state = function.init_tracking_state(ShapeContext(), frame, shape)
    other = function.preprocess_image(None, Image.fromarray(small_video[0, :40]))
    with pytest.raises(auto_annotation.BadFunctionError, match="one size"):
        function.track(ShapeContext(), other, state)
    gray = function.preprocess_image(None, Image.new("RGB", (96, 64), (90, 90, 90)))
    found = [function.track(ShapeContext(), gray, state) for _ in range(3)]
    assert found[-1] is None


def test_detections_become_shapes_that_cvat_accepts(square: np.ndarray) -> None:
    driver = pytest.importorskip("cvat_sdk.auto_annotation.driver")
    function = cvat_detection.create(conf=0.5)
    function.detector.generator_options = preset(function.model.predictor.model, "fast")
    shapes = function.detect(DetectionContext(), Image.fromarray(square))
    assert shapes
    assert all(str(shape.type) == "mask" for shape in shapes)
    scores = [shape.score for shape in shapes]
    assert scores == sorted(scores, reverse=True)
    truth = np.zeros((64, 96), bool)
    truth[15:40, 10:35] = True
    ious = [(m & truth).sum() / (m | truth).sum() for m in (decoded(shape.points) for shape in shapes)]
    assert max(ious) > 0.7
    strict = function.detect(DetectionContext(conf_threshold=scores[0]), Image.fromarray(square))
    assert [shape.score for shape in strict] == [score for score in scores if score >= scores[0]]
    polygons = function.detect(DetectionContext(conv_mask_to_poly=True), Image.fromarray(square))
    assert {str(shape.type) for shape in polygons} == {"polygon"}
    label = models.Label(name="object", id=8, type="any", attributes=[], sublabels=[])
    mapper = driver._AnnotationMapper(
        logging.getLogger(), function.spec.labels, [label], allow_unmatched_labels=False, conv_mask_to_poly=False
    )
    mapper.validate_and_remap(shapes, 3)
    assert {(shape.label_id, shape.frame) for shape in shapes} == {(8, 3)}


def test_a_detector_of_boxes_is_segmented(square: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def boxes(rgb: np.ndarray) -> tuple[list, list, list]:
        return [[10, 15, 35, 40], [50, 10, 90, 60]], [0.9, 0.4], [3, 3]

    from masklet.detect import open_detector

    detector = open_detector(boxes)
    detector.names = {3: "square"}
    monkeypatch.setattr(cvat_detection, "open_detector", lambda *a: detector)
    masks = CvatDetector("boxes.pt").detect(DetectionContext(), Image.fromarray(square))
    assert [shape.label_id for shape in masks] == [3, 3]
    assert decoded(masks[0].points)[27, 22]
    rectangles = CvatDetector("boxes.pt", shape="rectangle").detect(DetectionContext(0.5), Image.fromarray(square))
    assert [list(shape.points) for shape in rectangles] == [[10, 15, 35, 40]]


def test_the_command_line_loads_the_functions() -> None:
    common = pytest.importorskip("cvat_cli._internal.common")
    agent = pytest.importorskip("cvat_cli._internal.agent")
    kinds = {}
    for module in ("cvat_detection", "cvat_interaction", "cvat_tracking"):
        function = common.FunctionLoader(f"masklet.connectors.{module}", None, {"device": "cpu"}).load()
        kinds[module] = agent.get_function_driver_class(function.spec).FUNCTION_KIND
    assert kinds == {"cvat_detection": "detector", "cvat_interaction": "interactor", "cvat_tracking": "tracker"}


def test_the_agent_tracks_several_shapes(small_video: np.ndarray) -> None:
    """The jobs that an agent runs for the requests of CVAT's editor."""
    driver = pytest.importorskip("cvat_cli._internal.agent_driver")
    jobs = pytest.importorskip("cvat_cli._internal.agent_driver_tracking")
    driver.set_worker_current_function(cvat_tracking.create())
    numbers = iter(range(10))
    jobs.AgentTrackingFunctionDriver.init_worker(lambda: f"state{next(numbers)}")
    mask = np.zeros((64, 96), bool)
    mask[15:40, 10:35] = True
    shapes = [
        auto_annotation.TrackableShape(type=shape_type, points=shape_points(shape_type, mask))
        for shape_type in ("mask", "rectangle", "polygon")
    ]
    states = jobs._worker_job_init_tracking(5, Image.fromarray(small_video[0]), shapes)
    assert states == ["state0", "state1", "state2"]
    for frame in small_video[1:4]:
        found = jobs._worker_job_track(5, Image.fromarray(frame), states)
        assert [shape.type for shape in found] == ["mask", "rectangle", "polygon"]
    as_mask, as_polygon = (mask_from_shape(found[i].type, found[i].points, (64, 96)) for i in (0, 2))
    assert np.array_equal(as_mask, as_polygon)


def test_the_agent_keeps_the_prepared_image_between_clicks(square: np.ndarray) -> None:
    driver = pytest.importorskip("cvat_cli._internal.agent_driver")
    jobs = pytest.importorskip("cvat_cli._internal.agent_driver_interaction")
    driver.set_worker_current_function(cvat_interaction.create())
    jobs.AgentInteractionFunctionDriver.init_worker(None)
    assert jobs._worker_job_interact_from_cache("frame", Prompts(pos_points=((22, 27),))) is None
    first = jobs._worker_job_interact("frame", Image.fromarray(square), Prompts(pos_points=((22, 27),)))
    assert jobs._worker_job_interact_from_cache("frame", Prompts(pos_points=((22, 27),))) == first
    assert jobs.AgentInteractionFunctionDriver.get_remote_function_fields(cvat_interaction.create().spec) == {
        "min_pos_points": 0,
        "min_neg_points": 0,
        "startswith_box_optional": True,
    }


def test_the_page_names_the_parameters_of_the_functions() -> None:
    page = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
    for module in (cvat_detection, cvat_interaction, cvat_tracking):
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{module.__name__.rpartition('.')[2]}` |")]
        named = re.findall(r"`(\w+)`", row.split("|")[2])
        assert sorted(named) == sorted(signature(module.create).parameters)
