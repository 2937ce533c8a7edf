"""The server is started and measured, and failures are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("httpx2", reason="httpx2 is not installed (extra 'app')")

from masklet.benchmark import app_latency
from masklet.benchmark.app_latency import AppBenchmarkJob, measure_app
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase, read_record
from masklet.cli.main import run
from masklet.errors import InputError, StateError


@pytest.mark.slow
def test_everything_is_measured_once(tracking_file: Path) -> None:
    job = AppBenchmarkJob(str(tracking_file), 20, 6, 2, 2, image_size=(60, 80), video_size=(48, 64))
    reported: list[BenchmarkCase] = []
    cases = measure_app(job, reported.append).cases
    assert tuple(reported) == cases
    by_name = {(case.name, case.setting): case for case in cases}
    assert len(by_name) == len(cases)
    assert len(by_name["hover", "80 x 60"].samples) == len(by_name["click on a video", "64 x 48"].samples) == 20
    assert (by_name["hover, p95", "80 x 60"].median or 0) >= (by_name["hover", "80 x 60"].median or 0) > 0
    assert len(by_name["click", "80 x 60, 2 clients at once"].samples) == 2 * 4
    assert {case.setting for case in cases if case.name == "tracked frame"} == {"64 x 48, socket", "64 x 48, library"}
    assert all(case.unit == ("MB" if case.name.startswith("memory") else "s") for case in cases)


@pytest.mark.slow
def test_a_server_that_does_not_start_is_reported() -> None:
    with pytest.raises(StateError, match="did not start"):
        measure_app(AppBenchmarkJob(requests=1, frames=5, images=2, options=("--no-such-option",), image_size=(8, 8)))


def test_a_job_that_measures_nothing_is_refused() -> None:
    for amounts in ({"requests": 0}, {"frames": 4}, {"images": 1}, {"clients": 0}):
        with pytest.raises(InputError, match="give 1 request or more"):
            AppBenchmarkJob(**amounts)


def test_the_command_writes_the_record_after_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "app.json"

    def measure(job: AppBenchmarkJob, on_case: Callable[[BenchmarkCase], None]) -> BenchmarkAnswer:
        assert (job.model, job.requests, job.clients) == ("builtin", 3, 8)
        on_case(BenchmarkCase("hover", "8 x 8", "s", (0.01, 0.03)))
        assert [case.name for case in read_record(report).cases] == ["hover"]
        return BenchmarkAnswer(())

    monkeypatch.setattr(app_latency, "measure_app", measure)
    with pytest.raises(SystemExit) as left:
        run(["bench", "app", "--requests", "3", "--report", str(report)])
    assert left.value.code == 0
    assert "20.0 ms" in capsys.readouterr().out
