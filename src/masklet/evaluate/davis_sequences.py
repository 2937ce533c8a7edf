"""Folders in the layout of DAVIS: which sequences there are, and what their annotations say.

Both layouts are read: DAVIS 2016 (black and white, one object) and DAVIS 2017 (a palette, a pixel is the id of its
object). In an annotation that has other objects, 255 is a place that nobody judges.

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
"""Frames of a video; the first and the last are not measured."""


@dataclass(frozen=True)
class DavisSequence:
    """One sequence: its images, and one annotation for each, in order."""

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]


def find_davis_sequences(root: Path, subset: str | None = None, exclude: Iterable[str] = ()) -> list[DavisSequence]:
    """The sequences of a folder in the layout of DAVIS 2016 or 2017, in order of their names.

    They are `JPEGImages/480p/NAME/*.jpg` with `Annotations/480p/NAME/*.png` of the same stems. `subset` is a list of
    `ImageSets`, such as `val` or, where there are several of that name, `2017/val`; None: every folder. Sequences
    named in `exclude` are left out.

    Example:
        >>> [sequence.name for sequence in davis_under(Path("DAVIS"), "2017/val")]
        ['bike-packing', 'blackswan', ...]

    Raises:
        SourceError: no sequences, a list or a sequence that is not there, or an image without its annotation.
    """
    folder = root / "JPEGImages" / RESOLUTION
    there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not there:
        raise SourceError(
            f"{root} holds no videos of DAVIS; allowed is a folder with JPEGImages/{RESOLUTION}/NAME/*.jpg and "
            f"Annotations/{RESOLUTION}/NAME/*.png: unpack the archive there, or name another folder"
        )
    left_out = set(exclude)
    wanted = there if subset is None else _read_image_set(root, subset)
    for name in [*wanted, *left_out]:
        if name not in there:
            raise SourceError(f"{root} has no sequence {name!r}; it has {', '.join(there)}: choose among these")
    found = [_open_sequence(root, name) for name in wanted if name not in left_out]
    if not found:
        raise SourceError(f"no sequence of {root} is left ({', '.join(wanted)} excluded); leave at least one")
    return found


def _read_image_set(root: Path, subset: str) -> list[str]:
    """Names in a list: one a line (DAVIS 2017), or pairs of paths (DAVIS 2016)."""
    lists = {path.relative_to(root / "ImageSets").with_suffix("").as_posix(): path for path in _image_set_files(root)}
    fitting = [name for name in lists if name == subset or name.endswith(f"/{subset}")]
    if len(fitting) != 1:
        raise SourceError(
            f"{root} has {len(fitting)} lists {subset!r}; its lists are {', '.join(lists) or 'none'}: "
            "name one of them whole, or none to take every sequence"
        )
    return sorted(read_split_list(lists[fitting[0]]))


def _image_set_files(root: Path) -> list[Path]:
    return sorted((root / "ImageSets").glob("**/*.txt"))


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
    """Ids (T, H, W) of the objects of a sequence, 0 elsewhere, `UNJUDGED` where nobody judges.

    Raises:
        SourceError: an annotation that cannot be read, is no label map, or has another size than the first.
    """
    maps = [read_label_map(path) for path in sequence.mask_paths]
    for path, labels in zip(sequence.mask_paths, maps, strict=True):
        if labels.shape != maps[0].shape:
            raise SourceError(
                f"{path} is {format_size(labels.shape)} and {sequence.mask_paths[0].name} is {format_size(maps[0].shape)}; the "  # noqa: E501
                "annotations of a sequence are of one size: mend it, or exclude the sequence"
            )
    truth = np.stack(maps)
    if set(np.unique(truth[0])) - {0} == {IGNORE_LABEL}:  # 2016: black and white
        return (truth > IGNORE_LABEL // 2).astype(np.uint8)
    return truth
