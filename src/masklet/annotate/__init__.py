"""Automatic annotation: a detector and a segmentation model label a folder of images and videos.

`auto_annotate` runs to the end and returns a `Summary`; `annotate` yields a `Progress` for every image. A run that was
stopped resumes where it was.
"""

from __future__ import annotations

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.auto_annotate import Progress, annotate, auto_annotate
from masklet.annotate.summary import Failure, Summary

__all__ = ["AnnotateOptions", "Failure", "Progress", "Summary", "annotate", "auto_annotate"]
