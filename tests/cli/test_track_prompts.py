"""The order of words in `masklet track`: which prompt belongs to which object on which frame."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from masklet.cli.track_prompts import OptionToken, parse_track_prompts, tokenize_options
from masklet.errors import PromptError

NAMES = {
    "--object": "--object",
    "--frame": "--frame",
    "--point": "--point",
    "-p": "--point",
    "--negative": "--negative",
    "-n": "--negative",
    "--box": "--box",
    "-b": "--box",
    "--mask": "--mask",
    "--out": "--out",
    "-o": "--out",
    "--both": None,
    "--quiet": None,
    "-q": None,
}


def said(line: str) -> list[tuple[Any, ...]]:
    words = tokenize_options(shlex.split(line), NAMES)
    return [(s.object_id, s.frame_idx, s.points, s.labels, s.box) for s in parse_track_prompts(words)]


GOOD: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("--point 5,6", [(1, 0, [[5, 6]], [1], None)]),
    ("a.mp4 -p5,6 -qp 7,8 --out --point", [(1, 0, [[5, 6], [7, 8]], [1, 1], None)]),
    ("--point=5,6 -o --box --negative 1,2", [(1, 0, [[5, 6], [1, 2]], [1, 0], None)]),
    ("--point 5,6,0 --box 0,0,9,9", [(1, 0, [[5, 6]], [0], [0, 0, 9, 9])]),
    ("--box 0,0,9,9 -- --box 1,1,2,2", [(1, 0, [], [], [0, 0, 9, 9])]),
    (
        "--point 210,350 --object 2 --frame 40 --box 300,0,500,400 --both",
        [(1, 0, [[210, 350]], [1], None), (2, 40, [], [], [300, 0, 500, 400])],
    ),
    (
        "--frame 3 --object 7 --point 1,1 --object 8 --point 2,2 --frame 9 --point 3,3",
        [(7, 3, [[1, 1]], [1], None), (8, 3, [[2, 2]], [1], None), (8, 9, [[3, 3]], [1], None)],
    ),
    (
        "--point 1,1 --object 2 --point 2,2 --object 1 --negative 3,3",
        [(1, 0, [[1, 1], [3, 3]], [1, 0], None), (2, 0, [[2, 2]], [1], None)],
    ),
    ("--object 0 --box '1 2 3 4'", [(0, 0, [], [], [1, 2, 3, 4])]),
    ("--object 1 --point 1,1 --object 1 --point 2,2", [(1, 0, [[1, 1], [2, 2]], [1, 1], None)]),
]


@pytest.mark.parametrize(("line", "meant"), GOOD, ids=[line for line, _ in GOOD])
def test_what_a_line_means(line: str, meant: list[tuple[Any, ...]]) -> None:
    assert said(line) == meant


BAD: list[tuple[str, list[str]]] = [
    ("", ["nothing says what to follow", "--point 210,350"]),
    ("--object 2 --frame 4", ["nothing is said after --object 2", "--object 2 --point X,Y"]),
    ("--point 1,1 --object 2", ["nothing is said after --object 2"]),
    ("--point 1,1 --frame 2", ["nothing is said after --frame 2"]),
    ("--object 2 --object 3 --point 1,1", ["nothing is said after --object 2"]),
    ("--frame 2 --frame 3 --point 1,1", ["nothing is said after --frame 2"]),
    ("--object one --point 1,1", ["--object 'one'", "whole number", "2147483647"]),
    ("--object -1 --point 1,1", ["--object '-1'", "whole number"]),
    ("--object 2147483648 --point 1,1", ["--object '2147483648'"]),
    ("--frame 1.5 --point 1,1", ["--frame '1.5'", "whole number"]),
    (f"--frame {'9' * 5000} --point 1,1", ["whole number"]),
    ("--box 1,1,5,5 --box 2,2,6,6", ["second box of object 1 on frame 0", "--object 2 before it"]),
    ("--object 4 --box 1,1,5,5 --frame 2 --box 1,1,5,5 --frame 0 --box 2,2,6,6", ["object 4 on frame 0", "--object 5"]),
    ("--negative 5,5", ["only negative", "object 1", "frame 0"]),
    ("--point 1,1 --object 3 --frame 8 --negative 5,5", ["only negative", "object 3", "frame 8"]),
    ("--point 1", ["'1'", "X,Y"]),
    ("--point 1,2,30,40", ["four numbers", "--box 1,2,30,40"]),
    ("--negative 1,2,1", ["two things"]),
    ("--box 9,9,1,1", ["x2 <= x1"]),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line[:60] for line, _ in BAD])
def test_what_cannot_be_meant_is_said(line: str, words: list[str]) -> None:
    with pytest.raises(PromptError) as caught:
        said(line)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_mask_is_read_and_told_from_others(folder: Path) -> None:
    [first] = parse_track_prompts([OptionToken("--mask", "rough.png")])
    [second] = parse_track_prompts([OptionToken("--mask", "a.png")])
    assert first.mask is not None
    assert first.mask.shape == (48, 64)
    assert first.to_dict()["mask"] != second.to_dict()["mask"]
    with pytest.raises(PromptError, match="second mask of object 1"):
        parse_track_prompts([OptionToken("--mask", "rough.png"), OptionToken("--mask", "rough.png")])
