"""Data of one's own: stills in our layout, videos in that of YouTube-VOS, and mixtures of both."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.synthetic_truth import FRAMES, Oracle, late, store_image, store_video, two_objects
from masklet import SAM
from masklet.datasets import open_dataset
from masklet.errors import InputError, MaskletWarning, ModelError, SourceError
from masklet.evaluate import ValidationResult, evaluate_video, validate
from masklet.evaluate.validate import plan_validation


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two sources: three images with two objects each, and one with the first alone."""
    for name in ("a1", "a2", "a10"):
        store_image(tmp_path / "photos" / "a", name, two_objects())
    store_image(tmp_path / "photos" / "b", "b", two_objects()[:1])
    return tmp_path / "photos"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        store_video(tmp_path / "videos", name, late())
    return tmp_path / "videos"


def oracle(**how: Any) -> Any:
    return Oracle(two_objects(), late(), **how)


# stills ------------------------------------------------------------------------------------------------------------


def test_the_truth_scores_one_on_images_by_source(photos: Path) -> None:
    model = oracle()
    found = validate(model, photos)
    assert found.images is not None
    assert (found.images.total.box, found.images.total.click, found.images.total.clicks_5) == (1, 1, 1)
    assert {name: of.objects for name, of in found.images.per_source.items()} == {"a": 6, "b": 1}
    assert (found.counts.images, found.counts.objects, found.videos, found.skipped) == (4, 7, {}, {})
    assert found.seconds > 0


def test_a_image_is_encoded_once_for_all_its_objects_and_prompts(photos: Path) -> None:
    model = oracle()
    validate(model, photos)
    assert model.encoded == 4
    assert model.click_counts == [0, 1, 2, 3, 4, 5] * 4


def test_nothing_found_scores_zero(photos: Path, videos: Path) -> None:
    found = validate(oracle(empty=True), [photos, videos])
    assert found.images is not None
    assert (found.images.total.box, found.images.total.click_best, found.images.total.clicks_5) == (0, 0, 0)
    assert [report.total.jf for report in found.videos.values()] == [0, 0, 0]


def test_figures_not_requested_are_nan_and_print_as_a_dash(photos: Path) -> None:
    model = oracle(shift=15)
    found = validate(model, photos, prompts=["box"])
    assert found.images is not None
    assert model.click_counts == [0] * 4
    assert found.images.per_source["b"].box == pytest.approx(1 / 3)
    assert math.isnan(found.images.total.click)
    last = str(found).splitlines()[-1].split()
    assert last[:4] == ["all", "objects", "7", f"{found.images.total.box:.3f}"]
    assert last[4:] == ["-"] * 4


def test_objects_and_entries_are_limited_evenly(photos: Path) -> None:
    assert [sample.name for sample in plan_validation(photos, limit=2).items] == ["a/a1", "b/b"]
    found = validate(oracle(), photos, max_objects=1, limit=3)
    assert (found.counts.images, found.counts.objects) == (3, 3)


def test_images_without_objects_are_counted_and_alone_are_an_error(photos: Path, tmp_path: Path) -> None:
    nothing = np.zeros((1, *two_objects().shape[1:]), bool)
    store_image(tmp_path / "bare" / "c", "c", nothing)
    store_image(tmp_path / "bare" / "c", "d", nothing[:0])
    found = validate(oracle(), [photos, tmp_path / "bare"], prompts=["box"])
    assert (found.counts.images, found.counts.without_objects) == (4, 2)
    assert "2 more without objects" in str(found)
    with pytest.raises(SourceError, match="none of 2 entries has an object"):
        validate(oracle(), tmp_path / "bare")


# videos -------------------------------------------------------------------------------------------------------------


