"""Busy processes and a quota while something is measured."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from masklet.benchmark import busy_machine as module
from masklet.benchmark.busy_machine import busy_machine, busy_setting
from masklet.benchmark.image import ImageBenchmarkJob
from masklet.benchmark.subprocess_runner import answer_request
from masklet.benchmark.video import VideoBenchmarkJob
from masklet.cpu_threads import cgroup_quota
from masklet.errors import InputError, StateError


def test_the_processes_run_during_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    started, popen = [], subprocess.Popen

    def recorded(words: list[str]) -> subprocess.Popen[bytes]:
        started.append(popen(words))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    monkeypatch.setattr(module, "START_S", 0.0)
    with busy_machine(beside=2):
        assert [process.poll() for process in started] == [None, None]
    assert len(started) == 2
    assert all(process.returncode for process in started)


def test_settings_say_what_was_beside() -> None:
    assert busy_setting("fp32", 0, None) == "fp32"
    assert ImageBenchmarkJob("builtin", beside=1).setting == "fp32, beside 1 busy process"
    job = VideoBenchmarkJob("builtin", precision="bf16", beside=2, cpu_quota=1.5)
    assert job.setting == "1 object, bf16, beside 2 busy processes, quota of 1.5 cores"


def test_wrong_numbers_and_a_system_without_groups_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="beside -1 must be 0 to 256 processes"):
        ImageBenchmarkJob("builtin", beside=-1)
    with pytest.raises(InputError, match=r"cpu_quota 0 must be 0\.1 to 256 cores"):
        VideoBenchmarkJob("builtin", cpu_quota=0.0)
    with pytest.raises(StateError, match=r"cpu_quota 1\.5 cannot be set here .*: it takes a control group"):
        busy_machine(cpu_quota=1.5, root=tmp_path / "missing").__enter__()
    assert "beside 999" in json.loads(answer_request('{"image": {"model": "builtin", "beside": 999}}'))["error"]


def test_a_quota_holds_within_the_block() -> None:
    before = cgroup_quota()
    try:
        with busy_machine(cpu_quota=0.5):
            assert cgroup_quota() == 0.5
            began, used = time.perf_counter(), time.process_time()
            while time.perf_counter() < began + 0.4:
                pass
            used = time.process_time() - used
    except StateError as error:
        pytest.skip(f"this process may make no control group: {error}")
    assert used < 0.36
    assert cgroup_quota() == before
    assert not any(path.name == f"masklet-bench-{os.getpid()}" for path in Path("/sys/fs/cgroup").glob("*/*"))
