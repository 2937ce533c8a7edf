"""Rigid bodies that fall, roll and hide behind each other: physics and pictures by PyBullet, on the processor.

A room has a floor, a wall, a post or two, and bodies with drawn textures; the camera goes slowly round. Nothing is
read from a file but the textures, which are made for the clip. Needs the extra 'bodies'. Metres, z is up, y is away
from the camera. Shapes: T frames, N objects, H and W of a frame, P points of a profile, S steps around.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, MissingExtraError
from masklet.synthetic.compositing import SPECK, Clip
from masklet.synthetic.procedural_textures import SURFACES
from masklet.synthetic.scenarios import checked
from masklet.synthetic.scene_builder import Take, eased, through_lens
from masklet.synthetic.sources import Material

__all__ = ["Bodies"]

Picture = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

RATE, STEPS = 24, 10
"""Frames a second, and steps of the physics in each."""
AROUND = 24
"""Sides of a turned body."""
TRIES = 12
OBJECTS = 4
LEAST, MARGIN = 2.5e-3, 2
"""Share of the first frame an object has to cover, and how far from the border it has to be, in pixels."""
TEXTURE = 256


@dataclass(frozen=True)
class Bodies:
    """A director, as those of `DIFFICULTIES`; of the material only the randomness of its clip is used.

    Example:
        >>> clip = Bodies()(seed=0, number=3, size=(270, 480), frames=36, material=Drawn())

    Raises:
        MissingExtraError: PyBullet is not installed.
        InputError: too few frames, too small a frame, or nothing that hides behind something in `TRIES` rooms.
    """

    frames: int = 36

    def __call__(self, seed: int, number: int, size: tuple[int, int], frames: int, material: Material) -> Clip:
        """Clip `number` of a seed; `size` is height and width."""
        checked(size, frames)
        random = np.random.default_rng((seed, 0xB0D1E5, number))
        for _ in range(TRIES):
            take = Take(random, size, frames, material)
            with _world() as world, tempfile.TemporaryDirectory() as folder:
                room = _Room(world, Path(folder), take)
                room.fill()
                clip = room.film()
            if clip is not None:
                return clip
        raise InputError(
            f"bodies number {number} of {frames} frames at {size[1]} x {size[0]}: in {TRIES} rooms nothing hid behind "
            "anything; 36 frames of 480 x 270 do: ask for more frames"
        )


@contextmanager
def _world() -> Iterator[Any]:
    """A world of its own, without a window."""
    try:
        import pybullet
    except ImportError:
        raise MissingExtraError.of("pybullet", "bodies") from None
    world = _World(pybullet)
    try:
        world.setGravity(0, 0, -9.81)
        world.setPhysicsEngineParameter(fixedTimeStep=1 / (RATE * STEPS), deterministicOverlappingPairs=1)
        yield world
    finally:
        world.disconnect()


class _World:
    """PyBullet's functions, each told which world is meant."""

    def __init__(self, pybullet: Any) -> None:
        self._pybullet, self._number = pybullet, pybullet.connect(pybullet.DIRECT)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._pybullet, name)
        return partial(found, physicsClientId=self._number) if callable(found) else found


