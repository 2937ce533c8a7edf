"""The command as a whole: help, exit codes, one line an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from masklet import __version__
from masklet.cli import main
from masklet.cli.main import app

Masklet = Callable[..., Any]
COMMANDS = ["segment", "generate", "track", "predict", "models", "info", "demo", "export-weights"]


def process(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "masklet.cli.main", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert all(f"  {name} " in shown.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_examples(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.stdout
    assert f"  masklet {name}" in shown.stdout


def test_no_command_is_help(masklet: Masklet) -> None:
    outcome = masklet()
    assert outcome.code == 0
    assert "Usage: masklet" in outcome.out


def test_a_group_without_a_command_is_its_help(masklet: Masklet) -> None:
    outcome = masklet("eval")
    assert (outcome.code, outcome.err) == (0, "")
    assert "\n  mask-generation " in outcome.out


def test_version(masklet: Masklet) -> None:
    outcome = masklet("--version")
    assert (outcome.code, outcome.out) == (0, f"masklet {__version__}\n")


def test_help_loads_no_network_library() -> None:
    code = "import sys, masklet.cli.main; print(sorted({'torch', 'numpy', 'PIL', 'cv2', 'av'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "[]", shown.stderr


# command line -> words its one line on standard error must have
BAD: list[tuple[str, list[str]]] = [
    ("segmnt a.png", ["segmnt", "segment", "masklet --help"]),
    ("segment", ["IMAGE", "masklet segment --help"]),
    ("segment a.png --pont 1,1", ["--pont", "--point", "masklet segment --help"]),
    ("segment a.png --point", ["--point", "masklet segment --help"]),
    ("segment a.png", ["nothing to segment", "--point 150,150", "--box"]),
    ("segment a.png --point 1", ["'1'", "X,Y"]),
    ("segment a.png --point one,two", ["one,two", "not made of numbers", "150,150"]),
    ("segment a.png --point nan,3", ["nan", "not finite"]),
    ("segment a.png --point 1,2,3", ["label 3", "1 (on the object) and 0 (off it)"]),
    ("segment a.png --point 1,2,30,40", ["four numbers", "--box 1,2,30,40"]),
    ("segment a.png --negative 1,2,1", ["two contrary labels", "--point 1,2,1"]),
    ("segment a.png --negative 1,2", ["only negative", "--point"]),
    ("segment a.png --box 1,2,3", ["3 number(s)", "X1,Y1,X2,Y2"]),
    ("segment a.png --box 30,2,10,20", ["x2 <= x1", "[10, 2, 30, 20]"]),
    ("segment a.png --point 5,5 --negative 1,1 --point-per-object", ["--point-per-object", "negative"]),
    ("segment a.png --point 5,5 --box 1,1,9,9 --box 20,20,30,30", ["--point-per-object", "2 objects"]),
    ("segment a.png --point 5,5 --box 1,1,9,9 --box 20,20,30,30 --point-per-object", ["1 point(s)", "2 box(es)"]),
    ("segment a.png --box 1,1,9,9 --mask rough.png --mask rough.png", ["1 --box", "2 --mask"]),
    ("segment a.png --mask gone.png", ["gone.png", "no such image"]),
    ("segment a.png --mask rough.png --mask b.png", ["different sizes", "64x48", "40x40"]),
    ("segment a.png --point 5,5 --format pngs", ["'pngs'", "overlay, png, coco", "did you mean png"]),
    ("segment a.png --point 5,5 --out a.png", ["a.png", "is a file"]),
    ("segment gone.png --point 5,5", ["gone.png", "no such image"]),
    ("segment . --point 5,5 --model sam2_x.pt", ["sam2_x.pt", "--verbose tells more"]),
    ("segment a.png --point 5,5 --model sam2_t.pt", ["sam2_hiera_tiny.pt", "MASKLET_OFFLINE", "put it at"]),
    ("segment a.png --point 5,5 --model a.png", ["a.png"]),
    ("segment a.png --point 70,5 --model MODEL", ["[70, 5]", "64 wide and 48 high"]),
    ("segment a.png --point 5,5 --model MODEL --device gpu", ["'gpu'", "cpu"]),
    ("segment a.png --point 5,5 --model MODEL --precision int8", ["int8", "fp32"]),
    ("segment b.png --mask rough.png --model MODEL", ["mask", "(40, 40)"]),
    ("predict", ["KEY=VALUE", "masklet predict --help"]),
    ("predict a.png", ["'a.png'", "source=a.png"]),
    ("predict points=1,1", ["no source"]),
    ("predict source=a.png labels=1 model=MODEL", ["labels", "needs prompts"]),
    ("predict source=a.png conf=0.5 mode=tain", ["mode=tain", "mode=predict"]),
    ("predict source=a.png conf=0.5 save_text=1", ["save_text", "did you mean save_txt"]),
    ("predict conf=0.5", ["no source"]),
    ("track source=a.png epochs=3", ["epochs=3", "no key=value"]),
    ("predict source=a.png box=1,1,9,9", ["no key 'box'", "bboxes"]),
    ("predict source=a.png size=640 points=1,1", ["no key 'size'", "source, model, points"]),
    ("predict source=a.png imgsz=wide points=1,1", ["image_size=wide", "image_size=1024"]),
    ("predict source=a.png points=1,1 points=2,2", ["points= was given twice"]),
    ("predict source=a.png points=here", ["points=here", "150,150"]),
    ("predict source=a.png points= ", ["points= has no value"]),
    ("predict source=a.png points=1,1 multimask=maybe", ["multimask=maybe", "true"]),
    ("predict source=a.png points=[[1,1],[2,2]] labels=[1,0] model=MODEL", ["[[[1, 1], [2, 2]]]", "[[1, 0]]"]),
    ("info sam2_huge.pt", ["sam2_huge.pt"]),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line for line, _ in BAD])
def test_bad_command_line(line: str, words: list[str], masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet(*line.replace("MODEL", str(builtin_file)).split(" "))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("masklet: ")
    assert [word for word in words if word not in outcome.err] == [], outcome.err


def test_verbose_prints_all_lines_wherever_it_stands(masklet: Masklet, folder: Path) -> None:
    for line in (["--verbose", "info", "sam2_x.pt"], ["info", "sam2_x.pt", "--verbose"]):
        outcome = masklet(*line)
        assert outcome.code == 2
        assert "sam2_hiera_tiny.pt" in outcome.err
        assert outcome.err.count("\n") > 5


@pytest.mark.slow
def test_a_real_process_leaves_with_the_code_and_no_traceback(folder: Path) -> None:
    failed = process("segment", "gone.png", "--point", "5,5", cwd=folder)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.startswith("masklet: no such image: 'gone.png'")
    assert failed.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(folder: Path) -> None:
    command = [sys.executable, "-m", "masklet.cli.main", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
        assert running.wait(60) in (0, 1)
    assert errors == ""


def test_ctrl_c_leaves_with_130(masklet: Masklet, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "app", interrupted)
    outcome = masklet("models")
    assert (outcome.code, outcome.err) == (130, "masklet: stopped\n")
