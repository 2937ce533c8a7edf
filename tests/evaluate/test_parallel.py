"""Videos of a benchmark in several processes: the same files and figures, resumed, and errors as they are."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluate.test_benchmark_predictions import Knows, steady
from helpers.synthetic_truth import FRAMES, store_video
from masklet.cli.main import run
from masklet.errors import InputError, MaskletError, SourceError, StateError, UnknownModelError
from masklet.evaluate.benchmark_predictions import benchmark_videos, predict
from masklet.evaluate.benchmark_scoring import score_predictions
from masklet.evaluate.parallel import predict_parallel, run_parallel

SIZE = 96


class Fails(Knows):
    """Cannot follow the second video that it is given."""

    def session(self, source: object, *, options: object = None) -> Knows:
        super().session(source)
        if "bad" in str(source):
            raise SourceError("bad is bad; leave it out")
        return self


def knows() -> Knows:
    return Knows(steady())


def fails() -> Fails:
    return Fails(steady())


def no_model() -> Knows:
    raise UnknownModelError("no model of that name; choose another")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def davis(root: Path, *names: str) -> Path:
    for name in names:
        store_video(root, f"480p/{name}", steady(), annotated=range(FRAMES))
    return root


@pytest.fixture
def two_videos(tmp_path: Path) -> Path:
    return davis(tmp_path / "DAVIS", "ant", "bee")


def figures(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What `masklet eval davis17` writes of every object, to the file that is named last."""
    with pytest.raises(SystemExit) as left:
        run(["eval", "davis17", *map(str, words)])
    assert left.value.code == 0, capsys.readouterr().err
    return Path(str(words[-1])).read_text()


@pytest.mark.slow
def test_two_processes_write_what_one_does_in_one_go_or_two(
    two_videos: Path, tmp_path: Path, tracking_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, with a model that each opens."""
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["--root", two_videos, "--model", tracking_file, "--image-size", SIZE]
    expected = figures(capsys, *words, "--out", one, "--report", tmp_path / "one.json")
    assert json.loads(expected)["image_size"] == SIZE
    assert figures(capsys, *words, "--out", two, "--workers", 2, "--report", tmp_path / "two.json") == expected
    assert tree(two) == tree(one)
    for file in ("bee/00003.png", "bee/00004.png"):  # as if it had been stopped within a video
        (two / file).unlink()
    assert figures(capsys, *words, "--out", two, "--workers", 2, "--report", tmp_path / "two.json") == expected
    assert tree(two) == tree(one)


def test_predicted_videos_are_not_tracked_again_and_every_video_is_a_step(two_videos: Path, tmp_path: Path) -> None:
    videos, steps = benchmark_videos("davis17", two_videos), []
    out = predict(knows(), videos[:1], tmp_path / "out")
    predict_parallel(
        knows, videos, out, workers=2, on_progress=lambda: steps.append(1)
    )  # one is left: no process is begun
    whole = predict(knows(), videos, tmp_path / "whole")
    assert tree(out) == tree(whole)
    assert len(steps) == 2
    predict_parallel(no_process, videos, out, workers=2)
    assert score_predictions("davis17", out, two_videos) == score_predictions("davis17", whole, two_videos)


def no_process() -> Knows:
    return Fails(np.zeros_like(steady()))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_the_error_of_one_video_ends_the_run_and_what_is_written_is_resumed(tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", davis(tmp_path / "DAVIS", "ant", "bad", "bee", "cow"))
    with pytest.raises(SourceError, match="bad is bad"):
        predict_parallel(fails, videos, tmp_path / "out", workers=2)
    assert tree(predict(knows(), videos, tmp_path / "out")) == tree(predict(knows(), videos, tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_stopped_run_leaves_no_process_and_is_resumed(tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", davis(tmp_path / "DAVIS", "ant", "bee", "cow"))

    def stop() -> None:
        raise KeyboardInterrupt

    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        predict_parallel(knows, videos, tmp_path / "out", workers=2, on_progress=stop)
    assert multiprocessing.active_children() == before
    assert any(video.is_complete(tmp_path / "out") for video in videos)
    assert tree(predict(knows(), videos, tmp_path / "out")) == tree(predict(knows(), videos, tmp_path / "whole"))


def dies(model: Knows, unit: str, *, on_progress: Callable[[], None]) -> list[str]:
    if unit == "bad":
        os._exit(3)
    return [unit * 2]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_process_ended_from_outside_raises_and_what_was_done_is_kept() -> None:
    kept: dict[int, tuple[Sequence[str], bool]] = {}
    units = {3: "ant", 5: "bee", 8: "bad"}
    with pytest.raises(StateError, match=r"masklet evaluate \d ended unexpectedly \(exit code 3\).*fewer workers"):
        run_parallel(knows, units, dies, lambda n, rows, whole: kept.update({n: (rows, whole)}), workers=2)
    assert 8 not in kept
    assert all(whole and list(rows) == [units[n] * 2] for n, (rows, whole) in kept.items())


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_invalid_arguments_are_named(two_videos: Path, tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", two_videos)
    with pytest.raises(InputError, match="workers=0"):
        predict_parallel(knows, videos, tmp_path / "out", workers=0)
    with pytest.raises(InputError, match="scribble"):
        predict_parallel(knows, videos, tmp_path / "out", "scribble", workers=2)
    with pytest.raises(MaskletError, match="no model of that name"):
        predict_parallel(no_model, videos, tmp_path / "out", workers=2)


def test_an_old_folder_is_resumed_and_other_options_are_refused(two_videos: Path, tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", two_videos)
    predict(knows(), videos, tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / "predictions.json").read_text())) == {"model", "prompt", "kind"}
    with pytest.raises(MaskletError, match="name another folder"):
        predict(knows(), videos, tmp_path / "out", options={"image_size": SIZE})
    predict_parallel(partial(knows), videos, tmp_path / "out", workers=2)
