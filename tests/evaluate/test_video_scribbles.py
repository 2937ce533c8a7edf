"""DAVIS interactive on videos and answers that were made, by a clock that was set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.dataset_files import text
from helpers.predictions import FRAMES, HEIGHT, WIDTH, store_davis, two, worse
from helpers.scribbles import Recorded, line, store_scribbles, ticking
from helpers.synthetic_truth import late, store_video
from masklet import SAM
from masklet.errors import InputError, SourceError
from masklet.evaluate import boundary_f_score, region_similarity
from masklet.evaluate.davis_sequences import find_davis_sequences
from masklet.evaluate.scribble_report import CurvePoint, scribbles_report
from masklet.evaluate.scribble_robot import choose_correction_frame, choose_first_frame, draw_scribbles, read_scribbles
from masklet.evaluate.video_scribbles import (
    Interaction,
    ScribbleOptions,
    ScribbleResult,
    ScribbleSample,
    evaluate_scribbles,
    sample_stroke_points,
    scribble_samples,
)


def sample_of(root: Path, **how: Any) -> ScribbleSample:
    """The robot's of the first of two videos."""
    store_davis(root)
    [sample, _] = scribble_samples(root, find_davis_sequences(root), **how)
    return sample


# figures -----------------------------------------------------------------------------------------------------------


def row(*turns: tuple[float, float, float], objects: int = 1, name: str = "a", late: bool = False) -> ScribbleResult:
    found = tuple(Interaction(0, 1, s, (j,) * objects, (f,) * objects) for s, j, f in turns)
    return ScribbleResult(name, 1, 10, objects, found, late)


def test_the_curve_its_area_and_its_height_by_hand() -> None:
    """0.4 after 20 s, 0.8 after 100 s, and so to 240 s."""
    options = ScribbleOptions(interactions=2, seconds_per_interaction=120)
    report = scribbles_report([row((20, 0.3, 0.5), (80, 0.7, 0.9))], options)
    assert [p.seconds for p in report.curve] == pytest.approx([0, 20, 100, 240])
    assert [p.jf for p in report.curve] == pytest.approx([0, 0.4, 0.8, 0.8])
    assert report.jf_at_60s == pytest.approx(0.6)
    assert report.j_at_60s == pytest.approx(0.5)
    assert report.auc == pytest.approx((20 * 0.2 + 80 * 0.6 + 140 * 0.8) / 240)
    assert list(report.to_dict()) == ["figures", "curve"]


def test_objects_count_the_same_and_times_are_means_over_samples() -> None:
    rows = [row((10, 1.0, 1.0), name="a"), row((40, 0.5, 0.5), objects=3, name="b")]
    report = scribbles_report(rows, ScribbleOptions(interactions=1))
    assert report.curve[1] == CurvePoint(25, 0.625, 0.625, 0.625)
    assert report.curve[-1].seconds == 30 * 2  # two objects a sample
    assert (report.sequences, report.samples, report.objects) == (2, 2, 4)


def test_interactions_that_were_not_reached_are_the_last_one_at_no_time() -> None:
    rows = [row((100, 0.4, 0.4), late=True), row((10, 0.6, 0.6), (30, 0.8, 0.8), name="b"), row(name="c", late=True)]
    report = scribbles_report(rows, ScribbleOptions(interactions=2))
    assert [p.seconds for p in report.curve] == pytest.approx([0, 110 / 3, 140 / 3, 60])
    assert [p.jf for p in report.curve] == pytest.approx([0, 1 / 3, 0.4, 0.4])
    assert report.jf_at_60s == pytest.approx(0.4)
    assert report.timed_out == 2
    with pytest.raises(SourceError, match="no sequence was scribbled on"):
        scribbles_report([])


# the robot ---------------------------------------------------------------------------------------------------------


def test_the_worst_frame_that_is_not_used_and_the_earliest_of_several() -> None:
    assert choose_correction_frame([0.5, 0.2, 0.2, 0.9], set()) == 1
    assert choose_correction_frame([0.5, 0.2, 0.2, 0.9], {1}) == 2
    assert choose_correction_frame([0.5, 0.2, 0.2, 0.9], {0, 1, 2, 3}) == 1


def test_it_begins_where_most_objects_are_shown_near_the_middle() -> None:
    assert choose_first_frame(late(), 2) == 3
    assert choose_first_frame(two(), 2) == 7  # one is out of sight on frames 5 and 6
    assert choose_first_frame(np.ones((5, 2, 2), np.uint8), 1) == 2


def test_strokes_lie_on_what_is_wrong_and_name_what_it_should_be() -> None:
    truth = np.zeros((60, 100), np.uint8)
    truth[10:50, 5:25] = 1
    truth[10:50, 60:80] = 2
    shown = truth.copy()
    shown[:, 60:80] = 1  # all of object 2, and some background, taken for object 1
    strokes = draw_scribbles(shown, truth, 2)
    assert [one.object_id for one in strokes] == [0, 0, 2]
    for one in strokes:
        xy = np.rint(one.path * (100, 60)).astype(int)
        assert one.path.shape == (1000, 2)
        assert (truth[xy[:, 1], xy[:, 0]] == one.object_id).all()
        assert (shown[xy[:, 1], xy[:, 0]] != one.object_id).all()
    assert np.hypot(*(np.ptp(strokes[2].path, axis=0) * (100, 60))) > 12  # of an object of 20 x 40 pixels
    assert draw_scribbles(truth, truth, 2) == ()


