"""A data engine: a model labels videos, people verify what is doubtful, the model learns from it, round after round.

run_loop             the rounds, step by step, in one folder
loop_state           what the folder remembers between the steps
import_batch         masks of `masklet batch`, into a project
label_videos         everything mode finds objects, tracking carries them, into a project
review_queue         what people look at first
train_round          the trainer learns from what is verified, the evaluator compares
masklet_files        masklets with their provenance in the format of SA-V
simulated_reviewer   a person that knows the truth, for experiments
"""

from __future__ import annotations

from masklet.data_engine.loop_state import LoopOptions, LoopRound, LoopState
from masklet.data_engine.run_loop import LoopEvent, open_loop, run_loop

__all__ = ["LoopEvent", "LoopOptions", "LoopRound", "LoopState", "open_loop", "run_loop"]
