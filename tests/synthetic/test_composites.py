"""Still composites: reproducible, many objects, exact visible masks, shadows that belong to no object."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.datasets import open_dataset
from masklet.masks import rle
from masklet.synthetic import CompositeGenerator, DatasetSource, Photograph, ProceduralSource
from masklet.synthetic.compositing import HIDDEN_AREA_FRACTION
from masklet.synthetic.cutout_clips import MIN_AREA_FRACTION
from masklet.synthetic.cutouts import Cutout

GRAY, RED = 200, (250, 0, 0)


class PlainSource:
    """A gray photograph with one object, its left half, and red discs as cutouts."""

    def sample_image(self, rng: np.random.Generator) -> Photograph:
        left = np.zeros((96, 128), bool)
        left[:, :64] = True
        return Photograph(np.full((96, 128, 3), GRAY, np.uint8), {1: left})

    def sample_cutout(self, rng: np.random.Generator) -> Cutout:
        y, x = np.mgrid[:48, :48]
        disc = (x - 24) ** 2 + (y - 24) ** 2 < 20**2
        return Cutout(np.broadcast_to(np.uint8(RED), (48, 48, 3)).copy(), disc.astype(np.uint8) * 255)


def test_a_composite_depends_on_seed_and_number_alone(discs: DatasetSource) -> None:
    generator = CompositeGenerator(discs, size=64, objects=4)
    one, same, other = generator.clip(0, 5), generator.clip(0, 5), generator.clip(1, 5)
    assert (one.frames_THW3 == same.frames_THW3).all()
    assert (one.masks_TNHW == same.masks_TNHW).all()
    assert (one.frames_THW3 != other.frames_THW3).any()


def test_composites_show_many_objects_without_overlap(discs: DatasetSource) -> None:
    """Discs of one photograph do not overlap either, so no masks of a composite do."""
    generator, counts = CompositeGenerator(discs, size=96, objects=10), []
    for number in range(15):
        clip = generator.clip(0, number)
        assert clip.frames_THW3.shape == (1, 96, 96, 3)
        assert clip.masks_TNHW.sum(1).max() <= 1
        assert (clip.masks_TNHW[0].mean((1, 2)) > MIN_AREA_FRACTION).all()
        counts.append(clip.masks_TNHW.shape[1])
    assert max(counts) >= 7
    assert np.mean(counts) > 3
    assert max(CompositeGenerator(discs, size=96, objects=2).clip(0, n).masks_TNHW.shape[1] for n in range(5)) == 2


def test_masks_are_what_is_seen_and_shadows_are_in_none() -> None:
    """A pixel is red exactly where a disc is; the half of the photograph loses what discs cover and no shadow."""
    generator, shadows = CompositeGenerator(PlainSource(), size=64, objects=12), 0
    for number in range(12):
        clip = generator.clip(0, number)
        image, masks = clip.frames_THW3[0].astype(int), clip.masks_TNHW[0]
        saturation = image.max(-1) - image.min(-1)
        is_half = np.array([(saturation[mask] < 90).mean() > 0.8 for mask in masks])
        if is_half.any() and (~is_half).any():
            seen_discs = masks[~is_half].any(0)
            assert not (seen_discs & masks[is_half].any(0)).any()
            assert np.median(saturation[seen_discs]) > 90
        dark = image[~masks[~is_half].any(0)].max(-1)
        shadows += int((dark < 0.8 * np.median(dark)).mean() > 0.02)
    assert 3 <= shadows <= 11


def test_composites_need_no_files() -> None:
    clip = CompositeGenerator(ProceduralSource(), size=64, objects=3).clip(2, 0)
    assert (clip.masks_TNHW.mean((2, 3)) > HIDDEN_AREA_FRACTION).all()


@pytest.fixture(scope="module")
def person_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of a person, 60 x 40, whose shirt is another object; and a small separate ball."""
    folder = tmp_path_factory.mktemp("person") / "people"
    person, shirt, ball = (np.zeros((120, 120), bool) for _ in range(3))
    person[20:80, 30:70] = True
    shirt[40:70, 30:70] = True
    ball[90:92, 90:92] = True
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    Image.fromarray(np.full((120, 120, 3), 90, np.uint8)).save(folder / "images" / "0.jpg")
    (folder / "masks" / "0.json").write_text(json.dumps([rle.encode(mask) for mask in (shirt, ball, person)]))
    return folder


def test_whole_objects_are_no_parts(person_folder: Path) -> None:
    source = DatasetSource(((open_dataset(person_folder), 1.0),), whole_objects=True)
    rng = np.random.default_rng(0)
    assert {source.sample_cutout(rng).alpha.shape for _ in range(10)} == {(72, 52)}
    shapes = {replace(source, whole_objects=False).sample_cutout(rng).alpha.shape for _ in range(10)}
    assert shapes == {(72, 52)}, "the larger ones first"
