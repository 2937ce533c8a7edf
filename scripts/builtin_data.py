"""Make the folder of data that the recipes of the built-in model train on.

    python scripts/builtin_data.py DATA OUT [--clean-rights] [--clips 300]

DATA has `stills/*.tar`, `cutouts/*.tar` and `videos/*.tar`, each archive one source NAME with `NAME/SOURCE.txt`. OUT
gets

    NAME/images, NAME/masks               images in the native format
    Caltech101Cutouts/images, .../masks   cutouts in the native format, for `TrainConfig.cutouts`
    RealClips/, Rendered/                 videos in the format of DAVIS

Images with the mark of a stock agency (builtin_data_left_out.json) are left out, and with --clean-rights also every
image whose rights are unclear. Rendered clips need the renderer (--renderer); without it they are left out. A run that
was stopped is resumed by the same command, and the same command makes the same files. Composites are not files: the
trainer makes them (`TrainConfig.composite_fraction`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from masklet.atomic_files import write_text
from masklet.datasets import open_dataset
from masklet.errors import InputError, SourceError
from masklet.masks import rle
from masklet.synthetic import Clip
from masklet.synthetic.export import save_clip

LEFT_OUT_FILE = Path(__file__).parent / "builtin_data_left_out.json"
SETTINGS_FILE = "builtin_data.json"
CUTOUTS, REAL, RENDERED = "Caltech101Cutouts", "RealClips", "Rendered"
UNCLEAR_NAMES = {
    "COCO": r"",  # images under their Flickr licenses, most of them NC, ND or unknown
    "BSDS500": r"",  # no license stated
    "CCP": r"",  # provenance of the photographs unknown
    "MedicalWaste": r"",  # mixed images of the web
    "EndangeredAnimals": r"(?![0-9a-f]{16}_)",  # Open Images, CC BY 2.0; the others are of COCO or of the web
    "AnimalsMore": r"(?![0-9a-f]{16}_)",
}
"""For each source with unclear rights, a pattern of the names whose rights are unclear; all of them: the empty one."""
PHOTOGRAPHS = ("AnimalsMore", "BSDS500", "BuildingFacade", "COCO", "EndangeredAnimals", "FeralCats", "FeralCatsMore")
"""Sources of backgrounds and textures of rendered clips."""
MAX_WHITE_FRACTION = 0.08
"""Of a cutout; more of it is often a rest of the white page."""
MIN_FRAMES_SEEN, MAX_MEDIAN_AREA, MIN_OBJECTS, SEEDS_PER_CLIP = 0.5, 0.45, 2, 64
"""An object of a rendered clip is in half of the frames and covers less than this; a clip has two or another seed."""


@dataclass(frozen=True)
class Maker:
    """What one call makes."""

    data: Path
    out: Path
    clean_rights: bool
    clips: int
    frames: int
    size: tuple[int, int]
    """(width, height)."""
    seed: int
    renderer: Path

    def make(self) -> None:
        """Make all that is missing, and print a line for each source.

        Raises:
            InputError: if the folder was made with other options.
            SourceError: if the data has no archives.
        """
        archives = sorted(file for part in ("stills", "cutouts", "videos") for file in self.data.glob(f"{part}/*.tar"))
        if not archives:
            raise SourceError(f"{self.data} has no stills/*.tar; name the folder that holds the archives")
        left_out = json.loads(LEFT_OUT_FILE.read_text(encoding="utf-8"))
        settings = {"clean_rights": self.clean_rights, "left_out": left_out}
        path = self.out / SETTINGS_FILE
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != settings:
            raise InputError(f"{self.out} was made with other options or another list; choose another folder")
        self.out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(settings, indent=1) + "\n")
        print(f"{'source':20} {'samples':>8} {'objects':>8} {'left out':>8}  license")
        for archive in archives:
            name = archive.stem
            unclear = UNCLEAR_NAMES.get(name) if self.clean_rights else None
            if unclear == "":
                print(f"{name:20} left out: its rights are unclear")
                continue
            if not (self.out / name).is_dir():
                unpack(archive, self.out / name, frozenset(left_out.get(name, ())), unclear)
            self.report(name, archive)
        if self.renderer.is_file() and self.clips:
            self.render()
            self.report(RENDERED, None)
        else:
            print(f"{RENDERED:20} left out: {self.renderer if self.clips else '--clips 0'} makes none")

    def render(self) -> None:
        """Render the clips that are missing; clip k depends on the options and on k alone."""
        module_spec = importlib.util.spec_from_file_location("clip_renderer", self.renderer)
        assert module_spec is not None
        assert module_spec.loader is not None
        renderer: Any = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(renderer)
        photos = [str(p) for name in PHOTOGRAPHS for p in sorted((self.out / name).glob("images/*.jpg"))]
        usable = sorted((self.out / CUTOUTS).glob("images/*.jpg"))
        cutouts = [str(self.out / CUTOUTS / "cutouts" / f"{p.stem}.webp") for p in usable]
        width, height = self.size
        for k in range(self.clips):
            name = f"r{k:04d}"
            if (self.out / RENDERED / "JPEGImages" / "480p" / name).is_dir():
                continue
            for attempt in range(SEEDS_PER_CLIP):
                seed = (self.seed * 100_000 + k) * SEEDS_PER_CLIP + attempt
                frames, masks = renderer.clip(seed, photos, cutouts, width, height, self.frames)
                areas = {n: [m[n].mean() for m in masks if n in m] for n in sorted({n for m in masks for n in m})}
                good = [
                    n
                    for n, seen in areas.items()
                    if len(seen) >= MIN_FRAMES_SEEN * len(masks) and np.median(seen) < MAX_MEDIAN_AREA
                ]
                if len(good) >= MIN_OBJECTS:
                    empty = np.zeros(frames[0].shape[:2], bool)
                    stacked = np.stack([np.stack([m.get(n, empty) for n in good]) for m in masks])
                    save_clip(self.out / RENDERED, name, Clip(np.stack(frames)[..., ::-1], stacked))
                    break

    def report(self, name: str, archive: Path | None) -> None:
        """Print what the folder of a source has, and what its archive has beyond that."""
        folder, samples, objects = self.out / name, 0, 0
        if (folder / "JPEGImages").is_dir():
            data = open_dataset(folder)
            samples = len(data.samples)
            objects = sum(len(sample.read(sample.frame_indices[:1])[0].masks) for sample in data.samples)
        else:
            files = sorted((folder / "masks").glob("*.json"))
            samples, objects = len(files), sum(len(json.loads(file.read_text())) for file in files)
        before = samples
        if archive is not None:
            with tarfile.open(archive) as tar:
                parts = [tuple(Path(member).parts) for member in tar.getnames()]
            before = sum(len(p) == 3 and p[1] in ("images", "cutouts") for p in parts)
            before += len({p[2] for p in parts if len(p) > 3 and p[1] == "clips"})
        source = folder / "SOURCE.txt"
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        license_line = re.search(r"licen[cs]e(?! ids)[^:\n]*:\s*([^\n]*)", text, re.IGNORECASE)
        words = license_line[1] if license_line else "no SOURCE.txt" if archive else "made here of the sources above"
        print(f"{name:20} {samples:8} {objects:8} {before - samples:8}  {words[:60]}", flush=True)


def unpack(archive: Path, folder: Path, left_out: frozenset[str], unclear: str | None) -> None:
    """Unpack a source, completely or not at all, and convert cutouts and clips.

    Images in `left_out` and those whose name matches the pattern `unclear` are left out.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as temporary:
        with tarfile.open(archive) as tar:
            members = []
            for member in tar.getmembers():
                path = Path(member.name)
                is_unclear = unclear is not None and re.match(unclear, path.stem) is not None
                if len(path.parts) != 3 or not (path.stem in left_out or is_unclear):
                    members.append(member)
            tar.extractall(temporary, members, filter="data")
        source = Path(temporary) / folder.name
        if (source / "cutouts").is_dir():
            convert_cutouts(source)
        for clip_folder in sorted((source / "clips").glob("*")):
            save_clip(source, clip_folder.name, read_clip(clip_folder))
        shutil.rmtree(source / "clips", ignore_errors=True)
        source.rename(folder)


