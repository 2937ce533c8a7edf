"""Data of one's own: stills in our layout, films in that of YouTube-VOS, and mixtures of both."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.synthetic_truth import FRAMES, Oracle, late, store_film, store_still, two_objects
from masklet import SAM
from masklet.datasets import open_dataset
from masklet.errors import InputError, MaskletWarning, ModelError, SourceError
from masklet.evaluate import Validation, evaluate_entry, validate
from masklet.evaluate.validate import plan


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two sources: three pictures with two objects each, and one with the first alone."""
    for name in ("a1", "a2", "a10"):
        store_still(tmp_path / "photos" / "a", name, two_objects())
    store_still(tmp_path / "photos" / "b", "b", two_objects()[:1])
    return tmp_path / "photos"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        store_film(tmp_path / "films", name, late())
    return tmp_path / "films"


def oracle(**how: Any) -> Any:
    return Oracle(two_objects(), late(), **how)


# stills ------------------------------------------------------------------------------------------------------------


def test_the_truth_scores_one_on_pictures_by_source(photos: Path) -> None:
    model = oracle()
    found = validate(model, photos)
    assert found.stills is not None
    assert (found.stills.total.box, found.stills.total.click, found.stills.total.clicks_5) == (1, 1, 1)
    assert {name: of.objects for name, of in found.stills.by_source.items()} == {"a": 6, "b": 1}
    assert (found.counts.pictures, found.counts.objects, found.films, found.left_out) == (4, 7, {}, {})
    assert found.seconds > 0


def test_a_picture_is_encoded_once_for_all_its_objects_and_prompts(photos: Path) -> None:
    model = oracle()
    validate(model, photos)
    assert model.encoded == 4
    assert model.asked == [0, 1, 2, 3, 4, 5] * 4


def test_nothing_found_scores_nought(photos: Path, films: Path) -> None:
    found = validate(oracle(empty=True), [photos, films])
    assert found.stills is not None
    assert (found.stills.total.box, found.stills.total.click_best, found.stills.total.clicks_5) == (0, 0, 0)
    assert [report.total.jf for report in found.films.values()] == [0, 0, 0]


def test_what_is_not_asked_for_is_not_a_number_and_prints_as_a_dash(photos: Path) -> None:
    model = oracle(shift=15)
    found = validate(model, photos, prompts=["box"])
    assert found.stills is not None
    assert model.asked == [0] * 4
    assert found.stills.by_source["b"].box == pytest.approx(1 / 3)
    assert math.isnan(found.stills.total.click)
    last = str(found).splitlines()[-1].split()
    assert last[:4] == ["all", "objects", "7", f"{found.stills.total.box:.3f}"]
    assert last[4:] == ["-"] * 4


def test_objects_and_entries_are_limited_evenly(photos: Path) -> None:
    assert [sample.name for sample in plan(photos, limit=2).samples] == ["a/a1", "b/b"]
    found = validate(oracle(), photos, objects=1, limit=3)
    assert (found.counts.pictures, found.counts.objects) == (3, 3)


def test_pictures_without_objects_are_counted_and_alone_are_an_error(photos: Path, tmp_path: Path) -> None:
    nothing = np.zeros((1, *two_objects().shape[1:]), bool)
    store_still(tmp_path / "bare" / "c", "c", nothing)
    store_still(tmp_path / "bare" / "c", "d", nothing[:0])
    found = validate(oracle(), [photos, tmp_path / "bare"], prompts=["box"])
    assert (found.counts.pictures, found.counts.without) == (4, 2)
    assert "2 more without objects" in str(found)
    with pytest.raises(SourceError, match="none of 2 entries has an object"):
        validate(oracle(), tmp_path / "bare")


# films -------------------------------------------------------------------------------------------------------------


def test_an_object_that_comes_late_is_told_late_and_measured_after(films: Path) -> None:
    model = oracle()
    entry = open_dataset(films).entries[0]
    rows = evaluate_entry(model, entry, ["mask"])
    assert [(row.id, row.prompt, row.j, row.f, row.frames) for row in rows] == [
        (1, "mask", 1, 1, 2),
        (2, "mask", 1, 1, 1),
    ]
    assert [frame for frame, _ in model.said.values()] == [0, 2]
    assert [path.stem for path in model.followed] == [f"{t:05d}" for t in range(FRAMES)]