def test_places_that_nobody_judges_are_not_drawn_on_and_crumbs_neither() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 255
    shown = np.zeros_like(truth)
    shown[5:15, 5:30] = 1
    shown[30, 10:12] = 1
    assert draw_scribbles(shown, truth, 1) == ()


# an interaction ----------------------------------------------------------------------------------------------------


def test_points_lie_in_the_middle_of_equal_parts() -> None:
    assert sample_stroke_points(line(1, 0, 0.5, 1, 0.5), (11, 101), 4).tolist() == [[12, 5], [38, 5], [62, 5], [88, 5]]
    assert sample_stroke_points(line(1, 0.5, 0.5, 0.5, 0.5), (11, 101), 4).tolist() == [[50, 5]]
    assert sample_stroke_points(line(1, 1, 1, 1, 1), (11, 101), 1).tolist() == [[100, 10]]


def test_what_scribbles_say_of_each_object(tmp_path: Path) -> None:
    """Frame 2 has a stroke on either object, and the background; the first answer has object 1 where 2 is."""
    store_davis(tmp_path, ("ant",))
    strokes = [line(1, 0.1, 0.2, 0.3, 0.2), line(2, 0.5, 0.8, 0.9, 0.8), line(0, 0.5, 0.0, 0.52, 0.0)]
    store_scribbles(tmp_path, "ant", FRAMES, {2: strokes})
    [sample] = scribble_samples(tmp_path, find_davis_sequences(tmp_path))
    truth = two()
    wrong = truth.copy()
    wrong[wrong == 2] = 1
    model = Recorded([wrong, truth])
    options = ScribbleOptions(interactions=2, points_per_stroke=2, max_points=3)
    found = evaluate_scribbles(model, sample, options, clock=ticking(1))
    (one, frame, first, refine), (other, _, second, _), *more = model.prompts
    assert (one, other, frame, refine) == (1, 2, 2, False)
    on_1, on_2 = [(12, 12), (20, 12)], [(47, 47), (63, 47)]
    assert first == [(*xy, 1) for xy in on_1] + [(*on_2[0], 0), (*on_2[1], 0), (40, 0, 0)]
    assert second == [(*xy, 1) for xy in on_2] + [(*on_1[0], 0), (*on_1[1], 0), (40, 0, 0)]
    worst = found.interactions[1].frame_idx
    assert [(id, at, refine) for id, at, _, refine in more] == [(1, worst, True), (2, worst, True)]
    assert {label for *_, label in more[0][2]} == {0}  # object 1 gets background clicks only
    assert all(wrong[worst, y, x] == 1 for x, y, _ in more[0][2])
    assert (model.passes, model.open) == (2, 0)
    assert [turn.strokes for turn in found.interactions] == [3, 1]


def test_an_object_that_is_right_is_left_alone(tmp_path: Path) -> None:
    sample = sample_of(tmp_path)
    shown = two()
    shown[4][shown[4] == 2] = 0
    model = Recorded([shown, two()])
    found = evaluate_scribbles(model, sample, ScribbleOptions(interactions=2), clock=ticking(1))
    assert [(id, at) for id, at, *_ in model.prompts] == [(1, 7), (2, 7), (2, 4)]
    assert found.interactions[1].jf == 1


def test_figures_are_those_of_all_frames(tmp_path: Path) -> None:
    sample = sample_of(tmp_path)
    truth, shown = two(), worse(two(), "ragged")
    [turn] = evaluate_scribbles(
        Recorded([shown]), sample, ScribbleOptions(interactions=1), clock=ticking(2)
    ).interactions
    pairs = [[(shown[t] == id, truth[t] == id) for t in range(FRAMES)] for id in (1, 2)]
    assert turn.j == pytest.approx([np.mean([region_similarity(*pair) for pair in of]) for of in pairs])
    assert turn.f == pytest.approx([np.mean([boundary_f_score(*pair) for pair in of]) for of in pairs])
    assert turn.seconds == 2
    assert turn.jf == pytest.approx(np.mean([turn.j, turn.f]))


def test_each_frame_is_drawn_on_once_and_a_right_answer_gets_no_more_strokes(tmp_path: Path) -> None:
    sample = sample_of(tmp_path)
    model = Recorded([worse(two(), "shifted")])
    found = evaluate_scribbles(model, sample, clock=ticking(1))
    frames = [turn.frame_idx for turn in found.interactions]
    assert len(frames) == 8
    assert len(set(frames[1:])) == 7
    model = Recorded([two()])
    steps: list[int] = []
    found = evaluate_scribbles(model, sample, on_progress=lambda: steps.append(1), clock=ticking(1))
    assert [turn.jf for turn in found.interactions] == [1] * 8
    assert [turn.strokes for turn in found.interactions[1:]] == [0] * 7
    assert (model.passes, len(steps)) == (1, FRAMES)


