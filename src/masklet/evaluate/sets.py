"""The data sets that figures are published on: where their owners give them out, and whether a folder holds one whole.

Nothing is downloaded: most of them ask for a form or for a use that is not commercial. Counts are those that the owners
or the users of a set publish.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from masklet.errors import InputError

__all__ = ["SETS", "BenchmarkSet", "Part", "lacking"]


@dataclass(frozen=True)
class Part:
    """A folder or file that a set has, and how many entries there are in it; 0: any."""

    place: str
    count: int = 0

    def lacks(self, root: Path) -> str | None:
        """What is wrong with it below `root`; None: nothing."""
        path = root / self.place
        if not path.exists():
            return f"{path} is missing"
        found = sum(not entry.name.startswith(".") for entry in path.iterdir()) if path.is_dir() else 0
        if path.is_dir() and found < max(1, self.count):
            return f"{path} holds {found} of {self.count}" if self.count else f"{path} is empty"
        return None


@dataclass(frozen=True)
class BenchmarkSet:
    """A data set, its page, its parts, and the command that measures on it; {root} is its folder."""

    about: str
    page: str
    parts: tuple[Part, ...]
    command: str


def lacking(name: str, root: str | Path) -> list[str]:
    """What a folder lacks of a set, a sentence each; nothing: it is whole, as far as its folders show.

    Example:
        >>> lacking("davis17", "DAVIS")
        ['DAVIS/ImageSets/2017/val.txt is missing']

    Raises:
        InputError: an unknown set.
    """
    if name not in SETS:
        raise InputError(f"no data set {name!r} is known; choose among {', '.join(SETS)}")
    return [wrong for part in SETS[name].parts if (wrong := part.lacks(Path(root).expanduser()))]


def _parts(*places: str | tuple[str, int]) -> tuple[Part, ...]:
    return tuple(Part(*(place if isinstance(place, tuple) else (place,))) for place in places)


def _films(top: str, count: int, *more: str) -> tuple[Part, ...]:
    """Pictures and annotations, a folder a film."""
    folders: Iterable[str] = ("JPEGImages", "Annotations")
    return _parts(*((f"{top}{folder}", count) for folder in folders), *more)


_DAVIS = "https://davischallenge.org"
_YTVOS = "https://youtube-vos.org/dataset/vos"
_CLICKED = "https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets"
SETS: dict[str, BenchmarkSet] = {
    "davis16": BenchmarkSet(
        "DAVIS 2016, 50 films of one object",
        f"{_DAVIS}/davis2016/code.html",
        _parts("JPEGImages/480p", "Annotations/480p", "ImageSets/480p/val.txt"),
        "masklet eval davis --root {root} --set 480p/val",
    ),
    "davis17": BenchmarkSet(
        "DAVIS 2017, val: 30 films",
        f"{_DAVIS}/davis2017/code.html",
        _parts(("JPEGImages/480p", 30), ("Annotations/480p", 30), "ImageSets/2017/val.txt"),
        "masklet eval davis17 --root {root}",
    ),
    "ytvos18": BenchmarkSet(
        "YouTube-VOS 2018, valid: 474 films, the truth is with its server",
        _YTVOS,
        _films("valid/", 474, "valid/meta.json"),
        "masklet eval ytvos --root {root} --out ytvos18",
    ),
    "ytvos19": BenchmarkSet(
        "YouTube-VOS 2019, valid: 507 films, the truth is with its server",
        _YTVOS,
        _films("valid/", 507, "valid/meta.json"),
        "masklet eval ytvos --root {root} --out ytvos19",
    ),
    "mose": BenchmarkSet(
        "MOSE, valid: the truth is with its server",
        "https://henghuiding.github.io/MOSE/",
        _films("valid/", 0),
        "masklet eval mose --root {root} --out mose",
    ),
    "lvos": BenchmarkSet(
        "LVOS v2, valid: 140 long films",
        "https://lingyihongfd.github.io/lvos.github.io/",
        _films("valid/", 140),
        "masklet eval lvos --root {root}",
    ),
    "sav_val": BenchmarkSet(
        "SA-V val: 155 films, 293 objects",
        "https://ai.meta.com/datasets/segment-anything-video-downloads/",
        _parts(("JPEGImages_24fps", 155), ("Annotations_6fps", 155)),
        "masklet eval sav --root {root}",
    ),
    "sav_test": BenchmarkSet(
        "SA-V test: 150 films, 278 objects",
        "https://ai.meta.com/datasets/segment-anything-video-downloads/",
        _parts(("JPEGImages_24fps", 150), ("Annotations_6fps", 150)),
        "masklet eval sav --root {root}",
    ),
    "coco": BenchmarkSet(
        "COCO 2017, val: 5000 pictures",
        "https://cocodataset.org/#download",
        _parts(("val2017", 5000), "annotations/instances_val2017.json"),
        "masklet val --data {root} --split val2017",
    ),
    "grabcut": BenchmarkSet(
        "GrabCut: 50 objects", _CLICKED, _parts(("data_GT", 50), ("boundary_GT", 50)), "masklet eval clicks {root}"
    ),
    "berkeley": BenchmarkSet(
        "Berkeley: 100 objects", _CLICKED, _parts("images", "masks"), "masklet eval clicks {root} --kind berkeley"
    ),
    "davis345": BenchmarkSet(
        "DAVIS-345: frames of DAVIS 2016", _CLICKED, _parts(("img", 345), ("gt", 345)), "masklet eval clicks {root}"
    ),
    "sbd": BenchmarkSet(
        "SBD, val: 2857 pictures, 6671 objects",
        "http://home.bharathh.info/pubs/codes/SBD/download.html",
        _parts(("img", 2857), ("inst", 2857), "val.txt"),
        "masklet eval clicks {root}",
    ),
}
"""Data sets, by name."""
