"""Run a data engine on made videos with a simulated person: J&F of the model and clicks spent, round after round.

    python benchmarks/data_engine.py --selection doubts
    python benchmarks/data_engine.py --selection random

Videos, true masks and decisions of the person follow from the seed. J&F is measured on clips that the loop never sees,
whose objects are prompted by one click. Prints a line of JSON for each round; round 0 is the model before the first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from masklet import SAM
from masklet.data_engine import LoopOptions, LoopState, open_loop, run_loop
from masklet.data_engine.simulated_reviewer import SimulatedReviewer
from masklet.projects import open_project
from masklet.synthetic import ExportOptions, write_clips
from masklet.synthetic.export import StoredClip


def make_clips(folder: Path, count: int, frames: int, seed: int) -> list[StoredClip]:
    """Make clips with exact masks in the format of DAVIS."""
    options = ExportOptions(seed=seed, size=(144, 256), frames=frames)
    return list(write_clips(folder, options, count, ["twins", "occlusion"]))


def true_masks(clip: StoredClip) -> np.ndarray:
    """Read the masks (T, N, H, W) of a clip."""
    maps = np.stack([np.array(Image.open(file)) for file in clip.masks])
    return np.stack([maps == number for number in range(1, maps.max() + 1)], axis=1)


def score(model: SAM, clips: Path) -> float:
    """Return J&F after one click on each object."""
    return round(model.val(str(clips), prompts=("click",)).videos["click"].total.jf, 4)


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selection", choices=("doubts", "random"), default="doubts")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--reviews", type=int, default=12)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="of the random selection")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips", arguments.videos, arguments.frames, seed=1)
        make_clips(folder / "held-out", arguments.videos, arguments.frames, seed=2)
        options = LoopOptions(
            reviews=arguments.reviews,
            selection=arguments.selection,
            val_fraction=0,
            train_steps=arguments.steps,
            image_size=arguments.image_size,
            max_objects=8,
            seed=arguments.seed,
        )
        (folder / "loop").mkdir()
        with open_project(folder / "loop" / "loop.masklet") as project:
            for clip in clips:
                project.add_source(clip.frames[0].parent)
        state = open_loop(folder / "loop", options=options)
        reviewer = SimulatedReviewer(SAM(), {clip.name: true_masks(clip) for clip in clips})
        jf = score(SAM(), folder / "held-out")
        print(json.dumps({"selection": arguments.selection, "round": 0, "clicks": 0, "jf": jf}), flush=True)
        for number in range(1, arguments.rounds + 1):
            list(run_loop(state))
            state = read_state(state)
            with open_project(state.project_folder) as project:
                reviewer.review(project, state.current.queue)
            list(run_loop(state))
            state = read_state(state)
            jf = score(SAM(state.current.model), folder / "held-out")
            line = {"selection": arguments.selection, "round": number, "clicks": reviewer.clicks, "jf": jf}
            print(json.dumps(line), flush=True)


def read_state(state: LoopState) -> LoopState:
    """Read the state that a loop has stored."""
    stored = LoopState.read(state.folder)
    assert stored is not None
    return stored


if __name__ == "__main__":
    main()
