"""Videos of two bright squares, and a model that finds and tracks them, with errors until it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np

from masklet.media import Video
from masklet.results import Masks, Results

FRAMES, SIZE = 12, (48, 64)


def true_masks(shift: int = 0) -> np.ndarray:
    """(T, N, H, W): one square above, one below, both move to the right."""
    masks = np.zeros((FRAMES, 2, *SIZE), bool)
    for frame in range(FRAMES):
        masks[frame, 0, 4:20, 2 + 3 * frame + shift : 18 + 3 * frame + shift] = True
        masks[frame, 1, 28:44, 8 + 2 * frame : 24 + 2 * frame] = True
    return masks


def write_squares(path: Path, shift: int = 0) -> np.ndarray:
    """Write a video, and return its true masks."""
    masks = true_masks(shift)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for frame_masks in masks:
            rgb = np.where(frame_masks.any(0)[..., None], 230, 20 + shift).astype(np.uint8).repeat(3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return masks


def read_masks(rgb: np.ndarray) -> list[np.ndarray]:
    """The masks of the upper and the lower square."""
    bright, upper = rgb.max(axis=2) > 128, np.arange(SIZE[0])[:, None] < SIZE[0] // 2
    return [bright & upper, bright & ~upper]


class SquareModel:
    """Stands in for `SAM`. Before it is trained, it loses half of the lower square on frame 7, and doubts it there."""

    opened: list[str | None]

    def __init__(self, file: str | Path | None = None) -> None:
        self.trained = file is not None
        self.predictor = self
        self.rgb = np.zeros((*SIZE, 3), np.uint8)

    def info(self) -> SimpleNamespace:
        return SimpleNamespace(name="trained squares" if self.trained else "squares")

    def _results(self, video: Video, ids: list[int]) -> Iterator[Results]:
        for frame in video:
            masks = np.stack(read_masks(frame.rgb))
            scores = np.array([0.95, 0.95], np.float32)
            if frame.index == 7 and not self.trained:
                masks[1, :, : np.flatnonzero(masks[1].any(0)).mean().astype(int)] = False
                scores[1] = 0.3
            rows = [0, 1][: len(ids)]
            yield Results(
                frame.rgb,
                frame.path,
                Masks(masks[rows]),
                scores[rows],
                ids=np.array(ids, np.int32),
                frame_idx=frame.index,
                states=("visible",) * len(rows),
            )

    @contextmanager
    def track(self, video: Video, **options: object) -> Iterator[Iterator[Results]]:
        yield self._results(video, [1, 2])

    @contextmanager
    def session(self, video: Video) -> Iterator[SimpleNamespace]:
        ids: list[int] = []

        def add_prompt(object_id: int, frame_idx: int, **prompt: object) -> None:
            if object_id not in ids:
                ids.append(object_id)

        yield SimpleNamespace(add_prompt=add_prompt, propagate=lambda *_, **__: self._results(video, sorted(ids)))

    def set_image(self, rgb: np.ndarray) -> None:
        self.rgb = rgb

    def predict_prompts(self, prompts: list, **options: object) -> SimpleNamespace:
        x, y = prompts[0].points.xy[0].astype(int)
        found = next(mask for mask in read_masks(self.rgb) if mask[y, x])
        return SimpleNamespace(masks=found[None, None])

    def train(self, data: str, *, out: Path, **options: object) -> Path:
        assert (Path(data) / "annotations").is_dir()
        file = Path(out) / "model.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return file
