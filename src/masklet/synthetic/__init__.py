"""Clips that are made: scenes of moving things with exact masks, without any video.

clip           frames with the truth
material       where photographs and things come from: data sets, or
drawn          what is drawn, without any file (textures, shapes)
synthesizer    clips to train on: a photograph's own objects, and cut-outs that cross it
difficulties   scenes that are hard in one way each: occlusion, twins, re-entry and others
bodies         rigid bodies that fall and roll, rendered by PyBullet (extra 'bodies')
tree           clips on disk, in the layout of DAVIS 2017
"""

from __future__ import annotations

from masklet.synthetic.compositing import Clip
from masklet.synthetic.cutout_clips import CutoutClipGenerator
from masklet.synthetic.cutouts import Cutout
from masklet.synthetic.export import ExportOptions, write_clips
from masklet.synthetic.procedural_source import ProceduralSource
from masklet.synthetic.scenarios import SCENARIOS, Scenario
from masklet.synthetic.sources import AssetSource, DatasetSource, SourceImage

__all__ = [
    "SCENARIOS",
    "AssetSource",
    "Clip",
    "Cutout",
    "CutoutClipGenerator",
    "DatasetSource",
    "ExportOptions",
    "ProceduralSource",
    "Scenario",
    "SourceImage",
    "write_clips",
]
