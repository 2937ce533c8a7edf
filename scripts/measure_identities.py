"""Measure on synthetic clips what exclusion, recognition of lost objects and scene cuts are worth, with and without.

    python scripts/measure_identities.py exclusion --scenario twins
    python scripts/measure_identities.py returns --scenario reentry --scenario occlusion
    python scripts/measure_identities.py cuts

`exclusion` tracks all objects of the benchmark's clips from their true masks on the first frame: J, and the frames on
which the mask of an object fits another one better.

`returns` tracks clips without prompts; the true masks are the detector, so that only identities can be wrong. It counts
the ids of each object and the frames on which it has its first one. `cuts` shows one clip, ten frames of another one,
and the rest of the first: J is measured after the second cut. Both use the built-in model, and clips that no training
has seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from masklet import SAM
from masklet.evaluate.metrics import region_similarity
from masklet.evaluate.synthetic import FRAME_SIZE, NUM_FRAMES, SEED, SyntheticClip, benchmark_clips
from masklet.synthetic import SCENARIOS, Clip, ProceduralSource
from masklet.video import Detection, FrameDetector

MIN_IOU = 0.5
"""IoU from which a track shows an object."""
MIN_PIXELS = 50
"""Objects with fewer visible pixels are not counted on a frame."""
SHOT = 10
"""Frames before the first cut, and between the two."""
CUT_PAIRS = (
    ("occlusion-1", "small-0"),
    ("fast-0", "twins-1"),
    ("transparency-0", "fast-1"),
    ("twins-1", "thin-0"),
    ("small-0", "occlusion-0"),
    ("thin-0", "reentry-0"),
)


def oracle(clip: Clip) -> FrameDetector:
    """Return a detector that knows the true masks."""
    index = {frame.tobytes(): t for t, frame in enumerate(clip.frames_THW3)}

    def detect(rgb: npt.NDArray[np.uint8]) -> Iterable[Detection]:
        masks = clip.masks_TNHW[index[rgb.tobytes()]]
        return [Detection(0.9 - 0.01 * n, mask=mask) for n, mask in enumerate(masks) if mask.any()]

    return detect


def measure_returns(model: SAM, clip: Clip, reidentify: bool) -> tuple[int, int, int, int]:
    """Return objects, ids, frames of visible objects, and those on which they have their first id."""
    shown: list[list[int | None]] = [[] for _ in range(clip.masks_TNHW.shape[1])]
    options = {"detect_every": 3, "max_missing_frames": 4, "reidentify": reidentify}
    for results in model.track(clip.frames_THW3, detector=oracle(clip), **options):  # type: ignore[call-overload]
        for seen, true in zip(shown, clip.masks_TNHW[results.frame_idx], strict=True):
            if true.sum() < MIN_PIXELS:
                continue
            pairs = [] if results.masks is None else zip(results.ids.tolist(), results.masks.data, strict=True)
            ious = {number: region_similarity(mask, true) for number, mask in pairs}
            best = max(ious, key=ious.__getitem__, default=None)
            seen.append(best if best is not None and ious[best] >= MIN_IOU else None)
    first = [next((number for number in seen if number is not None), None) for seen in shown]
    kept = sum(sum(n is not None and n == own for n in seen) for seen, own in zip(shown, first, strict=True))
    ids = sum(len({number for number in seen if number is not None}) for seen in shown)
    return len(shown), ids, sum(map(len, shown)), kept


def measure_cut(model: SAM, first: Clip, second: Clip, scene_cuts: bool) -> tuple[float, float, int]:
    """Return J after the second cut, the fraction of false masks between the cuts, and the number of cuts noticed."""
    frames = np.concatenate([first.frames_THW3[:SHOT], second.frames_THW3[:SHOT], first.frames_THW3[SHOT:]])
    absent = np.zeros((SHOT, *first.masks_TNHW.shape[1:]), bool)
    truth = np.concatenate([first.masks_TNHW[:SHOT], absent, first.masks_TNHW[SHOT:]])
    similarities, false = [], []
    with model.session(frames, scene_cuts=scene_cuts) as session:
        for number, mask in enumerate(truth[0]):
            session.add_prompt(number, 0, mask=mask)
        for results in session.propagate():
            assert results.masks is not None
            if results.frame_idx >= 2 * SHOT:
                pairs = zip(results.masks.data, truth[results.frame_idx], strict=True)
                similarities += [region_similarity(*pair) for pair in pairs]
            elif results.frame_idx >= SHOT:
                false += results.masks.data.any(axis=(1, 2)).tolist()
        return float(np.mean(similarities)), float(np.mean(false)), len(session.tracker.cuts.frames)


def measure_exclusion(model: SAM, clip: Clip, non_overlapping: bool | None) -> tuple[float, int, int]:
    """Return the sum of J, the frames of visible objects, and those on which another object fits the mask better."""
    similarity, visible, confused = 0.0, 0, 0
    with model.session(clip.frames_THW3, non_overlapping=non_overlapping) as session:
        for number, mask in enumerate(clip.masks_TNHW[0]):
            if mask.any():
                session.add_prompt(number, 0, mask=mask)
        for results in session.propagate(1):
            assert results.masks is not None
            truth = clip.masks_TNHW[results.frame_idx]
            for number, mask in zip(results.ids, results.masks.data, strict=True):
                if truth[number].sum() < MIN_PIXELS:
                    continue
                fits = [region_similarity(mask, true) for true in truth]
                similarity, visible = similarity + fits[number], visible + 1
                confused += max(fits) > fits[number] and mask.any()
    return similarity, visible, confused


def print_exclusion(model: SAM, scenarios: Iterable[str]) -> None:
    """Print a line for each scenario, where objects overlap and where they exclude each other."""
    print(f"{'scenario':<14}{'exclusive':>12}{'frames':>9}{'J':>8}{'on another':>12}")
    for scenario in scenarios:
        made = [each.render() for each in benchmark_clips([scenario])]
        for non_overlapping in (False, None):
            rows = [measure_exclusion(model, clip, non_overlapping) for clip in made]
            similarity, visible, confused = np.sum(rows, axis=0)
            name = str(non_overlapping is None)
            print(f"{scenario:<14}{name:>12}{visible:>9.0f}{similarity / visible:>8.3f}{confused:>12.0f}", flush=True)


def print_returns(model: SAM, scenarios: Iterable[str], clips: int) -> None:
    """Print a line for each scenario, with and without recognition."""
    print(f"{'scenario':<14}{'recognized':>12}{'objects':>9}{'ids':>6}{'kept':>8}")
    for scenario in scenarios:
        made = [SCENARIOS[scenario](SEED, n, FRAME_SIZE, NUM_FRAMES, ProceduralSource()) for n in range(clips)]
        for reidentify in (False, True):
            objects, ids, visible, kept = np.sum([measure_returns(model, clip, reidentify) for clip in made], axis=0)
            print(f"{scenario:<14}{reidentify!s:>12}{objects:>9}{ids:>6}{kept / visible:>8.3f}", flush=True)


def print_cuts(model: SAM) -> None:
    """Print a line for each pair of clips, and the means."""
    print(f"{'clips':<30}{'J off':>8}{'J on':>8}{'false off':>11}{'false on':>10}{'cuts':>6}")
    rows = []
    for pair in CUT_PAIRS:
        first, second = (SyntheticClip(name[:-2], int(name[-1])).render() for name in pair)
        without, with_cuts = (measure_cut(model, first, second, option) for option in (False, True))
        rows.append((without[0], with_cuts[0], without[1], with_cuts[1], with_cuts[2]))
        print_row(" and ".join(pair), rows[-1])
    print_row("mean", np.mean(rows, axis=0).tolist())


def print_row(name: str, figures: Sequence[float]) -> None:
    """Print J without and with cuts, false masks without and with them, and the number of cuts."""
    j_off, j_on, false_off, false_on, cuts = figures
    print(f"{name:<30}{j_off:>8.3f}{j_on:>8.3f}{false_off:>11.2f}{false_on:>10.2f}{cuts:>6.1f}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["exclusion", "returns", "cuts"])
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="not of cuts; repeatable")
    parser.add_argument("--clips", type=int, default=4, help="of each scenario, of returns")
    words = parser.parse_args()
    scenarios = words.scenario or ["reentry", "occlusion", "twins"]
    if words.what == "cuts":
        print_cuts(SAM())
    elif words.what == "exclusion":
        print_exclusion(SAM(), scenarios)
    else:
        print_returns(SAM(), scenarios, words.clips)


if __name__ == "__main__":
    main()
