"""Procedural objects: animals, figures, cars, wheels, leaves, trees, letters; each with a random texture.

An object is drawn in the unit square, x to the right and y down, on a canvas of `CANVAS_SIZE` pixels that has the part
of each pixel, 0 for background. Parts: 1 the body, 2 darker, 3 brighter, 4 dark details, 5 bright details.
Shapes: S side of the canvas, P points of an outline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from masklet.synthetic.cutouts import Cutout
from masklet.synthetic.procedural_textures import TEXTURES, apply_colormap, fractal_noise, random_palette

__all__ = ["SOLID_SHAPES", "THIN_SHAPES", "procedural_cutout"]

ImageArray = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

CANVAS_SIZE = 384
"""Pixels of the canvas; the cutout has half its resolution, so that the edge is smooth."""
BODY, DARKER, BRIGHTER, DARK, BRIGHT = 1, 2, 3, 4, 5
TONES = {BODY: 1.0, DARKER: 0.72, BRIGHTER: 1.25}


@dataclass(eq=False)
class Canvas:
    """The parts drawn so far, later ones on top; part 0 erases."""

    parts_SS: ImageArray = field(default_factory=lambda: np.zeros((CANVAS_SIZE, CANVAS_SIZE), np.uint8))

    def polygon(self, points_P2: Floats, part: int = BODY) -> None:
        """Draw a filled outline."""
        cv2.fillPoly(self.parts_SS, [np.round(np.asarray(points_P2) * CANVAS_SIZE).astype(np.int32)], part)

    def ellipse(
        self, x: float, y: float, radius_x: float, radius_y: float, part: int = BODY, *, angle: float = 0.0
    ) -> None:
        """Draw a filled ellipse; `angle` in degrees."""
        middle = round(x * CANVAS_SIZE), round(y * CANVAS_SIZE)
        axes = max(round(radius_x * CANVAS_SIZE), 1), max(round(radius_y * CANVAS_SIZE), 1)
        cv2.ellipse(self.parts_SS, middle, axes, angle, 0, 360, part, -1)

    def stroke(
        self, points_P2: Iterable[tuple[float, float]], thickness: float, part: int = BODY, *, taper: float = 1.0
    ) -> None:
        """Draw a polyline whose thickness goes from `thickness` to `taper` times that."""
        points = [(round(x * CANVAS_SIZE), round(y * CANVAS_SIZE)) for x, y in points_P2]
        for i, (start, stop) in enumerate(pairwise(points)):
            position = i / max(len(points) - 2, 1)
            cv2.line(
                self.parts_SS, start, stop, part, max(round(thickness * (1 + (taper - 1) * position) * CANVAS_SIZE), 1)
            )


DrawFunction = Callable[[Random, Canvas], None]


def animal(rng: Random, canvas: Canvas) -> None:
    """Four legs, a neck, a head with ears and an eye, a tail."""
    long, thick = rng.uniform(0.34, 0.5), rng.uniform(0.15, 0.24)
    back, hip = rng.uniform(0.36, 0.46), 0.5 - long / 2
    shoulder, leg, foot = 0.5 + long / 2 - 0.05, rng.uniform(0.045, 0.075), rng.uniform(0.82, 0.93)
    for part, shift in ((DARKER, 0.05), (BODY, -0.02)):
        for x in (hip + 0.02, shoulder - 0.02):
            bend = rng.uniform(-0.07, 0.07)
            canvas.stroke(
                [(x + shift, back), (x + shift + bend, (back + foot) / 2), (x + shift, foot)], leg, part, taper=0.7
            )
    tail = hip - rng.uniform(0.08, 0.2), back + rng.uniform(-0.25, 0.2)
    canvas.stroke([(hip, back), (hip - 0.08, back - 0.02), tail], rng.uniform(0.03, 0.07), BODY, taper=0.5)
    canvas.stroke([(hip, back), (0.5, back + 0.02), (shoulder, back)], thick)
    canvas.ellipse(0.5, back + 0.04, long / 2, thick * 0.6)
    head_x, head_y = shoulder + rng.uniform(0.08, 0.16), back - rng.uniform(0.04, 0.24)
    canvas.stroke([(shoulder, back - 0.03), (head_x, head_y)], 0.55 * thick)
    size = rng.uniform(0.075, 0.11)
    for side in (-0.5, 0.4):
        ear = np.array([(side - 0.35, -0.4), (side + 0.35, -0.4), (side + 0.1, -rng.uniform(1.2, 2.0))])
        canvas.polygon(ear * size + (head_x, head_y), DARKER)
    canvas.ellipse(head_x, head_y, size, 0.9 * size)
    canvas.ellipse(head_x + 0.8 * size, head_y + 0.3 * size, 0.7 * size, 0.45 * size, BRIGHTER)
    canvas.ellipse(head_x + 1.35 * size, head_y + 0.2 * size, 0.15 * size, 0.13 * size, DARK)
    canvas.ellipse(head_x + 0.3 * size, head_y - 0.25 * size, 0.16 * size, 0.16 * size, DARK)


def bird(rng: Random, canvas: Canvas) -> None:
    """A body, a wing, a tail, a beak, two legs."""
    fat = rng.uniform(0.15, 0.22)
    canvas.stroke([(0.48, 0.6), (0.46, 0.9)], 0.022, DARK)
    canvas.stroke([(0.56, 0.6), (0.57, 0.9)], 0.022, DARK)
    canvas.polygon(np.array([(0.35, 0.45), (0.05, rng.uniform(0.4, 0.7)), (0.1, 0.66), (0.42, 0.62)]), DARKER)
    canvas.ellipse(0.5, 0.53, 0.27, fat, angle=-18)
    canvas.ellipse(0.72, 0.33, 0.12, 0.115)
    canvas.polygon(np.array([(0.81, 0.28), (rng.uniform(0.92, 0.98), 0.35), (0.81, 0.38)]), BRIGHT)
    canvas.ellipse(0.75, 0.3, 0.02, 0.02, DARK)
    canvas.ellipse(0.44, 0.53, 0.19, 0.6 * fat, DARKER, angle=rng.uniform(-10, 25))
    canvas.ellipse(0.6, 0.62, 0.12, 0.4 * fat, BRIGHTER, angle=-30)


def fish(rng: Random, canvas: Canvas) -> None:
    """A body with fins and a tail."""
    tall = rng.uniform(0.14, 0.26)
    fork = rng.uniform(0.12, 0.24)
    canvas.polygon(np.array([(0.3, 0.5), (0.05, 0.5 - fork), (0.14, 0.5), (0.05, 0.5 + fork)]), DARKER)
    canvas.polygon(np.array([(0.4, 0.5), (0.55, 0.5 - tall - 0.14), (0.7, 0.5 - 0.6 * tall)]), DARKER)
    canvas.polygon(np.array([(0.45, 0.5), (0.5, 0.5 + tall + 0.12), (0.62, 0.5 + 0.7 * tall)]), DARKER)
    canvas.ellipse(0.58, 0.5, 0.34, tall)
    canvas.ellipse(0.58, 0.5 + 0.45 * tall, 0.26, 0.4 * tall, BRIGHTER)
    canvas.ellipse(0.79, 0.46, 0.03, 0.03, BRIGHT)
    canvas.ellipse(0.795, 0.46, 0.016, 0.016, DARK)


def figure(rng: Random, canvas: Canvas) -> None:
    """A walking person: a head, a coat, arms and legs."""
    swing, fat = rng.uniform(0.05, 0.16), rng.uniform(0.13, 0.19)
    canvas.stroke([(0.5, 0.34), (0.5 - swing, 0.5), (0.52 - 1.3 * swing, 0.62)], 0.06, DARKER)
    canvas.stroke([(0.47, 0.58), (0.5 - swing, 0.76), (0.47 - swing, 0.94)], 0.08, DARK)
    canvas.stroke([(0.53, 0.58), (0.52 + swing, 0.76), (0.5 + 1.2 * swing, 0.94)], 0.08, DARK)
    canvas.stroke([(0.5, 0.33), (0.5, 0.56)], fat)
    canvas.ellipse(0.5, 0.6, 0.55 * fat, 0.09)
    canvas.stroke([(0.52, 0.34), (0.55 + swing, 0.48), (0.6 + swing, 0.58)], 0.06, BRIGHTER)
    canvas.ellipse(0.5, 0.15, 0.075, 0.09, BRIGHT)
    canvas.ellipse(0.49, 0.11, 0.08, 0.065, DARK)


def car(rng: Random, canvas: Canvas) -> None:
    """A body, a cabin with windows, two wheels."""
    roof, bonnet = rng.uniform(0.3, 0.4), rng.uniform(0.46, 0.54)
    rear, front = rng.uniform(0.15, 0.3), rng.uniform(0.62, 0.75)
    cabin = np.array([(rear - 0.06, bonnet), (rear + 0.05, roof), (front - 0.1, roof), (front + 0.06, bonnet)])
    canvas.polygon(cabin, DARKER)
    middle = cabin.mean(0)
    canvas.polygon(middle + (cabin - middle) * (0.82, 0.7), BRIGHT)
    canvas.stroke([((rear + front) / 2, roof), ((rear + front) / 2, bonnet)], 0.03)
    canvas.polygon(np.array([(0.05, bonnet), (0.9, bonnet), (0.95, bonnet + 0.07), (0.95, 0.68), (0.05, 0.68)]))
    canvas.stroke([(0.06, 0.6), (0.94, 0.6)], 0.02, BRIGHTER)
    for x in (0.24, 0.75):
        canvas.ellipse(x, 0.68, 0.1, 0.1, DARK)
        canvas.ellipse(x, 0.68, 0.05, 0.05, BRIGHT)


def mug(rng: Random, canvas: Canvas) -> None:
    """A mug with an open handle."""
    wide = rng.uniform(0.2, 0.27)
    canvas.ellipse(0.45 + wide, 0.5, 0.17, rng.uniform(0.14, 0.2), DARKER)
    canvas.ellipse(0.45 + wide, 0.5, 0.11, 0.1, 0)
    foot = wide * rng.uniform(0.6, 1.0)
    canvas.polygon(np.array([(0.45 - wide, 0.2), (0.45 + wide, 0.2), (0.45 + foot, 0.82), (0.45 - foot, 0.82)]))
    canvas.ellipse(0.45, 0.82, foot, 0.05)
    canvas.ellipse(0.45, 0.2, wide, 0.06, BRIGHTER)
    canvas.ellipse(0.45, 0.205, 0.85 * wide, 0.045, DARK)


def blob(rng: Random, canvas: Canvas) -> None:
    """A rounded shape."""
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = 1 + sum(rng.normal(0, 0.22 / k) * np.sin(k * turn + rng.uniform(0, 7)) for k in range(2, 6))
    radius = 0.42 * radius / np.abs(radius).max()
    points = 0.5 + np.stack([np.cos(turn), np.sin(turn) * rng.uniform(0.6, 1.0)], -1) * radius[:, None]
    canvas.polygon(points)
    canvas.polygon(0.5 + (points - 0.5) * rng.uniform(0.35, 0.6), int(rng.choice((DARKER, BRIGHTER))))


def star(rng: Random, canvas: Canvas) -> None:
    """A polygon or a star."""
    corners = int(rng.integers(3, 8))
    inner = rng.uniform(0.35, 1.0)
    turn = np.arange(2 * corners) * np.pi / corners + rng.uniform(0, 7)
    radius = np.where(np.arange(2 * corners) % 2, 0.45 * max(inner, np.cos(np.pi / corners) * (inner > 0.7)), 0.45)
    points = 0.5 + np.stack([np.cos(turn), np.sin(turn)], -1) * radius[:, None]
    canvas.polygon(points)
    canvas.polygon(0.5 + (points - 0.5) * 0.55, BRIGHTER)


def leaf(rng: Random, canvas: Canvas) -> None:
    """A leaf with its stalk and veins."""
    wide, along = rng.uniform(0.16, 0.32), np.linspace(0, 1, 30)
    edge = wide * np.sin(np.pi * along) ** rng.uniform(0.7, 1.2) * (1 + 0.06 * np.sin(rng.integers(0, 60) * along))
    upper, lower = np.stack([0.5 - edge, 0.08 + 0.7 * along], -1), np.stack([0.5 + edge, 0.08 + 0.7 * along], -1)
    canvas.stroke([(0.5, 0.7), (0.5 + rng.uniform(-0.06, 0.06), 0.95)], 0.035, DARKER)
    canvas.polygon(np.concatenate([upper, lower[::-1]]))
    canvas.stroke([(0.5, 0.12), (0.5, 0.78)], 0.014, BRIGHTER)
    for y in np.linspace(0.25, 0.65, 5):
        for side in (-1, 1):
            canvas.stroke([(0.5, y + 0.06), (0.5 + side * 0.6 * wide, y - 0.04)], 0.009, BRIGHTER)


def ring(rng: Random, canvas: Canvas) -> None:
    """An open ring."""
    wide, tall, thick = 0.44, rng.uniform(0.3, 0.44), rng.uniform(0.07, 0.16)
    canvas.ellipse(0.5, 0.5, wide, tall)
    canvas.ellipse(0.5, 0.5, wide - 0.35 * thick, tall - 0.35 * thick, BRIGHTER)
    canvas.ellipse(0.5, 0.5, wide - 0.6 * thick, tall - 0.6 * thick)
    canvas.ellipse(0.5, 0.5, wide - thick, tall - thick, 0)


def butterfly(rng: Random, canvas: Canvas) -> None:
    """Two pairs of wings."""
    for tall, y, part in ((rng.uniform(0.16, 0.22), 0.36, BODY), (rng.uniform(0.12, 0.18), 0.63, DARKER)):
        wide, angle = rng.uniform(0.18, 0.22), rng.uniform(10, 35) * (1 if y < 0.5 else -1)
        for side in (-1, 1):
            canvas.ellipse(0.5 + side * wide, y, 1.05 * wide, tall, part, angle=side * angle)
            canvas.ellipse(0.5 + side * 1.1 * wide, y, 0.4 * wide, 0.45 * tall, BRIGHT, angle=side * angle)
    canvas.ellipse(0.5, 0.5, 0.035, 0.28, DARK)


def letter(rng: Random, canvas: Canvas) -> None:
    """A bold letter or digit."""
    sign = "ABCDEFGHKLMNPRSTUVXYZ2345679"[rng.integers(28)]
    font = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX)[rng.integers(2)]
    thick = int(CANVAS_SIZE * rng.uniform(0.1, 0.16))
    (wide, tall), _ = cv2.getTextSize(sign, font, 1, 1)
    size = 0.68 * CANVAS_SIZE / max(wide, tall)
    corner = int(CANVAS_SIZE / 2 - size * wide / 2), int(CANVAS_SIZE / 2 + size * tall / 2)
    cv2.putText(canvas.parts_SS, sign, corner, font, size, BODY, thick)
    cv2.putText(canvas.parts_SS, sign, corner, font, size, BRIGHTER, thick // 3)


def wheel(rng: Random, canvas: Canvas) -> None:
    """A tire, a hub and spokes, open between them."""
    thick, spokes = rng.uniform(0.045, 0.08), int(rng.integers(4, 10))
    canvas.ellipse(0.5, 0.5, 0.45, 0.45)
    canvas.ellipse(0.5, 0.5, 0.45 - thick, 0.45 - thick, 0)
    start = rng.uniform(0, np.pi)
    for turn in start + 2 * np.pi * np.arange(spokes) / spokes:
        canvas.stroke([(0.5, 0.5), (0.5 + 0.43 * np.cos(turn), 0.5 + 0.43 * np.sin(turn))], 0.5 * thick, BRIGHTER)
    canvas.ellipse(0.5, 0.5, 0.07, 0.07, DARKER)


def tree(rng: Random, canvas: Canvas) -> None:
    """A bare tree."""
    sprouts = [((0.5, 0.95), -np.pi / 2 + rng.normal(0, 0.08), 0.3, 0.06)]
    while sprouts:
        (x, y), heading, long, thick = sprouts.pop()
        end = x + long * np.cos(heading), y + long * np.sin(heading)
        canvas.stroke([(x, y), end], thick, BODY)
        if thick > 0.026:
            for side in (-1, 1):
                turned = heading + side * rng.uniform(0.35, 0.75)
                sprouts.append((end, turned, long * rng.uniform(0.6, 0.8), thick * 0.7))


def ladder(rng: Random, canvas: Canvas) -> None:
    """Two rails and rungs."""
    thick, lean = rng.uniform(0.035, 0.05), rng.uniform(0, 0.1)
    rungs = int(rng.integers(4, 7))
    for y in np.linspace(0.15, 0.85, rungs):
        canvas.stroke([(0.3, y), (0.7, y)], thick, BRIGHTER)
    canvas.stroke([(0.3 + lean, 0.05), (0.3, 0.95)], thick)
    canvas.stroke([(0.7 - lean, 0.05), (0.7, 0.95)], thick)


def bicycle(rng: Random, canvas: Canvas) -> None:
    """Two thin wheels and a frame."""
    thick, size = rng.uniform(0.026, 0.036), rng.uniform(0.19, 0.22)
    for x in (0.25, 0.75):
        canvas.ellipse(x, 0.68, size, size, DARKER)
        canvas.ellipse(x, 0.68, size - thick, size - thick, 0)
    for path in (
        [(0.25, 0.68), (0.4, 0.42), (0.66, 0.42), (0.48, 0.7), (0.25, 0.68)],
        [(0.48, 0.7), (0.38, 0.34)],
        [(0.75, 0.68), (0.64, 0.3), (0.74, 0.27)],
    ):
        canvas.stroke(path, 1.15 * thick)
    canvas.stroke([(0.31, 0.33), (0.45, 0.33)], 1.6 * thick, BRIGHTER)


def spider(rng: Random, canvas: Canvas) -> None:
    """A small body on long bent legs."""
    thick = rng.uniform(0.024, 0.036)
    for side in (-1, 1):
        for lean in np.linspace(-0.32, 0.32, int(rng.integers(3, 5))):
            knee = 0.5 + side * rng.uniform(0.17, 0.24), 0.47 + 0.8 * lean - 0.06
            canvas.stroke([(0.5, 0.5), knee, (0.5 + side * rng.uniform(0.36, 0.45), 0.5 + 1.2 * lean)], thick)
    canvas.ellipse(0.5, 0.52, 0.1, 0.14, DARKER)
    canvas.ellipse(0.5, 0.36, 0.07, 0.07)


SOLID_SHAPES: tuple[DrawFunction, ...] = (
    animal,
    animal,
    bird,
    fish,
    figure,
    car,
    mug,
    blob,
    star,
    leaf,
    ring,
    butterfly,
    letter,
)
"""Objects with thick parts."""

THIN_SHAPES: tuple[DrawFunction, ...] = (wheel, tree, ladder, bicycle, spider)
"""Objects without thick parts."""


def procedural_cutout(rng: Random, shapes: tuple[DrawFunction, ...], texture_image: ImageArray | None = None) -> Cutout:
    """Draw a random one of `shapes`, with a random texture or that of an image, as a cutout.

    Example:
        >>> int(procedural_cutout(np.random.default_rng(0), SOLID_SHAPES).alpha.max())
        255
    """
    canvas = Canvas()
    shapes[rng.integers(len(shapes))](rng, canvas)
    parts_SS = canvas.parts_SS
    if texture_image is None:
        base = _random_texture(rng)
    else:
        side = min(texture_image.shape[:2])
        top, left = (rng.integers(length - side + 1) for length in texture_image.shape[:2])
        square = np.ascontiguousarray(texture_image[top : top + side, left : left + side])
        base = np.asarray(cv2.resize(square, (CANVAS_SIZE, CANVAS_SIZE), interpolation=cv2.INTER_LINEAR), np.float32)
    details = random_palette(rng, 2, hue_spread=60, max_saturation=0.9)
    # the light on a rounded body, from a random direction
    depth = cv2.distanceTransform((parts_SS > 0).astype(np.uint8), cv2.DIST_L2, 5)
    relief = cv2.GaussianBlur(np.sqrt(np.minimum(depth / (0.08 * CANVAS_SIZE), 1)), (0, 0), 0.012 * CANVAS_SIZE)
    slope_x, slope_y = (cv2.Sobel(relief, cv2.CV_32F, *order, ksize=5) for order in ((1, 0), (0, 1)))
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.12)
    light = (1 + strength * (slope_x * np.cos(angle) + slope_y * np.sin(angle))).clip(0.45, 1.5).astype(np.float32)
    pixels = base * light[..., None]
    for part, tone in TONES.items():
        pixels[parts_SS == part] *= tone
    pixels[parts_SS == DARK] = 0.25 * details[0] + 8
    pixels[parts_SS == BRIGHT] = 0.55 * details[1] + 105
    planes = np.asarray(pixels.clip(0, 255), np.uint8), np.where(parts_SS > 0, 255, 0).astype(np.uint8)
    half = (CANVAS_SIZE // 2, CANVAS_SIZE // 2)
    rgb, alpha = (np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_AREA), np.uint8) for plane in planes)
    alpha = np.pad(alpha, 2)
    rgb = np.pad(rgb, ((2, 2), (2, 2), (0, 0)), mode="edge")
    left, top, wide, tall = cv2.boundingRect(alpha)
    box = slice(max(top - 2, 0), top + tall + 2), slice(max(left - 2, 0), left + wide + 2)
    return Cutout(np.ascontiguousarray(rgb[box]), np.ascontiguousarray(alpha[box]))


def _random_texture(rng: Random) -> Plane:
    """Draw fur, spots, stripes, a surface or one color on the entire canvas."""
    kind, colors = rng.random(), random_palette(rng, 3, hue_spread=14, max_saturation=0.95)
    if kind < 0.25:
        return np.asarray(TEXTURES[rng.integers(len(TEXTURES))](rng, CANVAS_SIZE, CANVAS_SIZE), np.float32)
    plane = fractal_noise(rng, CANVAS_SIZE, CANVAS_SIZE, cells=rng.uniform(4, 14), slope=1.2)
    if kind < 0.45:
        return apply_colormap(colors[[0, 2]], (plane > rng.uniform(0.45, 0.6)).astype(np.float32))
    if kind < 0.6:
        y, x = np.mgrid[:CANVAS_SIZE, :CANVAS_SIZE].astype(np.float32) / CANVAS_SIZE
        angle = rng.uniform(0, np.pi)
        wave = np.sin(rng.uniform(20, 70) * (x * np.cos(angle) + y * np.sin(angle)) + 6 * plane)
        return apply_colormap(colors[[0, 2]], (wave > 0).astype(np.float32))
    if kind < 0.85:
        return apply_colormap(colors, plane)
    return np.asarray(colors[rng.integers(3)] * (0.9 + 0.2 * plane[..., None]), np.float32)
