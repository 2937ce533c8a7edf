"""How good a model is, by protocols that are written down.

validation  data of one's own, stills and videos: `validate`
stills      images, asked by box and by clicks
clicks      clicks that an object needs: NoC, and the curve of IoU by clicks
click_data  images to be clicked on: GrabCut, Berkeley, DAVIS-345, SBD, and any data set
recall      what segment everything finds: average recall, as COCO has it
following   videos of any data set, followed from where their objects appear
davis       folders in the layout of DAVIS
videos       their sequences, followed from the first mask
interactive videos that are corrected by clicks, offline and online
scribbles   videos segmented by scribbles against the clock: DAVIS interactive
scribble_report  its curve and figures
scribble_robot   who draws where an answer is wrong
scribble_data    scribbles in the files of the challenge
skeleton    middle lines of regions
scoring     folders of predictions, by the rules of DAVIS, SA-V and YouTube-VOS
scored      objects that were scored, and the figures of all of them
listed      what the lists of a benchmark say: categories seen, videos unseen, ranges of frames
predicting  predictions in the layouts of these
parallel    units of work in several processes: these, and what the commands measure
keeping     figures in a file that is gone on with
reporting   a score as a page, in HTML and Markdown, beside published figures (`write_report`, imported from there)
sets        the data sets of benchmarks, where to get them, and what a folder lacks of one
prompting   what is said of an object whose mask is known
metrics     J and F of a mask
"""

from __future__ import annotations

from masklet.evaluate.average_recall import RecallReport, evaluate_recall, mask_generator, recall_report
from masklet.evaluate.benchmark_predictions import benchmark_videos, predict, zip_predictions
from masklet.evaluate.benchmark_scoring import BenchmarkOptions, BenchmarkScore, score_predictions
from masklet.evaluate.davis_sequences import DavisSequence, find_davis_sequences
from masklet.evaluate.image_click_datasets import click_images
from masklet.evaluate.image_clicks import ClickResult, ClicksReport, click_report, evaluate_clicks
from masklet.evaluate.image_prompts import ImageMetrics, ImageReport, evaluate_images, find_image_samples, image_report
from masklet.evaluate.metrics import ObjectScore, Statistics, boundary_f_score, davis_statistics, region_similarity
from masklet.evaluate.parallel import predict_parallel
from masklet.evaluate.scribble_report import ScribblesReport, scribbles_report
from masklet.evaluate.semi_supervised_vos import (
    ObjectResult,
    PresenceAccuracy,
    SequenceResult,
    VOSMetrics,
    VOSReport,
    evaluate_sequence,
    evaluate_video,
    vos_report,
)
from masklet.evaluate.validate import validate
from masklet.evaluate.validation_result import SampleCounts, TrackingMetrics, TrackingReport, ValidationResult
from masklet.evaluate.video_clicks import (
    InteractiveOptions,
    InteractiveReport,
    InteractiveResult,
    evaluate_interactive,
    interactive_report,
)
from masklet.evaluate.video_scribbles import ScribbleOptions, ScribbleResult, evaluate_scribbles, scribble_samples

__all__ = [
    "BenchmarkOptions",
    "BenchmarkScore",
    "ClickResult",
    "ClicksReport",
    "DavisSequence",
    "ImageMetrics",
    "ImageReport",
    "InteractiveOptions",
    "InteractiveReport",
    "InteractiveResult",
    "ObjectResult",
    "ObjectScore",
    "PresenceAccuracy",
    "RecallReport",
    "SampleCounts",
    "ScribbleOptions",
    "ScribbleResult",
    "ScribblesReport",
    "SequenceResult",
    "Statistics",
    "TrackingMetrics",
    "TrackingReport",
    "VOSMetrics",
    "VOSReport",
    "ValidationResult",
    "benchmark_videos",
    "boundary_f_score",
    "click_images",
    "click_report",
    "davis_statistics",
    "evaluate_clicks",
    "evaluate_images",
    "evaluate_interactive",
    "evaluate_recall",
    "evaluate_scribbles",
    "evaluate_sequence",
    "evaluate_video",
    "find_davis_sequences",
    "find_image_samples",
    "image_report",
    "interactive_report",
    "mask_generator",
    "predict",
    "predict_parallel",
    "recall_report",
    "region_similarity",
    "score_predictions",
    "scribble_samples",
    "scribbles_report",
    "validate",
    "vos_report",
    "zip_predictions",
]
