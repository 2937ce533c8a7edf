"""The Python in README and docs runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/prompts.md",
    "docs/mask_generation.md",
    "docs/video.md",
    "docs/auto_tracking.md",
    "docs/detectors.md",
    "docs/projects.md",
]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def make_videos() -> np.ndarray:
    """dog.mp4 and clip.mp4 here, large and long enough for the prompts of the pages, and three frames of a camera."""
    frames = np.random.default_rng(0).integers(0, 255, (42, 30, 40, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    for name, count in (("dog.mp4", 6), ("clip.mp4", 42)):
        with av.open(name, "w") as video:
            stream = video.add_stream("mpeg4", rate=25, width=640, height=480, pix_fmt="yuv420p")
            for rgb in frames[:count]:
                video.mux(stream.encode(av.VideoFrame.from_ndarray(rgb)))
            video.mux(stream.encode())
    return frames[:3]


@pytest.mark.parametrize("page", ["README.md", *(pytest.param(page, marks=pytest.mark.slow) for page in PAGES[1:])])
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_models: None, builtin_file: Path
) -> None:
    from masklet import SAM

    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)).save("dog.jpg")
    camera = make_videos()
    names: dict[str, object] = {"model": SAM(builtin_file), "camera": camera}
    found = blocks(page)
    assert found
    for block in found:
        exec(block, names)


def test_every_link_in_the_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:|\.\./\.\./actions)([^)#]+)", prose):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
