"""The data sets of published benchmarks: where to get them, and whether a folder has one completely.

Nothing is downloaded: most of them require a form or allow only non-commercial use. Counts are those that the owners or
the users of a data set publish.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from masklet.damaged_files import decoder_errors
from masklet.datasets.files import read_lines
from masklet.datasets.formats.davis import read_split_list
from masklet.errors import InputError

__all__ = ["BENCHMARK_DATASETS", "BenchmarkDataset", "FolderRequirement", "ListRequirement", "missing_files"]


@dataclass(frozen=True)
class FolderRequirement:
    """A folder or file of a data set; `count` entries in it and `nested_count` entries in these, 0: any number."""

    path_name: str
    count: int = 0
    nested_count: int = 0

    def missing(self, root: Path) -> list[str]:
        """Return what is wrong below `root`, a sentence each."""
        path = root / self.path_name
        if not path.exists():
            return [f"{path} is missing"]
        if not path.is_dir():
            return []
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        if not entries:
            return [f"{path} is empty"]
        if len(entries) < self.count:
            return [f"{path} has {len(entries)} of {self.count}"]
        folders = [entry for entry in entries if entry.is_dir()] if self.nested_count else []
        inside = sum(not entry.name.startswith(".") for folder in folders for entry in folder.iterdir())
        return [f"the folders of {path} have {inside} of {self.nested_count}"] if inside < self.nested_count else []


@dataclass(frozen=True)
class ListRequirement:
    """A list of `count` names in one of `files`, and the paths that exist for each name; {} stands for the name."""

    files: tuple[str, ...]
    read_names: Callable[[Path], Collection[str]]
    count: int
    path_templates: tuple[str, ...] = ()

    def missing(self, root: Path) -> list[str]:
        """Return what is wrong below `root`, a sentence each."""
        file = next((root / file for file in self.files if (root / file).is_file()), None)
        if file is None:
            return [f"{' or '.join(str(root / file) for file in self.files)} is missing"]
        try:
            names = self.read_names(file)
        except decoder_errors() as problem:
            return [f"{file} is not a list of names ({problem!r})"]
        problems = [] if len(names) == self.count else [f"{file} lists {len(names)}; this set has {self.count}"]
        for template in self.path_templates:
            gone = [path for name in names if not (path := root / template.format(name)).exists()]
            if gone:
                problems.append(f"{gone[0]} is missing ({len(gone)} of the {len(names)} that {file.name} lists)")
        return problems


@dataclass(frozen=True)
class BenchmarkDataset:
    """A data set, its page, what its folder must have, and the commands that evaluate on it; {root} is its folder."""

    description: str
    url: str
    requirements: tuple[FolderRequirement | ListRequirement, ...]
    commands: tuple[str, ...]


def missing_files(name: str, root: str | Path) -> list[str]:
    """Return what a folder lacks of a data set, a sentence each; nothing if its folders and lists are complete.

    Example:
        >>> missing_files("davis17", "DAVIS")
        ['DAVIS/ImageSets/2017/val.txt is missing']

    Raises:
        InputError: if the data set is unknown.
    """
    if name not in BENCHMARK_DATASETS:
        raise InputError(f"data set {name!r} is unknown; choose among {', '.join(BENCHMARK_DATASETS)}")
    requirements = BENCHMARK_DATASETS[name].requirements
    return [problem for part in requirements for problem in part.missing(Path(root).expanduser())]


def _listed_names(file: Path, *, objects: bool = False) -> list[str]:
    videos = json.loads(file.read_text())["videos"]
    if not objects:
        return list(videos)
    return [f"{name}/{number}" for name, video in videos.items() for number in video["objects"]]


_DAVIS_PATHS = ("JPEGImages/480p/{}", "Annotations/480p/{}")
_VALID_PATHS = ("valid/JPEGImages/{}", "valid/Annotations/{}")


def _youtube_vos_requirements(videos: int, objects: int) -> tuple[FolderRequirement | ListRequirement, ...]:
    meta = ("valid/meta.json",)
    folders = (FolderRequirement("valid/JPEGImages", videos), FolderRequirement("valid/Annotations", videos))
    return (
        *folders,
        ListRequirement(meta, _listed_names, videos, _VALID_PATHS),
        ListRequirement(meta, partial(_listed_names, objects=True), objects),
    )


def _sav_requirements(split: str, videos: int, objects: int) -> tuple[FolderRequirement | ListRequirement, ...]:
    folders = (FolderRequirement("JPEGImages_24fps", videos), FolderRequirement("Annotations_6fps", videos, objects))
    paths = ("JPEGImages_24fps/{}", "Annotations_6fps/{}")
    return (*folders, ListRequirement((f"sav_{split}.txt",), read_lines, videos, paths))


_DAVIS_URL = "https://davischallenge.org"
_YTVOS_URL = "https://youtube-vos.org/dataset/vos"
_SAV_URL = "https://ai.meta.com/datasets/segment-anything-video-downloads/"
_CLICK_SETS_URL = "https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets"
BENCHMARK_DATASETS: dict[str, BenchmarkDataset] = {
    "davis16": BenchmarkDataset(
        "DAVIS 2016, val: 20 videos of one object, from the folder of DAVIS 2016 or of DAVIS 2017",
        f"{_DAVIS_URL}/davis2016/code.html",
        (
            FolderRequirement("JPEGImages/480p", 20),
            FolderRequirement("Annotations/480p", 20),
            ListRequirement(("ImageSets/480p/val.txt", "ImageSets/2016/val.txt"), read_split_list, 20, _DAVIS_PATHS),
        ),
        ("masklet eval davis16 --root {root}",),
    ),
    "davis17": BenchmarkDataset(
        "DAVIS 2017, val: 30 videos, 61 objects",
        f"{_DAVIS_URL}/davis2017/code.html",
        (
            FolderRequirement("JPEGImages/480p", 30),
            FolderRequirement("Annotations/480p", 30),
            ListRequirement(("ImageSets/2017/val.txt",), read_split_list, 30, _DAVIS_PATHS),
        ),
        ("masklet eval davis17 --root {root}",),
    ),
    "ytvos18": BenchmarkDataset(
        "YouTube-VOS 2018, valid: 474 videos, 894 objects; its server has the ground truth",
        _YTVOS_URL,
        _youtube_vos_requirements(474, 894),
        ("masklet eval ytvos --root {root} --out ytvos18",),
    ),
    "ytvos19": BenchmarkDataset(
        "YouTube-VOS 2019, valid: 507 videos, 1063 objects; its server has the ground truth",
        _YTVOS_URL,
        _youtube_vos_requirements(507, 1063),
        ("masklet eval ytvos --root {root} --out ytvos19",),
    ),
    "mose": BenchmarkDataset(
        "MOSE, valid: 311 videos, its server has the ground truth",
        "https://henghuiding.github.io/MOSE/",
        (FolderRequirement("valid/JPEGImages", 311), FolderRequirement("valid/Annotations", 311)),
        ("masklet eval mose --root {root} --out mose",),
    ),
    "lvos": BenchmarkDataset(
        "LVOS v2, valid: 140 long videos",
        "https://lingyihongfd.github.io/lvos.github.io/",
        (
            FolderRequirement("valid/JPEGImages", 140),
            FolderRequirement("valid/Annotations", 140),
            ListRequirement(("valid/valid_meta.json",), _listed_names, 140, _VALID_PATHS),
        ),
        ("masklet eval lvos --root {root}",),
    ),
    "sav_val": BenchmarkDataset(
        "SA-V val: 155 videos, 293 objects",
        _SAV_URL,
        _sav_requirements("val", 155, 293),
        ("masklet eval sav --root {root}",),
    ),
    "sav_test": BenchmarkDataset(
        "SA-V test: 150 videos, 278 objects",
        _SAV_URL,
        _sav_requirements("test", 150, 278),
        ("masklet eval sav --root {root}",),
    ),
    "coco": BenchmarkDataset(
        "COCO 2017, val: 5000 images",
        "https://cocodataset.org/#download",
        (
            FolderRequirement("val2017", 5000),
            ListRequirement(
                ("annotations/instances_val2017.json",),
                lambda file: [image["file_name"] for image in json.loads(file.read_text())["images"]],
                5000,
                ("val2017/{}",),
            ),
        ),
        ("masklet eval mask-generation {root} --split val2017", "masklet val --data {root} --split val2017"),
    ),
    "grabcut": BenchmarkDataset(
        "GrabCut: 50 objects",
        _CLICK_SETS_URL,
        (FolderRequirement("data_GT", 50), FolderRequirement("boundary_GT", 50)),
        ("masklet eval clicks {root}",),
    ),
    "berkeley": BenchmarkDataset(
        "Berkeley: 100 objects in 96 images",
        _CLICK_SETS_URL,
        (FolderRequirement("images", 96), FolderRequirement("masks", 96)),
        ("masklet eval clicks {root} --data-format berkeley",),
    ),
    "davis345": BenchmarkDataset(
        "DAVIS-345: frames of DAVIS 2016",
        _CLICK_SETS_URL,
        (FolderRequirement("img", 345), FolderRequirement("gt", 345)),
        ("masklet eval clicks {root}",),
    ),
    "sbd": BenchmarkDataset(
        "SBD, val: 2857 images, 6671 objects; its folder dataset; needs scipy (the extra sbd)",
        "http://home.bharathh.info/pubs/codes/SBD/download.html",
        (
            FolderRequirement("img", 2857),
            FolderRequirement("inst", 2857),
            ListRequirement(("val.txt",), read_lines, 2857, ("img/{}.jpg", "inst/{}.mat")),
        ),
        ("masklet eval clicks {root}",),
    ),
}
"""The data sets by name."""
