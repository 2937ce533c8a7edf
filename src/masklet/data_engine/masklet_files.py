"""Write masklets with their provenance, in the format of SA-V's training data.

    OUT/NAME.mp4            a link to the video; SA-V's are MP4 files, and a reader may open no others
    OUT/NAME_manual.json    masklets of which a person verified or drew a frame
    OUT/NAME_auto.json      the others

As in SA-V, every fourth frame has the masks of all masklets. `masklet_provenance` is ours, and has for each masklet the
models that made its masks, who set prompts, and who verified or drew which frames.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import numpy as np

from masklet.atomic_files import write_text
from masklet.datasets.formats.sav import ANNOTATION_STRIDE
from masklet.errors import SourceError
from masklet.masks.rle import Rle, encode
from masklet.projects import Project, ProjectMask, ProjectObject, ProjectSource

__all__ = ["MaskletProvenance", "VerifiedFrame", "write_masklets"]


class VerifiedFrame(TypedDict):
    """A frame of a masklet that a person drew or verified; `at` is in seconds since 1970, UTC."""

    frame: int
    person: str
    at: float


class MaskletProvenance(TypedDict):
    """Where a masklet comes from."""

    object: str
    models: list[str]
    prompts: list[dict[str, int | str]]
    """Frame, kind (points, box or mask) and person of each."""
    drawn: list[VerifiedFrame]
    verified: list[VerifiedFrame]


def write_masklets(
    project: Project, out: str | os.PathLike[str], sources: Sequence[ProjectSource] | None = None
) -> list[Path]:
    """Write the masklets of the videos of a project, and return the JSON files.

    Raises:
        OutputError: if a file cannot be written.
    """
    folder, written = Path(out), list[Path]()
    for source in project.sources if sources is None else sources:
        masks: dict[int, dict[int, ProjectMask]] = {}
        for one in project.masks(source):
            masks.setdefault(one.object_id, {})[one.frame] = one
        objects = [one for one in project.objects(source) if one.id in masks]
        provenance = {one.id: _provenance(project, source, one, masks[one.id]) for one in objects}
        manual = [one for one in objects if provenance[one.id]["verified"] or provenance[one.id]["drawn"]]
        automatic = [one for one in objects if one not in manual]
        for kind, chosen in (("manual", manual), ("auto", automatic)):
            file = folder / f"{source.name}_{kind}.json"
            if not chosen:
                file.unlink(missing_ok=True)
                continue
            document = _document(source, kind, chosen, masks, provenance)
            written.append(write_text(file, json.dumps(document, separators=(",", ":")) + "\n"))
        if objects:
            with suppress(SourceError):  # a file that is missing now
                path = project.source_path(source)
                link = folder / f"{source.name}{path.suffix.lower()}"
                if path.is_file() and not link.exists():
                    link.unlink(missing_ok=True)
                    link.symlink_to(path)
    return written


def _document(
    source: ProjectSource,
    kind: str,
    objects: Sequence[ProjectObject],
    masks: dict[int, dict[int, ProjectMask]],
    provenance: dict[int, MaskletProvenance],
) -> dict[str, object]:
    height, width = source.size
    last = max(frame for one in objects for frame in masks[one.id])
    frames = range(0, (source.num_frames or last + 1), ANNOTATION_STRIDE)
    absent = encode(np.zeros((height, width), bool))
    rows: list[list[Rle]] = [[_rle_of(masks[one.id].get(frame), absent) for one in objects] for frame in frames]
    edited = [len(provenance[one.id]["drawn"]) for one in objects]
    return {
        "video_id": source.name,
        "video_frame_count": source.num_frames,
        "video_height": height,
        "video_width": width,
        "masklet": rows,
        "masklet_id": [one.number for one in objects],
        "masklet_type": [kind] * len(objects),
        "masklet_num": len(objects),
        "masklet_edited_frame_count": edited,
        "masklet_provenance": [provenance[one.id] for one in objects],
        "masklet_frame_count": [len(frames)] * len(objects),
    }


def _rle_of(mask: ProjectMask | None, absent: Rle) -> Rle:
    return absent if mask is None or mask.rle is None else mask.rle


def _provenance(
    project: Project, source: ProjectSource, obj: ProjectObject, masks: dict[int, ProjectMask]
) -> MaskletProvenance:
    by_models = (one.author for one in masks.values() if one.origin in ("click", "track"))
    drawn = [one for one in masks.values() if one.origin in ("edit", "import")]
    verified = {frame: stamp for (id, frame), stamp in project.verified(source).items() if id == obj.id}
    return {
        "object": obj.name,
        "models": sorted(set(by_models)),
        "prompts": [
            {"frame": one.frame, "kind": "points" if one.points else "box" if one.box else "mask", "person": one.author}
            for one in project.prompts(source)
            if one.object_id == obj.id
        ],
        "drawn": [{"frame": one.frame, "person": one.author, "at": one.at} for one in drawn],
        "verified": [{"frame": frame, "person": by, "at": at} for frame, (by, at) in sorted(verified.items())],
    }