@pytest.mark.parametrize(
    ("seconds", "counted"), [((60.0,), 8), ((60.5,), 7), ((480.0, 0.0), 8), ((480.1,), 0), ((400, 90), 1)]
)
def test_what_ends_late_does_not_count(tmp_path: Path, seconds: tuple[float, ...], counted: int) -> None:
    """Two objects have 480 seconds; what the robot takes is not in it."""
    sample = sample_of(tmp_path)
    model = Recorded([worse(two(), "shifted")])
    found = evaluate_scribbles(model, sample, clock=ticking(*seconds))
    assert (len(found.interactions), found.timed_out) == (counted, counted < 8)
    assert model.open == 0


def test_first_scribbles_of_persons_come_before_the_robot(tmp_path: Path) -> None:
    store_davis(tmp_path)
    for number in (1, 2, 3):
        store_scribbles(tmp_path, "bee", FRAMES, {number: [line(1, 0.2, 0.2, 0.3, 0.3)]}, number)
    videos = find_davis_sequences(tmp_path)
    assert [one.name for one in scribble_samples(tmp_path, videos)] == ["ant/robot", "bee/001", "bee/002", "bee/003"]
    assert [one.name for one in scribble_samples(tmp_path, videos, 1)] == ["ant/robot", "bee/001"]
    assert [one.name for one in scribble_samples(tmp_path, videos, first_scribbles="robot")] == [
        "ant/robot",
        "bee/robot",
    ]
    drawn = read_scribbles(tmp_path / "Scribbles" / "bee" / "002.json", "bee", FRAMES, 2)
    assert list(drawn) == [2]
    assert drawn[2][0].path.tolist() == pytest.approx(line(1, 0.2, 0.2, 0.3, 0.3).path)
    with pytest.raises(InputError, match="first_scribbles='nobody'"):
        scribble_samples(tmp_path, videos, first_scribbles="nobody")


def test_a_hand_that_slips_stays_on_the_image(tmp_path: Path) -> None:
    stroke = {"path": [[-0.01, 0.5], [0.5, 1.02]], "object_id": 1, "start_time": 0, "end_time": 9}
    file = text(tmp_path / "001.json", {"scribbles": [[stroke], []], "sequence": "ant", "annotated_frame": 0})
    assert read_scribbles(file, "ant", 2, 1)[0][0].path.tolist() == [[0, 0.5], [0.5, 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "cannot be read as scribbles"),
        ({"scribbles": [[]]}, "cannot be read as scribbles"),
        ({"scribbles": [[{"path": [0.5], "object_id": 1}]], "sequence": "ant"}, "cannot be read as scribbles"),
        ({"scribbles": [[]], "sequence": "ant"}, "'ant' with 1 frames; expected 'ant' with 2"),
        ({"scribbles": [[], []], "sequence": "bee"}, "'bee' with 2 frames"),
        ({"scribbles": [[{"path": [[0, 0]], "object_id": 3}], []], "sequence": "ant"}, "a stroke on object 3"),
        (
            {"scribbles": [[{"path": [[0, 0], [0, 1.5]], "object_id": 1}], []], "sequence": "ant"},
            "a point at .0.0, 1.5.",
        ),
    ],
)
def test_a_file_of_invalid_scribbles_is_named(tmp_path: Path, content: Any, message: str) -> None:
    file = text(tmp_path / "001.json", content)
    with pytest.raises(SourceError, match=message) as problem:
        read_scribbles(file, "ant", 2, 2)
    assert str(file) in str(problem.value)


@pytest.mark.parametrize(
    "wrong", [{"interactions": 0}, {"points_per_stroke": True}, {"max_points": 1.5}, {"seconds_per_interaction": 0.0}]
)
def test_an_invalid_option_is_named(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(InputError, match=f"{name}={value!r}"):
        ScribbleOptions(**wrong)


def test_a_sequence_without_objects_is_named(tmp_path: Path) -> None:
    store_video(tmp_path, "480p/ant", np.zeros((3, HEIGHT, WIDTH), np.uint8), annotated=range(3))
    [sample] = scribble_samples(tmp_path, find_davis_sequences(tmp_path))
    with pytest.raises(SourceError, match="no annotation of ant has an object"):
        evaluate_scribbles(Recorded([two()]), sample)


# the tracker -------------------------------------------------------------------------------------------------------


def test_the_tracker_is_prompted_and_propagates_both_ways(tmp_path: Path, memory_tracker: SAM) -> None:
    store_video(tmp_path, "480p/ant", late(), annotated=range(6))
    [sample] = scribble_samples(tmp_path, find_davis_sequences(tmp_path))
    answers: list[np.ndarray] = []
    options, clock = ScribbleOptions(interactions=2), ticking(1)
    found = evaluate_scribbles(
        memory_tracker, sample, options, None, clock, lambda _, shown: answers.append(shown.copy())
    )
    assert found.interactions[0].frame_idx == 3
    assert all(answer[t].any() for answer in answers for t in (0, 5))  # before the scribble, and behind it
    assert answers[0].shape == late().shape
    assert (answers[0] != answers[1]).any()
