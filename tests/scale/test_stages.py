"""Stages: columns in and columns out, rows that fail alone, pickling, and a model opened once in a process."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.annotate_data import Blobs, make_photos
from masklet import SAM
from masklet.annotate import AnnotateOptions
from masklet.errors import InputError, UnknownModelError
from masklet.image.automatic_mask_generator import PRESETS
from masklet.masks.rle import decode
from masklet.scale import Annotator, Embedder, Segmenter, Stage, VideoTracker
from masklet.scale.stages import ModelStage, open_once
from masklet.scale.video_chunks import ChunkOptions


@pytest.fixture
def model(tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> SAM:
    monkeypatch.setattr(ModelStage, "open_model", lambda stage: tracker)
    for name in ("fast", "default"):
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], points_per_side=3))
    return tracker


@pytest.fixture
def frame(small_video: np.ndarray) -> np.ndarray:
    return small_video[0]


def png(rgb: np.ndarray) -> bytes:
    Image.fromarray(rgb).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def test_prompted_masks_are_those_of_the_model(model: SAM, frame: np.ndarray) -> None:
    batch = Segmenter(prompts="columns")({"item": ["a"], "image": [frame], "points": [[[20, 25]]]})
    expected = model(frame, points=[[20, 25]])[0]
    assert (batch["item"], batch["width"], batch["height"], batch["error"]) == (["a"], [96], [64], [""])
    assert np.array_equal(decode(json.loads(batch["masks"][0][0])), expected.masks.data[0])
    assert batch["scores"][0] == pytest.approx(expected.scores.tolist(), abs=1e-4)
    assert batch["ids"] == [[0]]


def test_path_bytes_and_array_give_the_same_row(model: SAM, frame: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(frame))
    segment = Segmenter(everything="fast")
    rows = [segment({"item": ["a"], **source}) for source in ({"path": [str(path)]}, {"bytes": [png(frame)]})]
    assert rows[0] == rows[1] == segment({"item": ["a"], "image": np.stack([frame])})
    assert rows[0]["error"] == [""]


def test_prompts_of_tables_are_read(model: SAM, frame: np.ndarray) -> None:
    segment = Segmenter(prompts="columns")
    nested = np.empty(2, object)
    nested[:] = [np.array([20.0, 25.0]), np.array([40.0, 30.0])]  # as pandas and Ray hand lists of lists over
    of_arrays = segment({"item": ["a"], "image": [frame], "points": [nested]})
    as_json = segment({"item": ["a"], "image": [frame], "points": ["[[20, 25], [40, 30]]"]})
    assert of_arrays == as_json
    assert as_json["error"] == [""]


LABELER = Annotator(AnnotateOptions(Blobs(), detector_masks=True, batch=2))


@pytest.mark.parametrize("stage", [Segmenter(), Embedder(), VideoTracker(), LABELER])
def test_a_broken_row_has_its_reason_and_the_others_are_whole(model: SAM, frame: np.ndarray, stage: Stage) -> None:
    batch = stage({"item": ["cut", "none", "good"], "bytes": [png(frame)[:60], None, png(frame)]})
    assert list(batch) == list(stage.columns)
    assert "cut" in batch["error"][0]
    assert "none" in batch["error"][1]
    assert batch["error"][2] == ""
    assert batch["width"] == [0, 0, 96]


def test_a_malformed_prompt_is_an_error_of_its_row(model: SAM, frame: np.ndarray) -> None:
    points = [[[200, 25]], "[[20", None, [[20, 25]]]
    errors = Segmenter(prompts="columns")({"item": list("abcd"), "image": [frame] * 4, "points": points})["error"]
    assert "outside" in errors[0]
    assert "[[20" in errors[1]
    assert "no prompt" in errors[2]
    assert errors[3] == ""


def test_a_bug_in_a_library_is_an_error_of_its_row(
    model: SAM, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.scale.stages.generate_masks", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in Segmenter()({"item": ["a"], "image": [frame]})["error"][0]


def test_a_model_that_cannot_be_opened_fails_the_batch(frame: np.ndarray) -> None:
    with pytest.raises(UnknownModelError):
        Segmenter("no_such_model.pt")({"item": ["a"], "image": [frame]})


def test_columns_without_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="rename a column"):
        Segmenter()({"file": ["a.jpg"]})
    with pytest.raises(InputError, match="different lengths"):
        Segmenter()({"item": ["a"], "path": ["a", "b"]})


def test_annotator_labels_as_auto_annotate_does(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    paths = [str(path) for path in sorted(photos.rglob("*")) if path.is_file()]
    batch = LABELER({"path": paths})
    for row, path in enumerate(paths):
        if batch["error"][row]:
            assert path.endswith("broken.jpg")
            continue
        rgb = np.array(Image.open(path).convert("RGB"))
        [expected] = Blobs().detect([rgb])
        assert batch["names"][row] == [{0: "red", 1: "green"}[one] for one in expected.classes.tolist()]
        masks = [decode(json.loads(text)) for text in batch["masks"][row]]
        assert np.array_equal(np.array(masks).reshape(expected.masks.shape), expected.masks)


def test_embedding_has_its_shape(model: SAM, frame: np.ndarray) -> None:
    rows = {"item": ["a"], "image": [frame]}
    whole, pooled = Embedder(pooled=False)(rows), Embedder()(rows)
    embedding = whole["embedding"][0].reshape(whole["shape"][0])
    assert embedding.ndim == 3
    assert pooled["shape"] == [[embedding.shape[0]]]
    assert np.allclose(pooled["embedding"][0], embedding.mean(axis=(1, 2)))


def test_video_is_one_row(model: SAM, small_video: np.ndarray) -> None:
    rows = {"item": ["v"], "image": [small_video], "points": [[[20, 25]]], "object_ids": [[7]]}
    batch = VideoTracker(prompts="columns")(rows)
    expected = [one for one in model.track(small_video, points=[[20, 25]], object_ids=[7]) if one.masks.data.any()]
    assert batch["error"] == [""]
    assert batch["num_frames"] == [10]
    assert batch["frames"][0] == [one.frame_idx for one in expected]
    assert set(batch["ids"][0]) == {7}
    for text, results in zip(batch["masks"][0], expected, strict=True):
        assert np.array_equal(decode(json.loads(text)), results.masks.data[0])


def test_stages_are_small_pickles_that_are_equal() -> None:
    for stage in (Segmenter("m.pt"), Embedder(), VideoTracker(chunks=ChunkOptions(50)), Annotator()):
        data = pickle.dumps(stage)
        assert pickle.loads(data) == stage
        assert len(data) < 2000


def test_a_model_is_opened_once_in_a_process(builtin_file: Path) -> None:
    first, again = (pickle.loads(pickle.dumps(Segmenter(str(builtin_file)))) for _ in range(2))
    assert first.open_model() is again.open_model()
    opened = []
    for _ in range(2):
        open_once(("test", "once"), lambda: opened.append(1))
    assert opened == [1]


@pytest.mark.parametrize("options", [{"prompts": "points"}, {"everything": "thick"}])
def test_wrong_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="choose"):
        Segmenter(**options)
    with pytest.raises(InputError, match="choose"):
        VideoTracker(**options)
