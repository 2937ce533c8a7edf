"""Automatic annotation: a folder of images and videos in, labels out, whatever happens on the way.

auto      `auto_annotate`, the function people know
engine    `annotate`, the same as a stream of progress
options   what is asked, checked
listing   which images and videos there are, and what they are called
finding   a detector and a segmenting model at work
videos     the same for videos: found in every so many frames, followed in between
steps     what a worker reports
pool      several processes side by side
records   what was found, as lines of JSON
journal   what a run remembers, so that the next one goes on
outputs   one writer a format
doubts    what a person should look at, and why
review    the sheet that shows it
summary   what came of it, in numbers
"""

from __future__ import annotations

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.auto_annotate import Progress, annotate, auto_annotate
from masklet.annotate.summary import Failure, Summary

__all__ = ["AnnotateOptions", "Failure", "Progress", "Summary", "annotate", "auto_annotate"]
