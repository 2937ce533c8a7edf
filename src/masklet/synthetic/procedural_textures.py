"""Procedural textures: stones, bricks, leaves, wood, grass, writing. No file is read, a seed decides all.

A texture is a function of a generator, a height and a width, and returns RGB (H, W, 3).
Shapes: H height, W width, K colors of a palette.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "TEXTURES",
    "apply_colormap",
    "apply_lighting",
    "fractal_noise",
    "natural_palette",
    "perspective_floor",
    "random_palette",
    "sky",
]

ImageArray = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Random = np.random.Generator
Texture = Callable[[Random, int, int], ImageArray]

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def fractal_noise(rng: Random, height: int, width: int, *, cells: float = 4, slope: float = 1.0) -> Plane:
    """Sample fractal noise (H, W), 0 to 1: octaves of doubling frequency, each `2 ** slope` times weaker.

    `cells` is the number of lattice cells of the first octave along the longer side; a large slope gives soft clouds, a
    small one sand.
    """
    total, weight, longer = np.zeros((height, width), np.float32), 1.0, max(height, width)
    while cells <= longer / 2:
        rows, columns = (max(round(cells * side / longer), 2) + 1 for side in (height, width))
        lattice = rng.standard_normal((rows, columns), np.float32)
        total += weight * np.asarray(cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
        cells, weight = cells * 2, weight * 0.5**slope
    deviation = float(total.std()) or 1.0
    return np.asarray((0.5 + 0.22 * (total - total.mean()) / deviation).clip(0, 1), np.float32)


def random_palette(rng: Random, count: int, *, hue_spread: float = 12, max_saturation: float = 0.5) -> Plane:
    """Sample colors (K, 3) of similar hue (`hue_spread` in half degrees), from dark to bright."""
    hues = (rng.uniform(0, 180) + rng.normal(0, hue_spread, count)) % 180
    saturation = 255 * max_saturation * rng.beta(2, 2, count)
    value = 255 * np.sort(rng.uniform(0.15, 1.0, count))
    hsv = np.stack([hues, saturation, value], -1)[None].astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0], np.float32)


def natural_palette(rng: Random, count: int, hue_range: tuple[float, float]) -> Plane:
    """Sample colors (K, 3) like those of leaves, soil or sand, with hues in a range of half degrees."""
    hsv = np.stack(
        [
            rng.uniform(*hue_range, count) % 180,
            rng.uniform(50, 170, count),
            np.sort(rng.uniform(45, 205, count)),
        ],
        -1,
    )[None].astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0], np.float32)


def apply_colormap(colors_K3: Plane, values: Plane) -> Plane:
    """Map values (H, W) from 0 to 1 to RGB (H, W, 3) floats, from the first color to the last."""
    stops = np.linspace(0, 255, len(colors_K3))
    table = np.stack([np.interp(np.arange(256), stops, channel) for channel in colors_K3.T], -1).astype(np.float32)
    return np.asarray(table[(values * 255).astype(np.uint8)], np.float32)


def _to_uint8(pixels: Plane) -> ImageArray:
    return np.asarray(pixels.clip(0, 255), np.uint8)


def plaster(rng: Random, height: int, width: int) -> ImageArray:
    """Soft patches of two or three colors, with a grain."""
    pixels = apply_colormap(
        random_palette(rng, 3, max_saturation=0.4),
        fractal_noise(rng, height, width, cells=rng.uniform(2, 8), slope=1.3),
    )
    return _to_uint8(pixels * (0.85 + 0.3 * fractal_noise(rng, height, width, cells=40, slope=0.3))[..., None])


def stones(rng: Random, height: int, width: int) -> ImageArray:
    """Rounded cells of many colors with dark joints between."""
    side = float(np.exp(rng.uniform(np.log(16), np.log(60))))
    count = max(int(height * width / side**2), 4)
    seeds = np.full((height, width), 255, np.uint8)
    seeds[rng.integers(height, size=count), rng.integers(width, size=count)] = 0
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    colors = natural_palette(rng, 5, (5, 30)) if rng.random() < 0.6 else random_palette(rng, 5, hue_spread=25)
    own = colors[rng.integers(5, size=labels.max() + 1)] * rng.uniform(0.8, 1.2, (labels.max() + 1, 1))
    joint = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    depth = cv2.distanceTransform((~joint).astype(np.uint8), cv2.DIST_L2, 3) / (0.3 * side)
    relief = 0.3 + 0.7 * np.sqrt(np.minimum(depth, 1))
    rough = 0.8 + 0.4 * fractal_noise(rng, height, width, cells=30, slope=0.5)
    return _to_uint8(own[labels].astype(np.float32) * (relief * rough)[..., None])


def bricks(rng: Random, height: int, width: int) -> ImageArray:
    """Rows of bricks or tiles in varying tones."""
    tall = rng.uniform(10, 50)
    wide = tall * (rng.choice((1.0, 2.0, 3.0)))
    shift = 0.5 * wide if rng.random() < 0.6 else 0.0
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rows = (y / tall).astype(int)
    along = x + shift * (rows % 2)
    number = (rows * 131 + (along / wide).astype(int) * 17) % 256
    colors = random_palette(rng, 2, hue_spread=8, max_saturation=0.7)
    pixels = apply_colormap(colors, rng.uniform(0, 1, 256).astype(np.float32)[number])
    gap = max(tall * rng.uniform(0.04, 0.12), 1.0)
    joint = (y % tall < gap) | (along % wide < gap)
    pixels[joint] = random_palette(rng, 1, max_saturation=0.2)[0]
    return _to_uint8(pixels * (0.75 + 0.5 * fractal_noise(rng, height, width, cells=16, slope=0.4))[..., None])


def leaves(rng: Random, height: int, width: int) -> ImageArray:
    """Foliage: pointed ovals over one another, the deeper the darker."""
    colors = natural_palette(rng, 6, (30, 75) if rng.random() < 0.7 else (5, 35))
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = colors[0] * 0.3
    length = rng.uniform(0.03, 0.09) * max(height, width)
    count = min(int(4 * height * width / length**2), 1500)
    angles = rng.normal(rng.uniform(0, 2 * np.pi), 0.9, count)
    sizes = length * rng.uniform(0.6, 1.3, count)
    middles = rng.uniform(-0.05, 1.05, (count, 2)) * (width, height)
    tones = colors[rng.integers(len(colors), size=count)] * np.linspace(0.35, 1.1, count)[:, None]
    oval = np.array([(-1, 0), (-0.4, 0.32), (0.3, 0.3), (1, 0), (0.3, -0.3), (-0.4, -0.32)]) / 2
    for angle, size, middle, tone in zip(angles, sizes, middles, tones.clip(0, 255), strict=True):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        outline = np.round(size * oval @ turn + middle).astype(np.int32)
        cv2.fillConvexPoly(pixels, outline, tone.tolist(), cv2.LINE_AA)
        cv2.line(pixels, outline[0].tolist(), outline[3].tolist(), (0.8 * tone).tolist(), 1, cv2.LINE_AA)
    return pixels


def grass(rng: Random, height: int, width: int) -> ImageArray:
    """Blades, strokes that stand nearly upright."""
    colors = natural_palette(rng, 6, (25, 65))
    pixels = _to_uint8(apply_colormap(colors[:3] * 0.6, fractal_noise(rng, height, width)))
    count, length = min(height * width // 120, 2500), rng.uniform(8, 26)
    feet = rng.uniform(0, 1, (count, 2)) * (width, height + length)
    tips = feet - np.stack([rng.normal(0, 0.3, count), rng.uniform(0.5, 1.2, count)], -1) * length
    tones = colors[rng.integers(len(colors), size=count)] * rng.uniform(0.6, 1.15, (count, 1))
    order = feet[:, 1].argsort()
    for foot, tip, tone in zip(
        feet[order].astype(int), tips[order].astype(int), tones[order].clip(0, 255), strict=True
    ):
        cv2.line(pixels, foot.tolist(), tip.tolist(), tone.tolist(), 1, cv2.LINE_AA)
    return pixels


def wood(rng: Random, height: int, width: int) -> ImageArray:
    """Boards with a grain along them."""
    board = rng.uniform(0.06, 0.25) * height
    y, x = np.mgrid[:height, :width].astype(np.float32)
    number = (y / board).astype(int)
    offset = rng.uniform(0, 200, number.max() + 1).astype(np.float32)[number]
    bend = fractal_noise(rng, height, width, cells=3, slope=1.5)
    grain = 0.5 + 0.5 * np.sin(0.35 * y + offset + 14 * bend + 0.01 * x)
    pixels = apply_colormap(
        natural_palette(rng, 3, (6, 20)),
        (0.75 * grain + 0.25 * fractal_noise(rng, height, width, cells=60)).clip(0, 1),
    )
    pixels *= rng.uniform(0.75, 1.15, number.max() + 1).astype(np.float32)[number][..., None]
    pixels[(y % board) < max(0.03 * board, 1)] *= 0.35
    return _to_uint8(pixels)


def cloth(rng: Random, height: int, width: int) -> ImageArray:
    """A weave, checks or stripes, with folds."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 50)
    along = (x * np.cos(angle) + y * np.sin(angle)) / period
    across = (y * np.cos(angle) - x * np.sin(angle)) / (period * rng.uniform(0.7, 1.5))
    kind = rng.random()
    if kind < 0.35:
        values = (np.floor(along) + np.floor(across)) % 2
    elif kind < 0.7:
        values = 0.5 + 0.5 * np.sin(2 * np.pi * along)
    else:
        values = 0.25 * (2 + np.sin(2 * np.pi * along) + np.sin(2 * np.pi * across))
    folds = 0.6 + 0.8 * fractal_noise(rng, height, width, cells=3, slope=1.6)
    weave = 0.93 + 0.14 * ((x.astype(int) + y.astype(int)) % 2)
    colors = random_palette(rng, 3, hue_spread=40, max_saturation=0.8)
    return _to_uint8(apply_colormap(colors, values.astype(np.float32)) * (folds * weave)[..., None])


