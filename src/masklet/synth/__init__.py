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

from masklet.synth.clip import Clip
from masklet.synth.cutouts import Piece
from masklet.synth.difficulties import DIFFICULTIES, Difficulty
from masklet.synth.drawn import Drawn
from masklet.synth.material import Collected, Material, Photograph
from masklet.synth.synthesiser import Synthesiser
from masklet.synth.tree import Plan, write_clips

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
