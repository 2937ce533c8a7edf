"""Folders of predictions whose scores are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import png
from helpers.predictions import (
    FRAMES,
    named_as_lvos,
    store_davis,
    store_lvos,
    store_maps,
    store_meta,
    store_objects,
    two,
    worse,
)
from masklet.cli.main import run
from masklet.errors import InputError, SourceError
from masklet.evaluate.benchmark_scoring import BenchmarkOptions, score_predictions
from masklet.evaluate.metrics import boundary_f_score, davis_statistics, region_similarity

HALVES = np.zeros((4, 20, 20), np.uint8)
HALVES[:, :10] = 1
HALVES[:, 10:] = 2


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A truth of two sequences of two objects."""
    store_davis(tmp_path / "DAVIS")
    return tmp_path / "DAVIS"


def predicted(davis: Path, how: str) -> Path:
    """Predictions beside it."""
    folder = davis.parent / how
    for n, name in enumerate(("ant", "bee")):
        store_maps(folder / name, worse(two(n), how))
    return folder


def test_mean_recall_and_decay_counted_by_hand() -> None:
    """Of nine frames the first quarter is the first three, the last is the last three: they share their ends."""
    frames = [1.0, 0.9, 0.8, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1]
    found = davis_statistics(frames)
    assert found.mean == pytest.approx(sum(frames) / 9)
    assert found.recall == pytest.approx(3 / 9)  # a half is not above a half
    assert found.decay == pytest.approx(0.9 - 0.2)
    assert davis_statistics([0.25]) == (0.25, 0, 0)
    assert all(math.isnan(value) for value in davis_statistics([]))


def test_the_decay_of_a_long_video_is_that_of_its_ends() -> None:
    assert davis_statistics([1.0] * 500 + [0.0] * 500).decay == 1


def test_a_perfect_prediction(davis: Path) -> None:
    found = score_predictions("davis17", predicted(davis, "perfect"), davis, BenchmarkOptions("val"))
    assert found.metrics == {
        "J&F": 1, "J mean": 1, "J recall": 1, "J decay": 0, "F mean": 1, "F recall": 1, "F decay": 0,
    }  # fmt: skip
    assert [(one.sequence, one.id, one.frames) for one in found.objects] == [
        ("ant", "1", FRAMES - 2), ("ant", "2", FRAMES - 2), ("bee", "1", FRAMES - 2), ("bee", "2", FRAMES - 2),
    ]  # fmt: skip


def test_an_empty_prediction_is_right_where_the_object_is_out_of_sight(davis: Path) -> None:
    found = score_predictions("davis17", predicted(davis, "empty"), davis)
    assert [one.j.mean for one in found.objects] == [0, 2 / (FRAMES - 2)] * 2
    assert found.metrics["J&F"] == pytest.approx(1 / (FRAMES - 2))


def test_a_shuffled_prediction_shows_each_object_in_place_of_the_other(davis: Path) -> None:
    found = score_predictions("davis17", predicted(davis, "shuffled"), davis)
    maps = two(0)[1:-1]
    expected = np.mean([region_similarity(m == 2, m == 1) for m in maps])
    assert found.objects[0].j.mean == pytest.approx(expected)
    assert found.metrics["J mean"] < 0.1


def test_a_shifted_prediction_has_the_mean_of_its_frames(davis: Path) -> None:
    found = score_predictions("davis17", predicted(davis, "shifted"), davis)
    maps = two(1)[1:-1]
    moved = np.roll(maps, 5, axis=2)
    assert found.objects[2].j.mean == pytest.approx(
        np.mean([region_similarity(a == 1, b == 1) for a, b in zip(moved, maps)])  # noqa: B905
    )
    assert found.objects[2].f.mean == pytest.approx(
        np.mean([boundary_f_score(a == 1, b == 1) for a, b in zip(moved, maps)])  # noqa: B905
    )
    assert 0.3 < found.metrics["J&F"] < 0.9


def test_the_first_and_the_last_frame_do_not_count(davis: Path) -> None:
    folder = predicted(davis, "perfect")
    for name in ("ant", "bee"):
        for t in (0, FRAMES - 1):
            (folder / name / f"{t:05d}.png").unlink()
    assert score_predictions("davis17", folder, davis).metrics["J&F"] == 1


