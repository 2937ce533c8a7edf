"""Videos that are corrected by clicks, where what must come out is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.synthetic_truth import HEIGHT, WIDTH, late, store_video
from masklet import SAM
from masklet.cli.main import run
from masklet.datasets import open_dataset
from masklet.errors import InputError, SourceError
from masklet.evaluate import region_similarity
from masklet.evaluate.video_clicks import (
    InteractiveOptions,
    InteractiveResult,
    evaluate_interactive,
    interactive_report,
)
from masklet.prompts import ObjectPrompt
from masklet.results import Masks, Results
from masklet.video import Session, TrackOptions
from masklet.video.frame_cache import FeatureCache

ClicksByFrame = dict[int, list[tuple[int, int, int]]]
Answer = Callable[[int, ClicksByFrame], np.ndarray]


class Corrected:
    """A model whose mask on a frame is `answer(frame, clicks by frame)`; it is its own session."""

    def __init__(self, frames: int, answer: Answer) -> None:
        self.frames, self.answer = frames, answer
        self.video = SimpleNamespace(size=(HEIGHT, WIDTH))
        self.now: ClicksByFrame | None = None
        self.next = 0
        self.sessions: list[ClicksByFrame] = []
        """By object, all its clicks."""
        self.kept: list[str] = []
        self.passes: list[range] = []
        self.refined: list[bool] = []

    def session(self, source: Any, *, options: TrackOptions | None = None) -> Corrected:
        assert len(source) == self.frames
        assert options is not None
        self.kept.append(options.retain)
        return self

    def __enter__(self) -> Corrected:
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> Results:
        assert prompt.points is not None
        clicks = np.column_stack([prompt.points.xy, prompt.points.labels]).astype(int).tolist()
        if self.now is None:
            self.now = {}
            self.sessions.append(self.now)
        self.now.setdefault(frame_idx, []).extend(map(tuple, clicks))
        self.refined.append(prompt.refine)
        return self.shown(object_id, frame_idx)

    def cache_features(self, start: int, stop: int) -> None:
        self.stop = stop

    def remove_object(self, object_id: int) -> None:
        self.now = None

    def snapshot(self) -> tuple[ClicksByFrame | None, int]:
        return deepcopy(self.now), self.next

    def restore_snapshot(self, snapshot: tuple[ClicksByFrame, int]) -> None:
        self.now, self.next = deepcopy(snapshot)

    def propagate(self, stop: int | None = None) -> Iterator[Results]:
        assert self.now is not None
        self.next = min(self.now)
        return self.resume()

    def resume(self) -> Iterator[Results]:
        self.passes.append(range(self.next, self.stop))
        for t in self.passes[-1]:
            self.next = t + 1
            yield self.shown(1, t)

    def shown(self, id: int, t: int) -> Results:
        scores = np.ones(1, np.float32)
        return Results(
            np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            f"{t:05d}.jpg",
            Masks(self.answer(t, self.now or {})[None]),
            scores,
            ids=np.array([id], np.int32),
            classes=np.zeros(1, np.int32),
            names={0: "object"},
            speed={},
            frame_idx=t,
            object_scores=scores,
            states=("visible",),
        )


def sole(frames: int) -> np.ndarray:
    """Label maps (T, H, W) of a square of 20 x 20 that stays."""
    labels = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    labels[:, 10:30, 10:30] = 1
    return labels


def video(root: Path, labels: np.ndarray, annotated: Any = None) -> Any:
    store_video(root, "ant", labels, annotated=range(len(labels)) if annotated is None else annotated)
    [entry] = open_dataset(root).samples
    return entry


def played(model: Corrected | SAM, entry: Any, mode: str = "offline", **how: Any) -> InteractiveResult:
    [row] = evaluate_interactive(model, entry, InteractiveOptions(mode, **how))
    return row


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_model_that_knows_the_truth_gets_one_click_on_one_frame(tmp_path: Path, mode: str) -> None:
    labels = sole(5)
    model = Corrected(5, lambda t, _: labels[t] == 1)
    row = played(model, video(tmp_path, labels), mode)
    assert row.curve == (1.0,) * 8
    assert (row.interacted_frames, row.clicks, row.frames) == ((0,), 1, 5)
    assert model.sessions == [{0: [(19, 19, 1)]}]
    assert len(model.passes) == 1
    report = interactive_report([row], InteractiveOptions(mode))
    assert (report.mean_jf, report.mean_interacted_frames, report.mean_clicks) == (1, 1, 1)


def test_a_model_that_ignores_prompts_is_clicked_on_eight_frames_the_worst_first(tmp_path: Path) -> None:
    labels = sole(10)
    model = Corrected(10, lambda t, _: np.roll(labels[t] == 1, 1 + t, axis=1))
    row = played(model, video(tmp_path, labels))
    assert row.interacted_frames == (0, 9, 8, 7, 6, 5, 4, 3)
    assert row.clicks == 24
    j = np.mean([(20 - n) / (20 + n) for n in range(1, 11)])
    assert row.j == pytest.approx([j] * 8)
    assert model.passes == [range(10)] * 8
    assert model.kept == ["all"]
    assert all(len(set(clicks)) == 3 for clicks in model.sessions[0].values())  # no pixel is clicked twice


def test_online_corrects_at_most_eight_frames_in_one_pass(tmp_path: Path) -> None:
    labels = sole(10)
    model = Corrected(10, lambda t, _: np.roll(labels[t] == 1, 10, axis=1))
    row = played(model, video(tmp_path, labels), "online")
    assert (row.interacted_frames, row.clicks) == ((0, 1, 2, 3, 4, 5, 6, 7), 24)
    assert row.j == pytest.approx([1 / 3] * 8)
    assert model.passes == [range(10), *(range(n, 10) for n in range(2, 9))]  # with 1 frame at most, 2, ... 7


def test_the_curve_of_a_model_that_is_right_on_clicked_frames_and_empty_elsewhere(tmp_path: Path) -> None:
    labels = sole(6)
    model = Corrected(6, lambda t, clicks: (labels[t] == 1) & (t in clicks))
    row = played(model, video(tmp_path, labels))
    expected = [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1]
    assert row.curve == pytest.approx(expected)
    assert row.interacted_frames == (0, 1, 2, 3, 4, 5)  # the earliest of the worst; then nothing is wrong
    report = interactive_report([row], InteractiveOptions())
    assert report.curve == pytest.approx(expected)
    assert report.mean_jf == pytest.approx(np.mean(expected))
    assert played(model, video(tmp_path / "b", labels), frames=2).curve == pytest.approx(expected[:2])


def test_clicks_of_a_frame_see_the_answer_to_those_before(tmp_path: Path) -> None:
    """After one click only the upper 8 rows are shown, after two all; the frames take over what the first has."""
    labels = sole(3)

    def answer(t: int, clicks: ClicksByFrame) -> np.ndarray:
        mask = labels[t] == 1
        mask[18 if len(clicks[0]) == 1 else 30 :] = False
        return mask

    model = Corrected(3, answer)
    row = played(model, video(tmp_path, labels))
    assert model.sessions == [{0: [(19, 19, 1), (15, 23, 1)]}]
    assert model.refined == [False, True]
    assert row.clicks == 2
    one = played(Corrected(3, answer), video(tmp_path / "b", labels), clicks=1, frames=1)
    assert one.j == pytest.approx([8 / 20])


@pytest.mark.parametrize(("rows", "paused"), [(14, True), (15, False), (16, False)])
def test_online_halts_below_three_quarters(tmp_path: Path, rows: int, paused: bool) -> None:
    labels = sole(4)

    def answer(t: int, clicks: ClicksByFrame) -> np.ndarray:
        mask = labels[t] == 1
        if t == 2 and t not in clicks:
            mask[10 + rows :] = False
        return mask

    row = played(Corrected(4, answer), video(tmp_path, labels), "online")
    assert row.interacted_frames == ((0, 2) if paused else (0,))
    one = (3 + rows / 20) / 4
    assert row.j == pytest.approx([one] + [1 if paused else one] * 7)


def test_online_goes_on_from_the_corrected_frame_and_does_not_look_behind(tmp_path: Path) -> None:
    """Right on frame 0 and from the first corrected frame on; frame 1 is not annotated, so nobody sees it."""
    labels = sole(6)
    model = Corrected(6, lambda t, clicks: (labels[t] == 1) & (t == 0 or any(0 < frame <= t for frame in clicks)))
    row = played(model, video(tmp_path, labels, annotated=(0, 2, 3, 5)), "online")
    assert (row.interacted_frames, row.frames, row.j) == ((0, 2), 4, (1 / 4, *[1.0] * 7))
    assert model.passes == [range(6), range(3, 6)]
    assert model.kept == ["recent"]
    labels_seen = played(model, video(tmp_path / "b", labels, annotated=(0, 2, 3, 5)), "online", frames=1)
    assert labels_seen.j == pytest.approx([1 / 4])


def test_each_object_is_by_itself_from_where_it_comes(tmp_path: Path) -> None:
    labels = late()
    entry = video(tmp_path, labels, annotated=(0, 2, 4))

    def answer(t: int, clicks: ClicksByFrame) -> np.ndarray:
        x, y, _ = clicks[min(clicks)][0]
        return labels[t] == labels[min(clicks), y, x]

    model = Corrected(len(labels), answer)
    rows = list(evaluate_interactive(model, entry))
    assert [(row.id, row.interacted_frames, row.frames, row.curve[0]) for row in rows] == [
        (1, (0,), 3, 1),
        (2, (2,), 2, 1),
    ]
    assert [list(clicks) for clicks in model.sessions] == [[0], [2]]
    assert model.passes == [range(5), range(2, 5)]


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_what_is_shown_where_the_object_is_not_is_clicked_away(tmp_path: Path, mode: str) -> None:
    labels = sole(4)
    labels[2] = 0

    def answer(t: int, clicks: ClicksByFrame) -> np.ndarray:
        return (sole(1)[0] == 1) & ~((t == 2) & (2 in clicks))

    model = Corrected(4, answer)
    row = played(model, video(tmp_path, labels), mode)
    assert row.interacted_frames == (0, 2)
    assert model.sessions[0][2] == [(19, 19, 0)]
    assert row.curve == (0.75, *[1.0] * 7)


def test_a_frame_is_clicked_again_only_where_no_other_one_is_wrong(tmp_path: Path) -> None:
    labels = sole(3)

    def answer(t: int, clicks: ClicksByFrame) -> np.ndarray:
        return np.roll(labels[t] == 1, 10 if t == 0 else 2 * (t not in clicks), axis=1)

    model = Corrected(3, answer)
    row = played(model, video(tmp_path, labels), frames=5)
    assert row.interacted_frames == (0, 1, 2, 0, 0)
    assert len(set(model.sessions[0][0])) == 9


def test_the_report_counts_every_object_the_same(tmp_path: Path) -> None:
    rows = [
        InteractiveResult("a", 1, 4, (0.2, 0.4), (0.4, 0.6), (0, 3), 6, 1.0),
        InteractiveResult("a", 2, 4, (1.0, 1.0), (1.0, 1.0), (0,), 1, 1.0),
    ]
    options = InteractiveOptions(frames=2)
    found = interactive_report(rows, options)
    assert (found.videos, found.objects, found.frames, found.seconds) == (1, 2, 8, 2)
    assert found.curve == pytest.approx([0.65, 0.75])
    assert found.mean_jf == pytest.approx(0.7)
    assert (found.mean_interacted_frames, found.mean_clicks) == (1.5, 3.5)
    stored = json.loads(found.to_json("mine"))
    assert list(stored) == ["protocol", "model", "options", "figures", "rows"]
    assert stored["options"] == {"mode": "offline", "frames": 2, "clicks": 3, "iou_threshold": 0.75}
    assert stored["rows"][0]["curve"] == pytest.approx([0.3, 0.5])
    with pytest.raises(SourceError, match="no video has an object"):
        interactive_report([], options)


@pytest.mark.parametrize(
    "wrong", [{"mode": "both"}, {"frames": 0}, {"clicks": True}, {"clicks": 1.5}, {"iou_threshold": 2.0}]
)
def test_an_invalid_option_is_named(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(InputError, match=f"{name}={value!r}"):
        InteractiveOptions(**wrong)


# the tracker -------------------------------------------------------------------------------------------------------


def test_a_real_session_gives_what_its_clicks_give_by_hand(
    tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = late() * (late() == 1)
    entry = video(tmp_path, labels)
    prompts: list[tuple[int, ObjectPrompt]] = []
    add = Session.add_object_prompt

    def record(self: Session, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> Results:
        prompts.append((frame_idx, prompt))
        return add(self, object_id, frame_idx, prompt)

    monkeypatch.setattr(Session, "add_object_prompt", record)
    [row] = evaluate_interactive(tracker, entry, InteractiveOptions(frames=2))
    assert len(row.interacted_frames) == 2
    assert row.clicks == len(prompts) == 6
    monkeypatch.undo()
    j = []
    with tracker.session(entry.source, retain="all") as session:
        for part in (prompts[:3], prompts[3:]):
            for frame, prompt in part:
                session.add_object_prompt(7, frame, prompt)
            shown = {results.frame_idx: results.masks.data[0] for results in session.propagate()}
            j.append(np.mean([region_similarity(shown[t], labels[t] == 1) for t in range(len(labels))]))
            worst = min(shown, key=lambda t: (t == 0, region_similarity(shown[t], labels[t] == 1)))
            assert worst == row.interacted_frames[1] or part == prompts[3:]
        assert len(session.tracker.objects[7].prompts[row.interacted_frames[1]].points.labels) == 3
    assert row.j == pytest.approx(j)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_objects_of_one_session_are_as_each_in_its_own_and_a_video_is_encoded_once(
    tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    entry, options = video(tmp_path, late()), InteractiveOptions(mode, frames=2)
    encoded: list[int] = []
    put = FeatureCache.put
    monkeypatch.setattr(FeatureCache, "put", lambda self, index, new: encoded.append(index) or put(self, index, new))
    both = list(evaluate_interactive(tracker, entry, options))
    assert sorted(encoded) == list(range(len(late())))
    for left_out in both:
        other = replace(left_out, j=(0.0, 0.0))
        alone = list(evaluate_interactive(tracker, entry, options, previous_results=[other]))
        expected = [other if row.id == left_out.id else row for row in both]
        assert [replace(row, seconds=0) for row in alone] == [replace(row, seconds=0) for row in expected]
    encoded.clear()
    assert list(evaluate_interactive(tracker, entry, options, previous_results=both)) == both
    assert not encoded


def test_online_with_fewer_frames_is_the_beginning_of_the_curve_to_the_last_bit(
    tmp_path: Path, memory_tracker: SAM
) -> None:
    entry = video(tmp_path, late() * (late() == 1))
    three = played(memory_tracker, entry, "online", frames=3)
    assert len(three.interacted_frames) == 3
    for frames in (1, 2):
        fewer = played(memory_tracker, entry, "online", frames=frames)
        assert (fewer.j, fewer.f) == (three.j[:frames], three.f[:frames])
        assert fewer.interacted_frames == three.interacted_frames[:frames]
    assert len(set(three.j)) == 3


class Skips(Corrected):
    """A reader that leaves frame 2 out, as it does with a damaged image."""

    def resume(self) -> Iterator[Results]:
        return (results for results in super().resume() if results.frame_idx != 2)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_frame_that_is_not_reached_is_no_figure(tmp_path: Path, mode: str) -> None:
    labels = sole(4)
    with pytest.raises(SourceError, match=r"frame 2 of ant is damaged"):
        played(Skips(4, lambda t, _: labels[t] == 1), video(tmp_path, labels), mode)


def test_a_damaged_image_is_no_figure(tmp_path: Path, tracker: SAM) -> None:
    entry = video(tmp_path, sole(4))
    (tmp_path / "JPEGImages" / "ant" / "00003.jpg").write_bytes(b"not an image")
    with pytest.raises(SourceError, match=r"00003\.jpg"):
        list(evaluate_interactive(tracker, entry))


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_the_command_prints_a_line_an_object_and_keeps_what_came_before_a_fault(
    tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    for name in ("ant", "bee"):
        store_video(tmp_path / "videos", name, late())
    out = tmp_path / "out.json"
    words = ["eval", "interactive", "--root", str(tmp_path / "videos"), "--mode", mode, "--frames", "2"]
    with pytest.raises(SystemExit) as left:
        run([*words, "--limit", "1", "--report", str(out)])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    assert [line[:6] for line in output.out.splitlines()[:2]] == ["ant 1:", "ant 2:"]
    assert f"{mode}: 2 objects in 1 video;" in output.out
    whole = json.loads(out.read_text())
    assert (whole["figures"]["objects"], whole["options"]["mode"], whole["options"]["limit"]) == (2, mode, 1)
    assert f"{whole['figures']['mean_jf']:.3f}" in output.out.splitlines()[-1]

    (tmp_path / "videos" / "Annotations" / "bee" / "00002.png").write_bytes(b"not an image")
    out.unlink()
    with pytest.raises(SystemExit) as left:
        run([*words, "--report", str(out)])
    assert left.value.code == 2
    assert [(row["video"], row["id"]) for row in json.loads(out.read_text())["rows"]] == [("ant", 1), ("ant", 2)]


def test_a_video_that_cannot_be_opened_is_named_and_left_out(
    tmp_path: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    for name in ("ant", "bee"):
        store_video(tmp_path, name, sole(3))
    for path in (tmp_path / "JPEGImages" / "bee").iterdir():
        path.unlink()
    with pytest.raises(SystemExit) as left:
        run(["eval", "interactive", "--root", str(tmp_path), "--mode", "online", "--frames", "1"])
    output = capsys.readouterr()
    assert left.value.code == 2
    assert "bee" in output.err
    assert "online: 1 object in 1 video;" in output.out
