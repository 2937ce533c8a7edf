"""Pictures and films with masks, in the layouts people have, through one interface.

base      what an entry, a frame and a data set are
opening   a path becomes a data set: `open_dataset`, and the table `KINDS`
mixture   several of them with weights: `open_mixture`
checking  what is broken, and what there is: `check`, `take_census`
sheet     what it looks like: `contact_sheet`
stills, davis, coco, yolo, png, sa1b, sav, voc, labelme, cvat   the layouts, a file each
"""

from __future__ import annotations

from masklet.datasets.check import Census, check, examine, take_census
from masklet.datasets.contact_sheet import contact_sheet
from masklet.datasets.dataset import Annotated, DataError, Dataset, Entry, Finding, Mask, Tag
from masklet.datasets.mixture import DataPaths, Mixture, open_mixture
from masklet.datasets.open_dataset import KINDS, open_dataset

__all__ = [
    "KINDS",
    "Annotated",
    "Census",
    "DataError",
    "DataPaths",
    "Dataset",
    "Entry",
    "Finding",
    "Mask",
    "Mixture",
    "Tag",
    "check",
    "contact_sheet",
    "examine",
    "open_dataset",
    "open_mixture",
    "take_census",
]
