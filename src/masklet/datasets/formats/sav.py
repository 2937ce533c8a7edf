"""SA-V: ID.mp4 at 24 frames a second with ID_manual.json and ID_auto.json, every fourth frame annotated.

Its val and test are folders of images (`sav_tree`); a path to them is recognized here too.

"masklet" in a JSON is a list of annotated frames, each a list of objects, each a run-length code.

Frames out of a video file, by their numbers.

SA-V's val and test: images in JPEGImages_24fps/ID, a folder of masks for each object in Annotations_6fps/ID.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from masklet.datasets.dataset import (
    AnnotatedFrame,
    DataError,
    DataIssue,
    Dataset,
    FrameFolderVideo,
    LazyMasks,
    Mask,
    Pixels,
    ReadOptions,
    Size,
    check_frame_indices,
    check_same_size,
)
from masklet.datasets.files import (
    build_dataset,
    files_by_stem,
    files_in,
    folders_in,
    has_matching_file,
    read_parts,
    validate_choice,
)
from masklet.datasets.json_reader import as_json_list, as_json_object, read_json
from masklet.datasets.label_maps import masks_from_files, read_image_size
from masklet.datasets.mask_decoding import rle_decoder
from masklet.errors import SourceError
from masklet.media import open_video

__all__ = [
    "ANNOTATION_STRIDE",
    "IMAGE_FOLDER",
    "MASK_FOLDER",
    "SavFrameFolderVideo",
    "SavVideo",
    "decode_frames",
    "find_frame_folder_videos",
    "is_sav",
    "open_sav",
]


def decode_frames(path: Path, frame_indices: Sequence[int]) -> dict[int, Pixels]:
    """RGB (H, W, 3) of each frame asked for; the video is decoded once, from the first of them to the last.

    Raises:
        DataError: the video cannot be read, or has not all of these frames.

    Example:
        >>> decoded_frames(Path("clip.mp4"), [8, 0])[8].shape
        (720, 1280, 3)
    """
    try:
        with open_video(path) as video:
            return {number: video[number].rgb for number in sorted(set(frame_indices))}
    except SourceError as problem:
        error = DataError(str(problem))
        error.file = path
        raise error from problem


IMAGE_FOLDER, MASK_FOLDER = "JPEGImages_24fps", "Annotations_6fps"


@dataclass(frozen=True)
class SavFrameFolderVideo(FrameFolderVideo):
    """Images of a folder, and for each object a folder of black and white masks of some of them."""

    mask_folders: tuple[Path, ...]

    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """See ImageFilm. Object n is the n-th folder, counted from 1; masks may overlap."""
        files = [(n, folder / f"{image_path.stem}.png") for n, folder in enumerate(self.mask_folders, 1)]
        there = [(n, file) for n, file in files if file.exists()]
        for _, file in there:
            check_same_size(file, read_image_size(file), image_path, size)
        return masks_from_files(there)


def find_frame_folder_videos(root: Path) -> tuple[list[SavFrameFolderVideo], list[DataIssue]]:
    """The videos below `root` with masks, in natural order, and what is wrong with the others.

    Example:
        >>> videos, problems = object_videos(Path("sav_val"))
        >>> videos[0].name, videos[0].frames[:3]
        ('sav_000262', (0, 4, 8))
    """
    videos: list[SavFrameFolderVideo] = []
    problems: list[DataIssue] = []
    masked = {folder.name: folder for folder in folders_in(root / MASK_FOLDER)}
    for folder in folders_in(root / IMAGE_FOLDER):
        shown, _ = files_by_stem(folder)
        objects = folders_in(masked.pop(folder.name, root / MASK_FOLDER / folder.name))
        stems = {stem for below in objects for stem in files_by_stem(below, (".png",))[0]}
        frames = tuple(number for number, stem in enumerate(shown) if stem in stems)
        if frames:
            names = tuple(path.name for path in shown.values())
            videos.append(SavFrameFolderVideo(folder.name, folder, names, frames, tuple(objects)))
        else:
            reason = f"has no masks in {root / MASK_FOLDER / folder.name}; a folder for each object is needed: add them"
            problems.append(DataIssue.for_file(folder.name, folder, reason))
    for name, folder in masked.items():
        reason = f"has no images in {root / IMAGE_FOLDER}; masks need their images: add them"
        problems.append(DataIssue.for_file(name, folder, reason))
    return videos, problems


ANNOTATION_STRIDE = 4
"""Frames of the video from one annotated frame to the next."""
ANNOTATION_TYPES = ("manual", "auto")
VIDEO_SUFFIXES = (".mp4",)
_TAIL_BYTES, _MAX_FRAME_COUNT = 1 << 18, 1_000_000
FrameMasks = list[object]


@dataclass(frozen=True)
class SavVideo:
    """A video, and one or two JSON files with its masklets."""

    name: str
    video_path: Path
    annotation_files: tuple[Path, ...]
    frame_indices: tuple[int, ...]
    """See Entry."""

    @property
    def source(self) -> Path:
        """See Entry."""
        return self.video_path

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See Entry. Objects are 1 to N in the order of the files: those of `manual` first, then those of `auto`."""
        check_frame_indices(self, frame_indices)
        if not frame_indices:
            return []
        tables = [(file, _read_masklets(file)) for file in self.annotation_files]
        images = decode_frames(self.video_path, frame_indices)
        return [self._annotated_frame(images[number], number, tables) for number in frame_indices]

    def _annotated_frame(
        self, rgb: Pixels, frame_idx: int, tables: list[tuple[Path, list[FrameMasks]]]
    ) -> AnnotatedFrame:
        decoders: dict[int, Callable[[], Mask]] = {}
        before, place, size = 0, frame_idx // ANNOTATION_STRIDE, (rgb.shape[0], rgb.shape[1])
        if all(place >= len(rows) for _, rows in tables):
            reason = (
                f"has no masklets for frame {frame_idx}, though it says so (masklet_frame_count); download it again"
            )
            raise DataError.for_file(tables[0][0], reason)
        for file, rows in tables:
            for index, code in enumerate(rows[place] if place < len(rows) else []):
                what = f"frame {frame_idx}, masklet {index}"
                decoders[before + index + 1] = rle_decoder(code, size, file, self.video_path, what)
            before += max(map(len, rows))
        return AnnotatedFrame(rgb, LazyMasks(decoders))


