"""Videos as folders of images with label maps: DAVIS 2016 and 2017, YouTube-VOS, MOSE, LVOS.

JPEGImages/SEQ/00000.jpg with Annotations/SEQ/00000.png, either one with a folder for the resolution between
(480p), all of it below train, valid or test or not. Any number of a video's images may have no annotation.

DAVIS: label maps with a palette, a folder for each video.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from masklet.atomic_files import write_text
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    FrameFolderVideo,
    Mask,
    ReadOptions,
    Sample,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    build_dataset,
    files_by_stem,
    folders_in,
    has_matching_file,
    is_split_name,
    read_lines,
    validate_choice,
)
from masklet.datasets.label_maps import (
    MAX_LABEL,
    draw_label_map,
    is_binary_mask,
    masks_from_label_map,
    read_label_map,
    save_label_map,
    unique_ids,
)
from masklet.datasets.labeled_image import LabeledImage, LabeledObject, WriteOptions
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import DatasetWriter, WriteResult
from masklet.errors import InputError, SourceError
from masklet.media.image_source import natural_key

__all__ = ["DavisDatasetWriter", "LabelMapVideo", "is_davis", "open_davis", "read_split_list"]

IMAGE_FOLDER, LABEL_FOLDER, SPLIT_FOLDER = "JPEGImages", "Annotations", "ImageSets"
RESOLUTION_FOLDERS = ("480p", "Full-Resolution", "1080p")
"""Folders between JPEGImages and the sequences, the first that is there is read."""


@dataclass(frozen=True)
class LabelMapVideo(FrameFolderVideo):
    """Images of a folder, and the label maps that some of them have."""

    label_folder: Path

    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """See ImageFilm. Ids are those of the maps; 255 beside others belongs to nobody; white alone is object 1."""
        file = self._label_path(image_path.name)
        labels = read_label_map(file)
        check_same_size(file, labels.shape, image_path, size)
        return masks_from_label_map(labels, binary=is_binary_mask(unique_ids(labels)) and self._is_binary())

    def _label_path(self, image_name: str) -> Path:
        return self.label_folder / f"{Path(image_name).stem}.png"

    def _is_binary(self) -> bool:
        """Whether the first map with anything in it is black and white, as in DAVIS 2016."""
        for number in self.frame_indices:
            ids = unique_ids(read_label_map(self._label_path(self.image_names[number])))
            if ids:
                return is_binary_mask(ids)
        return False


def is_davis(path: Path) -> bool:
    """Whether a folder, or one directly below it, has JPEGImages and Annotations."""
    return bool(_find_trees(path))


def open_davis(path: Path, options: ReadOptions) -> Dataset:
    """The sequences below `path` that have annotations; a split is a list of ImageSets or a folder such as train.

    Example:
        >>> open_davis(Path("YouTubeVOS"), Choice("train")).entries[0].frames
        (0, 5, 10, 15)

    Raises:
        SourceError: no sequence with an annotation, or no such split.
    """
    trees, names = _select_trees(path, options.split)
    parts = (_read_videos(tree, "" if len(trees) == 1 else f"{tree.name}/", names) for tree in trees)
    layout = f"{IMAGE_FOLDER}/[480p/]SEQ/00000.jpg with {LABEL_FOLDER}/[480p/]SEQ/00000.png"
    found = build_dataset("davis", path, parts, "no video with masks", f"{layout}: check the path and the split")
    return replace(found, splits=_assign_splits(path, found.samples))


def read_split_list(file: Path) -> list[str]:
    """Names of the sequences in a list: one a line, or pairs of paths to images (DAVIS 2016).

    Example:
        >>> listed_names(Path("DAVIS/ImageSets/2017/val.txt"))
        ['bike-packing', 'blackswan', ...]
    """
    words = [line.split()[0] for line in read_lines(file)]
    return sorted({Path(word).parent.name if "/" in word else word for word in words}, key=natural_key)


def _find_trees(path: Path) -> list[Path]:
    """Folders with JPEGImages and Annotations: `path` itself, or those directly below."""
    if _is_tree(path):
        return [path]
    return [folder for folder in folders_in(path) if _is_tree(folder)]


def _is_tree(folder: Path) -> bool:
    if (folder / "SegmentationObject").is_dir() or has_matching_file(folder / LABEL_FOLDER, "*.xml"):  # Pascal VOC
        return False
    return (folder / IMAGE_FOLDER).is_dir() and (folder / LABEL_FOLDER).is_dir()


def _select_trees(path: Path, split: str | None) -> tuple[list[Path], list[str] | None]:
    """The trees to read, and the names of the sequences to take (None: all)."""
    trees = _find_trees(path)
    if split is None:
        return trees, None
    below = [tree for tree in trees if tree != path]
    if split in [tree.name for tree in below]:
        return [path / split], None
    lists = _find_split_lists(path)
    fitting = [name for name in lists if name == split] or [name for name in lists if name.endswith(f"/{split}")]
    if len(fitting) > 1:
        raise SourceError(
            f"{path} has {len(fitting)} lists {split!r} ({', '.join(fitting)}); a split is one list: name it whole"
        )
    validate_choice(path, fitting[0] if fitting else split, [*lists, *(tree.name for tree in below)], "split")
    return trees, read_split_list(lists[fitting[0]])


def _find_split_lists(path: Path) -> dict[str, Path]:
    """The lists of ImageSets by their names, such as 2017/val."""
    top = path / SPLIT_FOLDER
    found = sorted(top.glob("**/*.txt")) if has_matching_file(top, "**/*.txt") else []
    return {file.relative_to(top).with_suffix("").as_posix(): file for file in found}


def _assign_splits(path: Path, samples: Sequence[Sample]) -> dict[str, str]:
    """Which list of ImageSets a video is in, or in which folder; of two years the later counts."""
    listed: dict[str, str] = {}
    for name, file in _find_split_lists(path).items():
        part = name.rsplit("/", 1)[-1]
        listed |= dict.fromkeys(read_split_list(file), part) if is_split_name(part) else {}
    found = {entry.name: listed.get(entry.name, entry.name.split("/")[0]) for entry in samples}
    return {name: split for name, split in found.items() if is_split_name(split)}


def _read_videos(tree: Path, prefix: str, names: list[str] | None) -> tuple[list[LabelMapVideo], list[DataIssue]]:
    images, labels = _resolution_folder(tree / IMAGE_FOLDER), _resolution_folder(tree / LABEL_FOLDER)
    with_images = {folder.name for folder in folders_in(images)}
    with_labels = {folder.name for folder in folders_in(labels)}
    wanted = with_images | with_labels if names is None else names
    videos: list[LabelMapVideo] = []
    problems: list[DataIssue] = []
    for name in sorted(wanted, key=natural_key):
        lacking = [top for top, there in ((images, with_images), (labels, with_labels)) if name not in there]
        if lacking:
            reason = "is missing; a video has a folder of images and one of label maps: add it"
            problems.append(DataIssue.for_file(prefix + name, lacking[0] / name, reason))
            continue
        try:
            video, wrong = _read_video(prefix + name, images / name, labels / name)
        except DataError as problem:
            problems.append(DataIssue(prefix + name, problem.file, str(problem)))
            continue
        videos.append(video)
        problems += wrong
    return videos, problems


def _resolution_folder(folder: Path) -> Path:
    return next((folder / size for size in RESOLUTION_FOLDERS if (folder / size).is_dir()), folder)


def _read_video(name: str, image_folder: Path, label_folder: Path) -> tuple[LabelMapVideo, list[DataIssue]]:
    shown, twice = files_by_stem(image_folder)
    maps, _ = files_by_stem(label_folder, (".png",))
    frames = tuple(number for number, stem in enumerate(shown) if stem in maps)
    if not frames:
        reason = "has no label map of the name of an image; one at least is needed: unpack the annotations again"
        raise DataError.for_file(label_folder, reason)
    reason = f"has no image in {image_folder}; a label map belongs to an image: add it, or remove the map"
    alone = [DataIssue.for_file(name, path, reason) for stem, path in maps.items() if stem not in shown]
    video = LabelMapVideo(name, image_folder, tuple(path.name for path in shown.values()), frames, label_folder)
    return video, [*(DataIssue(name, finding.file, finding.reason) for finding in twice), *alone]


RESOLUTION_FOLDER = "480p"
"""What tools look for, whatever the size of the images."""
SINGLE_FRAME_NAME = "00000"
"""The only frame of an image that is in no video."""


class DavisDatasetWriter(DatasetWriter):
    """JPEGImages/480p/VIDEO/FRAME.jpg with Annotations/480p/VIDEO/FRAME.png, and ImageSets/2017/SPLIT.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and what the other loses is counted.
    In a video an object has its `id` as its label (1 to 254, else a free one). An image that is in no video is one of a
    single frame, in which objects are numbered from 1; folders in folders are joined by two underscores.
    """

    data_format: ClassVar[str] = "davis"
    description: ClassVar[str] = (
        "JPEGImages/480p/VIDEO/FRAME.jpg, Annotations/480p/VIDEO/FRAME.png, ImageSets/2017/SPLIT.txt"
    )
    supports: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "ids"})
    unique_per_split: ClassVar[bool] = False

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: WriteOptions) -> None:
        self._label_by_id: dict[str, dict[int, int]] = {}
        """Of each video, the label of each id, which stays the same in all its frames."""
        self._source_folders: dict[str, str] = {}
        super().__init__(out_dir, names, options)

    def _image_file(self, image: LabeledImage) -> str:
        path = PurePosixPath(image.name)
        video, frame = (path, SINGLE_FRAME_NAME) if image.video is None else (path.parent, path.name)
        return f"JPEGImages/{RESOLUTION_FOLDER}/{'__'.join(video.parts) or SINGLE_FRAME_NAME}/{frame}"

    def _label_map_path(self, file: str) -> Path:
        """The label map of the image at `file`."""
        return (
            self.folder
            / "Annotations"
            / RESOLUTION_FOLDER
            / _video_folder_name(file)
            / f"{PurePosixPath(file).stem}.png"
        )

    def _files_exist(self, entry: LogEntry) -> bool:
        there = super()._files_exist(entry) and self._label_map_path(entry.file).exists()
        if there:
            self._source_folders[_video_folder_name(entry.file)] = _source_folder(entry.name, entry.file)
            labels = entry.record.get("labels")
            assert isinstance(labels, dict)
            self._label_by_id.setdefault(_video_folder_name(entry.file), {}).update(
                (int(i), label) for i, label in labels.items()
            )
        return there

    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        written, video, folder = WriteResult(), _video_folder_name(file), _source_folder(image.name, file)
        if self._source_folders.setdefault(video, folder) != folder:
            raise InputError(
                f"{folder!r} and {self._source_folders[video]!r} would both be the video {video!r}; rename one"
            )
        numbers = self._assign_labels(video, image.objects)
        ids = {n: image.objects[n].track_id for n in numbers}
        written.record["labels"] = {str(ids[n]): label for n, label in numbers.items() if ids[n] is not None}
        self.paths.append(
            save_label_map(self._label_map_path(file), draw_label_map(image.objects, numbers, image.size, written))
        )
        return written

    def _assign_labels(self, video: str, objects: tuple[LabeledObject, ...]) -> dict[int, int]:
        """The label of each object of an image; those that find no room have none."""
        known = self._label_by_id.setdefault(video, {})
        found: dict[int, int] = {}
        for number, thing in enumerate(objects):
            label = _stable_label(known, thing.track_id) if thing.track_id is not None else 0
            if label and label not in found.values():
                found[number] = label
        free = [label for label in range(MAX_LABEL, 0, -1) if label not in found.values()]
        for number, thing in enumerate(objects):
            if thing.track_id is None and free:
                found[number] = free.pop()
        return found

    def _finish(self) -> None:
        for split in self._log.splits:
            videos = list(dict.fromkeys(_video_folder_name(line.file) for line in self._log_entries(split)))
            path = self.folder / "ImageSets" / "2017" / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{video}\n" for video in videos)))


def _stable_label(label_by_id: dict[int, int], track_id: int) -> int:
    """The label of an id in its video, a new one the first time; 0 where there is no room."""
    if track_id not in label_by_id:
        wanted = (track_id, *range(MAX_LABEL, 0, -1))  # from above, where fewest have their own number
        label = next((n for n in wanted if 1 <= n <= MAX_LABEL and n not in label_by_id.values()), 0)
        label_by_id.update({track_id: label} if label else {})
    return label_by_id.get(track_id, 0)


def _video_folder_name(file: str) -> str:
    return PurePosixPath(file).parent.name


def _source_folder(name: str, file: str) -> str:
    """What became a video: a folder of frames, or an image."""
    path = PurePosixPath(name)
    return str(path.parent) if "__".join(path.parent.parts) == _video_folder_name(file) else name
