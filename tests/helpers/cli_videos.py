"""Small videos, and what a run of `masklet track` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from masklet.written_files import RECORD_FILE

Tracked = dict[str, Any]
PROMPTS = ["--point", "20,25", "--object", "2", "--frame", "3", "--box", "30,10,70,50"]
FRAMES = 10


def write_video(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def played(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def written(out: Path) -> Tracked:
    """All files of a run, as what they hold; no other file may be there, but the record of what masklet wrote."""
    found: Tracked = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if name == RECORD_FILE:
            continue
        if path.suffix == ".png":
            found[name] = np.array(Image.open(path)).tobytes()
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays}
        elif path.suffix == ".mp4":
            found[name] = played(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
