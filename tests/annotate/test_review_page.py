"""Review: uncertainties, the queue of the most uncertain images, and the page that shows them."""

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
CERTAIN = ObjectAnnotation(0, 0.9, (8.0, 10.0, 28.0, 30.0), encode(MASK), 400, (8.0, 10.0, 28.0, 30.0), 0.95)


def record(*objects: ObjectAnnotation, name: str = "a", path: str = "a.png") -> ImageAnnotation:
    return ImageAnnotation(name, path, (48, 64), objects)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (replace(CERTAIN, predicted_iou=0.4), r"the mask is uncertain \(predicted IoU 0.40\)"),
        (replace(CERTAIN, score=0.28), r"low detector score \(0.28, threshold 0.25\)"),
        (replace(CERTAIN, area=3), r"tiny \(3 pixels\)"),
        (replace(CERTAIN, area=3000), "covers 98% of the image"),
        (replace(CERTAIN, area=0), "the mask is empty"),
        (replace(CERTAIN, box=(0.0, 0.0, 60.0, 48.0)), r"box and mask disagree \(IoU 0.14\)"),
    ],
)
def test_one_reason_per_cause(one: ObjectAnnotation, reason: str) -> None:
    [uncertainty] = object_uncertainties(record(CERTAIN, one), 0.25)
    assert uncertainty.object_index == 1
    assert len(uncertainty.reasons) == 1
    assert re.search(reason, uncertainty.reasons[0])
    assert 0 < uncertainty.value <= 1


def test_more_uncertain_objects_come_first() -> None:
    values = [
        object_uncertainties(record(replace(CERTAIN, predicted_iou=iou)), None)[0].value for iou in (0.8, 0.5, 0.1)
    ]
    assert values == sorted(values)
    uncertainties = object_uncertainties(
        record(replace(CERTAIN, predicted_iou=0.8), replace(CERTAIN, predicted_iou=0.1, score=0.26)), 0.25
    )
    assert [one.object_index for one in uncertainties] == [1, 0]
    assert "uncertain" in uncertainties[0].reasons[0]
    assert len(uncertainties[0].reasons) == 2
    assert object_uncertainties(record(replace(CERTAIN, score=0.1, predicted_iou=None)), None) == []


def test_images_with_equal_worst_objects_are_ranked_by_the_others() -> None:
    bad, fair = replace(CERTAIN, predicted_iou=0.35), replace(CERTAIN, predicted_iou=0.5)
    queue = ReviewQueue(1.0, 3, None)
    for name, objects in (("mostly certain", (CERTAIN, CERTAIN, bad)), ("bad", (bad, bad)), ("mixed", (bad, fair))):
        queue.add(name, 0, record(*objects))
    assert [item.name for item in queue.items()] == ["bad", "mixed", "mostly certain"]


def test_queue_keeps_the_most_uncertain_two_percent() -> None:
    queue = ReviewQueue(0.02, 200, None)
    for number in range(200):
        queue.add(f"p{number}", 0, record(replace(CERTAIN, predicted_iou=(number * 7 % 200) / 250)))
    assert [round(item.value, 3) for item in queue.items()] == [1.0, 0.996, 0.992, 0.988]
    assert len(queue._heap) == 4
    few = ReviewQueue(0.02, 3, None)
    few.add("certain", 0, record(CERTAIN))
    assert few.items() == []


def test_page_shows_images_and_reasons_and_needs_no_network(tmp_path: Path) -> None:
    Image.fromarray(make_image(0)).save(tmp_path / "a b.png")
    small = ObjectAnnotation(1, 0.5, (50.0, 30.0, 54.0, 33.0), encode(np.zeros((48, 64), bool)), 0, (0.0,) * 4, 0.2)  # type: ignore[arg-type]
    shown = record(CERTAIN, small, name="cats/<a>", path=str(tmp_path / "a b.png"))
    missing = record(replace(CERTAIN, predicted_iou=0.1), name="missing", path=str(tmp_path / "missing.png"))
    path = write_review(
        tmp_path / "out" / "review.html",
        [shown, missing],
        {0: "red", 1: "gr&een"},
        0.25,
        [Failure("x", "x is <broken>")],
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
    thumbnail = np.asarray(images[0]).astype(int)
    assert (
        thumbnail[130, 110, 2] - make_image(0)[20, 18, 2] > 60
    )  # the red square is tinted with the first color, a blue


def test_frame_of_a_video_is_shown(tmp_path: Path) -> None:
    from helpers.cli_videos import write_video

    frames = np.stack([np.full((48, 64, 3), 40 * number, np.uint8) for number in range(5)])
    write_video(tmp_path / "clip.mp4", frames)
    shown = ImageAnnotation(
        "clip/000003",
        str(tmp_path / "clip.mp4"),
        (48, 64),
        (replace(CERTAIN, predicted_iou=0.1),),
        video="clip",
        frame_idx=3,
    )
    text = write_review(tmp_path / "review.html", [shown], {}, None, ()).read_text()
    image = Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", text)[0])))
    assert abs(float(np.asarray(image)[-20:].mean()) - 120) < 12