def convert_cutouts(source: Path) -> None:
    """Write cutouts/*.webp also as images and masks, with a margin in the colors of the edge."""
    for part in ("images", "masks"):
        (source / part).mkdir()
    for file in sorted((source / "cutouts").glob("*.webp")):
        with Image.open(file) as image:
            rgba = np.asarray(image.convert("RGBA"))
        if ((rgba[..., :3].min(-1) > 240) & (rgba[..., 3] > 127)).sum() > MAX_WHITE_FRACTION * (
            rgba[..., 3] > 127
        ).sum():
            continue
        margin = max(rgba.shape[:2]) // 5
        rgba = cv2.copyMakeBorder(rgba, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
        opacity = rgba[..., 3:].astype(np.float32) / 255
        color = cv2.GaussianBlur(rgba[..., :3] * opacity, (0, 0), margin / 4)
        weight = cv2.GaussianBlur(opacity, (0, 0), margin / 4)[..., None]
        around = np.where(weight > 1e-3, color / np.maximum(weight, 1e-3), 127)
        rgb = rgba[..., :3] * opacity + around * (1 - opacity)
        Image.fromarray(rgb.round().clip(0, 255).astype(np.uint8)).save(
            source / "images" / f"{file.stem}.jpg", quality=95
        )
        codes = [rle.encode(rgba[..., 3] > 127)]
        (source / "masks" / f"{file.stem}.json").write_text(json.dumps(codes), encoding="utf-8")


def read_clip(folder: Path) -> Clip:
    """Read `frames/00000.jpg` and `masks.json`, {frame: {object: code}}.

    Frames that masks.json does not name are left out. An object that a frame does not name is out of sight there.
    """
    codes = json.loads((folder / "masks.json").read_text(encoding="utf-8"))
    objects = sorted({number for frame in codes.values() for number in frame}, key=int)
    frames, masks = [], []
    for stem in sorted(codes):
        with Image.open(folder / "frames" / f"{stem}.jpg") as image:
            frames.append(np.asarray(image.convert("RGB")))
        empty = np.zeros(frames[-1].shape[:2], bool)
        masks.append(np.stack([rle.decode(codes[stem][n]) if n in codes[stem] else empty for n in objects]))
    return Clip(np.stack(frames), np.stack(masks))


def main() -> None:
    """Read the arguments and make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with stills/*.tar, cutouts/*.tar and videos/*.tar")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--clean-rights", action="store_true", help="only images whose rights are clear")
    parser.add_argument("--clips", type=int, default=300, help="number of rendered clips")
    parser.add_argument("--frames", type=int, default=16, help="frames of a rendered clip")
    parser.add_argument("--size", type=int, nargs=2, default=(448, 256), metavar=("W", "H"), help="of rendered clips")
    parser.add_argument("--seed", type=int, default=0, help="of rendered clips")
    parser.add_argument("--renderer", type=Path, help="render_clips.py (default: DATA/../tools/render_clips/)")
    options = parser.parse_args()
    renderer = options.renderer or options.data.parent / "tools" / "render_clips" / "render_clips.py"
    try:
        Maker(
            options.data,
            options.out,
            options.clean_rights,
            options.clips,
            options.frames,
            tuple(options.size),
            options.seed,
            renderer,
        ).make()
    except (InputError, SourceError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
