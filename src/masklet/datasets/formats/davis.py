"""DAVIS 2016 and 2017, YouTube-VOS, MOSE, LVOS: videos as folders of images with label maps.

    JPEGImages/[480p/]SEQ/00000.jpg
    Annotations/[480p/]SEQ/00000.png   PNG with a palette; any number of images may have none
    ImageSets/[2017/]SPLIT.txt         names of sequences

All of it may be below a folder train, valid or test. Ids of objects are the labels; 255 next to others belongs to no
object; white alone is object 1, as in DAVIS 2016.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from masklet.atomic_files import write_text
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    FrameFolderVideo,
    Mask,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    DatasetPart,
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
    count_labels,
    draw_label_map,
    is_binary_mask,
    masks_from_label_map,
    read_label_map_any_depth,
    unique_ids,
)
from masklet.datasets.labeled_image import LabeledImage, LabeledObject, WriteOptions
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import DatasetWriter, WriteResult
from masklet.errors import InputError, SourceError
from masklet.masks.label_map import davis_palette, save_label_map
from masklet.media.image_source import natural_key

__all__ = ["DavisDatasetReader", "DavisDatasetWriter", "LabelMapVideo", "read_split_list"]

IMAGE_FOLDER, LABEL_FOLDER, SPLIT_FOLDER = "JPEGImages", "Annotations", "ImageSets"
RESOLUTION_FOLDERS = ("480p", "Full-Resolution", "1080p")
"""Folders between JPEGImages and the sequences; the first one that exists is read."""
WRITTEN_RESOLUTION = "480p"
"""The folder that tools expect, whatever the size of the images."""
SINGLE_FRAME_NAME = "00000"
"""The only frame of an image that is in no video."""


@dataclass(frozen=True)
class LabelMapVideo(FrameFolderVideo):
    """The images of a folder, and the label maps that some of them have."""

    label_folder: Path

    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """See `FrameFolderVideo`. Ids are the labels of the map."""
        file = self.label_folder / f"{image_path.stem}.png"
        label_map = read_label_map_any_depth(file, size)
        check_same_size(file, label_map.shape, image_path, size)
        ids = unique_ids(label_map)
        binary = is_binary_mask(ids)
        for index in self.frame_indices if binary else ():
            first_ids: list[int] = []
            with suppress(DataError):  # a damaged map is an issue of that frame alone
                first_map = self.label_folder / f"{Path(self.image_names[index]).stem}.png"
                first_ids = unique_ids(read_label_map_any_depth(first_map, size))
            if first_ids:  # white alone is object 1 if the first map that is not empty is black and white too
                binary = is_binary_mask(first_ids)
                break
        masks = masks_from_label_map(label_map, binary=binary)
        masks.num_records = len(masks) if is_binary_mask(ids) else count_labels(ids, label_map)
        return masks


class DavisDatasetReader(DatasetReader):
    """Reads the sequences that have annotations; the split is a list of ImageSets, or a folder such as train.

    A sequence belongs to the list of ImageSets it is in (the later of two years), or to the folder it is in.
    """

    data_format: ClassVar[str] = "davis"
    description: ClassVar[str] = (
        "DAVIS, YouTube-VOS, MOSE, LVOS: JPEGImages/[480p/]SEQ/*.jpg with Annotations/[480p/]SEQ/*.png"
    )

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a folder, or one directly below it, has JPEGImages and Annotations."""
        return bool(_find_trees(path))

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        top = path / SPLIT_FOLDER
        list_files = sorted(top.glob("**/*.txt")) if has_matching_file(top, "**/*.txt") else []
        split_lists = {file.relative_to(top).with_suffix("").as_posix(): file for file in list_files}  # 2017/val ...
        trees, names = _find_trees(path), None
        subtrees = {tree.name: tree for tree in trees if tree != path}
        if options.split in subtrees:
            trees = [subtrees[options.split]]
        elif options.split is not None:
            split = options.split
            matching = [name for name in split_lists if name == split]
            matching = matching or [name for name in split_lists if name.endswith(f"/{split}")]
            if len(matching) > 1:
                raise SourceError(
                    f"{path} has {len(matching)} lists {split!r} ({', '.join(matching)}); a split is one list: use "
                    "its full name"
                )
            validate_choice(path, matching[0] if matching else split, [*split_lists, *subtrees], "split")
            names = read_split_list(split_lists[matching[0]])
        data = build_dataset(
            cls.data_format,
            path,
            (_read_tree(tree, "" if len(trees) == 1 else f"{tree.name}/", names) for tree in trees),
            missing="no video with masks",
            expected=f"{IMAGE_FOLDER}/[480p/]SEQ/00000.jpg with {LABEL_FOLDER}/[480p/]SEQ/00000.png: check the path "
            "and the split",
        )
        split_of: dict[str, str] = {}
        for list_name, file in split_lists.items():
            split = list_name.rsplit("/", 1)[-1]
            if is_split_name(split):
                split_of |= dict.fromkeys(read_split_list(file), split)
        splits = {sample.name: split_of.get(sample.name, sample.name.split("/")[0]) for sample in data.samples}
        return replace(data, splits={name: split for name, split in splits.items() if is_split_name(split)})


