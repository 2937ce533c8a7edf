"""Made-up sequences of DAVIS, and a tracker that knows the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import synthetic_truth
from helpers.synthetic_truth import store_video
from masklet import SAM
from masklet.cli.main import run
from masklet.errors import InputError, MaskletWarning, SourceError
from masklet.evaluate import PresenceAccuracy, evaluate_sequence, find_davis_sequences, vos_report
from masklet.prompts import ObjectPrompt
from masklet.results import Results

DAVIS = Path(__file__).parents[3] / "shared" / "data" / "davis"
HEIGHT, WIDTH, FRAMES = 60, 80, 5


def two_squares() -> np.ndarray:
    """Label maps (T, H, W) of objects 1 and 2, which move down by 2 a frame."""
    labels = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for t in range(FRAMES):
        labels[t, 10 + 2 * t : 30 + 2 * t, 5:25] = 1
        labels[t, 20 + 2 * t : 30 + 2 * t, 45:65] = 2
    return labels


def store(root: Path, name: str, labels: np.ndarray, *, palette: bool = True) -> None:
    """A sequence of DAVIS: every frame is annotated, and 480p lies between."""
    store_video(root, "480p/" + name, labels, annotated=range(len(labels)), palette=palette)


class Oracle(synthetic_truth.Oracle):
    """Answers with the truth of `labels`, moved to the right by some pixels; objects are known by their ids."""

    def __init__(self, labels: np.ndarray, shift: int = 0) -> None:
        super().__init__(np.zeros((0, *labels.shape[1:]), bool), labels, shift=shift)

    def session(self, source: Any, *, options: object = None) -> synthetic_truth.Oracle:
        assert [Path(path).stem for path in source] == [f"{t:05d}" for t in range(len(self.videos))]
        return super().session(source)

    def label(self, number: int, frame: int, prompt: ObjectPrompt) -> int:
        assert frame == 0
        return number


def prompt_of(tracker: Oracle, number: int) -> ObjectPrompt:
    """The prompt that the tracker got for an object."""
    return tracker.prompts[number][1]


def test_the_truth_scores_one(tmp_path: Path) -> None:
    store(tmp_path, "squares", two_squares())
    steps: list[None] = []
    row = evaluate_sequence(
        Oracle(two_squares()), find_davis_sequences(tmp_path)[0], on_progress=lambda: steps.append(None)
    )
    assert (row.name, row.j, row.f, row.frames) == ("squares", {1: 1, 2: 1}, {1: 1, 2: 1}, FRAMES)
    assert len(steps) == FRAMES
    assert row.seconds > 0


def test_two_objects_that_are_moved_score_what_a_hand_counts(tmp_path: Path) -> None:
    """At 60 x 80 the boundaries may lie 1 pixel apart. 20 x 20 by 5: J 15/25; the ring of 80 keeps 36 + 2.

    20 wide and 10 high by 5: J 15/25; the ring of 60 keeps 17 above, 17 below, and 1 at each end of the side.
    """
    store(tmp_path, "squares", two_squares())
    row = evaluate_sequence(Oracle(two_squares(), shift=5), find_davis_sequences(tmp_path)[0])
    assert row.j == pytest.approx({1: 0.6, 2: 0.6})
    assert row.f == pytest.approx({1: 36 / 80, 2: 36 / 60})
    figures = row.metrics
    assert figures.f == pytest.approx((36 / 80 + 36 / 60) / 2)
    assert figures.jf == pytest.approx((figures.j + figures.f) / 2)
    assert figures.objects == 2


def test_the_first_and_the_last_frame_are_not_measured(tmp_path: Path) -> None:
    store(tmp_path, "squares", two_squares())
    wrong = two_squares()
    wrong[[0, -1]] = 0
    assert evaluate_sequence(Oracle(wrong), find_davis_sequences(tmp_path)[0]).j == {1: 1, 2: 1}
    wrong[1] = 0
    assert evaluate_sequence(Oracle(wrong), find_davis_sequences(tmp_path)[0]).j == pytest.approx({1: 2 / 3, 2: 2 / 3})


def test_an_object_that_leaves_and_has_no_mask_from_then_on_scores_one(tmp_path: Path) -> None:
    labels = two_squares()
    labels[2:][labels[2:] == 2] = 0
    store(tmp_path, "leaves", labels)
    assert evaluate_sequence(Oracle(labels), find_davis_sequences(tmp_path)[0]).f == {1: 1, 2: 1}
    row = evaluate_sequence(Oracle(two_squares()), find_davis_sequences(tmp_path)[0])
    assert row.j == pytest.approx({1: 1, 2: 1 / 3})
    assert row.presence == PresenceAccuracy(
        frames=6, visible=4, correct=4
    )  # three frames of two, and always "in sight"
    assert (row.presence.accuracy, row.presence.majority_baseline) == (4 / 6, 4 / 6)


class Honest(Oracle):
    """Says of what has no mask that it is out of sight."""

    def results(self, t: int, prompts: dict[int, tuple[int, ObjectPrompt]]) -> Results:
        found = super().results(t, prompts)
        assert found.masks is not None
        return replace(found, object_scores=np.where(found.masks.data.any((1, 2)), 3, -3).astype(np.float32))


def test_an_object_out_of_sight_with_a_negative_score_counts_as_correct(tmp_path: Path) -> None:
    labels = two_squares()
    labels[2:][labels[2:] == 2] = 0
    store(tmp_path, "leaves", labels)
    assert evaluate_sequence(Honest(labels), find_davis_sequences(tmp_path)[0]).presence == PresenceAccuracy(6, 4, 6)
    assert evaluate_sequence(Honest(two_squares()), find_davis_sequences(tmp_path)[0]).presence == PresenceAccuracy(
        6, 4, 4
    )


def test_black_and_white_is_one_object_and_255_beside_ids_is_judged_by_nobody(tmp_path: Path) -> None:
    sole = (two_squares() == 1).astype(np.uint8)
    store(tmp_path, "sole", sole * 255, palette=False)
    tracker = Oracle(sole)
    assert evaluate_sequence(tracker, find_davis_sequences(tmp_path)[0]).j == {1: 1}
    assert prompt_of(tracker, 1).mask is not None
    np.testing.assert_array_equal(prompt_of(tracker, 1).mask.mask, sole[0] == 1)

    unsure = two_squares()
    unsure[:, :, 24:35] = 255  # the last column of object 1, and where it is moved to
    store(tmp_path, "unsure", unsure)
    row = evaluate_sequence(Oracle(two_squares(), shift=5), find_davis_sequences(tmp_path)[1])
    assert row.j == pytest.approx({1: 14 / 19, 2: 0.6})


def test_black_and_white_may_be_one_bit_or_three_channels(tmp_path: Path) -> None:
    sole = (two_squares() == 1).astype(np.uint8)
    store(tmp_path, "sole", sole * 255, palette=False)
    folder = tmp_path / "Annotations" / "480p" / "sole"
    for name, mode in (("00000.png", "RGB"), ("00001.png", "1")):
        Image.open(folder / name).convert(mode).save(folder / name)
    assert evaluate_sequence(Oracle(sole), find_davis_sequences(tmp_path)[0]).j == {1: 1}


def test_prompts_are_the_mask_its_tight_box_or_a_click_in_its_middle(tmp_path: Path) -> None:
    store(tmp_path, "squares", two_squares())
    video = find_davis_sequences(tmp_path)[0]
    tracker = Oracle(two_squares())
    evaluate_sequence(tracker, video, "box")
    box = prompt_of(tracker, 2).box
    assert box is not None
    assert (box.x1, box.y1, box.x2, box.y2) == (45, 20, 65, 30)
    evaluate_sequence(tracker, video, "click")
    points = prompt_of(tracker, 1).points
    assert points is not None
    assert points.labels.tolist() == [1]
    assert points.xy.tolist() == [[14, 19]]
    with pytest.raises(InputError, match=r"'scribble'.*'mask', 'box', 'click'"):
        evaluate_sequence(tracker, video, "scribble")


def test_the_report_counts_every_object_the_same(tmp_path: Path) -> None:
    store(tmp_path, "a", two_squares())
    sole = (two_squares() == 1).astype(np.uint8)
    store(tmp_path, "b", sole * 255, palette=False)
    videos = find_davis_sequences(tmp_path)
    report = vos_report(
        [evaluate_sequence(Oracle(two_squares(), 5), videos[0]), evaluate_sequence(Oracle(sole), videos[1])]
    )
    assert report.total.objects == 3
    assert report.total.j == pytest.approx((0.6 + 0.6 + 1) / 3)
    assert report.per_sequence["a"].j == pytest.approx(0.6)
    assert report.total.fps == pytest.approx(2 * FRAMES / sum(row.seconds for row in report.results))


# folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name in ("ant", "bee", "cat"):
        store(tmp_path, name, two_squares())
    for year, text in (
        ("2016", "/JPEGImages/480p/bee/00000.jpg /Annotations/480p/bee/00000.png \n" * 2),
        ("2017", "cat\nant\n"),
    ):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
        (tmp_path / "ImageSets" / year / "val.txt").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("subset", "exclude", "expected"),
    [
        (None, [], ["ant", "bee", "cat"]),
        (None, ["bee"], ["ant", "cat"]),
        ("2016/val", [], ["bee"]),
        ("2017/val", [], ["ant", "cat"]),
        ("2017/val", ["cat", "bee"], ["ant"]),
    ],
)
def test_lists_choose_sequences(three: Path, subset: str | None, exclude: list[str], expected: list[str]) -> None:
    assert [video.name for video in find_davis_sequences(three, subset, exclude)] == expected


@pytest.mark.parametrize(
    ("subset", "exclude", "words"),
    [
        ("val", [], "2 lists 'val'; its lists are 2016/val, 2017/val"),
        ("test", [], "0 lists 'test'"),
        (None, ["dog"], "no sequence 'dog'; it has ant, bee, cat"),
        ("2016/val", ["bee"], "no sequence .* is left"),
    ],
)
def test_a_choice_of_nothing_is_named(three: Path, subset: str | None, exclude: list[str], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        find_davis_sequences(three, subset, exclude)


def test_a_folder_without_videos_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"JPEGImages/480p/NAME/\*\.jpg"):
        find_davis_sequences(tmp_path)


def no_annotation(root: Path) -> None:
    (root / "Annotations" / "480p" / "clip" / "00003.png").unlink()


def few_images(root: Path) -> None:
    for path in sorted((root / "JPEGImages" / "480p" / "clip").iterdir())[2:]:
        path.unlink()


def other_annotation(root: Path) -> None:
    Image.new("P", (40, 60)).save(root / "Annotations" / "480p" / "clip" / "00002.png")


def other_images(root: Path) -> None:
    for path in (root / "Annotations" / "480p" / "clip").iterdir():
        Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(path)


def empty_first(root: Path) -> None:
    Image.new("P", (WIDTH, HEIGHT)).save(root / "Annotations" / "480p" / "clip" / "00000.png")


def cut_annotation(root: Path) -> None:
    path = root / "Annotations" / "480p" / "clip" / "00001.png"
    path.write_bytes(path.read_bytes()[:60])


def colors(root: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), (128, 0, 0)).save(root / "Annotations" / "480p" / "clip" / "00001.png")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (no_annotation, r"00003\.png is missing \(1 of the 5 annotations of clip\)"),
        (few_images, r"clip has 2 images .* 3 are needed"),
        (other_annotation, r"00002\.png is 40 x 60 and 00000\.png is 80 x 60"),
        (other_images, r"00000\.jpg is 80 x 60 and .*00000\.png is 40 x 30"),
        (empty_first, r"00000\.png has no object"),
        (cut_annotation, r"00001\.png cannot be read as an image"),
        (colors, r"00001\.png is an image of mode RGB, not of labels"),
    ],
)
def test_what_is_wrong_with_a_sequence_is_named(tmp_path: Path, harm: Callable[[Path], None], words: str) -> None:
    store(tmp_path, "clip", two_squares())
    harm(tmp_path)
    with pytest.raises(SourceError, match=words):
        evaluate_sequence(Oracle(two_squares()), find_davis_sequences(tmp_path)[0])


# the tracker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "arguments"),
    [
        ("mask", {"mask": two_squares()[0] == 1}),
        ("box", {"box": [5, 10, 25, 30]}),
        ("click", {"points": [14, 19]}),
    ],
)
def test_a_tracked_mask_scores_one_against_itself(
    tmp_path: Path, tracker: SAM, prompt: str, arguments: dict[str, Any]
) -> None:
    """What a session shows is stored as the truth behind the first frame, and found again."""
    store(tmp_path, "square", (two_squares() == 1).astype(np.uint8))
    video = find_davis_sequences(tmp_path)[0]
    assert evaluate_sequence(tracker, video, prompt).j[1] < 1
    with tracker.session(list(video.frame_paths)) as session:
        session.add_prompt(1, frame_idx=0, **arguments)
        shown = [results.masks.data[0] for results in session.propagate()]
    assert all(mask.any() for mask in shown[1:-1])
    for path, mask in list(zip(video.mask_paths, shown, strict=True))[1:]:
        Image.fromarray(mask.astype(np.uint8)).save(path)
    row = evaluate_sequence(tracker, video, prompt)
    assert (row.j, row.f) == ({1: 1}, {1: 1})


def test_a_damaged_image_is_no_figure(tmp_path: Path, tracker: SAM) -> None:
    store(tmp_path, "squares", two_squares())
    video = find_davis_sequences(tmp_path)[0]
    video.frame_paths[2].write_bytes(b"not an image")
    with pytest.warns(MaskletWarning, match="frame 2"), pytest.raises(SourceError, match=r"00002\.jpg is damaged"):
        evaluate_sequence(tracker, video)


def test_the_command_prints_a_line_a_sequence_and_writes_the_figures(
    three: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr("masklet.SAM", lambda model, **_: loaded.append(model) or tracker)
    words = ["--model", "mine.pt", "--prompt", "box", "--exclude", "ant", "--limit", "1"]
    with pytest.raises(SystemExit) as left:
        run(["eval", "vos", "--root", str(three), "--report", str(three / "out.json"), *words])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    lines = output.out.splitlines()
    assert [line[:22].strip() for line in lines] == ["", "bee", "all objects"]
    assert lines[0].split() == ["objects", "frames", "J", "F", "J&F", "fps"]
    assert loaded == ["mine.pt"]
    stored = json.loads((three / "out.json").read_text())
    assert (stored["protocol"], stored["model"], stored["options"]["prompt"]) == ("davis", "mine.pt", "box")
    assert lines[1].split()[1:6] == ["2", "5", *(f"{stored['total'][name]:.3f}" for name in ("j", "f", "jf"))]
    assert set(stored["rows"][0]["j"]) == {"1", "2"}


def test_the_command_keeps_the_figures_of_what_came_before_a_fault(
    three: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda model, **_: tracker)
    Image.new("P", (WIDTH, HEIGHT)).save(three / "Annotations" / "480p" / "bee" / "00000.png")
    with pytest.raises(SystemExit) as left:
        run(["eval", "vos", "--root", str(three), "--report", str(three / "out.json")])
    output = capsys.readouterr()
    assert left.value.code == 2
    assert "has no object" in output.err
    assert "\nant " in output.out
    assert list(json.loads((three / "out.json").read_text())["per_sequence"]) == ["ant"]


@pytest.mark.skipif(not DAVIS.is_dir(), reason="../shared/data/davis is not here")
def test_a_sequence_of_davis_scores_one_against_itself_and_less_when_moved() -> None:
    videos = {video.name: video for video in find_davis_sequences(DAVIS)}
    assert set(videos) == {"lucia", "motorbike", "rollerblade"}
    video = videos["rollerblade"]
    labels = np.stack([np.asarray(Image.open(path)) > 0 for path in video.mask_paths]).astype(np.uint8)
    assert labels.shape == (35, 480, 854)
    assert evaluate_sequence(Oracle(labels), video).metrics.jf == 1
    moved = evaluate_sequence(Oracle(labels, shift=12), video).metrics
    assert 0.3 < moved.j < 0.9
    assert 0.1 < moved.f < 0.8
