"""One face for every kind of film: what is stored goes in any order, what streams goes once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.media import open_video

SHADES = np.stack([np.full((4, 6, 3), 20 * value, np.uint8) for value in range(10)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, pixels in enumerate(SHADES):
        Image.fromarray(pixels).save(tmp_path / f"shot{value}.png")
    return tmp_path


def test_a_folder_forwards_backwards_and_anywhere(folder: Path) -> None:
    with open_video(folder) as video:
        assert (video.count, video.size, video.fps, video.live, video.seekable) == (10, (4, 6), None, False, True)
        frames = list(video)
        assert [frame.index for frame in frames] == list(range(10))
        assert [Path(frame.path).name for frame in frames[:2]] == ["shot0.png", "shot1.png"]
        assert np.array_equal([frame.rgb for frame in frames], SHADES)
        assert [frame.index for frame in video.frames(7, 3, reverse=True)] == [7, 6, 5, 4]
        assert video[-1].index == 9
