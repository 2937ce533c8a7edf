"""The data sets that figures are published on: where their owners give them out, and whether a folder holds one whole.

Nothing is downloaded: most of them ask for a form or for a use that is not commercial. Counts are those that the owners
or the users of a set publish.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.files import lines_of
from masklet.datasets.formats.davis import listed_names
from masklet.errors import InputError, SourceError

__all__ = ["SETS", "BenchmarkSet", "Listed", "Part", "lacking"]


@dataclass(frozen=True)
class Part:
    """A folder or file that a set has, how many entries there are in it, and in these together; 0: any."""

    place: str
    count: int = 0
    inside: int = 0

    def lacks(self, root: Path) -> list[str]:
        """What is wrong with it below `root`, a sentence each."""
        path = root / self.place
        if not path.exists():
            return [f"{path} is missing"]
        if not path.is_dir():
            return []
        entries = _entries(path)
        if not entries:
            return [f"{path} is empty"]
        if len(entries) < self.count:
            return [f"{path} holds {len(entries)} of {self.count}"]
        inside = sum(len(_entries(entry)) for entry in entries) if self.inside else 0
        return [f"the folders of {path} hold {inside} of {self.inside}"] if inside < self.inside else []


@dataclass(frozen=True)
class Listed:
    """A list of a set, `count` names long: one of `files`, and the places that have each name; {} is the name."""

    files: tuple[str, ...]
    names: Callable[[Path], Collection[str]]
    count: int
    places: tuple[str, ...] = ()

    def lacks(self, root: Path) -> list[str]:
        """What is wrong with it below `root`, a sentence each."""
        file = next((root / file for file in self.files if (root / file).is_file()), None)
        if file is None:
            return [f"{' or '.join(str(root / file) for file in self.files)} is missing"]
        try:
            names = self.names(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SourceError) as problem:
            return [f"{file} cannot be read as the list that it should be ({problem!r})"]
        wrong = [] if len(names) == self.count else [f"{file} names {len(names)}; this set has {self.count}"]
        return wrong + [said for place in self.places if (said := _missing(root, place, names, file))]


def _missing(root: Path, place: str, names: Collection[str], file: Path) -> str | None:
    """The first of the names that has nothing at this place, and how many have not."""
    gone = [path for name in names if not (path := root / place.format(name)).exists()]
    return f"{gone[0]} is missing ({len(gone)} of the {len(names)} that {file.name} names)" if gone else None


def _entries(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if not entry.name.startswith(".")] if path.is_dir() else []


@dataclass(frozen=True)
class BenchmarkSet:
    """A data set, its page, its parts, and the commands that measure on it; {root} is its folder."""

    about: str
    page: str
    parts: tuple[Part | Listed, ...]
    commands: tuple[str, ...]


def lacking(name: str, root: str | Path) -> list[str]:
    """What a folder lacks of a set, a sentence each; nothing: it is whole, as far as its folders and lists show.

    Example:
        >>> lacking("davis17", "DAVIS")
        ['DAVIS/ImageSets/2017/val.txt is missing']

    Raises:
        InputError: an unknown set.
    """
    if name not in SETS:
        raise InputError(f"no data set {name!r} is known; choose among {', '.join(SETS)}")
    return [wrong for part in SETS[name].parts for wrong in part.lacks(Path(root).expanduser())]


def _videos_of(file: Path) -> list[str]:
    return list(json.loads(file.read_text())["videos"])


def _objects_of(file: Path) -> list[str]:
    videos = json.loads(file.read_text())["videos"]
    return [f"{video}/{number}" for video, own in videos.items() for number in own["objects"]]


def _pictures_of(file: Path) -> list[str]:
    return [one["file_name"] for one in json.loads(file.read_text())["images"]]


_FILMS = ("JPEGImages/480p/{}", "Annotations/480p/{}")
_VALID = ("valid/JPEGImages/{}", "valid/Annotations/{}")


def _youtube(videos: int, objects: int) -> tuple[Part | Listed, ...]:
    meta = ("valid/meta.json",)
    folders = (Part("valid/JPEGImages", videos), Part("valid/Annotations", videos))
    return *folders, Listed(meta, _videos_of, videos, _VALID), Listed(meta, _objects_of, objects)


def _sav(split: str, videos: int, objects: int) -> tuple[Part | Listed, ...]:
    places = ("JPEGImages_24fps/{}", "Annotations_6fps/{}")
    listed = Listed((f"sav_{split}.txt",), lines_of, videos, places)
    return Part("JPEGImages_24fps", videos), Part("Annotations_6fps", videos, objects), listed


def _clicked(pictures: str, masks: str, count: int) -> tuple[Part, ...]:
    return Part(pictures, count), Part(masks, count)


_DAVIS = "https://davischallenge.org"
_YTVOS = "https://youtube-vos.org/dataset/vos"
_SAV = "https://ai.meta.com/datasets/segment-anything-video-downloads/"
_CLICKED = "https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets"
SETS: dict[str, BenchmarkSet] = {
    "davis16": BenchmarkSet(
        "DAVIS 2016, val: 20 films of one object, of its own folder or of that of DAVIS 2017",
        f"{_DAVIS}/davis2016/code.html",
        (
            Part("JPEGImages/480p", 20),
            Part("Annotations/480p", 20),
            Listed(("ImageSets/480p/val.txt", "ImageSets/2016/val.txt"), listed_names, 20, _FILMS),
        ),
        ("masklet eval davis16 --root {root}",),
    ),
    "davis17": BenchmarkSet(
        "DAVIS 2017, val: 30 films, 61 objects",
        f"{_DAVIS}/davis2017/code.html",
        (
            Part("JPEGImages/480p", 30),
            Part("Annotations/480p", 30),
            Listed(("ImageSets/2017/val.txt",), listed_names, 30, _FILMS),
        ),
        ("masklet eval davis17 --root {root}",),
    ),
    "ytvos18": BenchmarkSet(
        "YouTube-VOS 2018, valid: 474 films, 894 objects; the truth is with its server",
        _YTVOS,
        _youtube(474, 894),
        ("masklet eval ytvos --root {root} --out ytvos18",),
    ),
    "ytvos19": BenchmarkSet(
        "YouTube-VOS 2019, valid: 507 films, 1063 objects; the truth is with its server",
        _YTVOS,
        _youtube(507, 1063),
        ("masklet eval ytvos --root {root} --out ytvos19",),
    ),
    "mose": BenchmarkSet(
        "MOSE, valid: 311 films, the truth is with its server",
        "https://henghuiding.github.io/MOSE/",
        (Part("valid/JPEGImages", 311), Part("valid/Annotations", 311)),
        ("masklet eval mose --root {root} --out mose",),
    ),
    "lvos": BenchmarkSet(
        "LVOS v2, valid: 140 long films",
        "https://lingyihongfd.github.io/lvos.github.io/",
        (
            Part("valid/JPEGImages", 140),
            Part("valid/Annotations", 140),
            Listed(("valid/valid_meta.json",), _videos_of, 140, _VALID),
        ),
        ("masklet eval lvos --root {root}",),
    ),
    "sav_val": BenchmarkSet(
        "SA-V val: 155 films, 293 objects", _SAV, _sav("val", 155, 293), ("masklet eval sav --root {root}",)
    ),
    "sav_test": BenchmarkSet(
        "SA-V test: 150 films, 278 objects", _SAV, _sav("test", 150, 278), ("masklet eval sav --root {root}",)
    ),
    "coco": BenchmarkSet(
        "COCO 2017, val: 5000 pictures",
        "https://cocodataset.org/#download",
        (
            Part("val2017", 5000),
            Listed(("annotations/instances_val2017.json",), _pictures_of, 5000, ("val2017/{}",)),
        ),
        ("masklet eval everything {root} --split val2017", "masklet val --data {root} --split val2017"),
    ),
    "grabcut": BenchmarkSet(
        "GrabCut: 50 objects", _CLICKED, _clicked("data_GT", "boundary_GT", 50), ("masklet eval clicks {root}",)
    ),
    "berkeley": BenchmarkSet(
        "Berkeley: 100 objects in 96 pictures",
        _CLICKED,
        _clicked("images", "masks", 96),
        ("masklet eval clicks {root} --kind berkeley",),
    ),
    "davis345": BenchmarkSet(
        "DAVIS-345: frames of DAVIS 2016", _CLICKED, _clicked("img", "gt", 345), ("masklet eval clicks {root}",)
    ),
    "sbd": BenchmarkSet(
        "SBD, val: 2857 pictures, 6671 objects; its folder dataset; needs scipy (the extra sbd)",
        "http://home.bharathh.info/pubs/codes/SBD/download.html",
        (
            Part("img", 2857),
            Part("inst", 2857),
            Listed(("val.txt",), lines_of, 2857, ("img/{}.jpg", "inst/{}.mat")),
        ),
        ("masklet eval clicks {root}",),
    ),
}
"""Data sets, by name."""
