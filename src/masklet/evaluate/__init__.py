"""How good a model is, by protocols that are written down.

validation  data of one's own, stills and films: `validate`
stills      pictures, asked by box and by clicks
clicks      clicks that an object needs: NoC, and the curve of IoU by clicks
click_data  pictures to be clicked on: GrabCut, Berkeley, DAVIS-345, SBD, and any data set
recall      what segment everything finds: average recall, as COCO has it
following   films of any data set, followed from where their objects appear
davis       folders in the layout of DAVIS
films       their sequences, followed from the first mask
interactive films that are corrected by clicks, offline and online
scribbles   films segmented by scribbles against the clock: DAVIS interactive
scribble_report  its curve and figures
scribble_robot   who draws where an answer is wrong
scribble_data    scribbles in the files of the challenge
skeleton    middle lines of regions
scoring     folders of predictions, by the rules of DAVIS, SA-V and YouTube-VOS
scored      objects that were scored, and the figures of all of them
listed      what the lists of a benchmark say: categories seen, films unseen, ranges of frames
predicting  predictions in the layouts of these
parallel    units of work in several processes: these, and what the commands measure
keeping     figures in a file that is gone on with
reporting   a score as a page, in HTML and Markdown, beside published figures (`write_report`, imported from there)
sets        the data sets of benchmarks, where to get them, and what a folder lacks of one
prompting   what is said of an object whose mask is known
metrics     J and F of a mask
"""

from __future__ import annotations

from masklet.evaluate.average_recall import RecallReport, evaluate_recall, everything_by, recall_report
from masklet.evaluate.benchmark_predictions import films_of, predict, zipped
from masklet.evaluate.benchmark_scoring import Score, ScoreOptions, score
from masklet.evaluate.davis_sequences import DavisSequence, davis_under
from masklet.evaluate.image_click_datasets import click_pictures
from masklet.evaluate.image_clicks import ClickedObject, ClicksReport, click_report, evaluate_clicks
from masklet.evaluate.image_prompts import Figures, StillsReport, evaluate_stills, report, stills_under
from masklet.evaluate.metrics import ScoredObject, Statistics, boundary_f, region_j, statistics
from masklet.evaluate.parallel import predict_apart
from masklet.evaluate.scribble_report import ScribblesReport, scribbles_report
from masklet.evaluate.semi_supervised_vos import (
    FilmFigures,
    FilmRow,
    FilmsReport,
    Presence,
    TrackedRow,
    evaluate_entry,
    evaluate_film,
    films_report,
)
from masklet.evaluate.validate import validate
from masklet.evaluate.validation_result import Counts, TrackedFigures, TrackedReport, Validation
from masklet.evaluate.video_clicks import (
    InteractiveOptions,
    InteractiveReport,
    InteractiveRow,
    evaluate_interactive,
    interactive_report,
)
from masklet.evaluate.video_scribbles import ScribbledRow, ScribbleOptions, evaluate_scribbles, samples_of

__all__ = [
    "ClickedObject",
    "ClicksReport",
    "Counts",
    "DavisSequence",
    "Figures",
    "FilmFigures",
    "FilmRow",
    "FilmsReport",
    "InteractiveOptions",
    "InteractiveReport",
    "InteractiveRow",
    "Presence",
    "RecallReport",
    "Score",
    "ScoreOptions",
    "ScoredObject",
    "ScribbleOptions",
    "ScribbledRow",
    "ScribblesReport",
    "Statistics",
    "StillsReport",
    "TrackedFigures",
    "TrackedReport",
    "TrackedRow",
    "Validation",
    "boundary_f",
    "click_pictures",
    "click_report",
    "davis_under",
    "evaluate_clicks",
    "evaluate_entry",
    "evaluate_film",
    "evaluate_interactive",
    "evaluate_recall",
    "evaluate_scribbles",
    "evaluate_stills",
    "everything_by",
    "films_of",
    "films_report",
    "interactive_report",
    "predict",
    "predict_apart",
    "recall_report",
    "region_j",
    "report",
    "samples_of",
    "score",
    "scribbles_report",
    "statistics",
    "stills_under",
    "validate",
    "zipped",
]