class _Room:
    """One room and what happens in it."""

    def __init__(self, world: Any, folder: Path, take: Take) -> None:
        self.world, self.folder, self.take, self.random = world, folder, take, take.random
        self.bodies: list[int] = []
        """Those that move, by PyBullet's numbers."""
        self.textures = 0
        self.angles = self.random.uniform(-0.35, 0.35) + self.random.uniform(-0.3, 0.3) * eased(take.share, 0, 1)
        self.distance, self.height = self.random.uniform(3.0, 3.5), self.random.uniform(0.8, 1.5)
        self.light = [*self.random.uniform(-4, 4, 2).tolist(), 6.0]

    def fill(self) -> None:
        """Floor, wall, posts, what rolls from one side to the other, what falls."""
        world, random = self.world, self.random
        self._static(world.GEOM_BOX, (0, 1.5, -0.5), size=1024, halfExtents=[6, 6, 0.5])
        self._static(world.GEOM_BOX, (0, 4.5, 1.5), size=1024, halfExtents=[10, 0.1, 4])
        for x in random.uniform(-0.35, 0.35, random.integers(1, 3)):
            half = [random.uniform(0.16, 0.26), 0.1, random.uniform(0.45, 0.8)]
            self._static(world.GEOM_BOX, (x, random.uniform(-0.7, -0.4), half[2]), halfExtents=half)
        for side in random.permutation([-1, 1, 1, -1])[: random.integers(2, 4)]:
            self._roller(int(side))
        for _ in range(random.integers(1, 4)):
            self._faller()

    def _roller(self, side: int) -> None:
        random, radius = self.random, self.random.uniform(0.16, 0.27)
        place = side * random.uniform(0.75, 1.05), random.uniform(0.0, 1.0), radius + 0.01
        if random.random() < 0.6:
            body = self._turned(_arc(radius), place, self.world.GEOM_SPHERE, radius=radius)
        else:
            lying = self.world.getQuaternionFromEuler([np.pi / 2, 0, 0])
            long = random.uniform(0.25, 0.5)
            profile = np.array([(0, -0.5), (radius / long, -0.5), (radius / long, 0.5), (0, 0.5)]) * long
            body = self._turned(profile, place, self.world.GEOM_CYLINDER, lying, radius=radius, height=long)
        speed = -side * random.uniform(1.1, 2.0)
        self.world.resetBaseVelocity(body, [speed, 0, 0], [0, speed / radius, 0])

    def _faller(self) -> None:
        random, world = self.random, self.world
        place = random.uniform(-0.9, 0.9), random.uniform(0.1, 1.2), random.uniform(0.5, 1.2)
        turn = world.getQuaternionFromEuler(random.uniform(-3, 3, 3).tolist())
        size, lot = random.uniform(0.18, 0.3), random.random()
        if lot < 0.4:
            half = (size * random.uniform(0.6, 1.2, 3)).tolist()
            body = self._body(1.0, place, turn, world.GEOM_BOX, world.GEOM_BOX, {"halfExtents": half})
        elif lot < 0.7:
            profile = size * np.array([(0, -1), (0.7, -0.9), (0.35, 0.1), (0.45, 0.6), (0.2, 1), (0, 1)])
            body = self._turned(profile, place, world.GEOM_MESH, turn)
        else:
            ring = np.linspace(0, 2 * np.pi, 13)
            profile = 1.3 * size * np.stack([0.72 + 0.28 * np.cos(ring), 0.28 * np.sin(ring)], -1)
            body = self._turned(profile, place, world.GEOM_MESH, turn)
        world.resetBaseVelocity(body, random.normal(0, 0.6, 3).tolist(), random.normal(0, 3, 3).tolist())

    def _turned(
        self,
        profile_P2: Floats,
        place: Sequence[float],
        collides: int,
        turn: Sequence[float] = (0, 0, 0, 1),
        **shape: float,
    ) -> int:
        """A body as from a lathe; what it collides as is a primitive, or the hull of its points."""
        mesh = _lathe(profile_P2)
        solid = dict(shape) if shape else {"vertices": mesh["vertices"]}
        return self._body(0.6, place, turn, collides, self.world.GEOM_MESH, mesh, solid)

    def _static(self, geometry: int, place: Sequence[float], *, size: int = TEXTURE, **shape: Any) -> None:
        self._body(0.0, place, (0, 0, 0, 1), geometry, geometry, shape, size=size)

    def _body(
        self,
        mass: float,
        place: Sequence[float],
        turn: Sequence[float],
        collides: int,
        shows: int,
        visual: dict[str, Any],
        solid: dict[str, Any] | None = None,
        *,
        size: int = TEXTURE,
    ) -> int:
        world = self.world
        hull = world.createCollisionShape(collides, **(visual if solid is None else solid))
        look = world.createVisualShape(shows, **visual)
        body: int = world.createMultiBody(mass, hull, look, list(place), list(turn))
        world.changeVisualShape(body, -1, textureUniqueId=self._texture(size), rgbaColor=[1, 1, 1, 1])
        world.changeDynamics(body, -1, restitution=0.35, lateralFriction=0.7, rollingFriction=0.002)
        if mass:
            self.bodies.append(body)
        return body

    def _texture(self, size: int) -> int:
        surface = SURFACES[self.random.integers(len(SURFACES))](self.random, size, size)
        path = self.folder / f"{self.textures}.png"
        self.textures += 1
        cv2.imwrite(str(path), np.ascontiguousarray(surface[..., ::-1]))
        return int(self.world.loadTexture(str(path)))

    def film(self) -> Clip | None:
        """What the camera sees; None where nothing hides that the first frame shows well."""
        poses = self._happen()
        small = self.take.size[0] // 2, self.take.size[1] // 2
        rough = np.stack([self._shot(poses, t, small, shadow=False)[1] for t in range(self.take.frames)])
        followed = _worth_following(rough, self.bodies)[:OBJECTS]
        if len(followed) < 2 or not _something_hides(rough, followed):
            return None
        shots = [self._shot(poses, t, (2 * self.take.size[0], 2 * self.take.size[1])) for t in range(self.take.frames)]
        frames = [cv2.resize(rgb, self.take.size[::-1], interpolation=cv2.INTER_AREA) for rgb, _ in shots]
        masks = np.stack([_halved(labels, followed) for _, labels in shots])
        masks[masks.mean((2, 3)) < SPECK] = False
        return Clip(through_lens(self.take, [np.asarray(frame, np.float32) for frame in frames]), masks)

    def _happen(self) -> list[list[tuple[Any, Any]]]:
        """Place and turn of each body in each frame."""
        poses = []
        for _ in range(self.take.frames):
            poses.append([self.world.getBasePositionAndOrientation(body) for body in self.bodies])
            for _ in range(STEPS):
                self.world.stepSimulation()
        return poses

    def _shot(
        self, poses: list[list[tuple[Any, Any]]], t: int, size: tuple[int, int], *, shadow: bool = True
    ) -> tuple[Picture, Labels]:
        """RGB and PyBullet's number of what each pixel shows."""
        world, angle = self.world, float(self.angles[t])
        for body, pose in zip(self.bodies, poses[t], strict=True):
            world.resetBasePositionAndOrientation(body, *pose)
        eye = [self.distance * np.sin(angle), -self.distance * np.cos(angle), self.height]
        view = world.computeViewMatrix(eye, [0, 0.2, 0.38], [0, 0, 1])
        lens = world.computeProjectionMatrixFOV(35, size[1] / size[0], 0.1, 20)
        _, _, rgba, _, labels = world.getCameraImage(
            size[1], size[0], view, lens, self.light, shadow=int(shadow), renderer=world.ER_TINY_RENDERER
        )
        rgb = np.asarray(rgba, np.uint8).reshape(*size, 4)[..., :3]
        return np.ascontiguousarray(rgb), np.asarray(labels, np.int32).reshape(size)


