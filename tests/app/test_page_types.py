"""The types of the page's modules, as their JSDoc says, by TypeScript, which comes by npm where there is a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = "5.9.3"


@pytest.mark.slow
def test_the_modules_of_the_page_have_the_types_that_they_say(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [
        npm,
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(tmp_path),
        f"typescript@{VERSION}",
    ]
    if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("npm cannot install typescript: there is no network")
    compiler = tmp_path / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([compiler, "-p", ROOT / "jsconfig.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
