"""Folders of truth and of predictions that are right, empty, moved or mixed up, made in the layouts of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from helpers.dataset_files import png

HEIGHT, WIDTH, FRAMES = 60, 80, 12


def two(seed: int = 0) -> np.ndarray:
    """Label maps (T, H, W): objects 1 and 2 wander; 2 is out of sight on frames 5 and 6."""
    random = np.random.default_rng(seed)
    maps = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    places = np.cumsum(random.integers(-2, 3, (FRAMES, 2, 2)), axis=0) + np.array([[12, 15], [28, 48]])
    for t, ((y1, x1), (y2, x2)) in enumerate(places):
        maps[t, max(y1, 0) : y1 + 18, max(x1, 0) : x1 + 20] = 1
        if t not in (5, 6):
            maps[t, max(y2, 0) : y2 + 15, max(x2, 0) : x2 + 18] = 2
    return maps


def ragged(maps: np.ndarray, seed: int = 1) -> np.ndarray:
    """As a model would have it: moved by some pixels, with holes and crumbs of either object."""
    random = np.random.default_rng(seed)
    found = np.stack([np.roll(m, random.integers(-4, 5, 2), (0, 1)) for m in maps])
    noise = np.kron(random.random((len(maps), HEIGHT // 4, WIDTH // 4)), np.ones((1, 4, 4)))
    found[noise > 0.93] = 0
    found[noise < 0.04] = 1
    found[(noise > 0.04) & (noise < 0.06)] = 2
    return found


def worse(maps: np.ndarray, how: str) -> np.ndarray:
    """The maps themselves ("perfect"), or predictions that are "empty", "shifted", "shuffled" or "ragged"."""
    made = {
        "perfect": lambda: maps,
        "empty": lambda: np.zeros_like(maps),
        "shifted": lambda: np.roll(maps, 5, axis=2),
        "shuffled": lambda: np.array([0, 2, 1], np.uint8)[maps],
        "ragged": lambda: ragged(maps),
    }
    return np.asarray(made[how](), np.uint8)


def store_maps(folder: Path, maps: np.ndarray, frames: range | None = None) -> None:
    for t in frames or range(len(maps)):
        png(folder / f"{t:05d}.png", maps[t])


def store_davis(root: Path, names: tuple[str, ...] = ("ant", "bee")) -> dict[str, np.ndarray]:
    """A truth in the layout of DAVIS 2017, with images in name only; its maps by sequence."""
    truth = {name: two(n) for n, name in enumerate(names)}
    for name, maps in truth.items():
        store_maps(root / "Annotations" / "480p" / name, maps)
        (root / "JPEGImages" / "480p" / name).mkdir(parents=True)
        for t in range(len(maps)):
            (root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg").write_bytes(b"")
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names) + "\n")
    return truth


def store_objects(folder: Path, maps: np.ndarray, step: int = 1) -> None:
    """A folder for each object of SA-V, black and white; object 1 is the folder 000."""
    for number in (1, 2):
        for t in range(0, len(maps), step):
            labels = ((maps[t] == number) * 255).astype(np.uint8)
            png(folder / f"{number - 1:03d}" / f"{t:05d}.png", labels, palette=False)


def store_meta(root: Path, categories: dict[str, dict[str, str]]) -> Path:
    """A meta.json of YouTube-VOS: the category of each object of each video."""
    root.mkdir(parents=True, exist_ok=True)
    videos = {
        video: {"objects": {number: {"category": name, "frames": []} for number, name in objects.items()}}
        for video, objects in categories.items()
    }
    (root / "meta.json").write_text(json.dumps({"videos": videos}))
    return root / "meta.json"


def named_as_lvos(folder: Path, maps: np.ndarray) -> None:
    """Each fifth frame of a video, from 00000001.png on."""
    for t, labels in enumerate(maps):
        png(folder / f"{1 + 5 * t:08d}.png", labels)


def store_lvos(root: Path) -> dict[str, np.ndarray]:
    """A truth in the layout of LVOS: object 2 comes late and has a range that ends early; video b is unseen."""
    truth, videos = {}, {}
    for n, name in enumerate(("a", "b", "c")):
        maps = two(n)
        maps[:3][maps[:3] == 2] = 0
        named_as_lvos(root / "Annotations" / name, maps)
        whole = {"start": "00000001", "end": f"{1 + 5 * (FRAMES - 1):08d}", "frame_nums": str(FRAMES)}
        part = {"start": 16, "end": 1 + 5 * (FRAMES - 2), "frame_nums": FRAMES - 5}  # the end lies behind the last
        truth[name], videos[name] = maps, {"objects": {"1": {"frame_range": whole}, "2": {"frame_range": part}}}
    (root / "valid_meta.json").write_text(json.dumps({"videos": videos}))
    for file, names in (("unseen_videos.txt", "b\n"), ("unsupervised_videos.txt", "")):
        (root / file).write_text(names)
    return truth
