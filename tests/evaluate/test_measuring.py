"""Measuring unit by unit: stopped anywhere and resumed, or by several processes, the figures are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.synthetic_truth import late, store_image, store_video, two_objects
from masklet import SAM
from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.main import run
from masklet.errors import OutputError, SourceError
from masklet.evaluate.synthetic import SyntheticClip

STEPS = 2
"""Of a unit of made work."""


@dataclass(frozen=True)
class Row:
    name: str
    part: int
    share: float


class Knows:
    """The part of a model that `run_eval` needs."""

    def info(self) -> SimpleNamespace:
        return SimpleNamespace(name="made", path=__file__, precision="fp32", device="cpu")


def evaluate(
    model: Knows, unit: str, *, previous_results: Sequence[Row], on_progress: Callable[[], None], bad: str = ""
) -> Iterator[Row]:
    for part in range(STEPS):
        on_progress()
        if unit == bad and part:
            raise SourceError(f"{unit} is bad; mend it")
        yield previous_results[part] if part < len(previous_results) else Row(unit, part, len(unit) / (3 + part))


def whole(rows: Sequence[Row]) -> dict[str, Any]:
    return {"mean": float(np.mean([row.share for row in rows])), "rows": [asdict(row) for row in rows]}


def work(names: Sequence[str] = ("a", "bb", "ccc", "dddd"), **how: Any) -> EvalTask[str, Row]:
    return EvalTask(
        protocol="made",
        unit_label="words",
        units=names,
        unit_names=names,
        evaluate_unit=partial(evaluate, **how),
        row_type=Row,
        summarize=whole,
        format_summary=lambda rows: [f"mean {whole(rows)['mean']:.3f}"],
        options={"limit": None},
        steps_per_unit=[STEPS] * len(names),
        format_row=lambda row: f"{row.name} {row.part}",
        header="words",
    )


@pytest.fixture
def eval_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalOptions:
    monkeypatch.setattr(EvalOptions, "model_factory", lambda _: Knows)
    return EvalOptions(None, None, "fp32", results_file=tmp_path / "figures.json")


def stop_after(steps: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at a step of the next run; None: not at all."""

    @contextmanager
    def counting(*_: object, enabled: bool) -> Iterator[Callable[[], None]]:
        taken: list[int] = []

        def step() -> None:
            taken.append(1)
            if len(taken) == steps:
                raise KeyboardInterrupt

        yield step

    monkeypatch.setattr("masklet.cli.eval.runner.progress_bar", counting)


