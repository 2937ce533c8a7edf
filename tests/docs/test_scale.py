"""The commands and the Python of docs/scale.md run as written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.batch_stage import LoggingStage
from masklet.cli.main import run
from masklet.scale import Segmenter
from masklet.scale.items import ItemSource
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import run_batch
from masklet.scale.shards import Shard

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoggingStage:
    """A folder photos in the current one, and a stage in place of a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/cats").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(np.full((2, 4, 3), number, np.uint8)).save(tmp_path / f"photos/cats/{number}.png")
    logging = LoggingStage(tmp_path / "seen.log")
    monkeypatch.setattr(Segmenter, "__call__", lambda self, batch: logging(batch))
    return logging


def test_the_commands_run(stage: LoggingStage, tmp_path: Path) -> None:
    commands = re.findall(r"^masklet (batch .*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        with pytest.raises(SystemExit) as left:
            run(shlex.split(command))
        assert left.value.code == 0
    assert len(json.loads((tmp_path / "masks/coco.json").read_text())["images"]) == 6
    tree = re.findall(r"^masks/(\S+)", PAGE, flags=re.MULTILINE)
    assert [path.split("/")[0] for path in tree] == ["batch.json", "items", "failed", "manifest"]
    assert all((tmp_path / "masks" / name).exists() for name in ("batch.json", "items", "manifest"))
    [line] = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    written = next((tmp_path / "masks/manifest").iterdir()).read_text().splitlines()[0]
    assert json.loads(line).keys() == json.loads(written).keys()


def test_the_job_file_names_options_that_there_are(stage: LoggingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    [job] = re.findall(r"^srun masklet (.*)$", PAGE, flags=re.MULTILINE)
    words = ["photos" if "s3://bucket/train" in word else word for word in shlex.split(job)]
    words = ["masks" if word == "s3://bucket/masks" else word for word in words]
    seen = []
    for task in range(2):
        for name, value in {"ARRAY_TASK_ID": task, "ARRAY_TASK_COUNT": 2, "PROCID": 0, "NTASKS": 1}.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))
        with pytest.raises(SystemExit) as left:
            run(words)
        assert left.value.code == 0
        seen.append(len(stage.seen()))
    assert 0 < seen[0] < seen[1] == 6


def test_the_python_runs(stage: LoggingStage, capsys: pytest.CaptureFixture[str]) -> None:
    [block] = [one for one in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "run_batch" in one]
    exec(block, {})
    own = {item.name for item in ItemSource(["photos"], shard=Shard(0, 8))}
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == own


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_archives_open_as_shown(stage: LoggingStage, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("webdataset")
    list(run_batch(ItemSource(["photos"]), stage, "masks"))
    merge_batch("masks", "webdataset", ItemSource(["photos"]))
    [block] = [one for one in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "import webdataset" in one]
    exec(block, {})
    assert capsys.readouterr().out.splitlines() == [f"cats/{number} 1" for number in range(6)]
