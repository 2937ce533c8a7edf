"""A server that is killed: everything that it acknowledged is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("httpx2", reason="httpx2 is not installed (extra 'app')")

from helpers.server_files import write_clip
from masklet.projects import open_project

KILLER = Path(__file__).parents[1] / "helpers" / "server_killer.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="servers are forked")
def test_a_killed_server_loses_nothing_that_it_acknowledged(
    tmp_path: Path, tracking_file: Path, small_video: np.ndarray
) -> None:
    clip = write_clip(tmp_path / "files" / "clip", small_video)
    Image.fromarray(small_video[0]).save(tmp_path / "files" / "photo.png")
    (tmp_path / "projects").mkdir()
    with open_project(tmp_path / "projects" / "zoo.masklet", author="bo") as project:
        project.add_source(tmp_path / "files" / "photo.png")
        project.set_prompt(project.add_object(project.add_source(clip)), 0, points=[[20, 25]])
    command = [sys.executable, str(KILLER), str(tmp_path), str(tracking_file), "30", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    num_acknowledged, num_runs = map(int, done.stdout.split())
    assert num_acknowledged > 60, "too few to prove anything"  # a busy machine answers fewer
    assert num_runs > 0, "no run of tracking was ever complete: wait longer"
