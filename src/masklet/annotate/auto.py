"""`auto_annotate`: the function people know."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from masklet.annotate.engine import Progress, annotate
from masklet.annotate.listing import Data
from masklet.annotate.options import AnnotateOptions, DetectorLike
from masklet.annotate.summary import Summary
from masklet.detect.base import DetectOptions
from masklet.layouts import LayoutOptions

__all__ = ["auto_annotate"]


def auto_annotate(
    data: Data,
    det_model: DetectorLike = "yolov8x.pt",
    sam_model: str | os.PathLike[str] | None = "",
    device: str = "",
    conf: float = 0.25,
    iou: float = 0.45,
    imgsz: int = 640,
    max_det: int = 300,
    classes: Sequence[int | str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    text: str | None = None,
    formats: Sequence[str] = (),
    split: float | None = None,
    pictures: str = "link",
    segmentation: str = "rle",
    min_iou: float = 0.98,
    detector_masks: bool = False,
    precision: str = "fp32",
    batch: int = 0,
    workers: int = 1,
    review: float = 0.02,
    every: int = 10,
    everything: str = "default",
    resume: bool = True,
    report: Callable[[Progress], None] | None = None,
) -> Summary:
    """Label a folder of pictures and films: a detector finds objects, a segmenting model draws them.

    `data` is a folder (with all below it), a glob, a file, or a list of these. `det_model` is the name or file of a
    detector, "everything" (what is there, without classes; needs no download), any function from a picture to (boxes,
    scores, classes), or a `masklet.detect.Detector`; detectors that take words are asked for `text`. `sam_model` is
    what `SAM` takes: None is the model in the package, and "" sam2_b.pt, or with "everything" that in the package.
    Detections have a score of `conf` or more, overlap by less than `iou`, are sought in pictures of `imgsz` pixels, are
    at most `max_det`, and only of `classes` (numbers or names).

    Labels go to `output_dir`, by default a folder beside the data (photos_auto_annotate_labels): a YOLO-seg text for
    each picture, below the same folders. `formats`, of "yolo", "coco", "labelme", "davis", "voc", "cvat", go to
    output_dir/FORMAT each instead; `split=0.8` puts so many pictures into train and the rest into val, always the
    same; `pictures` is "link", "copy", or "none" to leave them where they are; `segmentation` is "rle", "polygon"
    (which keeps `min_iou` of each mask) or "both", where a format has the choice. `detector_masks` takes the masks of
    a detector that draws its own. `everything` is how densely that one asks: "fast", "default" or "fine". `review` is
    the share of pictures on the review sheet. Of a film every frame is labelled: the detector looks at each `every`-th,
    what it finds is followed in between and keeps its number.

    A picture that cannot be read is listed in the summary and skipped. Stopped at any moment, a call with the same
    arguments goes on (`resume=False` begins anew). `workers` processes need a script with
    `if __name__ == "__main__":`. `report` is called with each `Progress`.

    Example:
        >>> from masklet import auto_annotate
        >>> summary = auto_annotate("photos", det_model="everything")
        >>> print(summary)
        50 picture(s), 412 object(s), 0 picture(s) without any
        ...

    Raises:
        SourceError: nothing to annotate.
        InputError: arguments that cannot be meant, classes the detector does not have, or an output folder in which a
            run with other arguments was begun.
        OutputError: the folder cannot be written, is full, or another run writes it.
        ModelError: a model that cannot be had.
        MissingExtraError: a detector that needs the extra `transformers`.
    """
    wanted = None if classes is None else (classes,) if isinstance(classes, (int, str)) else tuple(classes)
    options = AnnotateOptions(
        det_model=det_model,
        sam_model=sam_model,
        device=device,
        precision=precision,
        detect=DetectOptions(conf, iou, imgsz, max_det, wanted, text),
        detector_masks=detector_masks,
        formats=(formats,) if isinstance(formats, str) else tuple(formats),
        layout=LayoutOptions(segmentation=segmentation, min_iou=min_iou, pictures=pictures),
        split=split,
        batch=batch,
        workers=workers,
        review=review,
        every=every,
        everything=everything,
    )
    summary: Summary | None = None
    for progress in annotate(data, options, output_dir, resume=resume):
        summary = progress.summary
        if report is not None and summary is None:
            report(progress)
    assert summary is not None
    return summary
