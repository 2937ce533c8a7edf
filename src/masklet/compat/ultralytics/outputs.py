"""What a prediction leaves behind: files in runs/segment/predictN, windows, and lines on the terminal."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from masklet.compat.ultralytics.arguments import PredictArgs
from masklet.compat.ultralytics.engine.results import Results
from masklet.compat.ultralytics.sources import InputImage, is_video
from masklet.masks.drawing import Style
from masklet.media import IMAGE_SUFFIXES
from masklet.results import image_stem
from masklet.writers.video import VideoSink
from masklet.writers.video_base import SinkOptions

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PredictOutputs", "next_run_folder"]


def next_run_folder(args: PredictArgs, task: str) -> Path:
    """Return the folder of a new run: project/name, and with a number from 2 if it exists and `exist_ok` is False.

    Example:
        >>> next_run_folder(PredictArgs(project="out", name="first"), "segment").as_posix()
        'out/first'
    """
    folder = Path(args.project or f"runs/{task}", args.name or "predict")
    number, path = 2, folder
    while path.exists() and not args.exist_ok:
        path, number = folder.with_name(f"{folder.name}{number}"), number + 1
    return path


class PredictOutputs:
    """Write, show and print results as their arguments say; a context manager that finishes the videos.

    Images are NAME, videos STEM.mp4, YOLO text labels/STEM.txt, crops crops/CLASS/STEM.jpg.
    """

    def __init__(self, args: PredictArgs, task: str = "segment") -> None:
        self.args = args
        self.save_dir = next_run_folder(args, task) if args.writes else None
        self._video_path = ""
        self._sink: VideoSink | None = None
        self._stack = ExitStack()
        self._last: Results | None = None
        if self.save_dir is not None:
            self.save_dir.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_video()
        if self.args.verbose and self._last is not None and error is None:
            speed = ", ".join(f"{took or 0:.1f}ms {stage}" for stage, took in self._last.speed.items())
            print(f"Speed: {speed} per image at shape {self._last.orig_shape}")
            if self.save_dir is not None:
                print(f"Results saved to {self.save_dir}")

    def add(self, results: Results, image: InputImage) -> None:
        """Take the results of one image.

        Raises:
            OutputError: if a file cannot be written.
        """
        args, self._last = self.args, results
        results.save_dir = None if self.save_dir is None else str(self.save_dir)
        if args.verbose:
            kind = "image" if image.frame_idx is None else "video frame"
            height, width = results.orig_shape
            print(
                f"{kind} {image.number}/{image.total or '?'} {results.path}: {height}x{width} {results.verbose()}"
                f"{results.speed['inference'] or 0:.1f}ms"
            )
        if args.show:
            results.plot(line_width=args.line_width, boxes=args.show_boxes, show=True)
        if self.save_dir is None:
            return
        stem = image_stem(results.path) + ("" if image.frame_idx is None else f"_{image.frame_idx}")
        if args.save and image.frame_idx is None:
            suffix = Path(results.path).suffix.lower()
            name = Path(results.path).name if suffix in IMAGE_SUFFIXES and "://" not in results.path else f"{stem}.jpg"
            self._plot_to(results, self.save_dir / name)
        elif args.save:
            self._add_frame(results, image)
        if args.save_frames and image.frame_idx is not None:
            self._plot_to(results, self.save_dir / f"{image_stem(results.path)}_frames" / f"{image.frame_idx}.jpg")
        if args.save_txt:
            labels = self.save_dir / "labels"
            labels.mkdir(exist_ok=True)
            results.save_txt(labels / f"{stem}.txt", save_conf=args.save_conf)
        if args.save_crop:
            results.save_crop(self.save_dir / "crops", f"{stem}.jpg")

    def _plot_to(self, results: Results, path: Path) -> None:
        args = self.args
        results.save(
            path, conf=args.show_conf, labels=args.show_labels, boxes=args.show_boxes, line_width=args.line_width
        )

    def _add_frame(self, results: Results, image: InputImage) -> None:
        if self._sink is None or self._video_path != results.path:
            self._close_video()
            args, source = self.args, results.path if os.path.isfile(results.path) and is_video(results.path) else None
            options = SinkOptions(
                fps=image.fps or 30.0,
                source=source,
                boxes=args.show_boxes,
                labels=args.show_labels and args.show_boxes,
                style=Style(line_width=args.line_width or 0),
            )
            assert self.save_dir is not None
            self._sink = self._stack.enter_context(VideoSink(self.save_dir, image_stem(results.path), options))
            self._video_path = results.path
        self._sink.write(replace(results.native, frame_idx=image.frame_idx))

    def _close_video(self) -> None:
        self._stack.close()
        if self._sink is not None and self._sink.paths:
            os.replace(self._sink.paths[-1], self._sink.folder / f"{self._sink.stem}.mp4")
        self._sink = None
