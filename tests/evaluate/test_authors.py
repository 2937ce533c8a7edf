"""Our figures beside those of the authors' own code, on the same files.

That code is no part of masklet. Where MASKLET_AUTHORS names a folder with checkouts of davis2017-evaluation, of sam2
(facebookresearch), of lvos-evaluation, of ritm_interactive_segmentation, and of what others measure with (vos-benchmark
of hkchengrex, frtm-vos of andr345), it is run there, in a separate process; else these tests are skipped. It needs
scikit-image, scipy and tqdm.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.predictions import (
    named_as_lvos,
    store_davis,
    store_lvos,
    store_maps,
    store_meta,
    store_objects,
    two,
    worse,
)
from masklet import SAM
from masklet.datasets.label_maps import read_label_map
from masklet.evaluate.benchmark_predictions import benchmark_videos, predict
from masklet.evaluate.benchmark_scoring import BenchmarkOptions, BenchmarkScore, score_predictions
from masklet.evaluate.image_click_datasets import AnnotatedImage
from masklet.evaluate.image_clicks import ClickResult, _click_curves, click_report
from masklet.image import Prediction
from masklet.prompts import ObjectPrompt

REAL = Path(__file__).parents[3] / "shared" / "data" / "davis"
HOWS = ["perfect", "empty", "shifted", "shuffled", "ragged"]
CLOSE = 1e-6

OF_DAVIS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from davis2017.evaluation import DAVISEvaluation
found = DAVISEvaluation(sys.argv[2], "semi-supervised", "val").evaluate(sys.argv[3])
figures = {m: {k: list(map(float, found[m][k])) for k in "MRD"} for m in "JF"}
print(json.dumps({**figures, "names": list(found["J"]["M_per_object"])}))
"""
OF_SAV = """
import json, sys
sys.path.insert(0, sys.argv[1])
from utils.sav_benchmark import benchmark
skip = sys.argv[4] == "skip"
jf, j, f, every = benchmark([sys.argv[2]], [sys.argv[3]], True, 1, verbose=False, skip_first_and_last=skip)
objects = {name: [{str(k): v for k, v in part.items()} for part in of] for name, of in every[0].items()}
print(json.dumps([jf[0], j[0], f[0], objects]))
"""
OF_LVOS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from lvos import evaluation
for name in ("db_eval_iou", "db_eval_boundary"):  # today's numpy sets no element with an array of one
    own = getattr(evaluation, name)
    setattr(evaluation, name, lambda *words, own=own, **more: own(*words, **more).item())
