"""What a person should look at: doubts, the most doubtful of many, and the sheet that shows them."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.annotate_data import make_image
from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation
from masklet.annotate.review_page import ReviewQueue, write_review
from masklet.annotate.summary import Failure
from masklet.annotate.uncertainty import object_uncertainties
from masklet.masks.rle import encode

MASK = np.zeros((48, 64), bool)
MASK[10:30, 8:28] = True
SURE = ObjectAnnotation(0, 0.9, (8.0, 10.0, 28.0, 30.0), encode(MASK), 400, (8.0, 10.0, 28.0, 30.0), 0.95)


def record(*objects: ObjectAnnotation, name: str = "a", path: str = "a.png") -> ImageAnnotation:
    return ImageAnnotation(name, path, (48, 64), objects)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (replace(SURE, iou=0.4), r"the mask is unsure \(predicted IoU 0.40\)"),
        (replace(SURE, score=0.28), r"hardly sure \(score 0.28, threshold 0.25\)"),
        (replace(SURE, area=3), r"tiny \(3 pixels\)"),
        (replace(SURE, area=3000), "covers 98% of the image"),
        (replace(SURE, area=0), "the mask is empty"),
        (replace(SURE, box=(0.0, 0.0, 60.0, 48.0)), r"box and mask disagree \(they overlap by 0.14\)"),
    ],
)
def test_every_reason_is_said_and_nothing_else(one: ObjectAnnotation, said: str) -> None:
    [doubt] = object_uncertainties(record(SURE, one), 0.25)
    assert doubt.object_index == 1
    assert len(doubt.reasons) == 1
    assert re.search(said, doubt.reasons[0])
    assert 0 < doubt.value <= 1


def test_more_doubt_is_a_higher_number_and_comes_first() -> None:
    values = [object_uncertainties(record(replace(SURE, iou=iou)), None)[0].value for iou in (0.8, 0.5, 0.1)]
    assert values == sorted(values)
    found = object_uncertainties(record(replace(SURE, iou=0.8), replace(SURE, iou=0.1, score=0.26)), 0.25)
    assert [doubt.object_index for doubt in found] == [1, 0]
    assert "unsure" in found[0].reasons[0]
    assert len(found[0].reasons) == 2
    assert object_uncertainties(record(replace(SURE, score=0.1, iou=None)), None) == []


def test_of_two_images_with_equal_worst_objects_the_more_doubtful_one_is_that_with_less_else() -> None:
    bad, fair = replace(SURE, iou=0.35), replace(SURE, iou=0.5)
    pile = ReviewQueue(1.0, 3, None)
    for name, objects in (("mostly sure", (SURE, SURE, bad)), ("bad", (bad, bad)), ("mixed", (bad, fair))):
        pile.add(name, 0, record(*objects))
    assert [card.name for card in pile.items()] == ["bad", "mixed", "mostly sure"]


def test_a_pile_keeps_the_most_doubtful_two_per_cent() -> None:
    pile = ReviewQueue(0.02, 200, None)
    for number in range(200):
        pile.add(f"p{number}", 0, record(replace(SURE, iou=(number * 7 % 200) / 250)))
    assert [round(card.value, 3) for card in pile.items()] == [1.0, 0.996, 0.992, 0.988]
    assert len(pile._heap) == 4
    few = ReviewQueue(0.02, 3, None)
    few.add("sure", 0, record(SURE))
    assert few.items() == []


def test_the_sheet_shows_images_and_reasons_and_needs_no_network(tmp_path: Path) -> None:
    Image.fromarray(make_image(0)).save(tmp_path / "a b.png")
    small = ObjectAnnotation(1, 0.5, (50.0, 30.0, 54.0, 33.0), encode(np.zeros((48, 64), bool)), 0, (0.0,) * 4, 0.2)  # type: ignore[arg-type]
    shown = record(SURE, small, name="cats/<a>", path=str(tmp_path / "a b.png"))
    gone = record(replace(SURE, iou=0.1), name="gone", path=str(tmp_path / "gone.png"))
    path = write_review(
        tmp_path / "out" / "review.html", [shown, gone], {0: "red", 1: "gr&een"}, 0.25, [Failure("x", "x is <broken>")]
    )
    text = path.read_text()
    assert "http" not in text
    assert "<script" not in text
    assert "cats/&lt;a&gt;" in text
    assert 'href="../a%20b.png"' in text
    assert "<b>gr&amp;een</b>, object 2: the mask is empty" in text
    assert "x is &lt;broken&gt;" in text
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", text)]
    assert [image.size for image in images] == [(420, 315), (220, 220)]
    whole = np.asarray(images[0]).astype(int)
    assert whole[130, 110, 2] - make_image(0)[20, 18, 2] > 60  # the red square is tinted with the first color, a blue


def test_of_a_video_the_frame_is_shown(tmp_path: Path) -> None:
    from helpers.cli_videos import write_video

    frames = np.stack([np.full((48, 64, 3), 40 * number, np.uint8) for number in range(5)])
    write_video(tmp_path / "film.mp4", frames)
    shown = ImageAnnotation(
        "film/000003", str(tmp_path / "film.mp4"), (48, 64), (replace(SURE, iou=0.1),), video="film", frame_idx=3
    )
    text = write_review(tmp_path / "review.html", [shown], {}, None, ()).read_text()
    image = Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", text)[0])))
    assert abs(float(np.asarray(image)[-20:].mean()) - 120) < 12
