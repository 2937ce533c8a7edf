"""A file of figures that is resumed: what it holds, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masklet.errors import OutputError
from masklet.evaluate.average_recall import ImageRecall, ObjectRecall
from masklet.evaluate.image_clicks import ClickResult
from masklet.evaluate.image_prompts import ImageResult
from masklet.evaluate.results_file import ResultsFile, RunManifest, from_dict, hash_file
from masklet.evaluate.semi_supervised_vos import PresenceAccuracy, SequenceResult
from masklet.evaluate.video_clicks import InteractiveResult
from masklet.evaluate.video_scribbles import Interaction, ScribbleOptions, ScribbleResult

EARLIER = json.loads(Path(__file__).with_name("earlier_results.json").read_text(encoding="utf-8"))
"""Rows and options as versions before 0.1.0 stored them."""
MADE = RunManifest(
    "counting", "mine", "ab", {"prompt": "mask", "limit": None, "exclude": ["ant"]}, ("bee", "cow", "dog")
)


@dataclass(frozen=True)
class Counted:
    name: str
    share: float


def figures(rows: Sequence[Counted]) -> Mapping[str, Any]:
    return {"mean": sum(row.share for row in rows) / len(rows)}


def kept(file: Path | None, made: RunManifest = MADE) -> ResultsFile[Counted]:
    found = ResultsFile(file, made, Counted, figures)
    found.load()
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a run in which one unit is done and another begun."""
    run = kept(tmp_path / "figures.json")
    run.add(2, [Counted("dog", 0.1)], True)
    run.add(0, [Counted("bee", 1 / 3), Counted("bees", 0.2)], False)
    run.write()
    return tmp_path / "figures.json"


def test_the_file_begins_with_what_it_was_made_with_and_has_figures_of_the_rows_in_order(file: Path) -> None:
    stored = json.loads(file.read_text())
    assert list(stored) == ["protocol", "model", "options", "mean", "rows", "run"]
    assert [row["name"] for row in stored["rows"]] == ["bee", "bees", "dog"]
    assert stored["mean"] == pytest.approx((1 / 3 + 0.3) / 3)


def test_what_was_kept_is_there_again_to_the_last_bit(file: Path) -> None:
    again = kept(file)
    assert again.results == [Counted("bee", 1 / 3), Counted("bees", 0.2), Counted("dog", 0.1)]
    assert (again.done_units, again.remaining_units) == ({2}, [0, 1])
    again.add(0, [Counted("bee", 0.5)], False)  # less than there was: the unit is gone through again
    assert len(again.results) == 3
    again.add(0, [Counted("bee", 0.5)], True)
    assert again.results == [Counted("bee", 0.5), Counted("dog", 0.1)]


def test_a_model_of_another_name_and_the_same_weights_goes_on(file: Path) -> None:
    assert len(kept(file, replace(MADE, model="./mine")).results) == 3


def test_no_file_keeps_rows_and_writes_nothing(tmp_path: Path) -> None:
    run = kept(None)
    run.add(1, [Counted("cow", 1.0)], True)
    run.write()
    assert (run.results, list(tmp_path.iterdir())) == ([Counted("cow", 1.0)], [])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"protocol": "weighing"}, "protocol 'counting', now 'weighing'"),
        ({"model": "yours", "weights_hash": "cd"}, r"\(model 'mine', now 'yours'\)"),
        ({"weights_hash": "cd"}, "other weights"),
        ({"unit_names": ("bee", "cow")}, "other data"),
        ({"options": {"prompt": "box", "limit": None, "exclude": ["ant"]}}, r"\(prompt 'mask', now 'box'\)"),
        ({"options": {"prompt": "mask", "limit": 3}}, r"exclude \['ant'\], now None; limit None, now 3"),
    ],
)
def test_a_file_that_was_made_with_something_else_is_refused(file: Path, other: dict[str, Any], message: str) -> None:
    before = file.read_text()
    with pytest.raises(OutputError, match=rf"{message}.*--overwrite"):
        kept(file, replace(MADE, **other))
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no figures", "cannot be read"),
        ("[1]", "has no results to resume"),
        ('{"model": "mine"}', "has no results to resume"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "figures.json").write_text(content)
    with pytest.raises(OutputError, match=message):
        kept(tmp_path / "figures.json")


