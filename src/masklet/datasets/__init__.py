"""Images and videos with masks, in the formats people use, read and written through one interface.

dataset        samples, frames and datasets; the base of readers
open_dataset   `open_dataset` and `open_dataset_writer`, and the tables of formats
formats        one file for each format, with its reader and its writer
conversion     `convert`: from any format that is read to any that is written
writer         the base of writers; `labeled_image` has the types it takes, `write_log` resumes it
mixture        several datasets with weights: `open_mixture`
check          broken files and statistics: `check_dataset`, `compute_stats`
contact_sheet  a dataset at a glance: `save_contact_sheet`
"""

from __future__ import annotations

from masklet.datasets.check import DatasetStats, FrameReport, check_dataset, compute_stats, inspect_frames
from masklet.datasets.contact_sheet import save_contact_sheet
from masklet.datasets.conversion import ConversionItem, ConversionStep, class_names, convert, list_items
from masklet.datasets.dataset import (
    AnnotatedFrame,
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Sample,
)
from masklet.datasets.labeled_image import ConversionLoss, LabeledImage, LabeledObject, WriteOptions
from masklet.datasets.mixture import DataPaths, Mixture, open_mixture
from masklet.datasets.open_dataset import DATASET_READERS, DATASET_WRITERS, open_dataset, open_dataset_writer
from masklet.datasets.writer import DatasetWriter

__all__ = [
    "DATASET_READERS",
    "DATASET_WRITERS",
    "AnnotatedFrame",
    "ConversionItem",
    "ConversionLoss",
    "ConversionStep",
    "DataError",
    "DataIssue",
    "DataPaths",
    "Dataset",
    "DatasetReader",
    "DatasetStats",
    "DatasetWriter",
    "FrameReport",
    "LabeledImage",
    "LabeledObject",
    "Mask",
    "Mixture",
    "ObjectAttributes",
    "ReadOptions",
    "Sample",
    "WriteOptions",
    "check_dataset",
    "class_names",
    "compute_stats",
    "convert",
    "inspect_frames",
    "list_items",
    "open_dataset",
    "open_dataset_writer",
    "open_mixture",
    "save_contact_sheet",
]