judge = evaluation.LVOSEvaluation(sys.argv[2], "semi-supervised", "valid", codalab=True)
every, seen, unseen = judge.evaluate(sys.argv[3])
groups = {"seen": seen, "unseen": unseen}
means = {f"{m} {name}": float(sum(of[m]["M"]) / len(of[m]["M"])) for name, of in groups.items() for m in "JFV"}
print(json.dumps([means, every["J"]["M_per_object"], every["F"]["M_per_object"]]))
"""
OF_OTHERS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from vos_benchmark.benchmark import benchmark
jf, j, f, every = benchmark([sys.argv[2]], [sys.argv[3]], True, 1, verbose=False)
objects = {name: [{str(k): v for k, v in part.items()} for part in of] for name, of in every[0].items()}
print(json.dumps([jf[0], j[0], f[0], objects]))
"""
OF_YTVOS = """
import importlib.util, json, sys
from pathlib import Path
import numpy as np
from PIL import Image
spec = importlib.util.spec_from_file_location("davis", sys.argv[1] + "/lib/davis.py")
davis = importlib.util.module_from_spec(spec)
spec.loader.exec_module(davis)
class Labels:
    def __init__(self, file): self.labels = np.array(Image.open(file))
    def squeeze(self, _): return self
    def numpy(self): return self.labels
found = {}
for folder in sorted(Path(sys.argv[2]).iterdir()):
    maps = [{f.stem: Labels(f) for f in sorted(of.iterdir())} for of in (Path(sys.argv[3], folder.name), folder)]
    for of in maps:
        of["the end"] = of[max(of)]  # they leave the last frame out
    first = {}
    for name, of in maps[1].items():
        for number in np.unique(of.labels)[1:]:
            first.setdefault(int(number), name)
    every = [davis.evaluate_sequence(*maps, first, measure=m)["mean"] for m in "JF"]
    found[folder.name] = {str(n): pair for n, *pair in zip(first, *every)}
print(json.dumps(found))
"""
OF_CLICKS = """
import json, sys, types
import cv2, numpy as np
np.bool, np.int = bool, int
for name in ("", ".inference", ".data", ".data.datasets", ".utils", ".utils.serialization"):
    sys.modules["isegm" + name] = types.ModuleType("isegm" + name)
root = sys.argv[1] + "/isegm/inference"
sys.modules["isegm.inference"].__path__ = [root]
for name in ("GrabCutDataset", "BerkeleyDataset", "DavisDataset", "SBDEvaluationDataset", "PascalVocDataset"):
    setattr(sys.modules["isegm.data.datasets"], name, None)
sys.modules["isegm.utils.serialization"].load_model = None
from isegm.inference.evaluation import evaluate_sample
from isegm.inference.utils import compute_noc_metric
answers, truths = np.load(sys.argv[2])["answers"], np.load(sys.argv[2])["truths"]
class Predictor:
    def set_input_image(self, image): pass
    def get_prediction(self, clicker): return answers[self.which][len(clicker) - 1].astype(float)
every, clicks = [], []
for which, truth in enumerate(truths):
    predictor = Predictor()
    predictor.which = which
    made, ious, _ = evaluate_sample(None, truth.astype(np.int32), predictor, 2.0)
    every.append(ious)
    clicks.append([[int(c.coords[1]), int(c.coords[0]), int(c.is_positive)] for c in made])
noc, over = compute_noc_metric(every, [0.85, 0.9])
print(json.dumps({"ious": [list(map(float, i)) for i in every], "clicks": clicks, "noc": list(map(float, noc))}))
"""


def authors(name: str) -> Path:
    """The checkout of that name, or skip."""
    place = Path(os.environ.get("MASKLET_AUTHORS", "")) / name
    if not os.environ.get("MASKLET_AUTHORS") or not place.is_dir():
        pytest.skip(f"MASKLET_AUTHORS names no folder with a checkout of {name}")
    return place