def test_workers_change_nothing(davis: Path) -> None:
    folder = predicted(davis, "ragged")
    assert score_predictions("davis17", folder, davis, BenchmarkOptions(workers=2)) == score_predictions(
        "davis17", folder, davis
    )


def test_black_and_white_is_one_object(tmp_path: Path) -> None:
    """DAVIS 2016; a prediction of ones is as good as one of 255."""
    maps = (HALVES == 1).astype(np.uint8)
    store_maps(tmp_path / "truth" / "a", maps * 255)
    for value in (1, 255):
        store_maps(tmp_path / f"by{value}" / "a", maps * np.uint8(value))
        found = score_predictions("davis17", tmp_path / f"by{value}", tmp_path / "truth")
        assert found.metrics["J&F"] == 1
        assert len(found.objects) == 1


def test_of_davis_2016_all_that_is_annotated_is_one_object(davis: Path) -> None:
    """Shuffled ids are as good as the right ones, and white too; places of 255 beside ids are of no object."""
    for n, name in enumerate(("ant", "bee")):
        store_maps(davis.parent / "white" / name, np.minimum(two(n), 1) * np.uint8(255))
        place = davis / "Annotations" / "480p" / name / "00004.png"
        labels = np.array(Image.open(place))
        labels[:4, :4] = 255
        png(place, labels)
    for folder in (predicted(davis, "shuffled"), davis.parent / "white"):
        found = score_predictions("davis16", folder, davis, BenchmarkOptions("val"))
        assert [(one.sequence, one.id, one.frames) for one in found.objects] == [
            ("ant", "all", FRAMES - 2), ("bee", "all", FRAMES - 2),
        ]  # fmt: skip
        assert (found.metrics["J mean"], found.metrics["F recall"]) == (1, 1)
    assert score_predictions("davis16", predicted(davis, "shifted"), davis).metrics["J&F"] < 1
    assert score_predictions("davis17", predicted(davis, "shuffled"), davis).metrics["J&F"] < 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "ant" / "00003.png").unlink(), r"00003\.png is missing"),
        (lambda folder: png(folder / "ant" / "00003.png", np.full((60, 80), 3, np.uint8)), "id 3.*1 to 2"),
        (lambda folder: png(folder / "ant" / "00003.png", np.zeros((30, 40), np.uint8)), "40 x 30|30 x 40"),
        (lambda folder: (folder / "ant").rename(folder / "eel"), "ant is missing"),
        (lambda folder: (folder / "ant" / "00003.png").write_bytes(b"nothing"), r"00003\.png cannot be read"),
    ],
)
def test_what_cannot_be_scored_is_named(davis: Path, spoil: object, message: str) -> None:
    folder = predicted(davis, "perfect")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(SourceError, match=message):
        score_predictions("davis17", folder, davis)


def test_allow_missing_scores_the_predictions_that_are_there(davis: Path) -> None:
    folder = predicted(davis, "perfect")
    (folder / "ant").rename(folder / "eel")
    found = score_predictions("davis17", folder, davis, BenchmarkOptions(allow_missing=True))
    assert {one.sequence for one in found.objects} == {"bee"}


def test_mistaken_questions(davis: Path) -> None:
    with pytest.raises(InputError, match="'davis18' is unknown"):
        score_predictions("davis18", davis, davis)
    with pytest.raises(InputError, match="seen_list has no meaning"):
        score_predictions("davis17", davis, davis, BenchmarkOptions(seen_list=davis))
    with pytest.raises(SourceError, match="has no ground truth"):
        score_predictions("davis17", davis, davis.parent / "nowhere")
    with pytest.raises(SourceError, match="no list 'test-dev'"):
        score_predictions("davis17", davis, davis, BenchmarkOptions("test-dev"))


@pytest.mark.parametrize(("how", "expected"), [("perfect", (1, 1)), ("empty", (0, 2 / 10))])
def test_sa_v_has_a_folder_for_each_object(tmp_path: Path, how: str, expected: tuple[float, float]) -> None:
    store_objects(tmp_path / "sav_val" / "Annotations_6fps" / "v", two())
    store_objects(tmp_path / "shown" / "v", worse(two(), how))
    found = score_predictions("sav", tmp_path / "shown", tmp_path / "sav_val")
    assert [one.id for one in found.objects] == ["000", "001"]
    assert [one.j.mean for one in found.objects] == pytest.approx(expected)
    assert set(found.metrics) == {"J&F", "J", "F"}