def read_split_list(file: Path) -> list[str]:
    """Read the names of the sequences in a list: one a line, or pairs of image paths (DAVIS 2016).

    Example:
        >>> read_split_list(Path("DAVIS/ImageSets/2017/val.txt"))  # doctest: +SKIP
        ['bike-packing', 'blackswan', ...]
    """
    words = [line.split()[0] for line in read_lines(file)]
    return sorted({Path(word).parent.name if "/" in word else word for word in words}, key=natural_key)


def _find_trees(path: Path) -> list[Path]:
    """Find the folders with JPEGImages and Annotations: `path` itself, or those directly below."""

    def is_tree(folder: Path) -> bool:
        if (folder / "SegmentationObject").is_dir() or has_matching_file(folder / LABEL_FOLDER, "*.xml"):  # Pascal VOC
            return False
        return (folder / IMAGE_FOLDER).is_dir() and (folder / LABEL_FOLDER).is_dir()

    return [path] if is_tree(path) else [folder for folder in folders_in(path) if is_tree(folder)]


def _read_tree(tree: Path, prefix: str, names: list[str] | None) -> DatasetPart:
    """List the videos of a tree; `names` are those to take (None: all)."""
    images, labels = (
        next((top / size for size in RESOLUTION_FOLDERS if (top / size).is_dir()), top)
        for top in (tree / IMAGE_FOLDER, tree / LABEL_FOLDER)
    )
    names_by_folder = {top: {folder.name for folder in folders_in(top)} for top in (images, labels)}
    videos: list[LabelMapVideo] = []
    issues: list[DataIssue] = []
    for name in sorted(set().union(*names_by_folder.values()) if names is None else names, key=natural_key):
        missing = [top for top, existing in names_by_folder.items() if name not in existing]
        if missing:
            reason = "is missing; a video has a folder of images and one of label maps: add it"
            issues.append(DataIssue.for_file(prefix + name, missing[0] / name, reason))
            continue
        image_files, repeated = files_by_stem(images / name)
        map_files, _ = files_by_stem(labels / name, (".png",))
        frames = tuple(index for index, stem in enumerate(image_files) if stem in map_files)
        if not frames:
            reason = "has no label map of the name of an image; one at least is needed: unpack the annotations again"
            issues.append(DataIssue.for_file(prefix + name, labels / name, reason))
            continue
        image_names = tuple(path.name for path in image_files.values())
        videos.append(LabelMapVideo(prefix + name, images / name, image_names, frames, labels / name))
        issues += [replace(issue, sample=prefix + name) for issue in repeated]
        for stem, path in map_files.items():
            if stem not in image_files:
                reason = f"has no image in {images / name}; a label map belongs to an image: add it, or remove the map"
                issues.append(DataIssue.for_file(prefix + name, path, reason))
    return videos, issues


