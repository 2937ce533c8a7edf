"""Scribbles, frames and figures of DAVIS interactive beside those of its authors' own code, on the same answers.

Where MASKLET_AUTHORS names a folder with a checkout of davis-interactive (albertomontesg, 1.0.4), it is run there, in a
separate process, with the names put back that its libraries have given up since; else these tests are skipped. It
needs scikit-image, scikit-learn, networkx, pandas, absl-py and six. Its medial axis takes equally deep pixels in an
order drawn at random, so its strokes are compared with themselves too, from another seed.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from evaluate.test_authors import CLOSE, REAL, authors, printed_json
from helpers.predictions import FRAMES, store_davis, two, worse
from helpers.scribbles import Recorded, line, store_scribbles, ticking
from masklet.datasets.label_maps import read_label_map
from masklet.evaluate.davis_sequences import find_davis_sequences
from masklet.evaluate.scribble_report import scribbles_report
from masklet.evaluate.scribble_robot import ScribblesByFrame, draw_scribbles
from masklet.evaluate.video_scribbles import ScribbleOptions, ScribbleResult, evaluate_scribbles, scribble_samples

NEEDED = ("skimage", "sklearn", "networkx", "pandas", "absl", "six")
OLD_NAMES = """
import functools, json, sys
import networkx, numpy as np
np.int, np.float, np.trapz = int, float, getattr(np, "trapz", None) or np.trapezoid
networkx.from_scipy_sparse_matrix = networkx.from_scipy_sparse_array
sys.path.insert(0, sys.argv[1])
from davisinteractive.robot import interactive_robot
np.random.default_rng = np.random.RandomState
interactive_robot.medial_axis = functools.partial(interactive_robot.medial_axis, rng=int(sys.argv[3]))
"""
OF_PROTOCOL = (
    OLD_NAMES
    + """
from davisinteractive.dataset import Davis
from davisinteractive.evaluation import EvaluationService
made = np.load(sys.argv[2] + "/made.npz")
rows = json.loads(made["rows"].item())
names = sorted({row["sequence"] for row in rows})
count = {name: sum(row["sequence"] == name for row in rows) for name in names}
Davis.sets = {"val": names}
Davis.dataset = {
    name: {"num_scribbles": count[name], "num_frames": made[name].shape[0], "num_objects": int(made[name].max()),
           "image_size": list(made[name].shape[:0:-1])}
    for name in names
}
service = EvaluationService("val", davis_root=sys.argv[2] + "/DAVIS", max_t=240, max_i=8)
drawn = []
for row in rows:
    where = row["sequence"], row["scribble"]
    for n, seconds in enumerate(row["seconds"]):
        shown = made["%s_%d_%d" % (*where, n)]
        found = service.post_predicted_masks(*where, shown, seconds, n + 1, "me", "now")["scribbles"]
        frame = int(service.storage.annotated_frames["frame"].iloc[-1])
        drawn.append([frame, [[one["object_id"], one["path"]] for one in found[frame]]])
columns = ["sequence", "scribble_idx", "interaction", "object_id", "jaccard", "contour", "j_and_f", "timing"]
report = service.get_report(session_id="now")[columns].infer_objects()
figures = service.summarize_report(report)
each = report.groupby(columns[:4]).mean()[["jaccard", "contour"]].reset_index().values.tolist()
service.metric_to_optimize = "J"
print(json.dumps({"figures": figures, "of_j": service.summarize_report(report), "drawn": drawn, "each": each}))
"""
)
OF_ROBOT = (
    OLD_NAMES
    + """
from davisinteractive.evaluation.service import ROBOT_DEFAULT_PARAMETERS
robot = interactive_robot.InteractiveScribblesRobot(**ROBOT_DEFAULT_PARAMETERS)
made, found = np.load(sys.argv[2]), []
for shown, truth in zip(made["shown"], made["truth"]):
    [strokes] = robot.interact("x", shown[None], truth[None], int(truth.max()), frame=0)["scribbles"]
    found.append([[one["object_id"], one["path"]] for one in strokes])
