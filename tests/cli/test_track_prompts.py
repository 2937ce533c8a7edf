"""The prompts of `masklet track`: which belongs to which object on which frame, by the order of options or by JSON."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from masklet.cli.main import app
from masklet.cli.track_prompts import parse_track_prompts, read_prompts_file
from masklet.errors import MaskletError, PromptError
from masklet.prompts import ObjectPrompt

Row = tuple[int, int, list[list[float]], list[int], "list[float] | None"]


def rows(prompts: dict[tuple[int, int], ObjectPrompt]) -> list[Row]:
    return [
        (
            *key,
            [] if prompt.points is None else prompt.points.xy.tolist(),
            [] if prompt.points is None else prompt.points.labels.tolist(),
            None if prompt.box is None else prompt.box.xyxy.tolist(),
        )
        for key, prompt in prompts.items()
    ]


def parsed(line: str) -> list[Row]:
    """The prompts of a command line, through the parser of the command."""
    group: Any = typer.main.get_command(app)
    context = group.commands["track"].make_context("track", ["a.mp4", *shlex.split(line)])
    return rows(parse_track_prompts(context.obj))


GOOD: list[tuple[str, list[Row]]] = [
    ("--point 5,6", [(1, 0, [[5, 6]], [1], None)]),
    ("-p5,6 -qp 7,8 --out=--point", [(1, 0, [[5, 6], [7, 8]], [1, 1], None)]),
    ("--point=5,6 -o./--box --negative 1,2", [(1, 0, [[5, 6], [1, 2]], [1, 0], None)]),
    ("--point 5,6,0 --box 0,0,9,9", [(1, 0, [[5, 6]], [0], [0, 0, 9, 9])]),
    ("--box 0,0,9,9 --model -p", [(1, 0, [], [], [0, 0, 9, 9])]),
    (
        "--point 210,350 --object 2 --frame 40 --box 300,0,500,400 --bidirectional",
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


@pytest.mark.parametrize(("line", "prompts"), GOOD, ids=[line for line, _ in GOOD])
def test_the_order_of_options_counts(line: str, prompts: list[Row]) -> None:
    assert parsed(line) == prompts


BAD: list[tuple[str, list[str]]] = [
    ("", ["nothing to track", "--point 210,350"]),
    ("--object 2 --frame 4", ["no prompt follows --object 2", "--object 2 --point X,Y"]),
    ("--point 1,1 --object 2", ["no prompt follows --object 2"]),
    ("--point 1,1 --frame 2", ["no prompt follows --frame 2"]),
    ("--object 2 --object 3 --point 1,1", ["no prompt follows --object 2"]),
    ("--frame 2 --frame 3 --point 1,1", ["no prompt follows --frame 2"]),
    ("--object one --point 1,1", ["--object 'one'", "whole number", "2147483647"]),
    ("--object=-1 --point 1,1", ["--object '-1'", "whole number"]),
    ("--object 2147483648 --point 1,1", ["--object '2147483648'"]),
    ("--frame 1.5 --point 1,1", ["--frame '1.5'", "whole number"]),
    (f"--frame {'9' * 5000} --point 1,1", ["whole number"]),
    ("--box 1,1,5,5 --box 2,2,6,6", ["second box of object 1 on frame 0", "--object 2 before it"]),
    ("--object 4 --box 1,1,5,5 --frame 2 --box 1,1,5,5 --frame 0 --box 2,2,6,6", ["object 4 on frame 0", "--object 5"]),
    ("--negative 5,5", ["only negative", "object 1", "frame 0"]),
    ("--point 1,1 --object 3 --frame 8 --negative 5,5", ["only negative", "object 3", "frame 8"]),
    ("--point 1", ["'1'", "X,Y"]),
    ("--point 1,2,30,40", ["four numbers", "--box 1,2,30,40"]),
    ("--negative 1,2,1", ["two contrary labels"]),
    ("--box 9,9,1,1", ["x2 <= x1"]),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line[:60] for line, _ in BAD])
def test_an_invalid_line_is_refused(line: str, words: list[str]) -> None:
    with pytest.raises(PromptError) as caught:
        parsed(line)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_mask_is_read(folder: Path) -> None:
    [prompt] = parse_track_prompts([("--mask", "rough.png")]).values()
    assert prompt.mask is not None
    assert prompt.mask.mask.shape == (48, 64)
    with pytest.raises(PromptError, match="second mask of object 1"):
        parse_track_prompts([("--mask", "rough.png"), ("--mask", "rough.png")])


def test_prompts_from_json(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "rough.png").rename(folder / "data" / "rough.png")
    entries = [
        {"points": [[210, 350], [30, 40]], "labels": [1, 0]},
        {"object": 2, "frame": 40, "points": [[5, 6]], "box": [300, 0, 500, 400]},
        {"object": 3, "mask": "rough.png"},
    ]
    (folder / "data" / "prompts.json").write_text(json.dumps(entries))
    prompts = read_prompts_file(Path("data/prompts.json"))
    assert rows(prompts) == [
        (1, 0, [[210, 350], [30, 40]], [1, 0], None),
        (2, 40, [[5, 6]], [1], [300, 0, 500, 400]),
        (3, 0, [], [], None),
    ]
    mask = prompts[3, 0].mask
    assert mask is not None
    assert mask.mask.shape == (48, 64)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[", ["cannot be read as JSON", '[{"object": 1']),
        ("{}", ["must hold a list of prompts"]),
        ("[]", ["must hold a list of prompts"]),
        ("[3]", ["must hold a list of prompts"]),
        ('[{"points": [[1, 2]], "id": 3}]', ["entry 0", "unknown key 'id'", "object, frame, points"]),
        ('[{"object": -1, "points": [[1, 2]]}]', ["entry 0", "object -1", "whole numbers"]),
        ('[{"frame": true, "points": [[1, 2]]}]', ["entry 0", "frame True", "whole numbers"]),
        ('[{"points": [[1, 2]]}, {"box": [1, 1, 5, 5]}]', ["entry 1", "second prompt of object 1 on frame 0"]),
        ('[{"labels": [1]}]', ["entry 0", "labels came without points"]),
        ('[{"points": [[1, 2]], "labels": [0]}]', ["entry 0", "add a point on it"]),
        ('[{"points": 3}]', ["entry 0", "points 3 must be a list"]),
        ('[{"points": [["a", 2]]}]', ["entry 0", "must be numbers"]),
        ('[{"box": [1, 2, 3]}]', ["entry 0", "four numbers"]),
        ('[{"box": [9, 9, 1, 1]}]', ["entry 0", "x2 <= x1"]),
        ('[{"mask": 3}]', ["entry 0", "path of an image"]),
        ('[{"mask": "gone.png"}]', ["gone.png"]),
        ('[{"object": 2}]', ["entry 0", "give points, a box or a mask"]),
    ],
)
def test_invalid_json_is_refused(text: str, parts: list[str], folder: Path) -> None:
    Path("prompts.json").write_text(text)
    with pytest.raises(MaskletError) as caught:
        read_prompts_file(Path("prompts.json"))
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