def test_every_annotated_frame_after_the_prompt_is_measured_the_last_too(tmp_path: Path) -> None:
    wrong = late()
    wrong[4] = 0
    store_film(tmp_path, "film", late())
    entry = open_dataset(tmp_path).entries[0]
    rows = evaluate_entry(Oracle(two_objects(), wrong), entry, ["mask"])
    assert [row.j for row in rows] == [0.5, 0]
    wrong = late()
    wrong[3] = wrong[5] = 0  # nobody knows the truth there
    assert [row.j for row in evaluate_entry(Oracle(two_objects(), wrong), entry, ["mask"])] == [1, 1]


def test_an_object_out_of_sight_must_not_be_shown(tmp_path: Path) -> None:
    labels = late()
    labels[4:][labels[4:] == 1] = 0
    store_film(tmp_path, "film", labels)
    entry = open_dataset(tmp_path).entries[0]
    assert [row.j for row in evaluate_entry(oracle(), entry, ["mask"])] == [0.5, 1]


def test_an_object_of_the_last_annotated_frame_alone_is_not_asked_for(tmp_path: Path) -> None:
    labels = late()
    labels[:4][labels[:4] == 2] = 0
    store_film(tmp_path, "film", labels)
    rows = evaluate_entry(Oracle(two_objects(), labels), open_dataset(tmp_path).entries[0])
    assert {row.id for row in rows} == {1}
    labels[:4] = 0
    store_film(tmp_path / "none", "film", labels)
    assert evaluate_entry(oracle(), open_dataset(tmp_path / "none").entries[0]) == ()


def test_prompts_are_followed_together_and_measured_apart(films: Path) -> None:
    model = oracle(shift=5)
    entry = open_dataset(films).entries[0]
    rows = evaluate_entry(model, entry, ["box", "click", "mask"])
    assert len(model.followed) == FRAMES  # one pass
    assert [(row.id, row.prompt) for row in rows] == [
        (n, prompt) for n in (1, 2) for prompt in ("box", "click", "mask")
    ]
    assert [row.j for row in rows] == pytest.approx([0.6] * 6)
    box, click, mask = (model.said[n][1] for n in range(3))
    assert box.box is not None
    assert (box.box.x1, box.box.y1, box.box.x2, box.box.y2) == (5, 10, 25, 30)
    assert click.points is not None
    assert click.points.xy.tolist() == [[14, 19]]
    assert mask.mask is not None
    np.testing.assert_array_equal(mask.mask.mask, late()[0] == 1)


def test_films_have_a_report_a_prompt_over_all_their_objects(films: Path) -> None:
    steps: list[None] = []
    found = validate(oracle(shift=5), films, prompts=["click", "box"], step=lambda: steps.append(None))
    assert list(found.films) == ["click", "box"]
    report = found.films["box"]
    assert (report.total.objects, list(report.by_film)) == (4, ["ant", "bee"])
    assert report.by_film["ant"].j == pytest.approx(0.6)
    assert report.total.jf == pytest.approx((report.total.j + report.total.f) / 2)
    assert (found.counts.films, found.counts.frames, found.counts.objects) == (2, 10, 4)
    assert len(steps) == plan(films).frames == 10
    assert found.stills is None


def test_a_tracked_mask_scores_one_against_itself_also_when_it_comes_late(tmp_path: Path, tracker: SAM) -> None:
    """What a session shows is stored as the truth behind the first frames, and found again."""
    store_film(tmp_path / "first", "film", late())
    entry = open_dataset(tmp_path / "first").entries[0]
    assert max(row.j for row in evaluate_entry(tracker, entry, ["box"])) < 1
    with tracker.session(entry.source) as session:
        session.add(1, frame=0, box=[5, 10, 25, 30])
        session.add(2, frame=2, box=[45, 24, 65, 34])
        shown = {r.frame: dict(zip(r.ids.tolist(), r.masks.data, strict=True)) for r in session.propagate()}
    assert list(shown[1]) == [1]
    one, two = late().copy(), late().copy()
    for t, masks in shown.items():
        if t > 0:
            one[t] = masks[1]
        if t > 2:
            two[t] = np.where(masks[2], 2, 0)
    store_film(tmp_path / "one", "film", one, shown=late())
    store_film(tmp_path / "two", "film", two, shown=late())
    assert evaluate_entry(tracker, open_dataset(tmp_path / "one").entries[0], ["box"])[0].j == 1
    assert evaluate_entry(tracker, open_dataset(tmp_path / "two").entries[0], ["box"])[1].j == 1


