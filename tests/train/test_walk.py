"""docs/internals/walk_train.md names the files of a training step, in the order of their first call."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

import masklet
from helpers.train_data import QUICK, tiny
from masklet.train.data import make_loader, open_train_data
from masklet.train.distributed import DistributedContext
from masklet.train.loop import RuntimeConfig, build_context, stage_encoder, train_step

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "walk_train.md"
PACKAGE = Path(masklet.__file__).parent
READERS = ("damaged_files.py", "datasets/", "masks/", "media/")
GUARD = "runtime.py"
"""Shields the step from PyTorch's process-wide defaults; it does nothing for the step itself."""
NETWORK = ("models/", "nn/")


def files_of_a_step(data: Path, out: Path) -> list[str]:
    """Return the files of the package that a step calls, without data readers and the inside of the network."""
    config = tiny(prompts=replace(QUICK, mask_prob=0.0, correction_frame_prob=1.0))
    context = build_context(config, out, RuntimeConfig("cpu", workers=0), DistributedContext(0, 1, 0))
    encode = stage_encoder(context, config.stages[0], out)
    clips = open_train_data(data, config).clip_dataset(config, config.stages[0], 0, 0, 1)
    files: dict[str, None] = {}

    def record(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.setdefault(path.relative_to(PACKAGE).as_posix())

    batches = make_loader(clips, workers=0)
    before = sys.getprofile()
    sys.setprofile(record)
    try:
        train_step(context, encode, batches)
    finally:
        sys.setprofile(before)
    borders = ("models/sam2/model.py", "models/types.py")
    return [file for file in files if file in borders or not file.startswith((*READERS, *NETWORK, GUARD))]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_network")
def test_the_page_names_the_files_of_a_step_in_order(squares: Path, tmp_path: Path) -> None:
    named = re.findall(r"^\d+\. `([\w/.]+)`: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == files_of_a_step(squares, tmp_path)
    assert len(named) <= 14


@pytest.mark.usefixtures("tiny_network")
def test_a_step_on_images_skips_tracking(stills: Path, tmp_path: Path) -> None:
    named = re.findall(r"^\d+\. `([\w/.]+)`: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    skipped = set(named) - set(files_of_a_step(stills, tmp_path))
    assert skipped == {"train/video_rollout.py", "video/memory_bank.py", "video/memory_selection.py"}