def test_an_object_that_comes_late_is_prompted_late_and_measured_after(videos: Path) -> None:
    model = oracle()
    entry = open_dataset(videos).samples[0]
    rows = evaluate_video(model, entry, ["mask"])
    assert [(row.id, row.prompt, row.j, row.f, row.frames) for row in rows] == [
        (1, "mask", 1, 1, 2),
        (2, "mask", 1, 1, 1),
    ]
    assert [frame for frame, _ in model.prompts.values()] == [0, 2]
    assert [path.stem for path in model.opened_images] == [f"{t:05d}" for t in range(FRAMES)]


def test_every_annotated_frame_after_the_prompt_is_measured_the_last_too(tmp_path: Path) -> None:
    wrong = late()
    wrong[4] = 0
    store_video(tmp_path, "clip", late())
    entry = open_dataset(tmp_path).samples[0]
    rows = evaluate_video(Oracle(two_objects(), wrong), entry, ["mask"])
    assert [row.j for row in rows] == [0.5, 0]
    wrong = late()
    wrong[3] = wrong[5] = 0  # nobody knows the truth there
    assert [row.j for row in evaluate_video(Oracle(two_objects(), wrong), entry, ["mask"])] == [1, 1]


def test_an_object_out_of_sight_must_not_be_shown(tmp_path: Path) -> None:
    labels = late()
    labels[4:][labels[4:] == 1] = 0
    store_video(tmp_path, "clip", labels)
    entry = open_dataset(tmp_path).samples[0]
    assert [row.j for row in evaluate_video(oracle(), entry, ["mask"])] == [0.5, 1]


def test_an_object_of_the_last_annotated_frame_alone_is_not_measured(tmp_path: Path) -> None:
    labels = late()
    labels[:4][labels[:4] == 2] = 0
    store_video(tmp_path, "clip", labels)
    rows = evaluate_video(Oracle(two_objects(), labels), open_dataset(tmp_path).samples[0])
    assert {row.id for row in rows} == {1}
    labels[:4] = 0
    store_video(tmp_path / "none", "clip", labels)
    assert evaluate_video(oracle(), open_dataset(tmp_path / "none").samples[0]) == ()


def test_prompts_are_followed_together_and_measured_apart(videos: Path) -> None:
    model = oracle(shift=5)
    entry = open_dataset(videos).samples[0]
    rows = evaluate_video(model, entry, ["box", "click", "mask"])
    assert len(model.opened_images) == FRAMES  # one pass
    assert [(row.id, row.prompt) for row in rows] == [
        (n, prompt) for n in (1, 2) for prompt in ("box", "click", "mask")
    ]
    assert [row.j for row in rows] == pytest.approx([0.6] * 6)
    box, click, mask = (model.prompts[n][1] for n in range(3))
    assert box.box is not None
    assert (box.box.x1, box.box.y1, box.box.x2, box.box.y2) == (5, 10, 25, 30)
    assert click.points is not None
    assert click.points.xy.tolist() == [[14, 19]]
    assert mask.mask is not None
    np.testing.assert_array_equal(mask.mask.mask, late()[0] == 1)


def test_videos_have_a_report_a_prompt_over_all_their_objects(videos: Path) -> None:
    steps: list[None] = []
    found = validate(oracle(shift=5), videos, prompts=["click", "box"], on_progress=lambda: steps.append(None))
    assert list(found.videos) == ["click", "box"]
    report = found.videos["box"]
    assert (report.total.objects, list(report.per_video)) == (4, ["ant", "bee"])
    assert report.per_video["ant"].j == pytest.approx(0.6)
    assert report.total.jf == pytest.approx((report.total.j + report.total.f) / 2)
    assert (found.counts.videos, found.counts.frames, found.counts.objects) == (2, 10, 4)
    assert len(steps) == plan_validation(videos).num_frames == 10
    assert found.images is None