def printed_json(code: str, *words: str | Path) -> Any:
    """What the last line of a program's output says as JSON."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def agree_with_davis(root: Path, shown: Path, place: Path) -> BenchmarkScore:
    """Every figure of every object, and the means."""
    theirs, ours = (
        printed_json(OF_DAVIS, place, root, shown),
        score_predictions("davis17", shown, root, BenchmarkOptions(subset="val")),
    )
    for name, of in (("J", [one.j for one in ours.objects]), ("F", [one.f for one in ours.objects])):
        for key, figure in (("M", "mean"), ("R", "recall"), ("D", "decay")):
            assert [getattr(one, figure) for one in of] == pytest.approx(theirs[name][key], abs=CLOSE)
            assert ours.metrics[f"{name} {figure}"] == pytest.approx(np.mean(theirs[name][key]), abs=CLOSE)
    assert [f"{one.sequence}_{one.id}" for one in ours.objects] == theirs["names"]
    return ours


@pytest.mark.parametrize("how", HOWS)
def test_davis(tmp_path: Path, how: str) -> None:
    place = authors("davis2017-evaluation")
    for name, maps in store_davis(tmp_path / "DAVIS").items():
        store_maps(tmp_path / "shown" / name, worse(maps, how))
    found = agree_with_davis(tmp_path / "DAVIS", tmp_path / "shown", place)
    assert (found.metrics["J&F"] == 1) is (how == "perfect")


def test_davis_with_gaps_in_its_ids_and_places_that_nobody_judges(tmp_path: Path) -> None:
    place = authors("davis2017-evaluation")
    for name, maps in store_davis(tmp_path / "DAVIS").items():
        odd = np.array([0, 1, 3], np.uint8)[maps]
        odd[:, :8, :8] = 255
        store_maps(tmp_path / "DAVIS" / "Annotations" / "480p" / name, odd)
        store_maps(tmp_path / "shown" / name, np.array([0, 1, 3], np.uint8)[worse(maps, "ragged")])
    found = agree_with_davis(tmp_path / "DAVIS", tmp_path / "shown", place)
    assert [one.id for one in found.objects] == ["1", "2", "3"] * 2


@pytest.mark.parametrize("how", ["shifted", "ragged"])
def test_davis_2016_of_merged_objects(tmp_path: Path, how: str) -> None:
    """The folder of DAVIS 2017 by our rules of 2016, and one with merged maps by theirs of 2017."""
    place = authors("davis2017-evaluation")
    store_davis(tmp_path / "merged")
    for name, maps in store_davis(tmp_path / "DAVIS").items():
        shown = worse(maps, how)
        store_maps(tmp_path / "shown" / name, shown)
        store_maps(tmp_path / "merged" / "Annotations" / "480p" / name, np.minimum(maps, 1))
        store_maps(tmp_path / "one" / name, np.minimum(shown, 1))
    merged = agree_with_davis(tmp_path / "merged", tmp_path / "one", place)
    ours = score_predictions("davis16", tmp_path / "shown", tmp_path / "DAVIS", BenchmarkOptions(subset="val"))
    assert len(ours.objects) == 2
    assert ours.metrics == pytest.approx(merged.metrics, abs=CLOSE)


def agree_with_sav(truth: Path, shown: Path, place: Path, *, skip: bool = True) -> BenchmarkScore:
    theirs = printed_json(OF_SAV, place / "sav_dataset", truth, shown, "skip" if skip else "all")
    ours = score_predictions("sav", shown, truth, BenchmarkOptions(include_first_last=not skip))
    assert [ours.metrics[n] * 100 for n in ("J&F", "J", "F")] == pytest.approx(theirs[:3], abs=CLOSE)
    for one in ours.objects:
        j, f = theirs[3][one.sequence]
        assert (one.j.mean * 100, one.f.mean * 100) == pytest.approx((j[one.id], f[one.id]), abs=CLOSE)
    assert len(ours.objects) == sum(len(j) for j, _ in theirs[3].values())
    return ours


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("how", HOWS)
def test_sav(tmp_path: Path, how: str, skip: bool) -> None:
    place = authors("sam2")
    for n, name in enumerate(("sav_1", "sav_2")):
        store_objects(tmp_path / "truth" / name, two(n), 2)
        store_objects(tmp_path / "shown" / name, worse(two(n), how), 2)
    agree_with_sav(tmp_path / "truth", tmp_path / "shown", place, skip=skip)


@pytest.mark.parametrize("how", HOWS)
def test_sav_in_label_maps_with_an_object_that_comes_late(tmp_path: Path, how: str) -> None:
    place = authors("sam2")
    for n, name in enumerate(("a", "b")):
        late = two(n)
        late[:4][late[:4] == 2] = 0
        store_maps(tmp_path / "truth" / name, late)
        store_maps(tmp_path / "shown" / name, worse(late, how))
    agree_with_sav(tmp_path / "truth", tmp_path / "shown", place)


@pytest.mark.parametrize("how", HOWS)
def test_lvos(tmp_path: Path, how: str) -> None:
    """J, F and V of seen and of unseen videos, and J and F of every object, one of them late and soon gone."""
    place = authors("lvos-evaluation")
    for name, maps in store_lvos(tmp_path / "valid").items():
        named_as_lvos(tmp_path / "shown" / name, worse(maps, how))
    means, *every = printed_json(OF_LVOS, place, tmp_path / "valid", tmp_path / "shown")
    ours = score_predictions("lvos", tmp_path / "shown", tmp_path / "valid")
    assert {name: ours.metrics[name] for name in means} == pytest.approx(means, abs=CLOSE)
    for measure in "JFV":
        mean = (means[f"{measure} seen"] + means[f"{measure} unseen"]) / 2
        assert ours.metrics[measure] == pytest.approx(mean, abs=CLOSE)
    for one in ours.objects:
        theirs = [of[f"{one.sequence}_{one.id}"] for of in every]
        assert [one.j.mean, one.f.mean] == pytest.approx(theirs, abs=CLOSE)
    assert len(ours.objects) == len(every[0]) == 6


@pytest.mark.parametrize("kind", ["davis17", "mose"])
@pytest.mark.parametrize("how", ["shifted", "ragged"])
def test_videos_that_others_measure(tmp_path: Path, how: str, kind: str) -> None:
    """What is often used in place of the authors' code of DAVIS, for MOSE too."""
    place = authors("vos-benchmark")
    for name, maps in store_davis(tmp_path / "DAVIS").items():
        store_maps(tmp_path / "shown" / name, worse(maps, how))
    truth = tmp_path / "DAVIS" / "Annotations" / "480p"
    theirs = printed_json(OF_OTHERS, place, truth, tmp_path / "shown")
    ours = score_predictions(kind, tmp_path / "shown", truth)
    assert [ours.metrics[n] * 100 for n in ("J&F", "J mean", "F mean")] == pytest.approx(theirs[:3], abs=CLOSE)
    for one in ours.objects:
        j, f = theirs[3][one.sequence]
        assert (one.j.mean * 100, one.f.mean * 100) == pytest.approx((j[one.id], f[one.id]), abs=CLOSE)