print(json.dumps(found))
"""
)
Strokes = list[tuple[int, np.ndarray]]


def checkout() -> Path:
    place = authors("davis-interactive")
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        pytest.skip(f"the authors' code needs {', '.join(lacking)}")
    return place


class Apart(NamedTuple):
    """How far two drawings are from each other, pixels: mean over all points, and of 95 in a hundred at most."""

    mean: float
    most: float


def apart(first: list[Strokes], second: list[Strokes], size: tuple[int, int]) -> Apart:
    """Each point of either to the nearest of the other, on the same frame and object."""
    found: list[np.ndarray] = []
    for one, other in zip(first, second, strict=True):
        for id in {id for id, _ in one} & {id for id, _ in other}:
            a, b = (np.concatenate([path for n, path in of if n == id])[::5] * size[::-1] for of in (one, other))
            between = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
            found += [between.min(0), between.min(1)]
    every = np.concatenate(found)
    return Apart(float(every.mean()), float(np.quantile(every, 0.95)))


def as_strokes(raw: Any) -> Strokes:
    return [(id, np.array(path)) for id, path in raw]


class Kept(NamedTuple):
    """What masklet did: rows, by sample and interaction the strokes and the answers, and all frames drawn on."""

    rows: list[ScribbleResult]
    drawn: list[Strokes]
    frames: list[int]
    shown: dict[str, np.ndarray]


def by_masklet(root: Path, seconds: dict[str, tuple[float, ...]]) -> Kept:
    """Answers that get better from one interaction to the next; each sample by a separate clock."""
    kept = Kept([], [], [], {})
    for sample in scribble_samples(root, find_davis_sequences(root)):
        name, seed = sample.sequence.name, sample.scribble_number
        truth = two(("ant", "bee").index(name))
        answers = [worse(truth, "ragged") if n < 2 else np.roll(truth, seed + 6 - n, axis=1 + n % 2) for n in range(8)]
        turns: list[tuple[ScribblesByFrame, np.ndarray]] = []
        watch = lambda drawn, shown, turns=turns: turns.append((drawn, shown.copy()))  # noqa: E731
        clock = ticking(*seconds[sample.name])
        row = evaluate_scribbles(Recorded(answers), sample, ScribbleOptions(), None, clock, watch)
        kept.rows.append(row)
        for n, (drawn, shown) in enumerate(turns):
            kept.shown[f"{name}_{seed}_{n}"] = shown
            if n:  # drawn by the robot
                [(frame, strokes)] = drawn.items()
                kept.frames.append(frame)
                kept.drawn.append([(one.object_id, one.path) for one in strokes])
    return kept


def test_the_whole_protocol(tmp_path: Path) -> None:
    """J and F of every object and interaction, frames drawn on, curve, AUC and J&F@60s; one sample is out of time."""
    place, root = checkout(), tmp_path / "DAVIS"
    truth = store_davis(root)
    for name in truth:
        for number in (1, 2):
            store_scribbles(
                root, name, FRAMES, {number: [line(1, 0.2, 0.2, 0.3, 0.3), line(2, 0.7, 0.8, 0.8, 0.8)]}, number
            )
    seconds = {"ant/001": (3.5,), "ant/002": (170, 100, 60, 300), "bee/001": (20, 1), "bee/002": (9.25, 30)}
    ours = by_masklet(root, seconds)
    assert [row.timed_out for row in ours.rows] == [False, True, False, False]
    recorded = [{**sample_key(row), "seconds": [turn.seconds for turn in row.interactions]} for row in ours.rows]
    np.savez(tmp_path / "made.npz", rows=json.dumps(recorded), **truth, **ours.shown)
    theirs = printed_json(OF_PROTOCOL, place, tmp_path, "0")
    each = {tuple(row[:4]): row[4:] for row in theirs["each"]}
    for row in ours.rows:
        for n, turn in enumerate(row.interactions):
            for id in (1, 2):
                assert (turn.j[id - 1], turn.f[id - 1]) == pytest.approx(
                    each[row.sequence, row.scribble_number, n + 1, id], abs=CLOSE
                )
    assert len(each) == 2 * sum(len(row.interactions) for row in ours.rows)
    report = scribbles_report(ours.rows)
    assert report.auc == pytest.approx(theirs["figures"]["auc"], abs=CLOSE)
    assert report.jf_at_60s == pytest.approx(theirs["figures"]["metric_at_threshold"]["J_AND_F"], abs=CLOSE)
    assert report.j_auc == pytest.approx(theirs["of_j"]["auc"], abs=CLOSE)
    assert report.j_at_60s == pytest.approx(theirs["of_j"]["metric_at_threshold"]["J"], abs=CLOSE)
    assert [p.seconds for p in report.curve] == pytest.approx(theirs["figures"]["curve"]["time"], abs=CLOSE)
    assert [p.jf for p in report.curve] == pytest.approx(theirs["figures"]["curve"]["J_AND_F"], abs=CLOSE)
    last = np.cumsum([len(row.interactions) for row in ours.rows]) - 1  # what they draw then nobody answers
    drawn = [turn for n, turn in enumerate(theirs["drawn"]) if n not in last]
    assert [frame for frame, _ in drawn] == ours.frames
    found = compare(ours.drawn, [as_strokes(strokes) for _, strokes in drawn], truth["ant"].shape[1:])
    assert (found.mean < 0.5, found.most < 2) == (True, True)  # of many small ragged regions


def sample_key(row: ScribbleResult) -> dict[str, Any]:
    return {"sequence": row.sequence, "scribble": row.scribble_number}


def compare(ours: list[Strokes], theirs: list[Strokes], size: tuple[int, ...]) -> Apart:
    """As many strokes on the same objects; how far they are from each other."""
    height, width = size
    assert [sorted(id for id, _ in strokes) for strokes in ours] == [sorted(id for id, _ in one) for one in theirs]
    return apart(ours, theirs, (height, width))


@pytest.mark.slow
def test_the_robot_on_real_masks(tmp_path: Path) -> None:
    """480p masks of DAVIS, and what is shown is nothing, moved, or another frame's: the same regions, near strokes."""
    place = checkout()
    if not REAL.is_dir():
        pytest.skip("../shared/data/davis is not there")
    truth, shown = [], []
    for name in ("lucia", "motorbike"):
        files = sorted((REAL / "Annotations" / "480p" / name).glob("*.png"))
        maps = [(read_label_map(file) > 127).astype(np.uint8) for file in files[:12:4]]
        for labels in maps:
            half = labels[labels.shape[0] // 2 :]
            half[half > 0] = 2
        truth += maps
        shown += [np.zeros_like(maps[0]), np.roll(maps[1], (6, 15), (0, 1)), maps[0]]
    np.savez(tmp_path / "made.npz", truth=truth, shown=shown)
    ours = [[(one.object_id, one.path) for one in draw_scribbles(s, t, 2)] for s, t in zip(shown, truth, strict=True)]
    one, other = ([as_strokes(s) for s in printed_json(OF_ROBOT, place, tmp_path / "made.npz", n)] for n in "01")
    found, among_themselves = compare(ours, one, truth[0].shape), compare(other, one, truth[0].shape)
    assert found.mean < among_themselves.mean < 0.5
    assert found.most < 0.5
