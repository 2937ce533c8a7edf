"""Find the sequences of a DAVIS folder and load their annotations.

Both formats are read: DAVIS 2016 (black and white, one object) and DAVIS 2017 (a palette; a pixel is the id of its
object). In an annotation that has other objects, pixels of 255 are not evaluated.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets.formats.davis import read_split_list
from masklet.datasets.label_maps import IGNORE_LABEL, read_label_map
from masklet.errors import SourceError
from masklet.media.image import format_size

__all__ = ["IGNORE_LABEL", "DavisSequence", "Labels", "find_davis_sequences", "load_ground_truth"]

Labels = npt.NDArray[np.uint8]
RESOLUTION = "480p"
MIN_FRAMES = 3
"""Minimum number of frames: the first and the last are not measured."""


@dataclass(frozen=True)
class DavisSequence:
    """A sequence: its images, and one annotation for each, in order."""

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]


def find_davis_sequences(root: Path, subset: str | None = None, exclude: Iterable[str] = ()) -> list[DavisSequence]:
    """Find the sequences of a DAVIS 2016 or 2017 folder, in the order of their names.

    A sequence is `JPEGImages/480p/NAME/*.jpg` with `Annotations/480p/NAME/*.png` of the same stems. `subset` is a list
    of `ImageSets`, such as `val` or, where several have that name, `2017/val`; None: every folder. Sequences named in
    `exclude` are skipped.

    Example:
        >>> [sequence.name for sequence in find_davis_sequences(Path("DAVIS"), "2017/val")]
        ['bike-packing', 'blackswan', ...]

    Raises:
        SourceError: if there is no sequence, a list or a sequence is missing, or an image has no annotation.
    """
    folder = root / "JPEGImages" / RESOLUTION
    available = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not available:
        raise SourceError(
            f"{root} has no videos of DAVIS; allowed is a folder with JPEGImages/{RESOLUTION}/NAME/*.jpg and "
            f"Annotations/{RESOLUTION}/NAME/*.png: unpack the archive there, or name another folder"
        )
    excluded = set(exclude)
    names = available
    if subset is not None:
        files = sorted((root / "ImageSets").glob("**/*.txt"))
        lists = {path.relative_to(root / "ImageSets").with_suffix("").as_posix(): path for path in files}
        matching = [name for name in lists if name == subset or name.endswith(f"/{subset}")]
        if len(matching) != 1:
            raise SourceError(
                f"{root} has {len(matching)} lists {subset!r}; its lists are {', '.join(lists) or 'none'}: "
                "give the full name of one of them, or none to take every sequence"
            )
        names = sorted(read_split_list(lists[matching[0]]))
    for name in [*names, *excluded]:
        if name not in available:
            raise SourceError(f"{root} has no sequence {name!r}; it has {', '.join(available)}: choose among these")
    sequences = [_open_sequence(root, name) for name in names if name not in excluded]
    if not sequences:
        raise SourceError(f"no sequence of {root} is left ({', '.join(names)} excluded); leave at least one")
    return sequences


def _open_sequence(root: Path, name: str) -> DavisSequence:
    folder = root / "JPEGImages" / RESOLUTION / name
    frames = tuple(sorted(folder.glob("*.jpg")) or sorted(folder.glob("*.png")))  # masklet synth --lossless
    masks = tuple(root / "Annotations" / RESOLUTION / name / f"{path.stem}.png" for path in frames)
    missing = [path for path in masks if not path.exists()]
    if missing:
        raise SourceError(
            f"{missing[0]} is missing ({len(missing)} of the {len(masks)} annotations of {name}); every image "
            "needs its annotation: complete the folder, or exclude the sequence"
        )
    if len(frames) < MIN_FRAMES:
        raise SourceError(
            f"{folder} has {len(frames)} images (*.jpg or *.png); {MIN_FRAMES} are needed, since the "
            "first and the last are not measured: complete the folder, or exclude the sequence"
        )
    return DavisSequence(name, frames, masks)


def load_ground_truth(sequence: DavisSequence) -> Labels:
    """Return object ids (T, H, W) of a sequence: 0 is background, `IGNORE_LABEL` is not evaluated.

    Raises:
        SourceError: if an annotation is unreadable, is not a label map, or has another size than the first.
    """
    maps = [read_label_map(path) for path in sequence.mask_paths]
    for path, labels in zip(sequence.mask_paths, maps, strict=True):
        if labels.shape != maps[0].shape:
            raise SourceError(
                f"{path} is {format_size(labels.shape)} and {sequence.mask_paths[0].name} is "
                f"{format_size(maps[0].shape)}; the annotations of a sequence must have the same size: repair it, or "
                "exclude the sequence"
            )
    truth = np.stack(maps)
    if set(np.unique(truth[0])) - {0} == {IGNORE_LABEL}:  # 2016: black and white
        white: npt.NDArray[np.bool_] = (truth > IGNORE_LABEL // 2) | (truth == 1)  # 1 is the white of a map of one bit
        return white.astype(np.uint8)
    return truth