@pytest.mark.parametrize("how", HOWS)
def test_objects_of_youtube_vos_as_others_measure_them(tmp_path: Path, how: str) -> None:
    """The server's own code is not public; this one measures objects from where they come."""
    place = authors("frtm-vos")
    for n, name in enumerate(("a", "b")):
        late = two(n)
        late[:4][late[:4] == 2] = 0
        store_maps(tmp_path / "valid" / "Annotations" / name, late)
        store_maps(tmp_path / "shown" / name, worse(late, how))
    store_meta(tmp_path / "valid", {"a": {"1": "ape", "2": "gnu"}, "b": {"1": "gnu", "2": "ape"}})
    (tmp_path / "seen.txt").write_text("ape\n")
    theirs = printed_json(OF_YTVOS, place, tmp_path / "valid" / "Annotations", tmp_path / "shown")
    ours = score_predictions(
        "ytvos", tmp_path / "shown", tmp_path / "valid", BenchmarkOptions(seen_list=tmp_path / "seen.txt")
    )
    for one in ours.objects:
        assert [one.j.mean, one.f.mean] == pytest.approx(theirs[one.sequence][one.id], abs=CLOSE)
    seen, unseen = np.mean([theirs["a"]["1"], theirs["b"]["2"]]), np.mean([theirs["a"]["2"], theirs["b"]["1"]])
    assert ours.metrics["overall"] == pytest.approx((seen + unseen) / 2, abs=CLOSE)


