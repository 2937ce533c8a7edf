"""What may happen around `segment` and `annotate`: streams, links, names, faults of one image, files of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.dataset_files import native
from masklet.annotate import labeler
from masklet.atomic_files import check_replaceable
from masklet.cli import console
from masklet.errors import OutputError
from masklet.media.image import from_file
from masklet.sam import SAM

Masklet = Callable[..., Any]
CLICK = ["--point", "20,20"]


def test_labels_by_hand_are_kept(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    Path("a.json").write_text("{}")
    Path("a.txt").write_text("3 0.1 0.1 0.5 0.1 0.5 0.5")
    line = ["segment", "a.png", *CLICK, "--out", ".", "--format", "json,yolo", "--model", builtin_file]
    outcome = masklet(*line)
    assert outcome.code == 2
    assert "a.json was not written by masklet" in outcome.err
    assert Path("a.txt").read_text().startswith("3 ")
    assert not Path("classes.txt").exists()
    assert masklet(*line, "--overwrite").code == 0
    assert json.loads(Path("a.json").read_text())[0]["name"] == "object"


def test_two_runs_join_their_coco_file(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    for name in ("a.png", "b.png"):
        assert masklet("segment", name, *CLICK, "--format", "coco", "--model", builtin_file, "-q").code == 0
    images = json.loads(Path("masklet-out/annotations.coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.png", "b.png"]


def test_images_of_one_name_keep_their_folders(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    for number in "12":
        Path("p", number).mkdir(parents=True)
        Path("p", number, "f.png").write_bytes(Path("a.png").read_bytes())
    assert masklet("segment", "p/**/*.png", *CLICK, "-f", "yolo", "-o", "o", "--model", builtin_file).code == 0
    texts = sorted(path.relative_to("o").as_posix() for path in Path("o").rglob("*.txt"))
    assert texts == ["1/f.txt", "2/f.txt", "classes.txt"]


def test_a_fault_of_one_image_is_named_and_the_others_are_done(
    masklet: Masklet, folder: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = SAM.__call__

    def faulty(self: SAM, image: Any, **options: Any) -> Any:
        if image.path == "a.png":
            raise RuntimeError("no such frame")
        return call(self, image, **options)

    monkeypatch.setattr(SAM, "__call__", faulty)
    outcome = masklet("segment", "a.png", "b.png", *CLICK, "--model", builtin_file)
    assert outcome.code == 1
    assert outcome.err == "masklet: a.png: RuntimeError: no such frame\nmasklet: 1 of 2 images failed\n"
    assert [path.name for path in Path("masklet-out").glob("*.png")] == ["b_overlay.png"]


@pytest.mark.slow
def test_a_fault_of_one_image_in_annotate_is_named_and_the_exit_code_is_1(
    masklet: Masklet, folder: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(path: str) -> Any:
        if Path(path).name == "a.png":
            raise RuntimeError("no such frame")
        return from_file(path)

    monkeypatch.setattr(labeler, "from_file", faulty)
    words = ["--det-model", "everything", "--everything", "fast", "--sam-model", builtin_file]
    outcome = masklet("annotate", "a.png", "b.png", *words, "--out", "o")
    assert outcome.code == 1
    assert "a.png: unexpected error RuntimeError: no such frame" in outcome.err
    assert outcome.err.endswith("masklet: 1 image(s) or video(s) could not be annotated\n")
    assert (Path("o/b.txt").exists(), Path("o/a.txt").exists()) == (True, False)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")
def test_annotate_passes_over_links_and_writes_any_name(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    Path("ph").mkdir()
    for name in ("a.png", os.fsdecode(b"na\xefve.png")):
        Path("ph", name).write_bytes(Path("b.png").read_bytes())
    Path("ph/me").symlink_to("me")
    words = ["--det-model", "everything", "--everything", "fast", "--sam-model", builtin_file, "--format", "yolo,coco"]
    words += ["--review-fraction", "1"]
    outcome = masklet("annotate", "ph", *words, "--out", "o")
    assert outcome.code == 0, outcome.err
    assert "ph/me is a link that leads nowhere or to itself and is skipped" in outcome.err
    labels = Path("o/yolo/labels").iterdir()
    assert sorted(os.fsencode(path.name) for path in labels) == [b"a.txt", b"na\xefve.txt"]
    path = Path("o/coco/annotations/instances_default.json")
    content = json.loads(path.read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "na\udcefve.png"]
    content["categories"][0]["name"] = "checked by hand"
    path.write_text(json.dumps(content))
    Path("ph/b.png").write_bytes(Path("b.png").read_bytes())
    outcome = masklet("annotate", "ph", *words, "--out", "o")
    assert outcome.code == 2
    assert "instances_default.json was not written by masklet, or was changed since, and is kept" in outcome.err
    assert json.loads(path.read_text()) == content


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "| head -0", ">&- 2>&-"])
def test_a_command_works_without_its_streams(redirection: str) -> None:
    command = f"{sys.executable} -m masklet models {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_streams_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = sys.stdout
    monkeypatch.setattr(sys, "stderr", None)
    console.use_lenient_streams()
    assert sys.stdout is stream
    with sys.stderr as missing:
        assert missing.write("caf\udce9") == 4


@pytest.mark.slow
def test_a_full_disk_ends_a_saved_state_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; import torch; from safetensors.torch import save_file\n"
        "from masklet.atomic_files import atomic_path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    with atomic_path(sys.argv[1]) as temporary: save_file({'a': torch.zeros(50000)}, temporary)\n"
        "except OSError as error: print(type(error).__name__, error)\n"
    )
    path = tmp_path / "s.safetensors"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"OutputError {path} could not be written ("), done.stderr
    assert "make room and run the same again" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_session_takes_the_place_of_a_session_only(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    check_replaceable(path, b"masklet-session", "saved session")
    path.write_bytes(b"somebody's notes")
    with pytest.raises(OutputError, match=r"is no saved session of masklet, and is kept"):
        check_replaceable(path, b"masklet-session", "saved session")
    path.write_bytes(b'{"__metadata__": {"masklet-session": ""}}')
    check_replaceable(path, b"masklet-session", "saved session")


def test_a_report_takes_the_place_of_a_report_only(masklet: Masklet, folder: Path) -> None:
    native(folder / "data")
    lines = [["data", "check", "data"], ["convert", "data", "out", "--to", "coco"]]
    for line in lines:
        for content in ('{"images": [], "annotations": []}', "a,b\n", '[{"label": "cat"}]', "[3]"):
            Path("r.json").write_text(content)
            outcome = masklet(*line, "--report", "r.json")
            assert (outcome.code, outcome.out) == (2, "")
            assert outcome.err.startswith("masklet: r.json is there and is no report of masklet, and is kept")
            assert Path("r.json").read_text() == content
        assert not Path("out").exists()
    assert masklet(*lines[1], "--report", "r.json", "--overwrite").code == 0
    for line in lines:
        assert masklet(*line, "--report", "r.json").code == 0
        assert masklet(*line, "--report", "r.json").code == 0
