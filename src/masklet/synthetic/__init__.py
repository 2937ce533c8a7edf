"""Clips that are made: scenes of moving things with exact masks, without any film.

clip           frames with the truth
material       where photographs and things come from: data sets, or
drawn          what is drawn, without any file (textures, shapes)
synthesiser    clips to train on: a photograph's own objects, and cut-outs that cross it
difficulties   scenes that are hard in one way each: occlusion, twins, re-entry and others
bodies         rigid bodies that fall and roll, rendered by PyBullet (extra 'bodies')
tree           clips on disk, in the layout of DAVIS 2017
"""

from __future__ import annotations

from masklet.synthetic.compositing import Clip
from masklet.synthetic.cutout_clips import Synthesiser
from masklet.synthetic.cutouts import Piece
from masklet.synthetic.export import Plan, write_clips
from masklet.synthetic.procedural_source import Drawn
from masklet.synthetic.scenarios import DIFFICULTIES, Difficulty
from masklet.synthetic.sources import Collected, Material, Photograph

__all__ = [
    "DIFFICULTIES",
    "Clip",
    "Collected",
    "Difficulty",
    "Drawn",
    "Material",
    "Photograph",
    "Piece",
    "Plan",
    "Synthesiser",
    "write_clips",
]