def real_videos(root: Path, frames: int = 6) -> None:
    """The first frames of two videos of DAVIS 2016 in the layouts of DAVIS 2017 and of SA-V, the first cut in two."""
    if not REAL.is_dir():
        pytest.skip("../shared/data/davis is not there")
    for name in ("lucia", "motorbike"):
        files = sorted((REAL / "JPEGImages" / "480p" / name).glob("*.jpg"))[:frames]
        masks = [read_label_map(REAL / "Annotations" / "480p" / name / f"{file.stem}.png") > 127 for file in files]
        maps = np.stack(masks).astype(np.uint8)
        if name == "lucia":  # a walker: what is below the middle of the image is another object
            maps[:, maps.shape[1] // 2 :][maps[:, maps.shape[1] // 2 :] > 0] = 2
        store_maps(root / "DAVIS" / "Annotations" / "480p" / name, maps)
        store_objects(root / "sav_val" / "Annotations_6fps" / name, maps)
        for top in ("DAVIS/JPEGImages/480p", "sav_val/JPEGImages_24fps"):
            (root / top / name).mkdir(parents=True)
            for t, file in enumerate(files):
                (root / top / name / f"{t:05d}.jpg").symlink_to(file)
    shutil.rmtree(root / "sav_val" / "Annotations_6fps" / "motorbike" / "001")
    (root / "DAVIS" / "ImageSets" / "2017").mkdir(parents=True)
    (root / "DAVIS" / "ImageSets" / "2017" / "val.txt").write_text("lucia\nmotorbike\n")


@pytest.mark.slow
def test_real_predictions_of_the_model_inside(tmp_path: Path) -> None:
    davis, sav = authors("davis2017-evaluation"), authors("sam2")
    real_videos(tmp_path)
    model = SAM()
    shown = predict(model, benchmark_videos("davis17", tmp_path / "DAVIS"), tmp_path / "davis17")
    found = agree_with_davis(tmp_path / "DAVIS", shown, davis)
    assert (len(found.objects), found.metrics["J&F"]) == (3, pytest.approx(0.7, abs=0.29))
    shown = predict(model, benchmark_videos("sav", tmp_path / "sav_val"), tmp_path / "sav")
    found = agree_with_sav(tmp_path / "sav_val" / "Annotations_6fps", shown, sav)
    assert len(found.objects) == 3


class Recorded:
    """Answers the n-th click of an object with the n-th of its masks."""

    def __init__(self, answers: np.ndarray) -> None:
        self.answers = answers
        self.prompts: ObjectPrompt | None = None

    def set_image(self, rgb: np.ndarray) -> None:
        pass

    def predict_prompts(
        self, prompts: Any, *, mask_input: Any = None, multimask_output: bool | None = None
    ) -> Prediction:
        [self.prompts] = prompts
        mask = self.answers[len(self.prompts.points.labels) - 1]
        return Prediction(mask[None, None], np.ones((1, 1), np.float32), np.zeros((1, 1, 8, 8), np.float32))


def test_clicks(tmp_path: Path) -> None:
    """Where they click, the IoU after each click, and NoC, with a border that nobody judges."""
    place = authors("ritm_interactive_segmentation")
    random = np.random.default_rng(0)
    truths, answers = [], []
    for n in range(8):
        field = cv2.GaussianBlur(random.standard_normal((60, 80)), (0, 0), 6)
        truth = (field > np.quantile(field, 0.7)).astype(np.int8)
        noise = [cv2.GaussianBlur(random.standard_normal((60, 80)), (0, 0), 2) for _ in range(20)]
        wrong = [abs(noisy) > np.quantile(abs(noisy), 1 - 0.4 / (k + 1)) for k, noisy in enumerate(noise)]
        answers.append([(truth == 1) ^ off for off in wrong])
        if n % 2:
            truth[:, :9] = -1
        truths.append(truth)
    np.savez(tmp_path / "made.npz", truths=np.array(truths), answers=np.array(answers))
    theirs = printed_json(OF_CLICKS, place, tmp_path / "made.npz")
    rows = []
    for n, (truth, own) in enumerate(zip(truths, answers, strict=True)):
        model = Recorded(np.array(own))
        shown = AnnotatedImage(np.zeros((60, 80, 3), np.uint8), {1: truth == 1}, truth != -1)
        [curve] = _click_curves(model, shown, [1])
        assert curve == pytest.approx(theirs["ious"][n], abs=CLOSE)
        assert model.prompts is not None
        points = model.prompts.points
        assert points is not None
        clicks = [[int(x), int(y), int(label)] for (x, y), label in zip(points.xy, points.labels, strict=True)]
        assert clicks == theirs["clicks"][n]
        rows.append(ClickResult(str(n), 1, curve))
    assert list(click_report(rows).noc.values()) == pytest.approx(theirs["noc"], abs=CLOSE)
