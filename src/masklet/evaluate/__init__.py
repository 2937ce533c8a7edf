"""Evaluate models by published protocols.

A protocol is a function `evaluate_x(model, unit, ...)`, which measures one image, video or sequence, and a function
`x_report(results)`, which averages the results.

your own data       validate, validation_result
images              image_prompts (box and clicks), image_clicks (NoC), average_recall (automatic mask generation)
videos              semi_supervised_vos (DAVIS and any data set), synthetic (no download)
interactive videos  video_clicks (offline and online), video_scribbles (DAVIS interactive) with scribble_report,
                    doubt_corrections (frames that a session doubts, no download)
benchmarks          benchmark_predictions, benchmark_scoring with metrics and benchmark_lists, benchmark_datasets
reports             report (a score as HTML and Markdown; import `write_report` from there)
running             parallel (several processes), results_file (resuming)
shared              prompts_from_masks, tracking, davis_sequences, image_click_datasets, scribble_robot, skeletonize
"""

from __future__ import annotations

from masklet.evaluate.average_recall import RecallReport, evaluate_recall, recall_report
from masklet.evaluate.benchmark_predictions import benchmark_videos, predict, zip_predictions
from masklet.evaluate.benchmark_scoring import BenchmarkOptions, BenchmarkScore, score_predictions
from masklet.evaluate.davis_sequences import DavisSequence, find_davis_sequences
from masklet.evaluate.doubt_corrections import DoubtOptions, DoubtReport, DoubtResult, doubts_report, evaluate_doubts
from masklet.evaluate.image_click_datasets import click_images
from masklet.evaluate.image_clicks import ClickResult, ClicksReport, click_report, evaluate_clicks
from masklet.evaluate.image_prompts import (
    ImageMetrics,
    ImageReport,
    ImageResult,
    evaluate_image,
    find_image_samples,
    image_report,
)
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
    "DoubtOptions",
    "DoubtReport",
    "DoubtResult",
    "ImageMetrics",
    "ImageReport",
    "ImageResult",
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
    "doubts_report",
    "evaluate_clicks",
    "evaluate_doubts",
    "evaluate_image",
    "evaluate_interactive",
    "evaluate_recall",
    "evaluate_scribbles",
    "evaluate_sequence",
    "evaluate_video",
    "find_davis_sequences",
    "find_image_samples",
    "image_report",
    "interactive_report",
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