def _worth_following(labels_THW: Labels, bodies: Sequence[int]) -> list[int]:
    """Bodies that the first frame shows well: large enough, off the border, and not much smaller than ever after."""
    inside = np.zeros(labels_THW.shape[1:], bool)
    inside[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    fit = []
    for body in bodies:
        area_T = (labels_THW == body).sum((1, 2))
        whole = area_T[0] > 0.55 * area_T.max() and not ((labels_THW[0] == body) & ~inside).any()
        if whole and area_T[0] > LEAST * inside.size:
            fit.append(body)
    return fit


def _something_hides(labels_THW: Labels, followed: Sequence[int]) -> bool:
    areas = [(labels_THW == body).sum((1, 2)) for body in followed]
    return any(area_T.min() < 0.3 * area_T[0] for area_T in areas)


def _halved(labels: Labels, followed: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Masks (N, H, W): pixels of which an object covers half or more; of two that do, the first has it."""
    masks, free = [], np.ones((labels.shape[0] // 2, labels.shape[1] // 2), bool)
    for body in followed:
        mask = free & ((labels == body).reshape(free.shape[0], 2, free.shape[1], 2).sum((1, 3)) >= 2)
        free &= ~mask
        masks.append(mask)
    return np.stack(masks)


def _arc(radius: float) -> Floats:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 13)
    return radius * np.stack([np.cos(turn), np.sin(turn)], -1)


def _lathe(profile_P2: Floats) -> dict[str, Any]:
    """A mesh by turning a profile (distance from the axis, height), from below to above, around z."""
    edges = np.linspace(0, 2 * np.pi, AROUND + 1)
    pairs = np.repeat(profile_P2, 2, axis=0)[1:-1]  # every stretch has its own points, so that corners are sharp
    stretch = np.diff(profile_P2, axis=0)
    out = np.repeat(np.stack([stretch[:, 1], -stretch[:, 0]], -1), 2, axis=0)
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-9
    around = np.stack([np.cos(edges), np.sin(edges)], -1)
    vertices = [[*(r * around[k]), z] for r, z in pairs for k in range(AROUND + 1)]
    normals = [[*(r * around[k]), z] for r, z in out for k in range(AROUND + 1)]
    along = np.concatenate([[0], np.linalg.norm(np.diff(pairs, axis=0), axis=1).cumsum()])
    uvs = [[k / AROUND, s / along[-1]] for s in along for k in range(AROUND + 1)]
    indices = []
    for p in range(0, len(pairs), 2):
        for k in range(AROUND):
            a, b = p * (AROUND + 1) + k, (p + 1) * (AROUND + 1) + k
            indices += [a, a + 1, b + 1, a, b + 1, b]
    lists = (np.asarray(part, float).tolist() for part in (vertices, normals, uvs))
    return dict(zip(("vertices", "normals", "uvs"), lists, strict=True)) | {"indices": indices}