def test_a_tracked_mask_scores_one_against_itself_also_when_it_comes_late(tmp_path: Path, tracker: SAM) -> None:
    """What a session shows is stored as the truth behind the first frames, and found again."""
    store_video(tmp_path / "first", "clip", late())
    entry = open_dataset(tmp_path / "first").samples[0]
    assert max(row.j for row in evaluate_video(tracker, entry, ["box"])) < 1
    with tracker.session(entry.source, non_overlapping=False) as session:  # each file shows one object
        session.add_prompt(1, frame_idx=0, box=[5, 10, 25, 30])
        session.add_prompt(2, frame_idx=2, box=[45, 24, 65, 34])
        shown = {r.frame_idx: dict(zip(r.ids.tolist(), r.masks.data, strict=True)) for r in session.propagate()}
    assert list(shown[1]) == [1]
    one, two = late().copy(), late().copy()
    for t, masks in shown.items():
        if t > 0:
            one[t] = masks[1]
        if t > 2:
            two[t] = np.where(masks[2], 2, 0)
    store_video(tmp_path / "one", "clip", one, shown=late())
    store_video(tmp_path / "two", "clip", two, shown=late())
    assert evaluate_video(tracker, open_dataset(tmp_path / "one").samples[0], ["box"])[0].j == 1
    assert evaluate_video(tracker, open_dataset(tmp_path / "two").samples[0], ["box"])[1].j == 1


# mixtures, and what goes wrong -------------------------------------------------------------------------------------


def test_a_mixture_has_both_and_its_names_say_where_they_are_from(photos: Path, videos: Path) -> None:
    for data in ([photos, videos], ((str(photos), 0.5), (videos, 1.0)), {photos: 1.0, videos: 2.0}):
        found = validate(oracle(), data, prompts=["box"])
        assert found.images is not None
        assert list(found.images.per_source) == ["a", "b"]
        assert list(found.videos["box"].per_video) == ["videos/ant", "videos/bee"]
    (videos.parent / "mine.json").write_text(json.dumps([{"path": "photos"}, {"path": "videos", "weight": 2}]))
    assert plan_validation(videos.parent / "mine.json") == plan_validation([photos, videos])
    opened = validate(oracle(), open_dataset(videos), prompts=["mask"])
    assert list(opened.videos["mask"].per_video) == ["ant", "bee"]


class ImagesOnly(Oracle):
    def session(self, source: Any) -> Oracle:
        self.opened_images += source
        raise ModelError("mine.pt is for images only; choose another model")


@pytest.mark.parametrize("turned", [False, True])
def test_a_model_for_images_only_is_measured_on_the_images_of_a_mixture(
    photos: Path, videos: Path, turned: bool
) -> None:
    model, steps = ImagesOnly(two_objects(), late()), []
    data = [videos, photos] if turned else [photos, videos]
    with pytest.warns(MaskletWarning, match="videos/ant is left out: .*images only") as warned:
        found = validate(model, data, on_progress=lambda: steps.append(None))
    assert len(warned) == 1
    assert found.images is not None
    assert (found.images.total.box, found.images.total.objects, found.videos) == (1, 7, {})
    assert list(found.skipped) == ["videos/ant", "videos/bee"]
    assert len(steps) == plan_validation(data).num_frames
    assert {path.parent.name for path in model.opened_images} == {"ant"}
    with pytest.raises(ModelError, match="images only"):
        validate(model, videos)
    with pytest.raises(ModelError, match="images only"):
        validate(model, data, prompts=["mask"])


def test_broken_entries_are_named_left_out_and_counted(photos: Path, videos: Path) -> None:
    (photos / "a" / "images" / "a2.jpg").write_bytes(b"not an image")
    (videos / "Annotations" / "bee" / "00004.png").write_bytes(b"not a map")
    steps: list[None] = []
    with pytest.warns(MaskletWarning, match="left out") as warned:
        found = validate(oracle(), [photos, videos], on_progress=lambda: steps.append(None))
    assert [str(one.message).split(" is ")[0] for one in warned] == ["photos/a/a2", "videos/bee"]
    assert "a2.jpg" in found.skipped["photos/a/a2"]
    assert "00004.png" in found.skipped["videos/bee"]
    assert (found.counts.images, found.counts.videos) == (3, 1)
    assert len(steps) == plan_validation([photos, videos]).num_frames == 14
    assert "2 left out as broken" in str(found)


