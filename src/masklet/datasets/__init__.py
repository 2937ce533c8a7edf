"""Images and videos with masks, in the layouts people have, through one interface.

base      what an entry, a frame and a data set are
opening   a path becomes a data set: `open_dataset`, and the table `KINDS`
mixture   several of them with weights: `open_mixture`
checking  what is broken, and what there is: `check`, `take_census`
sheet     what it looks like: `contact_sheet`
stills, davis, coco, yolo, png, sa1b, sav, voc, labelme, cvat   the layouts, a file each
"""

from __future__ import annotations

from masklet.datasets.check import DatasetStats, check_dataset, compute_stats, inspect_frames
from masklet.datasets.contact_sheet import save_contact_sheet
from masklet.datasets.dataset import AnnotatedFrame, DataError, DataIssue, Dataset, Mask, ObjectAttributes, Sample
from masklet.datasets.mixture import DataPaths, Mixture, open_mixture
from masklet.datasets.open_dataset import DATA_FORMATS, open_dataset

__all__ = [
    "DATA_FORMATS",
    "AnnotatedFrame",
    "DataError",
    "DataIssue",
    "DataPaths",
    "Dataset",
    "DatasetStats",
    "Mask",
    "Mixture",
    "ObjectAttributes",
    "Sample",
    "check_dataset",
    "compute_stats",
    "inspect_frames",
    "open_dataset",
    "open_mixture",
    "save_contact_sheet",
]