# mixtures, and what goes wrong -------------------------------------------------------------------------------------


def test_a_mixture_has_both_and_its_names_say_where_they_are_from(photos: Path, films: Path) -> None:
    for data in ([photos, films], ((str(photos), 0.5), (films, 1.0)), {photos: 1.0, films: 2.0}):
        found = validate(oracle(), data, prompts=["box"])
        assert found.stills is not None
        assert list(found.stills.by_source) == ["a", "b"]
        assert list(found.films["box"].by_film) == ["films/ant", "films/bee"]
    (films.parent / "mine.json").write_text(json.dumps([{"path": "photos"}, {"path": "films", "weight": 2}]))
    assert plan(films.parent / "mine.json") == plan([photos, films])
    opened = validate(oracle(), open_dataset(films), prompts=["mask"])
    assert list(opened.films["mask"].by_film) == ["ant", "bee"]


class PicturesOnly(Oracle):
    def session(self, source: Any) -> Oracle:
        self.followed += source
        raise ModelError("mine.pt is for pictures only; choose another model")


@pytest.mark.parametrize("turned", [False, True])
def test_a_model_for_pictures_only_is_measured_on_the_pictures_of_a_mixture(
    photos: Path, films: Path, turned: bool
) -> None:
    model, steps = PicturesOnly(two_objects(), late()), []
    data = [films, photos] if turned else [photos, films]
    with pytest.warns(MaskletWarning, match="films/ant is left out: .*pictures only") as told:
        found = validate(model, data, step=lambda: steps.append(None))
    assert len(told) == 1
    assert found.stills is not None
    assert (found.stills.total.box, found.stills.total.objects, found.films) == (1, 7, {})
    assert list(found.left_out) == ["films/ant", "films/bee"]
    assert len(steps) == plan(data).frames
    assert {path.parent.name for path in model.followed} == {"ant"}
    with pytest.raises(ModelError, match="pictures only"):
        validate(model, films)
    with pytest.raises(ModelError, match="pictures only"):
        validate(model, data, prompts=["mask"])


def test_broken_entries_are_named_left_out_and_counted(photos: Path, films: Path) -> None:
    (photos / "a" / "images" / "a2.jpg").write_bytes(b"not a picture")
    (films / "Annotations" / "bee" / "00004.png").write_bytes(b"not a map")
    steps: list[None] = []
    with pytest.warns(MaskletWarning, match="left out") as told:
        found = validate(oracle(), [photos, films], step=lambda: steps.append(None))
    assert [str(one.message).split(" is ")[0] for one in told] == ["photos/a/a2", "films/bee"]
    assert "a2.jpg" in found.left_out["photos/a/a2"]
    assert "00004.png" in found.left_out["films/bee"]
    assert (found.counts.pictures, found.counts.films) == (3, 1)
    assert len(steps) == plan([photos, films]).frames == 14
    assert "2 left out as broken" in str(found)


def test_what_is_broken_before_anything_is_read_counts_too(photos: Path) -> None:
    (photos / "a" / "masks" / "a2.json").unlink()
    with pytest.warns(MaskletWarning, match=r"a/a2 is left out: .*a2\.jpg has no masks"):
        found = validate(oracle(), photos)
    assert list(found.left_out) == ["a/a2"]


def test_a_finding_about_a_film_that_is_whole_enough_is_told_and_the_film_measured(films: Path) -> None:
    maps = films / "Annotations" / "ant"
    (maps / "00099.png").write_bytes((maps / "00004.png").read_bytes())
    with pytest.warns(MaskletWarning, match=r"ant: .*00099\.png"):
        found = validate(oracle(), films, prompts=["mask"])
    assert (found.left_out, found.counts.films) == ({}, 2)


