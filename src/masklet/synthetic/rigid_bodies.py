"""Rigid bodies that fall, roll and occlude each other, simulated and rendered by PyBullet on the CPU.

A room has a floor, a wall, a post or two, and bodies with procedural textures; the camera moves slowly around it. Needs
the extra 'bodies'. Meters, z is up, y points away from the camera. Shapes: T frames, N objects, H and W of a frame,
P points of a profile.
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
from masklet.synthetic.compositing import HIDDEN_AREA_FRACTION, Clip
from masklet.synthetic.procedural_textures import TEXTURES
from masklet.synthetic.scenarios import check_scene_size
from masklet.synthetic.scene_builder import SceneContext, apply_lens_effects, smoothstep
from masklet.synthetic.sources import AssetSource

__all__ = ["RigidBodies"]

ImageArray = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

FPS, PHYSICS_STEPS_PER_FRAME = 24, 10
"""Frames per second, and simulation steps per frame."""
LATHE_SIDES = 24
"""Sides of a lathe mesh."""
MAX_TRIES = 12
MAX_OBJECTS = 4
MIN_AREA_FRACTION, BORDER_MARGIN = 2.5e-3, 2
"""Fraction of the first frame that an object covers, and its distance from the border in pixels."""
TEXTURE_SIZE = 256


@dataclass(frozen=True)
class RigidBodies:
    """A clip generator like those of `SCENARIOS`; it does not use the assets.

    Example:
        >>> clip = RigidBodies()(0, 3, (270, 480), 36, ProceduralSource())  # doctest: +SKIP

    Raises:
        MissingExtraError: if PyBullet is not installed.
        InputError: if frames are too few or too small, or no attempt has an occlusion.
    """

    default_frames: int = 36

    def __call__(self, seed: int, number: int, size: tuple[int, int], frames: int, assets: AssetSource) -> Clip:
        """Make clip `number` of a seed; `size` is (height, width)."""
        check_scene_size(size, frames)
        rng = np.random.default_rng((seed, 0xB0D1E5, number))
        for _ in range(MAX_TRIES):
            scene = SceneContext(rng, size, frames, assets)
            with _world() as world, tempfile.TemporaryDirectory() as folder:
                physics = _PhysicsScene(world, Path(folder), scene)
                physics.populate()
                clip = physics.render_clip()
            if clip is not None:
                return clip
        raise InputError(
            f"bodies number {number} of {frames} frames at {size[1]} x {size[0]}: {MAX_TRIES} attempts had no "
            "occlusion; 36 frames of 480 x 270 do: use more frames"
        )


@contextmanager
def _world() -> Iterator[Any]:
    """A separate PyBullet world without a window."""
    try:
        import pybullet
    except ImportError:
        raise MissingExtraError.for_package("pybullet", "bodies") from None
    world = _World(pybullet)
    try:
        world.setGravity(0, 0, -9.81)
        world.setPhysicsEngineParameter(
            fixedTimeStep=1 / (FPS * PHYSICS_STEPS_PER_FRAME), deterministicOverlappingPairs=1
        )
        yield world
    finally:
        world.disconnect()


class _World:
    """The functions of PyBullet, bound to one world."""

    def __init__(self, pybullet: Any) -> None:
        self._pybullet, self._number = pybullet, pybullet.connect(pybullet.DIRECT)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._pybullet, name)
        return partial(value, physicsClientId=self._number) if callable(value) else value


class _PhysicsScene:
    """One room and its bodies."""

    def __init__(self, world: Any, folder: Path, scene: SceneContext) -> None:
        self.world, self.folder, self.scene, self.rng = world, folder, scene, scene.rng
        self.bodies: list[int] = []
        """The moving bodies, by PyBullet's numbers."""
        self.num_textures = 0
        self.camera_angles = self.rng.uniform(-0.35, 0.35) + self.rng.uniform(-0.3, 0.3) * smoothstep(
            scene.progress, 0, 1
        )
        self.camera_distance, self.camera_height = self.rng.uniform(3.0, 3.5), self.rng.uniform(0.8, 1.5)
        self.light = [*self.rng.uniform(-4, 4, 2).tolist(), 6.0]

    def populate(self) -> None:
        """Add floor, wall, posts, rolling and falling bodies."""
        world, rng = self.world, self.rng
        box, turn = world.GEOM_BOX, (0, 0, 0, 1)
        self._add_body(0.0, (0, 1.5, -0.5), turn, box, box, {"halfExtents": [6, 6, 0.5]}, size=1024)
        self._add_body(0.0, (0, 4.5, 1.5), turn, box, box, {"halfExtents": [10, 0.1, 4]}, size=1024)
        for x in rng.uniform(-0.35, 0.35, rng.integers(1, 3)):
            half = [rng.uniform(0.16, 0.26), 0.1, rng.uniform(0.45, 0.8)]
            self._add_body(0.0, (x, rng.uniform(-0.7, -0.4), half[2]), turn, box, box, {"halfExtents": half})
        for side in rng.permutation([-1, 1, 1, -1])[: rng.integers(2, 4)]:
            self._add_roller(int(side))
        for _ in range(rng.integers(1, 4)):
            self._add_faller()

    def _add_roller(self, side: int) -> None:
        rng, radius = self.rng, self.rng.uniform(0.16, 0.27)
        position = side * rng.uniform(0.75, 1.05), rng.uniform(0.0, 1.0), radius + 0.01
        if rng.random() < 0.6:
            angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
            arc = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
            body = self._add_lathe_body(arc, position, self.world.GEOM_SPHERE, radius=radius)
        else:
            lying = self.world.getQuaternionFromEuler([np.pi / 2, 0, 0])
            long = rng.uniform(0.25, 0.5)
            profile = np.array([(0, -0.5), (radius / long, -0.5), (radius / long, 0.5), (0, 0.5)]) * long
            body = self._add_lathe_body(profile, position, self.world.GEOM_CYLINDER, lying, radius=radius, height=long)
        speed = -side * rng.uniform(1.1, 2.0)
        self.world.resetBaseVelocity(body, [speed, 0, 0], [0, speed / radius, 0])

    def _add_faller(self) -> None:
        rng, world = self.rng, self.world
        position = rng.uniform(-0.9, 0.9), rng.uniform(0.1, 1.2), rng.uniform(0.5, 1.2)
        turn = world.getQuaternionFromEuler(rng.uniform(-3, 3, 3).tolist())
        size, kind = rng.uniform(0.18, 0.3), rng.random()
        if kind < 0.4:
            half = (size * rng.uniform(0.6, 1.2, 3)).tolist()
            body = self._add_body(1.0, position, turn, world.GEOM_BOX, world.GEOM_BOX, {"halfExtents": half})
        elif kind < 0.7:
            profile = size * np.array([(0, -1), (0.7, -0.9), (0.35, 0.1), (0.45, 0.6), (0.2, 1), (0, 1)])
            body = self._add_lathe_body(profile, position, world.GEOM_MESH, turn)
        else:
            ring = np.linspace(0, 2 * np.pi, 13)
            profile = 1.3 * size * np.stack([0.72 + 0.28 * np.cos(ring), 0.28 * np.sin(ring)], -1)
            body = self._add_lathe_body(profile, position, world.GEOM_MESH, turn)
        world.resetBaseVelocity(body, rng.normal(0, 0.6, 3).tolist(), rng.normal(0, 3, 3).tolist())

    def _add_lathe_body(
        self,
        profile_P2: Floats,
        position: Sequence[float],
        collision_geometry: int,
        orientation: Sequence[float] = (0, 0, 0, 1),
        **shape: float,
    ) -> int:
        """Add a body of revolution; it collides as a primitive, or as the hull of its points.

        The profile (distance from the axis, height), from bottom to top, is revolved around z.
        """
        edges = np.linspace(0, 2 * np.pi, LATHE_SIDES + 1)
        pairs = np.repeat(profile_P2, 2, axis=0)[1:-1]  # segments have separate points, so that corners are sharp
        segments = np.diff(profile_P2, axis=0)
        out = np.repeat(np.stack([segments[:, 1], -segments[:, 0]], -1), 2, axis=0)
        out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-9
        around = np.stack([np.cos(edges), np.sin(edges)], -1)
        vertices = [[*(r * around[k]), z] for r, z in pairs for k in range(LATHE_SIDES + 1)]
        normals = [[*(r * around[k]), z] for r, z in out for k in range(LATHE_SIDES + 1)]
        along = np.concatenate([[0], np.linalg.norm(np.diff(pairs, axis=0), axis=1).cumsum()])
        uvs = [[k / LATHE_SIDES, s / along[-1]] for s in along for k in range(LATHE_SIDES + 1)]
        indices = []
        for p in range(0, len(pairs), 2):
            for k in range(LATHE_SIDES):
                a, b = p * (LATHE_SIDES + 1) + k, (p + 1) * (LATHE_SIDES + 1) + k
                indices += [a, a + 1, b + 1, a, b + 1, b]
        lists = (np.asarray(part, float).tolist() for part in (vertices, normals, uvs))
        mesh: dict[str, Any] = dict(zip(("vertices", "normals", "uvs"), lists, strict=True)) | {"indices": indices}
        solid = dict(shape) if shape else {"vertices": mesh["vertices"]}
        return self._add_body(0.6, position, orientation, collision_geometry, self.world.GEOM_MESH, mesh, solid)

    def _add_body(
        self,
        mass: float,
        position: Sequence[float],
        orientation: Sequence[float],
        collision_geometry: int,
        visual_geometry: int,
        visual_shape: dict[str, Any],
        collision_shape: dict[str, Any] | None = None,
        *,
        size: int = TEXTURE_SIZE,
    ) -> int:
        world = self.world
        collision = world.createCollisionShape(
            collision_geometry, **(visual_shape if collision_shape is None else collision_shape)
        )
        visual = world.createVisualShape(visual_geometry, **visual_shape)
        body: int = world.createMultiBody(mass, collision, visual, list(position), list(orientation))
        surface = TEXTURES[self.rng.integers(len(TEXTURES))](self.rng, size, size)
        path = self.folder / f"{self.num_textures}.png"
        self.num_textures += 1
        cv2.imwrite(str(path), np.ascontiguousarray(surface[..., ::-1]))
        texture = int(world.loadTexture(str(path)))
        world.changeVisualShape(body, -1, textureUniqueId=texture, rgbaColor=[1, 1, 1, 1])
        world.changeDynamics(body, -1, restitution=0.35, lateralFriction=0.7, rollingFriction=0.002)
        if mass:
            self.bodies.append(body)
        return body

    def render_clip(self) -> Clip | None:
        """Simulate and render the clip; None without an occlusion of an object that the first frame shows well."""
        poses = []  # position and orientation of each body in each frame
        for _ in range(self.scene.frames):
            poses.append([self.world.getBasePositionAndOrientation(body) for body in self.bodies])
            for _ in range(PHYSICS_STEPS_PER_FRAME):
                self.world.stepSimulation()
        small = self.scene.size[0] // 2, self.scene.size[1] // 2
        rough = np.stack([self._render(poses, t, small, shadow=False)[1] for t in range(self.scene.frames)])
        tracked = _trackable_bodies(rough, self.bodies)[:MAX_OBJECTS]
        areas = [(rough == body).sum((1, 2)) for body in tracked]
        if len(tracked) < 2 or not any(area_T.min() < 0.3 * area_T[0] for area_T in areas):
            return None
        shots = [
            self._render(poses, t, (2 * self.scene.size[0], 2 * self.scene.size[1])) for t in range(self.scene.frames)
        ]
        frames = [cv2.resize(rgb, self.scene.size[::-1], interpolation=cv2.INTER_AREA) for rgb, _ in shots]
        masks = np.stack([_downsample_masks(labels, tracked) for _, labels in shots])
        masks[masks.mean((2, 3)) < HIDDEN_AREA_FRACTION] = False
        return Clip(apply_lens_effects(self.scene, [np.asarray(frame, np.float32) for frame in frames]), masks)

    def _render(
        self, poses: list[list[tuple[Any, Any]]], t: int, size: tuple[int, int], *, shadow: bool = True
    ) -> tuple[ImageArray, Labels]:
        """Render RGB, and PyBullet's number of the body at each pixel."""
        world, angle = self.world, float(self.camera_angles[t])
        for body, pose in zip(self.bodies, poses[t], strict=True):
            world.resetBasePositionAndOrientation(body, *pose)
        eye = [self.camera_distance * np.sin(angle), -self.camera_distance * np.cos(angle), self.camera_height]
        view = world.computeViewMatrix(eye, [0, 0.2, 0.38], [0, 0, 1])
        lens = world.computeProjectionMatrixFOV(35, size[1] / size[0], 0.1, 20)
        _, _, rgba, _, labels = world.getCameraImage(
            size[1], size[0], view, lens, self.light, shadow=int(shadow), renderer=world.ER_TINY_RENDERER
        )
        rgb = np.asarray(rgba, np.uint8).reshape(*size, 4)[..., :3]
        return np.ascontiguousarray(rgb), np.asarray(labels, np.int32).reshape(size)


def _trackable_bodies(labels_THW: Labels, bodies: Sequence[int]) -> list[int]:
    """Bodies that the first frame shows well: large, off the border, and not much smaller than in later frames."""
    inside = np.zeros(labels_THW.shape[1:], bool)
    inside[BORDER_MARGIN:-BORDER_MARGIN, BORDER_MARGIN:-BORDER_MARGIN] = True
    fit = []
    for body in bodies:
        area_T = (labels_THW == body).sum((1, 2))
        is_visible = area_T[0] > 0.55 * area_T.max() and not ((labels_THW[0] == body) & ~inside).any()
        if is_visible and area_T[0] > MIN_AREA_FRACTION * inside.size:
            fit.append(body)
    return fit


def _downsample_masks(labels: Labels, tracked: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Masks (N, H, W) at half resolution: pixels that an object covers by half or more; the first one wins a tie."""
    masks, free = [], np.ones((labels.shape[0] // 2, labels.shape[1] // 2), bool)
    for body in tracked:
        mask = free & ((labels == body).reshape(free.shape[0], 2, free.shape[1], 2).sum((1, 3)) >= 2)
        free &= ~mask
        masks.append(mask)
    return np.stack(masks)