def test_sa_v_measures_an_object_from_where_either_shows_it(tmp_path: Path) -> None:
    """Out of sight at first on both sides: not counted; shown too early: counted as wrong."""
    truth = HALVES[:, :, :].repeat(2, axis=0)  # 8 frames
    truth[:4][truth[:4] == 2] = 0
    early = truth.copy()
    early[3, 10:] = 2
    store_objects(tmp_path / "truth" / "v", truth)
    store_objects(tmp_path / "good" / "v", truth)
    store_objects(tmp_path / "early" / "v", early)
    assert [one.frames for one in score_predictions("sav", tmp_path / "good", tmp_path / "truth").objects] == [6, 3]
    late = score_predictions("sav", tmp_path / "early", tmp_path / "truth").objects[1]
    assert (late.frames, late.j.mean) == (4, 0.75)
    every = score_predictions("sav", tmp_path / "good", tmp_path / "truth", BenchmarkOptions(include_first_last=True))
    assert [one.frames for one in every.objects] == [8, 4]


def test_sa_v_leaves_out_whom_the_truth_does_not_show_and_refuses_two_in_one_file(tmp_path: Path) -> None:
    truth = HALVES.copy()
    truth[:, 10:] = 0
    truth[0, 10:] = 2
    store_objects(tmp_path / "truth" / "v", truth)
    store_objects(tmp_path / "shown" / "v", truth)
    found = score_predictions("sav", tmp_path / "shown", tmp_path / "truth")
    assert found.skipped_objects == ("v/001",)
    assert len(found.objects) == 1
    png(tmp_path / "shown" / "v" / "000" / "00001.png", HALVES[1])
    with pytest.raises(SourceError, match="has one object"):
        score_predictions("sav", tmp_path / "shown", tmp_path / "truth")


def ytvos(root: Path) -> Path:
    """Two videos; object 2 of `a` comes on frame 10; `b` is of a category that was not trained on."""
    labels = np.repeat(HALVES[:1], 4, axis=0)
    labels[:2][labels[:2] == 2] = 0
    for n, maps in enumerate(labels):
        png(root / "valid" / "Annotations" / "a" / f"{5 * n:05d}.png", maps)
        png(root / "valid" / "Annotations" / "b" / f"{5 * n:05d}.png", (labels[n] == 1).astype(np.uint8))
    store_meta(root / "valid", {"a": {"1": "ape", "2": "zebra"}, "b": {"1": "gnu"}})
    return store_meta(root / "train", {"z": {"1": "ape", "2": "zebra"}})


def test_youtube_vos_is_the_mean_of_four(tmp_path: Path) -> None:
    seen = ytvos(tmp_path)
    truth = tmp_path / "valid" / "Annotations"
    for file in truth.glob("*/*.png"):
        labels = np.asarray(Image.open(file))
        shown = labels if file.parent.name == "a" else np.zeros_like(labels)
        png(tmp_path / "shown" / "Annotations" / file.parent.name / file.name, shown)
    found = score_predictions("ytvos", tmp_path / "shown", tmp_path / "valid", BenchmarkOptions(seen_list=seen))
    assert found.metrics == {"overall": 0.5, "J seen": 1, "F seen": 1, "J unseen": 0, "F unseen": 0}
    assert [(one.sequence, one.id, one.frames, one.seen) for one in found.objects] == [
        ("a", "1", 3, True),
        ("a", "2", 1, True),  # from the frame after the one on which it comes
        ("b", "1", 3, False),
    ]
    alone = score_predictions("ytvos", tmp_path / "shown", tmp_path / "valid")
    assert alone.metrics == pytest.approx({"overall": 2 / 3, "J all": 2 / 3, "F all": 2 / 3})


