"""Many images and videos on many machines: masklet as a stage of a data pipeline.

stages       `Segmenter`, `Annotator`, `Embedder` and `VideoTracker`: columns in, columns out
stage_rows   the rows of such columns
video_chunks long videos, tracked chunk by chunk
"""

from __future__ import annotations

from masklet.scale.stages import Annotator, Embedder, Segmenter, Stage, VideoTracker

__all__ = ["Annotator", "Embedder", "Segmenter", "Stage", "VideoTracker"]
