"""Synthetic videos: moving scenes with exact masks, made without any video.

Scenes are composed of photographs and cutouts, of a dataset (`DatasetSource`) or procedural (`ProceduralSource`).
`CutoutClipGenerator` makes training clips, `CompositeGenerator` training images; each of `SCENARIOS` makes clips with
one difficulty, such as occlusion or look-alikes; `write_clips` writes them to disk in the format of DAVIS 2017.
"""

from __future__ import annotations

from masklet.synthetic.composites import CompositeGenerator
from masklet.synthetic.compositing import Clip
from masklet.synthetic.cutout_clips import CutoutClipGenerator
from masklet.synthetic.cutouts import Cutout
from masklet.synthetic.export import ExportOptions, write_clips
from masklet.synthetic.procedural_source import ProceduralSource
from masklet.synthetic.scenarios import SCENARIOS, Scenario
from masklet.synthetic.sources import AssetSource, DatasetSource, Photograph

__all__ = [
    "SCENARIOS",
    "AssetSource",
    "Clip",
    "CompositeGenerator",
    "Cutout",
    "CutoutClipGenerator",
    "DatasetSource",
    "ExportOptions",
    "Photograph",
    "ProceduralSource",
    "Scenario",
    "write_clips",
]