def test_seen_categories_may_be_a_text_and_must_be_readable(tmp_path: Path) -> None:
    meta = ytvos(tmp_path)
    (tmp_path / "seen.txt").write_text("ape\nzebra\n")
    valid = tmp_path / "valid"
    by_meta = score_predictions("ytvos", valid, valid, BenchmarkOptions(seen_list=meta))
    assert score_predictions("ytvos", valid, valid, BenchmarkOptions(seen_list=tmp_path / "seen.txt")) == by_meta
    meta.write_text("{}")
    with pytest.raises(SourceError, match=r"meta\.json"):
        score_predictions("ytvos", valid, valid, BenchmarkOptions(seen_list=meta))


def lvos(root: Path) -> Path:
    """Predictions that miss all of video b, which is unseen."""
    for name, maps in store_lvos(root / "valid").items():
        named_as_lvos(root / "shown" / name, np.zeros_like(maps) if name == "b" else maps)
    return root / "shown"


def test_lvos_is_the_mean_of_seen_and_unseen_videos(tmp_path: Path) -> None:
    """Object 1 is measured but on its first and last frame, object 2 from 00000021 to 00000046, but that."""
    found = score_predictions("lvos", lvos(tmp_path), tmp_path / "valid")
    assert [(one.sequence, one.id, one.frames, one.seen) for one in found.objects if one.sequence != "c"] == [
        ("a", "1", FRAMES - 2, True),
        ("a", "2", FRAMES - 7, True),
        ("b", "1", FRAMES - 2, False),
        ("b", "2", FRAMES - 7, False),
    ]
    assert [one.frame for one in found.objects[1].per_frame] == [f"{n:08d}" for n in range(21, 46, 5)]
    hidden = 2 / (FRAMES - 7)  # object 2 is out of sight on two of its frames, and so it is shown
    assert found.metrics["J unseen"] == pytest.approx(hidden / 2)
    assert found.metrics["V unseen"] == pytest.approx(math.sqrt(round(hidden * (1 - hidden), 4)) / 2)
    assert (found.metrics["J seen"], found.metrics["V seen"]) == (1, 0)
    assert found.metrics["J&F"] == pytest.approx((1 + hidden / 2) / 2)


def test_lvos_without_its_lists_measures_each_object_to_the_end(tmp_path: Path) -> None:
    shown = lvos(tmp_path)
    (tmp_path / "other.txt").write_text("a\nc\n")
    swapped = score_predictions("lvos", shown, tmp_path / "valid", BenchmarkOptions(unseen_list=tmp_path / "other.txt"))
    assert swapped.metrics["J unseen"] == 1
    for name in ("unseen_videos.txt", "valid_meta.json"):
        (tmp_path / "valid" / name).unlink()
    found = score_predictions("lvos", shown, tmp_path / "valid")
    assert set(found.metrics) == {"J&F", "J", "F", "V"}
    assert [one.frames for one in found.objects] == [FRAMES - 2, FRAMES - 5] * 3
    assert found.metrics["J"] == pytest.approx((4 + 2 / (FRAMES - 5)) / 6)


def test_a_list_of_lvos_that_does_not_fit_is_named(tmp_path: Path) -> None:
    shown, meta = lvos(tmp_path), tmp_path / "valid" / "valid_meta.json"
    (tmp_path / "valid" / "Annotations" / "a" / "00000006.png").unlink()
    with pytest.raises(SourceError, match=r"00000006\.png is missing; valid_meta"):
        score_predictions("lvos", shown, tmp_path / "valid")
    meta.write_text('{"videos": {}}')
    with pytest.raises(SourceError, match="no range of frames of each object of a"):
        score_predictions("lvos", shown, tmp_path / "valid")
    meta.unlink()
    with pytest.raises(SourceError, match=r"none\.txt"):
        score_predictions("lvos", shown, tmp_path / "valid", BenchmarkOptions(unseen_list=tmp_path / "none.txt"))


def test_the_command_says_and_writes_the_score(davis: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, report = predicted(davis, "ragged"), davis.parent / "score.json"
    words = [str(folder), str(davis), "--benchmark", "davis17", "--split", "val", "--report", str(report)]
    with pytest.raises(SystemExit) as left:
        run(["eval", "score", *words])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    stored = json.loads(report.read_text())
    assert "4 objects in 2 sequences" in output.out
    for name, value in stored["metrics"].items():
        assert f"{name:<12}{value:8.4f}" in output.out
    assert stored["objects"][0]["j"][0] == pytest.approx(score_predictions("davis17", folder, davis).objects[0].j.mean)
