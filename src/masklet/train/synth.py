"""The name and the arguments that clips from stills had here; they live in `masklet.synth`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.masks import rle
from masklet.synth.clip import Clip
from masklet.synth.colour import jitter_colour
from masklet.synth.cutouts import Piece, cut_out, is_whole
from masklet.synth.material import Photograph
from masklet.synth.synthesiser import Synthesiser as Maker

__all__ = ["Clip", "Synthesiser"]

Random = np.random.Generator


class _Codes(Mapping[int, npt.NDArray[np.bool_]]):
    def __init__(self, codes: list[Any]) -> None:
        self.codes = codes

    def __getitem__(self, number: int) -> npt.NDArray[np.bool_]:
        return rle.decode(self.codes[number - 1])

    def __iter__(self) -> Any:
        return iter(range(1, len(self.codes) + 1))

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class _Stored:
    stills: Any
    cutouts: Any

    def photograph(self, random: Random) -> Photograph:
        return self._drawn(random, self.stills)

    def piece(self, random: Random) -> Piece:
        while True:
            still = self._drawn(random, self.cutouts)
            numbers = random.permutation(len(still.masks))[:4]
            for mask in sorted((still.masks[int(i) + 1] for i in numbers), key=lambda m: -int(m.sum())):
                if is_whole(mask):
                    return cut_out(jitter_colour(random, still.rgb), mask)

    def _drawn(self, random: Random, sources: Any) -> Photograph:
        from masklet.train import data

        still: Any = data.draw_still(random, sources)  # type: ignore[attr-defined,unused-ignore]
        return Photograph(still.rgb, _Codes(still.codes))


def Synthesiser(stills: Any, cutouts: Any, *, size: int, frames: int, objects: int) -> Maker:  # noqa: N802
    """A maker of clips from the sources of `masklet.train.data`, as it was before there were data sets."""
    return Maker(_Stored(stills, cutouts), size=size, frames=frames, objects=objects)
