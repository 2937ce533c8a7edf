"""How good a model is, by protocols that are written down.

stills    pictures, asked by box and by clicks
davis     folders in the layout of DAVIS
films     their sequences, followed from the first mask
metrics   J and F of a mask
"""

from __future__ import annotations

from masklet.evaluate.davis import DavisSequence, davis_under
from masklet.evaluate.films import FilmFigures, FilmRow, FilmsReport, evaluate_film, films_report
from masklet.evaluate.metrics import boundary_f, region_j
from masklet.evaluate.stills import Figures, StillsReport, evaluate_stills, report, stills_under

__all__ = [
    "DavisSequence",
    "Figures",
    "FilmFigures",
    "FilmRow",
    "FilmsReport",
    "StillsReport",
    "boundary_f",
    "davis_under",
    "evaluate_film",
    "evaluate_stills",
    "films_report",
    "region_j",
    "report",
    "stills_under",
]