def test_an_error_that_is_in_no_list_costs_its_image(photos: Path) -> None:
    class Failing(Oracle):
        def set_image(self, rgb: np.ndarray) -> None:
            super().set_image(rgb)
            if self.encoded == 2:
                raise IndexError("row 7 is not there")

    with pytest.warns(MaskletWarning, match="photos/a/a2|a/a2"):
        found = validate(Failing(two_objects(), late()), photos)
    assert found.counts.images == 3
    assert list(found.skipped.values()) == ["a/a2: IndexError: row 7 is not there"]


def test_a_broken_object_costs_itself(photos: Path, videos: Path) -> None:
    file = photos / "a" / "masks" / "a2.json"
    codes = json.loads(file.read_text())
    file.write_text(json.dumps([codes[0], {"size": [1, 1], "counts": [1]}, codes[1], 3]))
    with pytest.warns(MaskletWarning, match="a/a2: an object is left out") as warned:
        found = validate(oracle(), photos)
    assert [("mask 2" in str(one.message), "mask 4" in str(one.message)) for one in warned] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert (found.counts.images, found.counts.objects, found.broken_objects, found.skipped) == (4, 7, 2, {})
    assert "7 objects (2 more left out as broken)" in str(found)
    assert ValidationResult.from_json(found.to_json()).broken_objects == 2


def test_what_is_broken_before_anything_is_read_counts_too(photos: Path) -> None:
    (photos / "a" / "masks" / "a2.json").unlink()
    with pytest.warns(MaskletWarning, match=r"a/a2 is left out: .*a2\.jpg has no masks"):
        found = validate(oracle(), photos)
    assert list(found.skipped) == ["a/a2"]


def test_a_video_with_a_surplus_annotation_is_measured_with_a_warning(videos: Path) -> None:
    maps = videos / "Annotations" / "ant"
    (maps / "00099.png").write_bytes((maps / "00004.png").read_bytes())
    with pytest.warns(MaskletWarning, match=r"ant: .*00099\.png"):
        found = validate(oracle(), videos, prompts=["mask"])
    assert (found.skipped, found.counts.videos) == ({}, 2)


def test_of_very_many_findings_the_first_are_warned_of(photos: Path) -> None:
    for number in range(13):
        store_image(photos / "a", f"more{number}", two_objects())
        (photos / "a" / "masks" / f"more{number}.json").unlink()
    with pytest.warns(MaskletWarning) as warned:
        found = validate(oracle(), photos)
    assert len(found.skipped) == 13
    assert [str(one.message).split(";")[0] for one in warned][10:] == ["3 more findings of that kind"]


def test_a_damaged_image_that_nobody_annotated_is_passed_over(videos: Path, tracker: SAM) -> None:
    (videos / "JPEGImages" / "bee" / "00003.jpg").write_bytes(b"not an image")
    with pytest.warns(MaskletWarning, match="frame 3 is left out"):
        found = validate(tracker, videos, prompts=["mask"])
    assert list(found.videos["mask"].per_video) == ["ant", "bee"]


def test_all_broken_is_an_error_that_names_the_first(photos: Path) -> None:
    for path in photos.glob("*/images/*.jpg"):
        path.write_bytes(b"not an image")
    with pytest.warns(MaskletWarning), pytest.raises(SourceError, match=r"4 entries are broken.*a/a1: .*a1\.jpg"):
        validate(oracle(), photos)


