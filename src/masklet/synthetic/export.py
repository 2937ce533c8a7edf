"""Write synthetic clips to disk in the format of DAVIS 2017, each complete or not at all.

OUT/JPEGImages/480p/twins-0000/00000.jpg     the frames
OUT/Annotations/480p/twins-0000/00000.png    the object of each pixel: 0 none, 1 the first
OUT/ImageSets/2017/train.txt                 the names of the clips
OUT/synth.json                               the options
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from masklet.atomic_files import write_text
from masklet.damaged_files import damage_errors
from masklet.errors import InputError, OutputError
from masklet.synthetic.compositing import Clip
from masklet.synthetic.procedural_source import ProceduralSource
from masklet.synthetic.rigid_bodies import RigidBodies
from masklet.synthetic.scenarios import SCENARIOS, Scenario, check_scene_size
from masklet.synthetic.sources import AssetSource
from masklet.writers.mask_images import label_map_image
from masklet.written_files import WrittenFiles

__all__ = ["VERSION", "ClipGenerator", "ExportOptions", "StoredClip", "get_clip_generator", "save_clip", "write_clips"]

VERSION = 1
"""Version of the mapping from seed and number to clips."""
RESOLUTION_FOLDER = "480p"
SETTINGS_FILE = "synth.json"
ClipGenerator = Scenario | RigidBodies
"""A generator of the clips of one name."""


@dataclass(frozen=True)
class ExportOptions:
    """The options of the clips in a folder."""

    seed: int = 0
    size: tuple[int, int] = (270, 480)
    """(height, width)."""
    frames: int | None = None
    """None: the default of each scenario."""
    lossless: bool = False
    """Store frames as PNG instead of JPEG."""
    assets: AssetSource = field(default_factory=ProceduralSource)
    source_name: str = "drawn"
    """Name of the assets, stored with the clips."""

    def settings(self) -> dict[str, object]:
        """The content of synth.json."""
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
    """Whether this run made it, and not an earlier one."""


def get_clip_generator(name: str) -> ClipGenerator:
    """Return the generator of that name: one of `SCENARIOS`, or "bodies".

    Raises:
        InputError: if there is none.
    """
    known: dict[str, ClipGenerator] = {**SCENARIOS, "bodies": RigidBodies()}
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose among them"
        raise InputError(f"no scenario {name!r}; there are {', '.join(known)}: {hint}")
    return known[name]


def write_clips(
    out: str | os.PathLike[str],
    options: ExportOptions,
    count: int,
    scenarios: Sequence[str] = (),
    *,
    overwrite: bool = False,
) -> Iterator[StoredClip]:
    """Make `count` clips of the scenarios in turn (by default all of `SCENARIOS`), and yield each when it is stored.

    A call with the same arguments resumes a run that was stopped: clips that are complete are not made again. A list of
    clips that somebody else wrote or changed is kept, unless `overwrite`.

    Example:
        >>> [clip.name for clip in write_clips("clips", ExportOptions(seed=7), 2, ["twins"])]  # doctest: +SKIP
        ['twins-0000', 'twins-0001']

    Raises:
        InputError: if a scenario is unknown, frames are too few or too small, or the folder has other videos.
        OutputError: if the folder cannot be written, or the list of clips is somebody else's.
        MissingExtraError: if PyBullet is missing for "bodies".
    """
    names = tuple(scenarios) or tuple(SCENARIOS)
    generators = [get_clip_generator(name) for name in names]
    for generator in generators:
        check_scene_size(options.size, generator.default_frames if options.frames is None else options.frames)
    root = Path(out)
    is_new = _write_settings(root, options)
    files, list_file = WrittenFiles(root, overwrite=overwrite), root / "ImageSets" / "2017" / "train.txt"
    if not is_new and not files.database.exists() and list_file.exists():  # an earlier version kept no record
        files.record_existing([list_file])
    files.check(list_file)
    for k in range(count):
        generator, scenario, number = generators[k % len(names)], names[k % len(names)], k // len(names)
        name = f"{scenario}-{number:04d}"
        if (root / "JPEGImages" / RESOLUTION_FOLDER / name).is_dir():  # moved there last, so the clip is complete
            yield _read_stored_clip(root, name, created=False)
            continue
        frames = generator.default_frames if options.frames is None else options.frames
        clip = generator(options.seed, number, options.size, frames, options.assets)
        stored = save_clip(root, name, clip, lossless=options.lossless)
        clips = sorted(path.name for path in (root / "JPEGImages" / RESOLUTION_FOLDER).iterdir() if path.is_dir())
        with files.protect():
            write_text(list_file, "\n".join(clips) + "\n")
        yield stored


def _write_settings(root: Path, options: ExportOptions) -> bool:
    """Store the options of the clips, and return whether they are new; refuse a folder of other videos."""
    path, settings = root / SETTINGS_FILE, options.settings()
    if path.exists():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except damage_errors():
            stored = {}
        stored = stored if isinstance(stored, dict) else {}
        changed = [key for key, value in settings.items() if stored.get(key) != value]
        if changed:
            changes = ", ".join(f"{key} {stored.get(key)!r}, not {settings[key]!r}" for key in changed)
            raise InputError(f"{root} has clips made with {changes}; use the same options, or choose another folder")
        return False
    if any((root / kind).exists() for kind in ("JPEGImages", "Annotations", "ImageSets")):
        raise InputError(f"{root} has videos that are not synthetic (no {SETTINGS_FILE}); choose another folder")
    write_text(path, json.dumps(settings, indent=2) + "\n")
    return True


def _read_stored_clip(root: Path, name: str, *, created: bool) -> StoredClip:
    folders = (root / kind / RESOLUTION_FOLDER / name for kind in ("JPEGImages", "Annotations"))
    frames, masks = (tuple(sorted(path for path in folder.iterdir() if path.suffix)) for folder in folders)
    return StoredClip(name, frames, masks, created)


def save_clip(root: Path, name: str, clip: Clip, *, lossless: bool = False) -> StoredClip:
    """Write one clip under `root`, complete or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    temporary = root / f".making-{name}"
    images, masks = (root / kind / RESOLUTION_FOLDER / name for kind in ("JPEGImages", "Annotations"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "images").mkdir(parents=True)
        (temporary / "masks").mkdir()
        suffix, save_options = (".png", {"compress_level": 1}) if lossless else (".jpg", {"quality": 95})
        object_ids = np.arange(1, clip.masks_TNHW.shape[1] + 1, dtype=np.uint8)[:, None, None]
        for t, (frame, frame_masks) in enumerate(zip(clip.frames_THW3, clip.masks_TNHW, strict=True)):
            Image.fromarray(frame).save(temporary / "images" / f"{t:05d}{suffix}", **save_options)  # type: ignore[arg-type]
            labels = (frame_masks * object_ids).max(0).astype(np.uint16)
            label_map_image(labels, max_label=255).save(temporary / "masks" / f"{t:05d}.png")
        for target in (masks, images):
            target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(masks, ignore_errors=True)  # of a run that was stopped between the two moves
        os.replace(temporary / "masks", masks)
        os.replace(temporary / "images", images)  # last, as it marks the clip as complete
    except OSError as error:
        raise OutputError(
            f"{images} could not be written ({error.strerror or error}); choose a writable folder with enough space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _read_stored_clip(root, name, created=True)