def is_sav(path: Path) -> bool:
    """Whether there are files ID_manual.json or ID_auto.json in a folder or directly below, or it is val or test."""
    return _has_frame_folders(path) or any(
        has_matching_file(path, f"{below}*_{part}.json") for below in ("", "*/") for part in ANNOTATION_TYPES
    )


def open_sav(path: Path, options: ReadOptions) -> Dataset:
    """The videos of a folder that have masklets, and of the folders directly below it; a split is manual or auto.

    Example:
        >>> video = open_sav(Path("sav_train"), Choice("manual")).entries[0]
        >>> video.name, video.frames[:3]
        ('sav_000/sav_000001', (0, 4, 8))

    Raises:
        SourceError: no video with its masklets, or another split.
    """
    if _has_frame_folders(path):
        return _open_frame_folders(path, options)
    parts = (
        ANNOTATION_TYPES
        if options.split is None
        else (validate_choice(path, options.split, ANNOTATION_TYPES, "split"),)
    )
    allowed = "ID.mp4 with ID_manual.json or ID_auto.json beside it, here or in folders below: check path and split"
    found = read_parts(path, (path, *folders_in(path)), partial(_read_folder, annotation_types=parts))
    return build_dataset("sav", path, found, "no video of SA-V", allowed)


def _has_frame_folders(path: Path) -> bool:
    return (path / IMAGE_FOLDER).is_dir() and (path / MASK_FOLDER).is_dir()


def _open_frame_folders(path: Path, options: ReadOptions) -> Dataset:
    if options.split is not None:
        validate_choice(path, options.split, (), "split")
    allowed = f"{IMAGE_FOLDER}/ID/00000.jpg with {MASK_FOLDER}/ID/000/00000.png: unpack the archive again"
    return build_dataset("sav", path, [find_frame_folder_videos(path)], "no video with masks", allowed)


def _read_folder(folder: Path, prefix: str, annotation_types: Sequence[str]) -> tuple[list[SavVideo], list[DataIssue]]:
    videos, _ = files_by_stem(folder, VIDEO_SUFFIXES)
    files: dict[str, list[Path]] = {}
    for part in annotation_types:
        for file in files_in(folder, (".json",)):
            if file.stem.endswith(f"_{part}"):
                files.setdefault(file.stem.removesuffix(f"_{part}"), []).append(file)
    entries: list[SavVideo] = []
    problems: list[DataIssue] = []
    for stem, video in videos.items() if files else ():
        if stem not in files:
            reason = f"has no {' or '.join(f'{stem}_{part}.json' for part in annotation_types)} beside it; add it, or remove the video"  # noqa: E501
            problems.append(DataIssue.for_file(prefix + stem, video, reason))
            continue
        try:
            frames = tuple(
                ANNOTATION_STRIDE * row for row in range(max(_count_annotated_frames(file) for file in files[stem]))
            )
        except DataError as problem:
            problems.append(DataIssue(prefix + stem, problem.file, str(problem)))
            continue
        entries.append(SavVideo(prefix + stem, video, tuple(files[stem]), frames))
    for stem in files:
        if stem not in videos:
            reason = f"has no video {stem}.mp4 beside it; masklets need their video: add it, or remove the file"
            problems.append(DataIssue.for_file(prefix + stem, files[stem][0], reason))
    return entries, problems


def _read_masklets(file: Path) -> list[FrameMasks]:
    """What objects each annotated frame has, as codes."""
    record = as_json_object(read_json(file), file, "the whole file")
    rows = [
        as_json_list(row, file, "each frame of 'masklet'")
        for row in as_json_list(record.get("masklet"), file, "'masklet'")
    ]
    if not rows:
        raise DataError.for_file(file, "has no frame in 'masklet'; one at least is needed: download it again")
    return rows


def _count_annotated_frames(file: Path) -> int:
    """Annotated frames. The end of a file as published says it; any other is read whole."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            tail = stream.read()
    except OSError:
        tail = b""
    said = re.search(rb'"masklet_frame_count"\s*:\s*\[([0-9.,\s]+)\]', tail)
    counts = re.findall(rb"(\d{1,9})(?:\.\d*)?", said[1]) if said else []
    rows = max(map(int, counts), default=0)
    return rows if tail.rstrip().endswith(b"}") and 0 < rows < _MAX_FRAME_COUNT else len(_read_masklets(file))
