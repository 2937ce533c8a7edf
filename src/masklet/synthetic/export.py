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
from masklet.synthetic.procedural_source import ProceduralSource
from masklet.synthetic.rigid_bodies import RigidBodies
from masklet.synthetic.scenarios import SCENARIOS, check_scene_size
from masklet.synthetic.sources import AssetSource

__all__ = ["VERSION", "ClipGenerator", "ExportOptions", "StoredClip", "get_clip_generator", "save_clip", "write_clips"]

VERSION = 1
"""Of what a seed and a number stand for; another one makes other clips."""
RESOLUTION_FOLDER = "480p"
SETTINGS_FILE = "synth.json"


class ClipGenerator(Protocol):
    """Makes the clips of one name."""

    @property
    def default_frames(self) -> int:
        """How long its clips are if nothing else is said."""

    def __call__(self, seed: int, number: int, size: tuple[int, int], frames: int, assets: AssetSource) -> Clip:
        """Clip `number` of a seed; `size` is height and width."""


@dataclass(frozen=True)
class ExportOptions:
    """What the clips of a folder are made with."""

    seed: int = 0
    size: tuple[int, int] = (270, 480)
    """Height and width."""
    frames: int | None = None
    """None: what each difficulty has by itself."""
    lossless: bool = False
    """Frames as PNG rather than JPEG."""
    assets: AssetSource = field(default_factory=ProceduralSource)
    source_name: str = "drawn"
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
            "data": self.source_name,
        }


@dataclass(frozen=True)
class StoredClip:
    """A clip on disk: its frames and label maps, in order."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    created: bool
    """Whether it was made now, and not by an earlier run."""


def get_clip_generator(name: str) -> ClipGenerator:
    """Who makes the clips of that name: one of `DIFFICULTIES`, or "bodies".

    Raises:
        InputError: nobody does.
    """
    known: dict[str, ClipGenerator] = {**SCENARIOS, "bodies": RigidBodies()}
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose among them"
        raise InputError(f"no difficulty {name!r}; there are {', '.join(known)}: {hint}")
    return known[name]


def write_clips(
    out: str | os.PathLike[str], options: ExportOptions, count: int, scenarios: Sequence[str] = ()
) -> Iterator[StoredClip]:
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
    names = tuple(scenarios) or tuple(SCENARIOS)
    makers = [get_clip_generator(name) for name in names]
    for maker in makers:
        check_scene_size(options.size, maker.default_frames if options.frames is None else options.frames)
    root = Path(out)
    _write_settings(root, options)
    for k in range(count):
        maker, number = makers[k % len(names)], k // len(names)
        name = f"{names[k % len(names)]}-{number:04d}"
        found = _find_clip(root, name)
        if found is None:
            frames = maker.default_frames if options.frames is None else options.frames
            clip = maker(options.seed, number, options.size, frames, options.assets)
            found = save_clip(root, name, clip, lossless=options.lossless)
            _write_clip_list(root)
        yield found


def _write_settings(root: Path, options: ExportOptions) -> None:
    """Write down what the clips are made with; refuse a folder of something else."""
    path, settings = root / SETTINGS_FILE, options.settings()
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
        raise InputError(f"{root} holds videos that are not made here (no {SETTINGS_FILE}); choose another folder")
    else:
        write_text(path, json.dumps(settings, indent=2) + "\n")


def _find_clip(root: Path, name: str) -> StoredClip | None:
    """A clip that an earlier run made; the images come to their place last, so that they stand for all."""
    images = root / "JPEGImages" / RESOLUTION_FOLDER / name
    return _read_stored_clip(root, name, created=False) if images.is_dir() else None


def _read_stored_clip(root: Path, name: str, *, created: bool) -> StoredClip:
    folders = (root / kind / RESOLUTION_FOLDER / name for kind in ("JPEGImages", "Annotations"))
    frames, masks = (tuple(sorted(path for path in folder.iterdir() if path.suffix)) for folder in folders)
    return StoredClip(name, frames, masks, created)


def save_clip(root: Path, name: str, clip: Clip, *, lossless: bool = False) -> StoredClip:
    """Write one clip under `root`, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    making = root / f".making-{name}"
    images, masks = (root / kind / RESOLUTION_FOLDER / name for kind in ("JPEGImages", "Annotations"))
    try:
        shutil.rmtree(making, ignore_errors=True)
        _write_files(making, clip, ".png" if lossless else ".jpg")
        for target in (masks, images):
            target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(masks, ignore_errors=True)  # of a run that was stopped between the two
        os.replace(making / "masks", masks)
        os.replace(making / "pictures", images)
    except OSError as error:
        raise OutputError(
            f"{images} could not be written ({error.strerror or error}); choose a writable folder that has room"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return _read_stored_clip(root, name, created=True)


def _write_files(folder: Path, clip: Clip, suffix: str) -> None:
    (folder / "pictures").mkdir(parents=True)
    (folder / "masks").mkdir()
    numbers = np.arange(1, clip.masks_TNHW.shape[1] + 1, dtype=np.uint8)[:, None, None]
    for t, (frame, masks) in enumerate(zip(clip.frames_THW3, clip.masks_TNHW, strict=True)):
        how = {"compress_level": 1} if suffix == ".png" else {"quality": 95}
        Image.fromarray(frame).save(folder / "pictures" / f"{t:05d}{suffix}", **how)  # type: ignore[arg-type]
        labels = Image.fromarray((masks * numbers).max(0).astype(np.uint8))
        labels.putpalette(davis_palette().tobytes())
        labels.save(folder / "masks" / f"{t:05d}.png")


def _write_clip_list(root: Path) -> None:
    names = sorted(path.name for path in (root / "JPEGImages" / RESOLUTION_FOLDER).iterdir() if path.is_dir())
    write_text(root / "ImageSets" / "2017" / "train.txt", "\n".join(names) + "\n")
