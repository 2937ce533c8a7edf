"""Runs on a cluster of two nodes on this machine, in which processes, nodes and the driver end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.cheap_stages import LEAN_RAY, BrightPixels, make_images, make_videos
from masklet.cli.main import run as run_command
from masklet.errors import InputError, UnknownModelError
from masklet.scale import Embedder
from masklet.scale.items import ItemSource
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import run_batch

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")
cluster_utils = pytest.importorskip("ray.cluster_utils")
from masklet.scale import ray as scale_ray  # noqa: E402
from masklet.scale.actor_plan import ActorPlan, RayOptions  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
DRIVER = Path(__file__).parents[1] / "helpers" / "ray_driver.py"
DEADLINE_S = 1800
"""A run that hangs ends; a busy machine may take many minutes for the long one."""
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[cluster_utils.Cluster]:
    """Two nodes of one processor each; the head is this process's own."""
    search_path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PYTHONPATH": search_path, **LEAN_RAY}.items():
            patch.setenv(name, value)
        nodes = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            nodes.add_node(**NODE)
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


@pytest.fixture(scope="module")
def connected(cluster: cluster_utils.Cluster) -> None:
    ray.init(address=cluster.address, log_to_driver=False)


def item_files(out: Path) -> dict[str, bytes]:
    """The files of items, without the hidden ones that a process leaves if it is killed while it writes."""
    files = [path for path in (out / "items").rglob("[!.]*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def num_finished(out: Path) -> int:
    return sum(1 for _ in (out / "items").rglob("*.json"))


def alone(source: Path, out: Path, kind: str) -> dict[str, bytes]:
    """The files that one process writes without Ray."""
    for _ in run_batch(ItemSource([source], kind), BrightPixels(), out):
        pass
    return item_files(out)


class Killer(threading.Thread):
    """Kills a process that runs the stage, every `seconds` if two items were finished since, so that work goes on.

    It ends after `most` of them, and with its block.
    """

    def __init__(self, state: Path, out: Path, seconds: float, most: int) -> None:
        super().__init__(daemon=True)
        self.processes, self.out, self.seconds, self.most = state / "processes", out, seconds, most
        self.kills, self.stopped, self.random = 0, threading.Event(), random.Random(0)

    def run(self) -> None:
        finished = 0
        while self.kills < self.most and not self.stopped.wait(self.seconds):
            files, now = list(self.processes.iterdir()), num_finished(self.out)
            if files and now >= finished + 2:
                finished = now
                file = self.random.choice(files)
                file.unlink()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(file.name), signal.SIGKILL)
                    self.kills += 1

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()


@dataclass(frozen=True)
class Faults:
    """How long an item takes, and how often a process is killed meanwhile."""

    item_s: float
    kill_every_s: float
    most_kills: int


def run_among_faults(cluster: cluster_utils.Cluster, source: Path, out: Path, kind: str, faults: Faults) -> int:
    """Run to the end: processes are killed, a node is removed and added, the driver is killed once; returns kills."""
    state = out.parent / f"{out.name}-state"
    (state / "processes").mkdir(parents=True)
    command = [sys.executable, str(DRIVER), cluster.address, str(source), str(out), kind, str(state)]
    command.append(str(faults.item_s))
    count = len(list(source.iterdir()))

    def wait_for(driver: subprocess.Popen[str], items: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while driver.poll() is None and num_finished(out) < items:
            assert time.monotonic() < deadline, "the run does not end"
            time.sleep(0.1)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        try:
            wait_for(driver, 1)
            with Killer(state, out, faults.kill_every_s, faults.most_kills) as killer:
                wait_for(driver, count // 4)
                cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0])
                wait_for(driver, count // 3)
                cluster.add_node(**NODE)
                wait_for(driver, count // 2)
                assert driver.poll() is None, "the driver ended before it was killed"
                driver.kill()
                driver.wait()
                again = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
        finally:
            driver.kill()
    assert again.returncode == 0, again.stderr[-3000:]
    [line] = [line for line in again.stdout.splitlines() if line.startswith("{")]  # Ray prints there too
    summary = json.loads(line)
    assert summary["failed"] == 0, summary
    assert summary["done"] + summary["finished_before"] == count
    return killer.kills


@pytest.mark.parametrize(
    ("images", "videos", "kill_every_s", "most_kills"),
    [
        pytest.param(60, 4, 0.5, 3, id="small"),
        pytest.param(2000, 40, 5.0, 10_000, marks=pytest.mark.whole, id="whole"),
    ],
)
def test_every_item_once_with_the_bytes_of_one_process(
    cluster: cluster_utils.Cluster, tmp_path: Path, images: int, videos: int, kill_every_s: float, most_kills: int
) -> None:
    sources = {"images": make_images(tmp_path / "images", images), "videos": make_videos(tmp_path / "videos", videos)}
    for kind, source in sources.items():
        out = tmp_path / f"{kind}-out"
        faults = Faults(0.05 if kind == "images" else 0.5, kill_every_s, most_kills)
        kills = run_among_faults(cluster, source, out, kind, faults)
        assert item_files(out) == alone(source, tmp_path / f"{kind}-alone", kind)
        summary = merge_batch(out, source=ItemSource([source], kind))
        assert (summary.failed, summary.missing) == (0, 0)
        assert summary.done == len(list(source.iterdir()))
        left = [path for path in (out / ".masklet").rglob("*") if path.is_file()]
        assert all(path.name.startswith(".") for path in left)  # of a process that was killed while it wrote a lease
        if kind == "images":
            assert kills >= 1
            runs = Counter((tmp_path / f"{kind}-out-state" / "items").read_text().split())
            assert set(runs.values()) <= {1, 2, 3}
            assert len(runs) == images


@pytest.mark.usefixtures("connected")
def test_an_item_that_ends_its_process_fails_alone(tmp_path: Path) -> None:
    source = make_images(tmp_path / "in", 8)
    options = RayOptions(actors=1, block_items=4, max_crashes=2, lease_s=5)
    summary = scale_ray.summarize_run(
        scale_ray.run(str(source), BrightPixels(crash_on="00002"), tmp_path / "out", options)
    )
    assert (summary.done, summary.failed) == (7, 1)
    assert "ended 2 times" in summary.errors[0]


@pytest.mark.usefixtures("connected")
def test_a_run_resumes_and_refuses_another_stage(tmp_path: Path) -> None:
    source, out = make_images(tmp_path / "in", 6), tmp_path / "out"
    (source / "cut.png").write_bytes((source / "00000.png").read_bytes()[:40])
    (source / os.fsdecode(b"caf\xe9.png")).write_bytes((source / "00001.png").read_bytes())  # no text in UTF-8
    options = RayOptions(actors=1, block_items=4)
    first = scale_ray.summarize_run(scale_ray.run(str(source), BrightPixels(), out, options))
    again = scale_ray.summarize_run(scale_ray.run(str(source), BrightPixels(), out, options))
    assert (first.done, first.failed, first.finished_before) == (7, 1, 0)
    assert "cut.png" in first.errors[0]
    assert (again.done, again.failed, again.finished_before) == (0, 1, 7)
    with pytest.raises(InputError, match="other settings"):
        list(scale_ray.run(str(source), BrightPixels(seconds=1), out, options))


@pytest.mark.usefixtures("connected")
def test_datasets_of_ray_go_in_and_come_out(tmp_path: Path) -> None:
    source = make_images(tmp_path / "in", 5)
    files = ray.data.read_binary_files(str(source), include_paths=True)
    summary = scale_ray.summarize_run(scale_ray.run(files, BrightPixels(), tmp_path / "out", RayOptions(actors=1)))
    assert summary.done == 5
    plan = ActorPlan(actors=(1, 1), cpus=1, gpus=0, threads=1, memory=None, block_items=2)
    rows = {Path(row["item"]).name: row for row in scale_ray.map_stage(files, BrightPixels(), plan).take_all()}
    expected = BrightPixels()({"path": [str(source / "00003.png")]})
    assert rows["00003.png"]["masks"] == expected["masks"][0]
    direct = files.map_batches(BrightPixels(), batch_size=2).take_all()  # without anything of masklet.scale.ray
    assert {Path(row["item"]).name for row in direct} == set(rows)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("block_items", [None, 1])  # None: it is measured first
def test_a_model_that_cannot_be_opened_ends_the_run(tmp_path: Path, block_items: int | None) -> None:
    source = make_images(tmp_path / "in", 2)
    options = RayOptions(actors=1, block_items=block_items)
    with pytest.raises(UnknownModelError, match="nope"):
        list(scale_ray.run(str(source), Embedder("nope.pt"), tmp_path / "out", options))


def test_the_command_writes_what_it_writes_without_ray(
    cluster: cluster_utils.Cluster, tmp_path: Path, builtin_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_images(tmp_path / "in", 3)
    words = ["batch", str(source), "--task", "embed", "--model", str(builtin_file), "--out"]
    with pytest.raises(SystemExit) as left:
        run_command([*words, str(tmp_path / "alone")])
    assert (left.value.code, "3 done, 0 failed" in capsys.readouterr().out) == (0, True)
    command = [sys.executable, "-m", "masklet", *words, str(tmp_path / "on-ray"), "--on", "ray", "--actors", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": cluster.address}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, "3 done, 0 failed" in done.stdout) == (0, True), done.stderr
    assert f"the Ray cluster at {cluster.address}" in done.stderr
    assert item_files(tmp_path / "on-ray") == item_files(tmp_path / "alone")


def test_a_run_joins_a_running_cluster_only_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *, address, log_to_driver: joined.append(address))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    scale_ray.join_cluster(None)
    scale_ray.join_cluster("auto")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    scale_ray.join_cluster(None)
    scale_ray.join_cluster("local")
    assert joined == ["local", "auto", "head:6379", "local"]


def test_an_address_where_no_cluster_is_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto' .*ray start --head"):
        scale_ray.join_cluster("auto")
