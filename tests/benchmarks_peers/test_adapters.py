"""The adapters of peers, in their environments if these are here; transformers also in that of the tests."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.environments import PEERS, environment_python, find_peer, installed_packages
from benchmarks.image import ImageComparisonJob, compare_image
from benchmarks.interleaved import ComparisonResult
from benchmarks.process import ADAPTERS_DIR, PeerProcess
from benchmarks.video import VideoComparisonJob, compare_videos
from helpers import forked_python
from helpers.forked_python import python_process
from masklet.benchmark.record import BenchmarkCase

TRANSFORMERS = ["transformers.models.sam2.modeling_sam2", "transformers.models.sam2_video.modeling_sam2_video"]
SIDE = 256
SQUARE = ImageComparisonJob("sam2.1_hiera_tiny", repeats=1, image_size=SIDE, sample_size=(SIDE, SIDE))
"""An image as large as the network's input: programs differ in how they resize, and there is nothing to resize."""
VERBS = ("1 prompt", "1 box", "64 prompts")


def pythons(peer: str) -> dict[str, Path]:
    """Return the interpreters of masklet and the peer; skip the test without one."""
    if installed_packages(find_peer(peer)) is not None:
        return {"masklet": Path(sys.executable), peer: environment_python(find_peer(peer))}
    if importlib.util.find_spec(peer) is None or peer == "ultralytics":
        pytest.skip(f"no environment of {peer} is here: python -m benchmarks environments --create {peer}")
    return {"masklet": Path(sys.executable), peer: Path(sys.executable)}


@pytest.fixture
def forked_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of this interpreter are forked from a process that has imported their packages."""

    def start(program: PeerProcess, command: list[str]) -> Any:
        with program._log.open("w") as errors:
            pipe, variables = subprocess.PIPE, program._environment()
            if command[0] == sys.executable:
                return python_process(command[1:], stdin=pipe, stdout=pipe, stderr=errors, env=variables)
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=variables)

    monkeypatch.setattr(forked_python, "PRELOADED", [*forked_python.PRELOADED, *TRANSFORMERS])
    monkeypatch.setattr(PeerProcess, "_start", start)


def rows(found: ComparisonResult, program: str) -> dict[str, BenchmarkCase]:
    return {case.name: case for case in found.cases if case.program == program}


@pytest.mark.slow
@pytest.mark.parametrize("peer", list(PEERS))
def test_they_give_the_same_masks(peer: str) -> None:
    found = compare_image(SQUARE, pythons(peer), lambda _: None)
    row = rows(found, peer)
    assert found.versions.keys() == {peer}
    assert all(len(row[name].samples) == 1 and row[name].peer_ratio for name in ("load", "encode", *VERBS))
    assert all((row[name].min_iou or 0) > 0.999 for name in VERBS)
    errors = [row[name].max_logits_error for name in VERBS]
    assert errors == [None] * 3 if peer == "ultralytics" else max(error or 1 for error in errors) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("forked_programs")
def test_transformers_gives_the_same_masks_for_a_resized_image() -> None:
    """By a network of the first generation, whose trunk differs from the other in all its numbers."""
    job = ImageComparisonJob("sam2_hiera_base_plus", repeats=1, image_size=128, sample_size=(90, 160))
    row = rows(compare_image(job, pythons("transformers"), lambda _: None), "transformers")
    assert all((row[name].min_iou or 0) > 0.999 for name in VERBS)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_programs")
def test_transformers_tracks_the_same_objects() -> None:
    job = VideoComparisonJob("sam2.1_hiera_tiny", (2,), 2, image_size=128, frame_size=(120, 160))
    row = rows(compare_videos(job, pythons("transformers"), lambda _: None), "transformers")["a frame"]
    assert (row.min_iou or 0) > 0.99
    assert (row.max_logits_error or 1) < 0.02


def run(code: str, folder: Path) -> str:
    """Run code in a process that can import the adapters; return its output."""
    path = f"import sys; sys.path.insert(0, {str(ADAPTERS_DIR)!r})"
    lines = f"{path}\nfrom pathlib import Path\nfolder = Path({str(folder)!r})"
    return subprocess.check_output([sys.executable, "-c", f"{lines}\n{code}"], text=True).strip()


def test_ultralytics_is_isolated(tmp_path: Path) -> None:
    output = run(
        """
import os, socket
from ultralytics_adapter import isolate
isolate(folder)
print(os.environ["YOLO_CONFIG_DIR"], os.environ["YOLO_OFFLINE"], os.environ["YOLO_AUTOINSTALL"])
server = socket.create_server(("127.0.0.1", 0))
try:
    socket.create_connection(server.getsockname(), timeout=5)
except OSError as error:
    print(error)
try:
    socket.getaddrinfo("localhost", 80)
except OSError as error:
    print(error)
""",
        tmp_path,
    ).splitlines()
    assert output[0] == f"{tmp_path / 'ultralytics'} true false"
    assert output[1:] == ["no network while programs are compared"] * 2


@pytest.fixture(scope="module")
def boxes() -> torch.Tensor:
    corners = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 60
    return torch.cat([corners, corners + 20], 1)


@pytest.mark.slow
def test_the_replacement_of_nms_is_correct(boxes: torch.Tensor, tmp_path: Path) -> None:
    """In the order of scores, a box remains if it overlaps none of the boxes before it too much."""
    scores = torch.rand(200, generator=torch.Generator().manual_seed(1))
    torch.save((boxes, scores), tmp_path / "boxes.pt")
    output = run(
        "import torch; from torchvision_ops import nms\n"
        "print(nms(*torch.load(folder / 'boxes.pt', weights_only=True), 0.5).tolist())",
        tmp_path,
    )
    remaining: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(_iou(boxes[i], boxes[j]) <= 0.5 for j in remaining):
            remaining.append(i)
    assert 20 < len(remaining) < 180
    assert output == str(remaining)


def _iou(a: torch.Tensor, b: torch.Tensor) -> float:
    sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    both = float(sides.prod())
    return both / (float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both)