def test_a_damaged_image_of_a_video_is_no_figure(videos: Path, tracker: SAM) -> None:
    (videos / "JPEGImages" / "bee" / "00004.jpg").write_bytes(b"not an image")
    with pytest.warns(MaskletWarning, match=r"bee is left out: .*00004\.jpg"):
        found = validate(tracker, videos, prompts=["mask"])
    assert list(found.videos["mask"].per_video) == ["ant"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"prompts": ["scribble"]}, r"'scribble'.*'mask', 'box', 'click'"),
        ({"prompts": []}, "is empty; choose at least one"),
        ({"prompts": ["mask"]}, "does not apply to images"),
        ({"limit": 0}, "limit=0 must be a whole number"),
        ({"max_objects": 0}, "max_objects=0 must be a whole number"),
        ({"data_format": "cards"}, "='cards' is unknown"),
        ({"split": "c"}, "no source 'c'"),
    ],
)
def test_a_choice_that_means_nothing_is_named(photos: Path, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        validate(oracle(), photos, **how)


def test_the_mask_prompt_alone_measures_videos_and_passes_images_over(photos: Path, videos: Path) -> None:
    found = validate(oracle(), [photos, videos], prompts=["mask"])
    assert found.images is None
    assert found.videos["mask"].total.j == 1


def test_an_open_data_set_takes_no_kind(photos: Path) -> None:
    with pytest.raises(InputError, match="this data set is open"):
        validate(oracle(), open_dataset(photos), data_format="native")
    with pytest.raises(InputError, match="data has no path"):
        validate(oracle(), [])


# the record --------------------------------------------------------------------------------------------------------


def test_figures_survive_json(photos: Path, videos: Path) -> None:
    for prompts in (["box", "click", "mask"], ["box"]):
        found = validate(oracle(shift=5), [photos, videos], prompts=prompts)
        again = ValidationResult.from_json(found.to_json())
        assert str(again) == str(found)
        assert again.to_json() == found.to_json()
        assert again.videos == found.videos
        assert "NaN" not in found.to_json()
    with pytest.raises(InputError, match="is no validation"):
        ValidationResult.from_json('{"stills": null}')


def test_json_of_an_earlier_version_is_read() -> None:
    """Names of data that equal an earlier key stay as they are."""
    fixture = json.loads(Path(__file__).with_name("earlier_validation.json").read_text(encoding="utf-8"))
    found, names = ValidationResult.from_json(json.dumps(fixture["stored"])), fixture["names"]
    assert found.images is not None
    assert (found.images.total.box, list(found.images.per_source)) == (0.5, names["sources"])
    assert math.isnan(found.images.mean_over_sources.click)
    assert found.videos["box"].per_video[names["video"]].jf == 0.5
    assert (found.counts.images, found.counts.videos, found.counts.without_objects) == (2, 1, 4)
    assert (found.skipped, found.seconds) == ({names["skipped"]: "is damaged"}, 1.5)
    assert ValidationResult.from_json(found.to_json()).videos == found.videos


def test_the_table_says_what_was_measured(photos: Path, videos: Path) -> None:
    text = str(validate(oracle(), [photos, videos]))
    lines = text.splitlines()
    assert lines[0].startswith("4 images and 2 videos (10 frames), 11 objects; ")
    assert lines[3].split() == ["objects", "box", "click", "click_best", "clicks_3", "clicks_5"]
    assert lines[4].split() == ["a", "6", *["1.000"] * 5]
    heading = next(line for line in lines if "box J&F" in line)
    assert heading.split("objects")[1].split("  ")[-1] == "mask J&F"
    assert lines[-1].split() == ["all", "objects", "4", *["1.000"] * 9]
    assert max(map(len, lines)) <= 130


def test_a_table_of_many_videos_is_cut(tmp_path: Path) -> None:
    for number in range(33):
        store_video(tmp_path, f"a video with a rather long name {number}", late())
    lines = str(validate(oracle(), tmp_path, prompts=["mask"])).splitlines()
    assert lines[-2] == "... and 3 videos more"
    assert lines[4].split()[0].startswith("...")
