"""Made clips on disk, in the layout of DAVIS 2017: a clip is there whole or not at all.

OUT/JPEGImages/480p/twins-0000/00000.jpg     the frames
OUT/Annotations/480p/twins-0000/00000.png    which object each pixel shows: 0 none, 1 the first
OUT/ImageSets/2017/train.txt                 the names of the clips
OUT/synth.json                               what they were made with
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from masklet.atomic_files import write_text
from masklet.errors import InputError, OutputError
from masklet.masks.label_map import davis_palette
from masklet.synthetic.compositing import Clip
from masklet.synthetic.procedural_source import Drawn
from masklet.synthetic.rigid_bodies import Bodies
from masklet.synthetic.scenarios import DIFFICULTIES, checked
from masklet.synthetic.sources import Material

__all__ = ["VERSION", "Director", "Plan", "Stored", "director", "store", "write_clips"]

VERSION = 1
"""Of what a seed and a number stand for; another one makes other clips."""
SIZE = "480p"
SETTINGS = "synth.json"


class Director(Protocol):
    """Makes the clips of one name."""

    @property
    def frames(self) -> int:
        """How long its clips are if nothing else is said."""

    def __call__(self, seed: int, number: int, size: tuple[int, int], frames: int, material: Material) -> Clip:
        """Clip `number` of a seed; `size` is height and width."""


@dataclass(frozen=True)
class Plan:
    """What the clips of a folder are made with."""

    seed: int = 0
    size: tuple[int, int] = (270, 480)
    """Height and width."""
    frames: int | None = None
    """None: what each difficulty has by itself."""
    lossless: bool = False
    """Frames as PNG rather than JPEG."""
    material: Material = field(default_factory=Drawn)
    data: str = "drawn"
    """What the material is, for the record."""

    def settings(self) -> dict[str, object]:
        """What is kept beside the clips."""
        return {
            "made_by": "masklet synth",
            "version": VERSION,
            "seed": self.seed,
            "size": list(self.size[::-1]),
            "frames": self.frames,
            "lossless": self.lossless,
            "data": self.data,
        }


@dataclass(frozen=True)
class Stored:
    """A clip on disk: its frames and label maps, in order."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    new: bool
    """Whether it was made now, and not by an earlier run."""


def director(name: str) -> Director:
    """Who makes the clips of that name: one of `DIFFICULTIES`, or "bodies".

    Raises:
        InputError: nobody does.
    """
    known: dict[str, Director] = {**DIFFICULTIES, "bodies": Bodies()}
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose among them"
        raise InputError(f"no difficulty {name!r}; there are {', '.join(known)}: {hint}")
    return known[name]


def write_clips(
    out: str | os.PathLike[str], plan: Plan, count: int, difficulties: Sequence[str] = ()
) -> Iterator[Stored]:
    """Make `count` clips of the difficulties in turn (default: all of `DIFFICULTIES`), and yield each once it is there.

    Stop at any moment and call it again: what is there whole is not made again.

    Example:
        >>> [stored.name for stored in write_clips("clips", Plan(seed=7), 2, ["twins"])]
        ['twins-0000', 'twins-0001']

    Raises:
        InputError: an unknown difficulty, no room in size or frames, or a folder that holds something else.
        OutputError: a folder that cannot be written.
        MissingExtraError: "bodies" without PyBullet.
    """
    names = tuple(difficulties) or tuple(DIFFICULTIES)
    makers = [director(name) for name in names]
    for maker in makers:
        checked(plan.size, maker.frames if plan.frames is None else plan.frames)
    root = Path(out)
    _claim(root, plan)
    for k in range(count):
        maker, number = makers[k % len(names)], k // len(names)
        name = f"{names[k % len(names)]}-{number:04d}"
        found = _found(root, name)
        if found is None:
            frames = maker.frames if plan.frames is None else plan.frames
            clip = maker(plan.seed, number, plan.size, frames, plan.material)
            found = store(root, name, clip, lossless=plan.lossless)
            _list(root)
        yield found


def _claim(root: Path, plan: Plan) -> None:
    """Write down what the clips are made with; refuse a folder of something else."""
    path, settings = root / SETTINGS, plan.settings()
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            there = {}
        other = [key for key, value in settings.items() if there.get(key) != value]
        if other:
            told = ", ".join(f"{key} {there.get(key)!r}, not {settings[key]!r}" for key in other)
            raise InputError(f"{root} holds clips made with {told}; say the same again, or choose another folder")
    elif (root / "JPEGImages").exists():
        raise InputError(f"{root} holds films that are not made here (no {SETTINGS}); choose another folder")
    else:
        write_text(path, json.dumps(settings, indent=2) + "\n")


def _found(root: Path, name: str) -> Stored | None:
    """A clip that an earlier run made; the pictures come to their place last, so that they stand for all."""
    pictures = root / "JPEGImages" / SIZE / name
    return _stored(root, name, new=False) if pictures.is_dir() else None


def _stored(root: Path, name: str, *, new: bool) -> Stored:
    folders = (root / kind / SIZE / name for kind in ("JPEGImages", "Annotations"))
    frames, masks = (tuple(sorted(path for path in folder.iterdir() if path.suffix)) for folder in folders)
    return Stored(name, frames, masks, new)


def store(root: Path, name: str, clip: Clip, *, lossless: bool = False) -> Stored:
    """Write one clip under `root`, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    making = root / f".making-{name}"
    pictures, masks = (root / kind / SIZE / name for kind in ("JPEGImages", "Annotations"))
    try:
        shutil.rmtree(making, ignore_errors=True)
        _fill(making, clip, ".png" if lossless else ".jpg")
        for target in (masks, pictures):
            target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(masks, ignore_errors=True)  # of a run that was stopped between the two
        os.replace(making / "masks", masks)
        os.replace(making / "pictures", pictures)
    except OSError as error:
        raise OutputError(
            f"{pictures} could not be written ({error.strerror or error}); choose a writable folder that has room"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return _stored(root, name, new=True)


def _fill(folder: Path, clip: Clip, suffix: str) -> None:
    (folder / "pictures").mkdir(parents=True)
    (folder / "masks").mkdir()
    numbers = np.arange(1, clip.masks_TNHW.shape[1] + 1, dtype=np.uint8)[:, None, None]
    for t, (frame, masks) in enumerate(zip(clip.frames_THW3, clip.masks_TNHW, strict=True)):
        how = {"compress_level": 1} if suffix == ".png" else {"quality": 95}
        Image.fromarray(frame).save(folder / "pictures" / f"{t:05d}{suffix}", **how)  # type: ignore[arg-type]
        labels = Image.fromarray((masks * numbers).max(0).astype(np.uint8))
        labels.putpalette(davis_palette().tobytes())
        labels.save(folder / "masks" / f"{t:05d}.png")


def _list(root: Path) -> None:
    names = sorted(path.name for path in (root / "JPEGImages" / SIZE).iterdir() if path.is_dir())
    write_text(root / "ImageSets" / "2017" / "train.txt", "\n".join(names) + "\n")
