"""What a check counts, and the contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import BOX, HEIGHT, RING, WIDTH, codes, label_map, labelled_film, picture, sav, stills, text
from masklet.datasets import Census, check, contact_sheet, examine, open_dataset, take_census
from masklet.datasets.check import Spread
from masklet.errors import OutputError

AREA = HEIGHT * WIDTH


def test_a_census_of_stills_counts_by_hand(tmp_path: Path) -> None:
    stills(tmp_path)
    picture(tmp_path / "images" / "large.jpg", size=(80, 90))
    text(tmp_path / "masks" / "large.json", [])
    text(tmp_path / "masks" / "b.json", codes([BOX, np.zeros_like(BOX), BOX]))
    (tmp_path / "images" / "a2.jpg").write_bytes(b"")
    text(tmp_path / "masks" / "alone.json", [])
    data = open_dataset(tmp_path)
    assert take_census(data, examine(data)) == Census(
        kind="stills",
        pictures=4,
        films=0,
        frames=4,
        annotated=4,
        read=3,
        objects=4,
        objects_per_frame=Spread(0, 2, 2),
        sizes=((HEIGHT, WIDTH), (HEIGHT, WIDTH), (80, 90)),
        share=pytest.approx(BOX.sum() / AREA),  # type: ignore[arg-type]
        empty=1,
        broken=2,
    )
    assert [finding.entry for finding in check(data)] == ["alone", "a2"]


def test_an_object_of_a_film_counts_once(tmp_path: Path) -> None:
    maps = {0: label_map(ids=(1, 0)), 5: label_map(), 10: label_map(ids=(0, 0))}
    labelled_film(tmp_path, "dog", maps, 12)
    data = open_dataset(tmp_path)
    census = take_census(data, examine(data))
    assert (census.films, census.pictures, census.frames, census.annotated, census.read) == (1, 0, 12, 3, 3)
    assert (census.objects, census.objects_per_frame, census.empty) == (2, Spread(0, 1, 2), 1)
    film = open_dataset(sav(tmp_path / "sav"))
    census = take_census(film, examine(film))
    assert (census.films, census.frames, census.annotated, census.objects, census.broken) == (1, 13, 4, 3, 0)


def test_every_third_frame_over_the_whole(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        labelled_film(tmp_path, name, {n: label_map() for n in range(5)}, 5)
    data = open_dataset(tmp_path)
    looked = list(examine(data, every=3))
    assert [(frame.entry, frame.number) for frame in looked] == [("ant", 0), ("ant", 3), ("bee", 1), ("bee", 4)]
    assert looked[0].areas == {1: BOX.sum(), 2: RING.sum()}
    assert looked[0].size == (HEIGHT, WIDTH)
    assert take_census(data, looked).annotated == 10


def test_long_films_are_read_in_stretches_and_only_the_broken_frame_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.datasets.check.ROOM", 4 * AREA * 3)
    labelled_film(tmp_path, "ant", {n: label_map() for n in range(10)}, 10)
    (tmp_path / "JPEGImages" / "ant" / "00006.jpg").write_bytes(b"?")
    data = open_dataset(tmp_path)
    looked = list(examine(data))
    assert [frame.number for frame in looked if frame.size] == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert [finding.file.name for frame in looked for finding in frame.findings] == ["00006.jpg"]


def test_a_data_set_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    stills(tmp_path, ["a"])
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    data = open_dataset(tmp_path)
    census = take_census(data, examine(data))
    assert (census.sizes, census.share, census.objects_per_frame, census.broken) == ((), None, None, 1)


# the contact sheet -------------------------------------------------------------------------------------------------


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_sheet_is_a_grid_of_what_there_is(tmp_path: Path) -> None:
    data = open_dataset(stills(tmp_path, [f"{n}" for n in range(9)]))
    few = pixels(contact_sheet(data, tmp_path / "out" / "few.png", count=3))
    more = pixels(contact_sheet(data, tmp_path / "more.png"))
    assert few.shape[1] < more.shape[1]
    assert few.shape[0] < more.shape[0]
    assert len(np.unique(few.reshape(-1, 3), axis=0)) > 500


def test_masks_are_painted_and_what_is_broken_is_said_in_red(tmp_path: Path) -> None:
    from masklet.datasets.contact_sheet import ALARM

    data = open_dataset(stills(tmp_path, ["a"]))
    painted = pixels(contact_sheet(data, tmp_path / "painted.png"))
    text(tmp_path / "masks" / "a.json", [])
    bare = pixels(contact_sheet(data, tmp_path / "bare.png"))
    changed = (painted != bare).any(axis=2)
    share = (BOX | RING).sum() / AREA
    assert changed[: changed.shape[0] - 40].sum() == pytest.approx(share * 300 * 200, rel=0.1)
    assert not (bare == ALARM).all(axis=2).any()
    text(tmp_path / "masks" / "a.json", "")
    assert (pixels(contact_sheet(data, tmp_path / "broken.png")) == ALARM).all(axis=2).any()


def test_a_film_shows_several_frames_and_a_sheet_is_whole_or_not_there(tmp_path: Path) -> None:
    from masklet.datasets.contact_sheet import _places, _spread

    labelled_film(tmp_path, "ant", {n: label_map() for n in range(10)}, 10)
    data = open_dataset(tmp_path)
    assert [number for _, number in _spread(data.entries, 4)] == [1, 3, 6, 8]
    assert [number for _, number in _spread(data.entries, 1)] == [5]
    assert _places(2, 24) == [0, 1]
    with pytest.raises(OutputError, match="no picture format"):
        contact_sheet(data, tmp_path / "sheet.txt")
    assert not list(tmp_path.glob("*sheet*"))
