"""SA-V: videos at 24 frames per second, of which every fourth frame is annotated.

Training data is a video file with one or two JSON files of masklets:

    sav_000/sav_000001.mp4
    sav_000/sav_000001_manual.json   {"masklet": [[code of object 0, code of object 1, ...], next frame, ...], ...}
    sav_000/sav_000001_auto.json

Its val and test sets are folders of images, with a folder of black and white masks for each object:

    JPEGImages_24fps/sav_000262/00000.jpg
    Annotations_6fps/sav_000262/000/00000.png
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from masklet.damaged_files import open_regular_file
from masklet.datasets.dataset import (
    AnnotatedFrame,
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    FrameFolderVideo,
    LazyMasks,
    Mask,
    ReadOptions,
    Size,
    check_frame_indices,
)
from masklet.datasets.files import (
    DatasetPart,
    build_dataset,
    files_by_stem,
    files_in,
    folders_in,
    has_matching_file,
    read_parts,
    validate_choice,
)
from masklet.datasets.json_reader import as_json_list, as_json_object, read_json
from masklet.datasets.label_maps import masks_from_files
from masklet.datasets.mask_decoding import rle_decoder
from masklet.errors import SourceError
from masklet.media import open_video

__all__ = ["ANNOTATION_STRIDE", "IMAGE_FOLDER", "MASK_FOLDER", "SavDatasetReader", "SavFrameFolderVideo", "SavVideo"]

ANNOTATION_STRIDE = 4
"""Frames of the video from one annotated frame to the next."""
ANNOTATION_TYPES = ("manual", "auto")
VIDEO_SUFFIXES = (".mp4",)
IMAGE_FOLDER, MASK_FOLDER = "JPEGImages_24fps", "Annotations_6fps"
TAIL_BYTES, MAX_FRAME_COUNT = 1 << 18, 1_000_000


@dataclass(frozen=True)
class SavVideo:
    """A video file, and one or two JSON files with its masklets."""

    name: str
    video_path: Path
    annotation_files: tuple[Path, ...]
    frame_indices: tuple[int, ...]
    """See `Sample`."""

    @property
    def source(self) -> Path:
        """See `Sample`."""
        return self.video_path

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See `Sample`. Objects are 1 to N in the order of the files: those of `manual`, then those of `auto`."""
        check_frame_indices(self, frame_indices)
        if not frame_indices:
            return []
        tables = [(file, _read_masklets(file)) for file in self.annotation_files]
        try:
            with open_video(self.video_path) as video:
                images = {index: video[index].rgb for index in sorted(set(frame_indices))}
        except SourceError as problem:
            raise DataError.from_error(self.video_path, problem) from problem
        frames = []
        for frame_idx in frame_indices:
            row, rgb = frame_idx // ANNOTATION_STRIDE, images[frame_idx]
            if all(row >= len(rows) for _, rows in tables):
                reason = (
                    f"has no masklets for frame {frame_idx}, though it says so (masklet_frame_count); download it again"
                )
                raise DataError.for_file(tables[0][0], reason)
            decoders: dict[int, Callable[[], Mask]] = {}
            first_id, num_records, size = 1, 0, (rgb.shape[0], rgb.shape[1])
            for file, rows in tables:
                codes = as_json_list(rows[row], file, f"frame {row} of 'masklet'") if row < len(rows) else []
                num_records += len(codes)
                for index, code in enumerate(codes):
                    arguments = (code, size, file, self.video_path, f"frame {frame_idx}, masklet {index}")
                    decoders[first_id + index] = partial(_decode_masklet, *arguments)
                first_id += max(len(codes) if isinstance(codes, list) else 0 for codes in rows)
            frames.append(AnnotatedFrame(rgb, LazyMasks(decoders, num_records=num_records)))
        return frames


@dataclass(frozen=True)
class SavFrameFolderVideo(FrameFolderVideo):
    """The images of a folder, and for each object a folder of black and white masks of some of them."""

    mask_folders: tuple[Path, ...]

    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """See `FrameFolderVideo`. Object n is the n-th folder, from 1; masks may overlap."""
        files = [(n, folder / f"{image_path.stem}.png") for n, folder in enumerate(self.mask_folders, 1)]
        return masks_from_files([(object_id, file) for object_id, file in files if file.exists()], image_path, size)