def shelves(rng: Random, height: int, width: int) -> ImageArray:
    """Rows of upright books on shelves."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    tall = height / int(rng.integers(2, 6))
    colors = random_palette(rng, 12, hue_spread=60, max_saturation=0.9)
    for foot in np.arange(tall, height + tall, tall):
        left = 0.0
        while left < width:
            thick, top = tall * rng.uniform(0.06, 0.25), foot - tall * rng.uniform(0.55, 0.9)
            tone = colors[rng.integers(len(colors))] * rng.uniform(0.6, 1.1)
            corners = (int(left), int(top)), (int(left + thick) - 1, int(foot - 0.04 * tall))
            cv2.rectangle(pixels, *corners, tone.clip(0, 255).tolist(), -1)
            band = int(top + tall * rng.uniform(0.08, 0.3))
            cv2.line(pixels, (int(left) + 1, band), (int(left + thick) - 2, band), (0.5 * tone).tolist(), 2)
            left += thick
        cv2.rectangle(pixels, (0, int(foot - 0.04 * tall)), (width, int(foot + 0.02 * tall)), colors[0].tolist(), -1)
    return _to_uint8(pixels * (0.7 + 0.6 * fractal_noise(rng, height, width, cells=6))[..., None])


def windows(rng: Random, height: int, width: int) -> ImageArray:
    """Fronts of houses with their windows, some of them lit."""
    pixels = np.empty((height, width, 3), np.uint8)
    left = 0
    while left < width:
        wide, tall = int(rng.uniform(0.2, 0.5) * width), rng.uniform(22, 60)
        front = pixels[:, left : left + wide]
        front[:] = random_palette(rng, 1, max_saturation=0.4)[0]
        y, x = np.mgrid[:height, : front.shape[1]].astype(np.float32)
        number = ((y / tall).astype(int) * 7 + (x / (0.7 * tall)).astype(int) * 13) % 97
        glass = random_palette(rng, 97, hue_spread=30, max_saturation=0.4)[rng.permutation(97)]
        inside = (y % tall > 0.25 * tall) & (y % tall < 0.8 * tall)
        inside &= (x % (0.7 * tall) > 0.2 * tall) & (x % (0.7 * tall) < 0.55 * tall)
        front[inside] = glass[number[inside]]
        left += wide
    return _to_uint8(pixels * (0.8 + 0.4 * fractal_noise(rng, height, width, cells=20, slope=0.4))[..., None])


def lettering(rng: Random, height: int, width: int) -> ImageArray:
    """Paper or a wall with rows of letters, and notes over it."""
    pixels = plaster(rng, height, width)
    for _ in range(int(rng.integers(4, 14))):
        left, top = int(rng.integers(-40, width)), int(rng.integers(-20, height))
        wide, tall = (int(rng.uniform(0.15, 0.5) * side) for side in (width, height))
        paper, ink = random_palette(rng, 2, hue_spread=50, max_saturation=0.7)[:: rng.choice((-1, 1))].tolist()
        cv2.rectangle(pixels, (left, top), (left + wide, top + tall), paper, -1)
        size, font = rng.uniform(0.3, 1.1), FONTS[rng.integers(len(FONTS))]
        for foot in np.arange(top + 26 * size, top + tall - 4, 34 * size):
            words = "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=max(int(wide / (22 * size)), 1)))
            cv2.putText(pixels, words, (left + 6, int(foot)), font, size, ink, 1 + int(size > 0.7), cv2.LINE_AA)
    return _to_uint8(pixels * (0.85 + 0.3 * fractal_noise(rng, height, width))[..., None])


def sky(rng: Random, height: int, width: int) -> ImageArray:
    """Blue, gray or of an evening, with clouds."""
    high = np.array(rng.choice(((60, 110, 190), (120, 130, 145), (70, 70, 120))), np.float32)
    low = np.array(rng.choice(((200, 215, 230), (235, 190, 150), (190, 190, 195))), np.float32)
    pixels = high + (low - high) * np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    clouds = ((fractal_noise(rng, height, width, cells=3, slope=1.1) - rng.uniform(0.4, 0.7)) * 3).clip(0, 1)
    return _to_uint8(pixels + (np.array([240, 240, 242], np.float32) - pixels) * clouds[..., None] * 0.9)


TEXTURES: tuple[Texture, ...] = (
    plaster,
    stones,
    bricks,
    leaves,
    grass,
    wood,
    cloth,
    shelves,
    windows,
    lettering,
)
"""The textures of surfaces and objects."""


def perspective_floor(rng: Random, texture: Texture, height: int, width: int) -> ImageArray:
    """Draw a texture as a floor that reaches to the horizon at the upper edge."""
    flat = texture(rng, 3 * height // 2, 3 * width // 2)
    near = rng.uniform(0.8, 2.5)
    start = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * flat.shape[1::-1]
    end = np.array([(-0.1, 0), (1.1, 0), (-near, 1), (1 + near, 1)]) * (width, height)
    matrix = cv2.getPerspectiveTransform(start.astype(np.float32), end.astype(np.float32))
    seen = cv2.warpPerspective(flat, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.uint8)


def apply_lighting(rng: Random, rgb: ImageArray) -> ImageArray:
    """Apply directional light, soft shadows, a tint and a contrast."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
    light = 1 + rng.uniform(0, 0.5) * slope
    if rng.random() < 0.5:
        shade = (6 * (fractal_noise(rng, height, width, cells=2, slope=2.0) - rng.uniform(0.3, 0.5))).clip(0, 1)
        light *= 1 - float(rng.uniform(0.1, 0.45)) * (1 - shade)
    tint = np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    contrast, middle = rng.uniform(0.75, 1.1), rng.uniform(100, 140)
    return _to_uint8(((rgb * light[..., None] * tint) - 128) * contrast + middle)
