"""Data sets of benchmarks: what is missing is named, and where to get it; what is whole can be measured."""

from __future__ import annotations

import json
import shlex
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluate.test_benchmark_predictions import Info
from evaluate.test_image_clicks import store_sbd
from helpers.dataset_files import png, text, write_image
from helpers.predictions import named_as_lvos, store_meta, store_objects
from helpers.synthetic_truth import FRAMES, HEIGHT, WIDTH, late, store_video
from masklet.cli.main import run
from masklet.errors import InputError
from masklet.evaluate.benchmark_datasets import BENCHMARK_DATASETS, FolderRequirement, ListRequirement, missing_files
from masklet.evaluate.image_click_datasets import click_images

CLICKED = ("grabcut", "berkeley", "davis345", "sbd")


def names_of(part: ListRequirement, name: str) -> list[str]:
    """Made names of what a list of a set has: so many videos, or objects in so many videos."""
    if part.path_templates:
        return [f"n{n}" for n in range(part.count)]
    [videos] = {
        other.count
        for other in BENCHMARK_DATASETS[name].requirements
        if isinstance(other, ListRequirement) and other.path_templates
    }
    return [f"n{n % videos}" for n in range(part.count)]


def make_list(part: ListRequirement, name: str, root: Path) -> None:
    """The list, and an empty file or folder for each place of each name."""
    file = root / part.files[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    names = names_of(part, name)
    if file.name == "meta.json" or file.name.endswith("_meta.json"):
        videos: dict[str, dict[str, dict[str, str]]] = {}
        for n, one in enumerate(names):
            videos.setdefault(one, {"objects": {}})["objects"][str(n)] = ""
        file.write_text(json.dumps({"videos": videos}))
    elif file.suffix == ".json":
        file.write_text(json.dumps({"images": [{"file_name": one} for one in names]}))
    elif "480p" in part.files[0]:
        file.write_text("".join(f"/JPEGImages/480p/{one}/00000.jpg /x/{one}/00000.png\n" for one in names))
    else:
        file.write_text("".join(f"{one}\n" for one in names))
    for place in part.path_templates:
        for one in names:
            path = root / place.format(one)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def make_part(part: FolderRequirement, root: Path) -> None:
    """A folder with so many entries, which hold so many together."""
    (root / part.path_name).mkdir(parents=True, exist_ok=True)
    for n in range(part.nested_count):
        (root / part.path_name / f"n{n % part.count}").mkdir(exist_ok=True)
        (root / part.path_name / f"n{n % part.count}" / f"{n}").touch()
    for n in range(0 if part.nested_count else part.count):
        (root / part.path_name / f"n{n}").touch()


def make(name: str, root: Path) -> None:
    """All parts of a set, of empty files."""
    for part in BENCHMARK_DATASETS[name].requirements:
        if isinstance(part, FolderRequirement):
            make_part(part, root)
    for part in BENCHMARK_DATASETS[name].requirements:
        if isinstance(part, ListRequirement):
            make_list(part, name, root)


@pytest.mark.parametrize("name", BENCHMARK_DATASETS)
def test_a_whole_set_lacks_nothing_and_any_part_is_missed(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    assert missing_files(name, tmp_path) == []
    for part in BENCHMARK_DATASETS[name].requirements:
        place = part.path_name if isinstance(part, FolderRequirement) else part.files[0]
        (tmp_path / place).rename(tmp_path / "away")
        assert any(str(tmp_path / place) in line and "is missing" in line for line in missing_files(name, tmp_path))
        (tmp_path / "away").rename(tmp_path / place)


@pytest.mark.parametrize(
    "name",
    [name for name, one in BENCHMARK_DATASETS.items() if any(getattr(p, "places", ()) for p in one.requirements)],
)
def test_what_a_list_names_and_is_not_there_is_missed(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    [part] = [
        part
        for part in BENCHMARK_DATASETS[name].requirements
        if isinstance(part, ListRequirement) and part.path_templates
    ]
    for place in part.path_templates:
        path = tmp_path / place.format("n7")
        path.rename(path.with_name("other"))  # the count is as before
        missing = [line for line in missing_files(name, tmp_path) if "that" in line]
        assert missing == [f"{path} is missing (1 of the {part.count} that {Path(part.files[0]).name} names)"]
        path.with_name("other").rename(path)


def test_what_is_half_there_is_counted(tmp_path: Path) -> None:
    make("grabcut", tmp_path)
    (tmp_path / "data_GT" / "n3").unlink()
    (tmp_path / "data_GT" / ".hidden").touch()
    assert missing_files("grabcut", tmp_path) == [f"{tmp_path / 'data_GT'} has 49 of 50"]
    shutil.rmtree(tmp_path / "data_GT")
    (tmp_path / "data_GT").mkdir()
    assert missing_files("grabcut", tmp_path) == [f"{tmp_path / 'data_GT'} is empty"]
    with pytest.raises(InputError, match="davis18"):
        missing_files("davis18", tmp_path)


def test_objects_are_counted_and_another_year_is_known(tmp_path: Path) -> None:
    make("sav_val", tmp_path / "sav_val")
    shutil.rmtree(tmp_path / "sav_val" / "Annotations_6fps" / "n1")
    (tmp_path / "sav_val" / "Annotations_6fps" / "n1").mkdir()
    [missing] = missing_files("sav_val", tmp_path / "sav_val")
    assert missing.endswith("have 291 of 293")
    make("ytvos19", tmp_path / "YouTubeVOS")
    meta = tmp_path / "YouTubeVOS" / "valid" / "meta.json"
    other_years = [f"{meta} lists 507; this set has 474", f"{meta} lists 1063; this set has 894"]
    assert missing_files("ytvos18", tmp_path / "YouTubeVOS") == other_years
    meta.write_text("no JSON")
    assert all("is not a list of names" in line for line in missing_files("ytvos19", tmp_path / "YouTubeVOS"))


def test_davis_2016_is_also_known_in_the_folder_of_2017(tmp_path: Path) -> None:
    make("davis16", tmp_path)
    names = "".join(f"n{n}\n" for n in range(20))
    shutil.rmtree(tmp_path / "ImageSets")
    text(tmp_path / "ImageSets" / "2016" / "val.txt", names)
    assert missing_files("davis16", tmp_path) == []


def run_datasets(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        run(["eval", "datasets", *map(str, words)])
    assert isinstance(left.value.code, int)
    captured = capsys.readouterr()
    return left.value.code, captured.out + captured.err


def test_the_command_lists_checks_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, listed = run_datasets(capsys)
    assert code == 0
    assert all(name in listed and one.url in listed for name, one in BENCHMARK_DATASETS.items())
    code, checked = run_datasets(capsys, "davis17", "--root", tmp_path)
    assert code == 2
    assert f"{tmp_path / 'ImageSets' / '2017' / 'val.txt'} is missing" in checked
    assert BENCHMARK_DATASETS["davis17"].url in checked
    make("davis17", tmp_path)
    code, checked = run_datasets(capsys, "davis17", "--root", tmp_path)
    assert code == 0
    assert f"masklet eval davis17 --root {tmp_path}" in checked
    assert "--root is missing" in run_datasets(capsys, "davis17")[1]


def store(name: str, root: Path) -> None:
    """The set, of one video or one image, in the layout of its owners."""
    one = np.minimum(late(), 1)
    gray = {"grabcut": ("data_GT", "boundary_GT"), "berkeley": ("images", "masks"), "davis345": ("img", "gt")}
    if name in gray:
        write_image(root / gray[name][0] / "x.jpg", size=(HEIGHT, WIDTH))
        png(root / gray[name][1] / "x.png", one[0] * np.uint8(255), palette=False)
    elif name == "sbd":
        store_sbd(root, "x", one[0])
        text(root / "val.txt", "x\n")
    elif name == "coco":
        write_image(root / "val2017" / "x.jpg", size=(HEIGHT, WIDTH))
        box = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400, "bbox": [5, 10, 20, 20]}
        box["segmentation"] = [[5, 10, 25, 10, 25, 30, 5, 30]]
        image = {"id": 1, "file_name": "x.jpg", "height": HEIGHT, "width": WIDTH}
        made = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
        text(root / "annotations" / "instances_val2017.json", json.dumps(made))
    elif name.startswith("sav"):
        for t in range(FRAMES):
            write_image(root / "JPEGImages_24fps" / "x" / f"{t:05d}.jpg", size=(HEIGHT, WIDTH))
        store_objects(root / "Annotations_6fps" / "x", late(), 2)
        text(root / f"{name}.txt", "x\n")
    else:
        store_of_videos(name, root, one)


def store_of_videos(name: str, root: Path, one: np.ndarray) -> None:
    """Of DAVIS 2016 white on black, of 2017 two objects, of the others what their owners give out of valid."""
    if name == "davis16":
        store_video(root, "480p/x", one * np.uint8(255), annotated=range(FRAMES), palette=False)
        text(root / "ImageSets" / "480p" / "val.txt", "/JPEGImages/480p/x/00000.jpg /Annotations/480p/x/00000.png\n")
    elif name == "davis17":
        store_video(root, "480p/x", late(), annotated=range(FRAMES))
        text(root / "ImageSets" / "2017" / "val.txt", "x\n")
    elif name != "lvos":
        store_video(root / "valid", "x", late(), annotated=(0,) if name == "mose" else (0, 2))
    if name.startswith("ytvos"):
        store_meta(root / "valid", {"x": {"1": "ape", "2": "gnu"}})
    elif name == "lvos":
        named_as_lvos(root / "valid" / "Annotations" / "x", late())
        for t in range(FRAMES):
            write_image(root / "valid" / "JPEGImages" / "x" / f"{1 + 5 * t:08d}.jpg", size=(HEIGHT, WIDTH))
        ranges = {"1": {"start": 1, "end": 26, "frame_nums": FRAMES}, "2": {"start": 11, "end": 26, "frame_nums": 4}}
        videos = {"x": {"objects": {number: {"frame_range": own} for number, own in ranges.items()}}}
        text(root / "valid" / "valid_meta.json", json.dumps({"videos": videos}))


def smaller(name: str) -> tuple[FolderRequirement | ListRequirement, ...]:
    """The parts of a set of one video or one image, and two objects."""
    made: list[FolderRequirement | ListRequirement] = []
    for part in BENCHMARK_DATASETS[name].requirements:
        if isinstance(part, FolderRequirement):
            made.append(replace(part, count=1, nested_count=2 if part.nested_count else 0))
        else:
            made.append(replace(part, count=1 if part.path_templates else 2))
    return tuple(made)


@pytest.mark.parametrize("name", BENCHMARK_DATASETS)
def test_the_commands_printed_for_a_complete_dataset_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command that is named runs as it is printed, by a model that knows the truth."""
    store(name, tmp_path / "DATA")
    monkeypatch.setitem(BENCHMARK_DATASETS, name, replace(BENCHMARK_DATASETS[name], requirements=smaller(name)))
    monkeypatch.chdir(tmp_path)
    knows = Info(np.minimum(late(), 1) if name == "davis16" else late())
    knows.images = late()[:1] == 1
    for attribute in ("precision", "device", "path"):
        setattr(knows, attribute, "")
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: knows)
    monkeypatch.setattr("masklet.cli.val.open_model", lambda *_: knows)
    code, checked = run_datasets(capsys, name, "--root", "DATA")
    assert code == 0, checked
    lines = [line.strip() for line in checked.splitlines() if line.startswith("  masklet ")]
    assert len(lines) == len(BENCHMARK_DATASETS[name].commands)
    for line in lines:
        if "mask-generation" in line:  # which needs a network
            assert len(click_images("DATA", split="val2017")) == 1
            continue
        with pytest.raises(SystemExit) as left:
            run(shlex.split(line)[1:])
        measured = capsys.readouterr()
        assert left.value.code == 0, measured.err
        assert "1.000" in measured.out or name in ("mose", "ytvos18", "ytvos19", *CLICKED)
        assert "NoC@90 1.00" in measured.out or name not in CLICKED


VIDEOS = {
    "davis16": ("davis16", None),
    "davis17": ("davis17", "x/00000.png"),
    "ytvos18": ("ytvos", "Annotations/x/00000.png"),
    "ytvos19": ("ytvos", "Annotations/x/00000.png"),
    "mose": ("mose", "x/00000.png"),
    "lvos": ("lvos", "x/00000001.png"),
    "sav_val": ("sav", None),
}
"""Sets of videos: the command, and the first file of the zip for the server, where there is one."""


@pytest.mark.parametrize("prompt", ["mask", "box", "click"])
@pytest.mark.parametrize("name", VIDEOS)
def test_videos_are_prompted_by_mask_box_or_click_and_zipped_for_their_server(
    name: str, prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store(name, tmp_path / "DATA")
    knows, (kind, first) = Info(np.minimum(late(), 1) if name == "davis16" else late()), VIDEOS[name]
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: knows)
    words = ["--root", str(tmp_path / "DATA"), "--out", str(tmp_path / "out"), "--prompt", prompt]
    with pytest.raises(SystemExit) as left:
        run(["eval", kind, *words])
    captured = capsys.readouterr()
    assert left.value.code == 0, captured.err
    for _, prompted in knows.prompts.values():
        assert [kind for kind in ("mask", "box", "points") if getattr(prompted, kind) is not None] == [
            {"click": "points"}.get(prompt, prompt)
        ]
    seen = {1: 0} if name in ("davis16", "davis17", "mose") else {1: 0, 2: 2}
    assert {number: frame for number, (frame, _) in knows.prompts.items()} == seen
    assert (tmp_path / "out.zip").is_file() is (first is not None)
    if first is not None:
        with zipfile.ZipFile(tmp_path / "out.zip") as file:
            assert file.namelist()[0] == first
    assert ("1.0000" in captured.out) is (name != "mose")