class SavDatasetReader(DatasetReader):
    """Reads the videos with masklets of a folder and of those directly below it, or the val and test sets.

    The split is manual or auto; val and test have none.
    """

    data_format: ClassVar[str] = "sav"
    description: ClassVar[str] = (
        "SA-V: ID.mp4 with ID_manual.json or ID_auto.json; JPEGImages_24fps with Annotations_6fps"
    )

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a folder has the folders of val and test, or has *_manual.json or *_auto.json files."""
        return _has_frame_folders(path) or any(
            has_matching_file(path, f"{below}*_{kind}.json") for below in ("", "*/") for kind in ANNOTATION_TYPES
        )

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        if _has_frame_folders(path):
            if options.split is not None:
                validate_choice(path, options.split, (), "split")
            return build_dataset(
                "sav",
                path,
                [_read_frame_folders(path)],
                missing="no video with masks",
                expected=f"{IMAGE_FOLDER}/ID/00000.jpg with {MASK_FOLDER}/ID/000/00000.png: unpack the archive again",
            )
        kinds: Sequence[str] = ANNOTATION_TYPES
        if options.split is not None:
            kinds = (validate_choice(path, options.split, ANNOTATION_TYPES, "split"),)
        return build_dataset(
            cls.data_format,
            path,
            read_parts(path, (path, *folders_in(path)), partial(_read_folder, annotation_types=kinds)),
            missing="no video of SA-V",
            expected="ID.mp4 with ID_manual.json or ID_auto.json next to it, here or in folders below: check path and "
            "split",
        )


def _has_frame_folders(path: Path) -> bool:
    return (path / IMAGE_FOLDER).is_dir() and (path / MASK_FOLDER).is_dir()


def _read_frame_folders(root: Path) -> DatasetPart:
    """List the videos of val or test."""
    videos: list[SavFrameFolderVideo] = []
    issues: list[DataIssue] = []
    mask_folders = {folder.name: folder for folder in folders_in(root / MASK_FOLDER)}
    for folder in folders_in(root / IMAGE_FOLDER):
        images, _ = files_by_stem(folder)
        object_folders = folders_in(mask_folders.pop(folder.name, root / MASK_FOLDER / folder.name))
        annotated = {stem for below in object_folders for stem in files_by_stem(below, (".png",))[0]}
        frames = tuple(index for index, stem in enumerate(images) if stem in annotated)
        if frames:
            names = tuple(path.name for path in images.values())
            videos.append(SavFrameFolderVideo(folder.name, folder, names, frames, tuple(object_folders)))
        else:
            reason = f"has no masks in {root / MASK_FOLDER / folder.name}; a folder for each object is needed: add them"
            issues.append(DataIssue.for_file(folder.name, folder, reason))
    for name, folder in mask_folders.items():
        reason = f"has no images in {root / IMAGE_FOLDER}; masks need their images: add them"
        issues.append(DataIssue.for_file(name, folder, reason))
    return videos, issues


def _read_folder(folder: Path, prefix: str, annotation_types: Sequence[str]) -> DatasetPart:
    """List the video files of a folder that have masklets of these types."""
    videos, _ = files_by_stem(folder, VIDEO_SUFFIXES)
    annotations: dict[str, list[Path]] = {}
    for kind in annotation_types:
        for file in files_in(folder, (".json",)):
            if file.stem.endswith(f"_{kind}"):
                annotations.setdefault(file.stem.removesuffix(f"_{kind}"), []).append(file)
    samples: list[SavVideo] = []
    issues: list[DataIssue] = []
    for stem, video in videos.items() if annotations else ():
        if stem not in annotations:
            expected = " or ".join(f"{stem}_{kind}.json" for kind in annotation_types)
            reason = f"has no {expected} next to it; add it, or remove the video"
            issues.append(DataIssue.for_file(prefix + stem, video, reason))
            continue
        try:
            num_annotated = max(_count_annotated_frames(file) for file in annotations[stem])
        except DataError as problem:
            issues.append(DataIssue.from_error(prefix + stem, problem))
            continue
        frames = tuple(ANNOTATION_STRIDE * row for row in range(num_annotated))
        samples.append(SavVideo(prefix + stem, video, tuple(annotations[stem]), frames))
    for stem in annotations:
        if stem not in videos:
            reason = f"has no video {stem}.mp4 next to it; masklets need their video: add it, or remove the file"
            issues.append(DataIssue.for_file(prefix + stem, annotations[stem][0], reason))
    return samples, issues


def _count_annotated_frames(file: Path) -> int:
    """Count the annotated frames. The end of a published file has the number; any other file is read completely."""
    try:
        with open_regular_file(file) as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            tail = stream.read()
    except OSError:
        tail = b""
    match = re.search(rb'"masklet_frame_count"\s*:\s*\[([0-9.,\s]+)\]', tail)
    counts = re.findall(rb"(\d{1,9})(?:\.\d*)?", match[1]) if match else []
    count = max(map(int, counts), default=0)
    return count if tail.rstrip().endswith(b"}") and 0 < count < MAX_FRAME_COUNT else len(_read_masklets(file))


def _decode_masklet(code: object, size: Size, file: Path, video_path: Path, description: str) -> Mask:
    """Check and decode a run-length code; a bad one costs no other object of the frame."""
    return rle_decoder(code, size, file, video_path, description)()


def _read_masklets(file: Path) -> list[object]:
    """Read the lists of run-length codes of all objects, by annotated frame; a frame is checked when it is read."""
    record = as_json_object(read_json(file), file, "the whole file")
    rows = as_json_list(record.get("masklet"), file, "'masklet'")
    if not rows:
        raise DataError.for_file(file, "has no frame in 'masklet'; one at least is needed: download it again")
    return rows
