"""A wheel that is built holds what the package needs: the files of the page, the model, the types."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNPACKED = ("__pycache__", "*.egg-info")


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools 77 or newer is not installed")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns(*UNPACKED))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), str(source)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "out").glob("masklet-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    package = ROOT / "src" / "masklet"
    wanted = {
        one.relative_to(ROOT / "src").as_posix()
        for one in package.rglob("*")
        if one.is_file() and "__pycache__" not in one.parts and one.suffix != ".md"
    }
    assert {"masklet/app/page/index.html", "masklet/app/page/js/main.js", "masklet/py.typed"} <= wanted
    assert sorted(wanted - packed) == []