class DavisDatasetWriter(DatasetWriter):
    """Writes JPEGImages/480p/VIDEO/FRAME.jpg, Annotations/480p/VIDEO/FRAME.png and ImageSets/2017/SPLIT.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and the loss of the other is counted.
    In a video an object has its id as its label (1 to 254, else a free one). An image that is in no video is one of a
    single frame, in which objects are numbered from 1. Nested folders are joined by two underscores.
    """

    data_format: ClassVar[str] = "davis"
    description: ClassVar[str] = (
        "JPEGImages/480p/VIDEO/FRAME.jpg, Annotations/480p/VIDEO/FRAME.png, ImageSets/2017/SPLIT.txt"
    )
    supports: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "ids"})
    dataset_files: ClassVar[tuple[str, ...]] = (f"{SPLIT_FOLDER}/2017/*.txt",)
    unique_per_split: ClassVar[bool] = False

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: WriteOptions) -> None:
        self._label_by_id: dict[str, dict[int, int]] = {}
        """For each video, the label of each id, which stays the same in all its frames."""
        self._source_folders: dict[str, str] = {}
        """For each video, the folder or image it was made of."""
        super().__init__(out_dir, names, options)

    def _image_file(self, image: LabeledImage) -> str:
        path = PurePosixPath(image.name)
        video, frame = (path, SINGLE_FRAME_NAME) if image.video is None else (path.parent, path.name)
        return f"{IMAGE_FOLDER}/{WRITTEN_RESOLUTION}/{'__'.join(video.parts) or SINGLE_FRAME_NAME}/{frame}"

    def _annotation_files(self, name: str, split: str | None, file: str) -> tuple[Path]:
        stem = PurePosixPath(file).stem
        return (self.folder / LABEL_FOLDER / WRITTEN_RESOLUTION / _video_name(file) / f"{stem}.png",)

    def _resume_entry(self, entry: LogEntry) -> bool:
        files_exist = super()._resume_entry(entry)
        if files_exist:
            video = _video_name(entry.file)
            self._source_folders[video] = _source_folder(entry.name, entry.file)
            labels = {int(track_id): label for track_id, label in entry.record["labels"].items()}
            self._label_by_id.setdefault(video, {}).update(labels)
        return files_exist

    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        result, video, source = WriteResult(), _video_name(file), _source_folder(image.name, file)
        if self._source_folders.setdefault(video, source) != source:
            raise InputError(
                f"{source!r} and {self._source_folders[video]!r} would both be the video {video!r}; rename one"
            )
        labels = self._assign_labels(video, image.objects)
        track_ids = {number: image.objects[number].track_id for number in labels}
        result.record["labels"] = {
            str(track_ids[number]): label for number, label in labels.items() if track_ids[number] is not None
        }
        self.paths.append(
            save_label_map(
                annotation_files[0], draw_label_map(image.objects, labels, image.size, result), davis_palette()
            )
        )
        return result

    def _assign_labels(self, video: str, objects: tuple[LabeledObject, ...]) -> dict[int, int]:
        """Return the label of each object of an image, by its position; objects beyond 254 have none."""
        label_by_id = self._label_by_id.setdefault(video, {})
        labels: dict[int, int] = {}
        for number, obj in enumerate(objects):
            if obj.track_id is None:
                continue
            if obj.track_id not in label_by_id:
                candidates = (obj.track_id, *range(MAX_LABEL, 0, -1))  # from above, where fewest ids are labels
                free = (n for n in candidates if 1 <= n <= MAX_LABEL and n not in label_by_id.values())
                for label in free:
                    label_by_id[obj.track_id] = label
                    break
            known_label = label_by_id.get(obj.track_id)
            if known_label is not None and known_label not in labels.values():
                labels[number] = known_label
        unused = [label for label in range(MAX_LABEL, 0, -1) if label not in labels.values()]
        for number, obj in enumerate(objects):
            if obj.track_id is None and unused:
                labels[number] = unused.pop()
        return labels

    def _finish(self) -> None:
        for split in self._log.splits:
            videos = dict.fromkeys(_video_name(entry.file) for entry in self._log.entries(split))
            path = self.folder / SPLIT_FOLDER / "2017" / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{video}\n" for video in videos)))


def _video_name(file: str) -> str:
    """Return the name of the video of an image file."""
    return PurePosixPath(file).parent.name


def _source_folder(name: str, file: str) -> str:
    """Return what a video was made of: a folder of frames, or an image."""
    path = PurePosixPath(name)
    return str(path.parent) if "__".join(path.parent.parts) == _video_name(file) else name