@pytest.mark.parametrize("steps", range(1, 4 * STEPS + 1))
def test_a_run_that_is_stopped_at_any_step_resumes_to_the_same_figures(
    eval_options: EvalOptions, steps: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eval_options.results_file is not None
    run_eval(eval_options, work())
    expected, lines = eval_options.results_file.read_text(), capsys.readouterr().out
    eval_options.results_file.unlink()
    stop_after(steps, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_eval(eval_options, work())
    output = capsys.readouterr()
    assert eval_options.results_file.exists() == (steps > 1)  # before the first row there is nothing to keep
    if steps > 1:
        rows = json.loads(eval_options.results_file.read_text())["rows"]
        assert len(rows) == steps - 1
        assert output.out.splitlines()[-1] == f"mean {whole([Row(**row) for row in rows])['mean']:.3f}"
        assert "the same command resumes" in output.err
    stop_after(None, monkeypatch)
    run_eval(eval_options, work())
    assert eval_options.results_file.read_text() == expected
    assert capsys.readouterr().out == lines


def test_a_finished_file_is_shown_and_measured_again_only_without_resume(
    eval_options: EvalOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eval_options.results_file is not None
    run_eval(eval_options, work())
    before = capsys.readouterr().out
    run_eval(eval_options, work(bad="a"))  # which is not called
    output = capsys.readouterr()
    assert output.out == before
    assert "is finished, 4 of 4 words are done" in output.err
    assert "--overwrite" in output.err
    with pytest.raises(OutputError, match=r"limit None, now 2.*--overwrite"):
        run_eval(eval_options, replace(work(), options={"limit": 2}))
    run_eval(replace(eval_options, resume=False), replace(work(("a",)), options={"limit": 2}))
    assert len(json.loads(eval_options.results_file.read_text())["rows"]) == STEPS


def test_an_error_prints_what_was_done_and_is_raised(
    eval_options: EvalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceError, match="ccc is bad"):
        run_eval(replace(eval_options, results_file=None), work(bad="ccc"))
    output = capsys.readouterr()
    assert output.out.splitlines()[:-1] == ["words", "a 0", "a 1", "bb 0", "bb 1", "ccc 0"]
    assert output.out.splitlines()[-1].startswith("mean 0.")
    assert not output.err
    with pytest.raises(SourceError, match="a is bad"):
        run_eval(replace(eval_options, results_file=None), work(("a",), bad="a"))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_processes_give_the_figures_of_one_and_lose_nothing_by_an_error(
    eval_options: EvalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eval_options.results_file is not None
    run_eval(eval_options, work())
    expected, lines = eval_options.results_file.read_text(), capsys.readouterr().out
    eval_options.results_file.unlink()
    with pytest.raises(SourceError, match="bb is bad"):
        run_eval(replace(eval_options, workers=2), work(bad="bb"))
    capsys.readouterr()
    kept = json.loads(eval_options.results_file.read_text())["rows"]
    assert {"name": "bb", "part": 0, "share": 2 / 3} in kept  # what the process had of it
    run_eval(replace(eval_options, workers=2), work())
    assert eval_options.results_file.read_text() == expected
    assert capsys.readouterr().out == lines  # in the order of the units


# the commands ------------------------------------------------------------------------------------------------------

COMMANDS = {
    "vos": ["--root", "DAVIS"],
    "synthetic": ["--prompt", "click"],
    "clicks": ["photos"],
    "mask-generation": ["photos", "--points", "4"],
    "images": ["photos"],
    "interactive": ["--root", "videos", "--frames", "2"],
}


def lasting(value: Any) -> Any:
    """A document without times."""
    if isinstance(value, dict):
        return {name: lasting(item) for name, item in value.items() if name not in ("seconds", "fps")}
    return [lasting(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: SAM) -> Path:
    for name in ("x", "y"):
        store_image(tmp_path / "photos" / "a", name, two_objects())
    sole = np.repeat((late()[:1] == 1).astype(np.uint8), 3, axis=0)
    for name in ("ant", "bee"):
        store_video(tmp_path / "DAVIS", f"480p/{name}", sole, annotated=range(3))
        store_video(tmp_path / "videos", name, late()[1:4], annotated=range(3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    monkeypatch.setattr(
        "masklet.evaluate.synthetic.BENCHMARK_CLIPS", (SyntheticClip("small", 0), SyntheticClip("small", 1))
    )
    monkeypatch.setattr("masklet.evaluate.synthetic.NUM_FRAMES", 8)
    monkeypatch.setattr(SyntheticClip, "render", cache(SyntheticClip.render))
    return tmp_path


def run_command(name: str, code: int, *words: str) -> None:
    with pytest.raises(SystemExit) as left:
        run(["eval", name, *COMMANDS[name], "--report", f"{name}.json", *words])
    assert left.value.code == code


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_was_stopped_goes_on_to_the_same_figures(
    here: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(name, 0)
    file = here / f"{name}.json"
    expected = lasting(json.loads(file.read_text()))
    assert list(expected)[:3] == ["protocol", "model", "options"]
    assert list(expected)[-2:] == ["rows", "run"]
    stop_after({"vos": 5, "synthetic": 10, "interactive": 8, "clicks": 1}.get(name, 2), monkeypatch)
    run_command(name, 130, "--overwrite")
    stopped = json.loads(file.read_text())
    assert 0 < len(stopped["rows"]) < len(expected["rows"])
    stop_after(None, monkeypatch)
    run_command(name, 0)
    assert lasting(json.loads(file.read_text())) == expected
    capsys.readouterr()
    run_command(name, 2, "--image-size", "128")
    assert "image_size None, now 128" in capsys.readouterr().err
