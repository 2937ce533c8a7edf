"""The commands of docs/ray.md have the options they name, and its Python runs on a cluster as written."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cheap_stages import LEAN_RAY, make_images
from helpers.video_files import Shot, make_video
from masklet.cli.main import run
from masklet.scale import ray as scale_ray
from masklet.scale.run_batch import BatchProgress

PAGE = (Path(__file__).parents[2] / "docs" / "ray.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_commands_parse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def record(source, stage, out, options, *, settings, kind):  # type: ignore[no-untyped-def]
        seen.append((source, out, options.address, options.cpus, kind, getattr(stage, "chunks", None)))
        yield BatchProgress("a.jpg", "done", "", 0.1, 1, 0, 0)

    monkeypatch.setattr(scale_ray, "run", record)
    monkeypatch.setattr(scale_ray, "join_cluster", str)
    commands = re.findall(r"masklet (batch .*--on ray.*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        with pytest.raises(SystemExit) as end:
            run(shlex.split(command))
        assert end.value.code == 0
    assert [one[2] for one in seen] == [None, "auto", "ray://head:10001", "auto"]
    assert (seen[2][4], seen[2][5].chunk, seen[3][3]) == ("videos", 500, 4.0)


def test_the_names_that_the_python_imports_are_there() -> None:
    imported = [node for block in BLOCKS for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert len(imported) >= 5
    for node in imported:
        module = importlib.import_module(str(node.module))
        assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.slow
def test_the_first_block_runs(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    make_images(tmp_path / "photos", 2)
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "0.mp4", Shot(count=2))
    script = 'import ray\nray.init(address="local", num_cpus=2, include_dashboard=False)\n' + BLOCKS[0]
    search_path = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    env = {**os.environ, **LEAN_RAY, "PYTHONPATH": search_path}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summaries = [line for line in done.stdout.splitlines() if line.startswith("RunSummary")]
    assert [line.partition(",")[0] for line in summaries] == ["RunSummary(done=2", "RunSummary(done=1"]
    assert len(list((tmp_path / "masks" / "items").iterdir())) == 2