@pytest.mark.parametrize("damage", [{"rows": []}, {"rows": [{"name": "bee"}] * 3}, {"rows": 3}])
def test_a_damaged_file_is_refused(file: Path, damage: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    with pytest.raises(OutputError, match="is damaged"):
        kept(file)


@pytest.mark.parametrize(
    "units", [[[7, 3, True]], [[-1, 3, True]], [[0, -1, True], [1, 4, True]], [["0", 3, True]], [0]]
)
def test_units_that_the_run_does_not_have_are_refused(file: Path, units: list[Any]) -> None:
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "run": {**stored["run"], "units": units}}))
    with pytest.raises(OutputError, match="is damaged"):
        kept(file)


@pytest.mark.parametrize("row", [{"name": 3, "share": 0.5}, {"name": "bee", "share": "much"}, {"name": "bee"}])
def test_rows_with_values_of_another_type_are_refused(file: Path, row: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "rows": [row] * 3}))
    with pytest.raises(OutputError, match="is damaged"):
        kept(file)


@pytest.mark.parametrize(
    "row",
    [
        SequenceResult("ant", {1: 0.1, 7: 1 / 3}, {1: 0.2, 7: 0.4}, 9, 1.5, PresenceAccuracy(9, 8, 7)),
        ImageRecall("x", 3, (ObjectRecall("x", 1, 9, 0.5, {"all": (1, None), "small": (None, None)}),), 0.25),
    ],
)
def test_rows_come_back_from_json_as_they_were(row: Any) -> None:
    assert from_dict(type(row), json.loads(json.dumps(asdict(row)))) == row


def test_a_hash_is_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (hash_file(tmp_path / name) for name in "abc")
    assert a == b != c


def test_an_image_result_has_nan_where_json_has_null() -> None:
    row = from_dict(ImageResult, EARLIER["row_with_null"], "results_rows")
    assert row.image == "a/x"
    assert np.isnan(row.ious[0][1])


OLD_ROWS: tuple[Any, ...] = (
    ClickResult("x", 1, (0.5, 0.75), 0.5),
    SequenceResult("ant", {1: 0.5}, {1: 0.25}, 9, 1.5, PresenceAccuracy(9, 8, 7)),
    ImageRecall("x", 3, (ObjectRecall("x", 1, 9, 0.5, {"all": (1, None)}),), 0.25),
    ImageResult("a/x", "a", ((0.5, 0.25),)),
    InteractiveResult("ant", 1, 4, (0.25,), (0.75,), (0, 3), 6, 1.0),
    ScribbleResult("ant", 2, 9, 1, (Interaction(3, 2, 1.5, (0.5,), (0.25,)),), True),
)
"""What the rows of `earlier_results.json` are read as."""


@pytest.mark.parametrize("row", OLD_ROWS, ids=lambda row: type(row).__name__)
def test_a_file_of_an_earlier_version_is_resumed(tmp_path: Path, row: Any) -> None:
    stored = EARLIER["rows"][type(row).__name__]
    path = tmp_path / "results.json"
    manifest = replace(MADE, unit_names=("bee", "cow"))
    run = {"weights": "ab", "data": manifest.data_hash, "of": 2, "units": [[1, 1, True]]}
    head = {"protocol": manifest.protocol, "model": manifest.model, "options": dict(manifest.options)}
    path.write_text(json.dumps({**head, "rows": [stored], "run": run}))
    results_file = ResultsFile(path, manifest, type(row), lambda rows: {})
    results_file.load()
    assert results_file.results == [row]
    assert results_file.remaining_units == [0]
    results_file.write()
    again = ResultsFile(path, manifest, type(row), lambda rows: {})
    again.load()
    assert again.results == [row]


@pytest.mark.parametrize(
    ("protocol", "new"),
    [
        ("interactive", {"mode": "online", "frames": 8, "clicks": 3, "iou_threshold": 0.75, "data_format": None}),
        ("scribbles", {**asdict(ScribbleOptions()), "first_scribbles": "person", "split": "2017/val"}),
        ("synthetic", {"prompt": "mask", "scenario": ["twins"]}),
        ("mask-generation", {"still_image_size": 1024, "points_per_side": 32, "split": None}),
    ],
)
def test_options_of_an_earlier_version_are_the_same_options(protocol: str, new: dict[str, Any]) -> None:
    old = EARLIER["options"][protocol]
    manifest = replace(MADE, options=new)
    stored = {"protocol": "counting", "model": "mine", "options": old}
    run = {"weights": "ab", "data": manifest.data_hash}
    assert manifest.differences({**stored, "run": run}) == []
    changed = {**old, next(iter(old)): "other"}
    assert len(manifest.differences({**stored, "options": changed, "run": run})) == 1