def test_of_very_many_findings_the_first_are_told(photos: Path) -> None:
    for number in range(13):
        store_still(photos / "a", f"more{number}", two_objects())
        (photos / "a" / "masks" / f"more{number}.json").unlink()
    with pytest.warns(MaskletWarning) as told:
        found = validate(oracle(), photos)
    assert len(found.left_out) == 13
    assert [str(one.message).split(";")[0] for one in told][10:] == ["3 more findings of that kind"]


def test_a_damaged_picture_that_nobody_annotated_is_passed_over(films: Path, tracker: SAM) -> None:
    (films / "JPEGImages" / "bee" / "00003.jpg").write_bytes(b"not a picture")
    with pytest.warns(MaskletWarning, match="frame 3 is left out"):
        found = validate(tracker, films, prompts=["mask"])
    assert list(found.films["mask"].by_film) == ["ant", "bee"]


def test_all_broken_is_an_error_that_names_the_first(photos: Path) -> None:
    for path in photos.glob("*/images/*.jpg"):
        path.write_bytes(b"not a picture")
    with pytest.warns(MaskletWarning), pytest.raises(SourceError, match=r"4 entries are broken.*a/a1: .*a1\.jpg"):
        validate(oracle(), photos)


def test_a_damaged_picture_of_a_film_is_no_figure(films: Path, tracker: SAM) -> None:
    (films / "JPEGImages" / "bee" / "00004.jpg").write_bytes(b"not a picture")
    with pytest.warns(MaskletWarning, match=r"bee is left out: .*00004\.jpg"):
        found = validate(tracker, films, prompts=["mask"])
    assert list(found.films["mask"].by_film) == ["ant"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"prompts": ["scribble"]}, r"'scribble'.*'mask', 'box', 'click'"),
        ({"prompts": []}, "asks nothing; choose at least one"),
        ({"prompts": ["mask"]}, "asks nothing of pictures"),
        ({"limit": 0}, "limit=0 must be a whole number"),
        ({"objects": 0}, "objects=0 must be a whole number"),
        ({"kind": "cards"}, "kind='cards' is unknown"),
        ({"split": "c"}, "no source 'c'"),
    ],
)
def test_a_choice_that_means_nothing_is_named(photos: Path, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        validate(oracle(), photos, **how)


def test_a_mask_alone_is_asked_of_films_and_passes_pictures_over(photos: Path, films: Path) -> None:
    found = validate(oracle(), [photos, films], prompts=["mask"])
    assert found.stills is None
    assert found.films["mask"].total.j == 1


def test_an_open_data_set_takes_no_kind(photos: Path) -> None:
    with pytest.raises(InputError, match="this data set is open"):
        validate(oracle(), open_dataset(photos), kind="stills")
    with pytest.raises(InputError, match="data holds no path"):
        validate(oracle(), [])


# the record --------------------------------------------------------------------------------------------------------


def test_figures_survive_json(photos: Path, films: Path) -> None:
    for prompts in (["box", "click", "mask"], ["box"]):
        found = validate(oracle(shift=5), [photos, films], prompts=prompts)
        again = Validation.from_json(found.to_json())
        assert str(again) == str(found)
        assert again.to_json() == found.to_json()
        assert again.films == found.films
        assert "NaN" not in found.to_json()
    with pytest.raises(InputError, match="is no validation"):
        Validation.from_json('{"stills": null}')


def test_the_table_says_what_was_measured(photos: Path, films: Path) -> None:
    text = str(validate(oracle(), [photos, films]))
    lines = text.splitlines()
    assert lines[0].startswith("4 pictures and 2 films (10 frames), 11 objects; ")
    assert lines[3].split() == ["objects", "box", "click", "click_best", "clicks_3", "clicks_5"]
    assert lines[4].split() == ["a", "6", *["1.000"] * 5]
    heading = next(line for line in lines if "box J&F" in line)
    assert heading.split("objects")[1].split("  ")[-1] == "mask J&F"
    assert lines[-1].split() == ["all", "objects", "4", *["1.000"] * 9]
    assert max(map(len, lines)) <= 130


def test_a_table_of_many_films_is_cut(tmp_path: Path) -> None:
    for number in range(33):
        store_film(tmp_path, f"a film with a rather long name {number}", late())
    lines = str(validate(oracle(), tmp_path, prompts=["mask"])).splitlines()
    assert lines[-2] == "... and 3 films more"
    assert lines[4].split()[0].startswith("...")
