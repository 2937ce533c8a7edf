"""The Label Studio backend with label-studio-ml and label-studio-sdk, in the process and through its server."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import write_video
from helpers.odd_masks import odd_masks
from masklet import SAM
from masklet.errors import InputError
from masklet.masks.polygons import Polygon, polygons_to_mask


@pytest.fixture(scope="module")
def backend_class(tmp_path_factory: pytest.TempPathFactory) -> type:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_DIR", str(tmp_path_factory.mktemp("label-studio")))  # read when the module is imported
        pytest.importorskip("label_studio_ml.model")
        pytest.importorskip("label_studio_sdk.converter.brush")
        from masklet.connectors.label_studio import MaskletBackend

        return MaskletBackend


BRUSH = """<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image"><Label value="cat"/>
<Label value="dog"/></BrushLabels><KeyPointLabels name="point" toName="image" smart="true"><Label value="cat"/>
<Label value="dog"/></KeyPointLabels></View>"""
POLYGON = """<View><Image name="image" value="$image"/><PolygonLabels name="outline" toName="image">
<Label value="dog"/></PolygonLabels><Rectangle name="box" toName="image" smart="true"/></View>"""
VIDEO = """<View><Video name="video" value="$video"/><VideoRectangle name="box" toName="video"/>
<Labels name="labels" toName="video"><Label value="dog"/></Labels></View>"""


def key_point(x: float, y: float, label: str = "dog", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [label]}
    return {"type": "keypointlabels", "value": value, "original_width": 96, "original_height": 64, **more}


@pytest.fixture
def task(tmp_path: Path, square: np.ndarray) -> dict[str, Any]:
    Image.fromarray(square).save(tmp_path / "square.png")
    return {"id": 1, "data": {"image": str(tmp_path / "square.png")}}


@pytest.fixture(autouse=True)
def local_files(backend_class: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses in the tests are paths; version 2 takes the number of the task with them."""
    if "task_id" in signature(backend_class.get_local_path).parameters:
        monkeypatch.setattr(backend_class, "get_local_path", lambda self, url, *, task_id: url)
    else:
        monkeypatch.setattr(backend_class, "get_local_path", lambda self, url: url)


LONG_RUNS = np.pad(np.ones((70, 300), bool), ((200, 40), (0, 0)))
"""Label Studio writes runs of more than 65,536 numbers, four a pixel, in pieces."""


@pytest.mark.parametrize(("name", "mask"), [*odd_masks().items(), ("long runs", LONG_RUNS)])
def test_brushes_and_polygons_are_lossless(backend_class: type, name: str, mask: np.ndarray) -> None:
    from label_studio_sdk.converter import brush

    from masklet.connectors.label_studio import brush_value, polygon_values

    value = brush_value(mask)
    layers = brush.decode_from_annotation(
        "mask",
        [
            {
                "type": "brushlabels",
                "rle": value["rle"],
                "brushlabels": ["dog"],
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
            }
        ],
    )
    assert np.array_equal(layers["mask-dog-0"], mask.astype(np.uint8) * 255)
    parts = [np.array(one["points"]) * mask.shape[::-1] / 100 for one in polygon_values(mask, 1.0)]
    filled = [polygons_to_mask([Polygon(part.astype(np.float32))], mask.shape) for part in parts]
    assert np.array_equal(np.any(filled, axis=0), mask)


def test_clicks_become_a_brush(backend_class: type, task: dict[str, Any]) -> None:
    from label_studio_sdk.converter import brush

    backend = backend_class(label_config=BRUSH)
    context = {"result": [key_point(23, 42, is_positive=1), key_point(85, 80, is_positive=0)]}
    [prediction] = backend.predict([task], context=context)
    [region] = prediction["result"]
    assert (region["type"], region["from_name"], region["to_name"]) == ("brushlabels", "mask", "image")
    assert (region["original_width"], region["original_height"]) == (96, 64)
    assert region["value"]["brushlabels"] == ["dog"]
    mask = brush.decode_rle(region["value"]["rle"]).reshape(64, 96, 4)[:, :, 3] > 0
    assert mask[27, 22]
    assert not mask[51, 82]
    assert 0 < prediction["score"] <= 1


def test_a_rectangle_becomes_polygons(backend_class: type, task: dict[str, Any]) -> None:
    value = {"x": 1000 / 96, "y": 1500 / 64, "width": 2500 / 96, "height": 2500 / 64, "rotation": 0}
    context = {"result": [{"type": "rectangle", "value": value}]}
    [prediction] = backend_class(label_config=POLYGON).predict([task], context=context)
    assert prediction["result"]
    region = prediction["result"][0]
    assert (region["type"], region["value"]["polygonlabels"]) == ("polygonlabels", ["dog"])  # its only label
    ring = np.array(region["value"]["points"]) * [0.96, 0.64]
    mask, truth = polygons_to_mask([Polygon(ring.astype(np.float32))], (64, 96)), np.zeros((64, 96), bool)
    truth[15:40, 10:35] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def video_region(number: str, sequence: list[dict[str, Any]], count: int = 10) -> dict[str, Any]:
    value = {"framesCount": count, "duration": count / 25, "sequence": sequence, "labels": ["dog"]}
    return {"id": number, "type": "videorectangle", "from_name": "box", "to_name": "video", "value": value}


