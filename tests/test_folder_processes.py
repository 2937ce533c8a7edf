"""Tests in forks: what a folder leaves behind goes, and nothing that pytest reports is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.folder_processes import TESTS

CONFTEST = """
from pathlib import Path
import pytest
from helpers import folder_processes

folder_processes.TESTS = Path(__file__).parent

def pytest_configure(config):
    if folder_processes.can_fork(config):
        config.pluginmanager.register(folder_processes.FolderProcesses(config))

@pytest.fixture(scope="session")
def counted(pytestconfig):
    with (pytestconfig.rootpath / "log").open("a") as log:
        print("up", file=log)
    yield 1
    with (pytestconfig.rootpath / "log").open("a") as log:
        print("down", file=log)
"""
FIRST = """
import os, signal, sys, warnings, pytest

def test_imports(counted):
    import wave
    sys.modules["__main__"].first = os.getpid()

@pytest.mark.filterwarnings("default")
def test_warns():
    warnings.warn("shown to the user", UserWarning)

def test_fails():
    print("printed")
    assert 1 == 2

def test_is_skipped():
    pytest.skip("for this reason")

def test_is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def test_goes_on(counted):
    assert not hasattr(sys.modules["__main__"], "first")

def test_exits():
    os._exit(3)
"""
SMALL = """
import os, sys

def test_is_at_home(counted):
    assert "wave" not in sys.modules
    sys.modules["__main__"].small = os.getpid()
"""
LARGE = """
import os, sys

def test_is_where_the_last_file_was(counted):
    assert sys.modules["__main__"].small == os.getpid()
    sys.modules["__main__"].large = b"1" * 100_000_000

def test_is_the_last_of_a_large_fork():
    pass
"""
ANOTHER = """
import sys

def test_is_in_another_fork(counted):
    assert not hasattr(sys.modules["__main__"], "large")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_folders_have_forks_of_their_own_and_all_is_reported(tmp_path: Path) -> None:
    files = {"one/test_first": FIRST, "two/test_a": SMALL, "two/test_b": LARGE, "two/test_c": ANOTHER}
    for name, text in {"conftest": CONFTEST, **files}.items():
        (tmp_path / name).with_suffix(".py").parent.mkdir(exist_ok=True)
        (tmp_path / name).with_suffix(".py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-rs", "-p", "no:cacheprovider"],
        cwd=tmp_path, env={**kept, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "3 failed, 7 passed, 1 skipped, 1 warning" in ran.stdout
    for text in ("assert 1 == 2", "printed", "ended with SIGKILL.", "ended with status 3.", "for this reason"):
        assert text in ran.stdout
    assert "UserWarning: shown to the user" in ran.stdout
    # Two of the forks were killed, before what they had made could be torn down.
    assert (tmp_path / "log").read_text().split() == ["up", "up", "up", "down", "up", "down"]