def keyframe(frame: int, *, enabled: bool = True, x: float = 10) -> dict[str, Any]:
    box = {"x": 100 * x / 96, "y": 100 * 15 / 64, "width": 100 * 25 / 96, "height": 100 * 25 / 64}
    return {**box, "frame": frame, "time": frame / 25, "enabled": enabled, "rotation": 0}


def test_rectangles_are_tracked_under_their_ids(
    backend_class: type, tmp_path: Path, small_video: np.ndarray, small_sam: SAM
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, small_video)
    other = {**keyframe(4), "x": 100 * 60 / 96}
    context = {"result": [video_region("first", [keyframe(1)]), video_region("second", [other])]}
    task = {"id": 1, "data": {"video": str(path)}}
    [prediction] = backend_class(label_config=VIDEO).predict([task], context=context)
    first, second = prediction["result"]
    assert (first["id"], second["id"], first["type"]) == ("first", "second", "videorectangle")
    assert first["value"]["labels"] == ["dog"]
    sequence = first["value"]["sequence"]
    assert sequence[0] == keyframe(1)
    assert [one["frame"] for one in sequence] == list(range(1, 11))
    assert second["value"]["sequence"][0]["frame"] == 4
    with small_sam.session(str(path)) as session:
        session.add_prompt(1, 0, box=[10, 15, 35, 40])
        session.add_prompt(2, 3, box=[60, 15, 85, 40])
        for results in session.propagate():
            if results.frame_idx:
                one = sequence[results.frame_idx]
                x1, y1 = one["x"] * 96 / 100, one["y"] * 64 / 100
                corners = [x1, y1, x1 + one["width"] * 96 / 100, y1 + one["height"] * 64 / 100]
                assert np.allclose(corners, results.boxes.xyxy[results.ids.tolist().index(1)], atol=1e-4)
                assert one["time"] == pytest.approx(one["frame"] / 25)


def test_hidden_objects_and_those_out_of_sight() -> None:
    from masklet.connectors.label_studio_video import RectangleTrack

    box = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}
    track = RectangleTrack.from_region(video_region("a", [keyframe(2), keyframe(8, enabled=False), keyframe(12)]))
    boxes = {frame: None if frame in (4, 5) else box for frame in (2, 3, 4, 5, 6, 8, 9, 13)}
    filled = {one["frame"]: one["enabled"] for one in track.fill(boxes)}
    # after a keyframe that is not enabled Label Studio hides the object: from frame 4 on, and from 9 on
    assert filled == {2: True, 3: False, 6: True, 8: False, 12: True, 13: True}


@pytest.mark.parametrize(
    ("config", "result", "message"),
    [
        (BRUSH, [key_point(23, 42, is_positive=0)], "mark only what the object is not"),
        (BRUSH, [key_point(23, 42, label="bird")], "'bird' is none of <BrushLabels"),
        (BRUSH, [{"type": "keypointlabels"}], "cannot be read: KeyError: 'value'"),
        ("<View><Text name='t' value='$t'/></View>", [key_point(1, 1)], "no tag that masklet answers"),
        (VIDEO.replace("$video", "$image"), [key_point(1, 1)], "no region of type videorectangle"),
        (VIDEO.replace("$video", "$image"), [video_region("a", [])], "must have keyframes"),
        (VIDEO.replace("$video", "$image"), [{"type": "videorectangle", "id": 1}], "cannot be read"),
        (VIDEO, [video_region("a", [keyframe(1)])], "no data 'video'"),
    ],
)
def test_requests_that_cannot_be_answered_say_why(
    backend_class: type, task: dict[str, Any], config: str, result: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        backend_class(label_config=config).predict([task], context={"result": result})


def test_without_prompts_there_is_no_prediction(backend_class: type, task: dict[str, Any]) -> None:
    backend = backend_class(label_config=BRUSH)
    assert backend.predict([task]) == backend.predict([task], context={"result": []}) == []


def test_the_server_answers_and_survives_errors(
    backend_class: type, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = pytest.importorskip("label_studio_ml.api")
    import label_studio_ml.model

    is_first_version = hasattr(label_studio_ml.model, "LabelStudioMLManager")
    app = api.init_app(model_class=backend_class, **({"model_dir": str(tmp_path)} if is_first_version else {}))
    client = app.test_client()
    assert client.get("/health").json["status"] == "UP"
    setup = {"project": "1.1", "schema": BRUSH, "label_config": BRUSH}
    assert client.post("/setup", json=setup).status_code == 200
    for x, status in ((23, 200), (float(10**6), 200), ("wide", 500), (23, 200)):
        context = {"result": [key_point(x, 42, is_positive=1)]}
        request = {"tasks": [task], "project": "1.1", "label_config": BRUSH, "params": {"context": context}}
        answer = client.post("/predict", json=request)
        assert answer.status_code == status, answer.json
    assert answer.json["results"][0]["result"][0]["type"] == "brushlabels"
