"""Average recall of masks generated without prompts, beside COCO's own and where the answer is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helpers.synthetic_truth import store_image, two_objects
from masklet import SAM
from masklet.cli.main import run
from masklet.errors import SourceError
from masklet.evaluate.average_recall import (
    ImageRecall,
    ObjectRecall,
    RecallReport,
    evaluate_recall,
    match_objects,
    measure_proposals,
    recall_report,
)
from masklet.evaluate.image_click_datasets import click_images
from masklet.masks import iou, rle
from masklet.masks.rle import Rle

LIMITS = ["1", "10", "100", "1000"]


@dataclass(frozen=True)
class Made:
    rles: list[Rle]
    predicted_ious: np.ndarray


def made(masks: list[np.ndarray] | np.ndarray, scores: list[float] | None = None) -> Made:
    marks = np.linspace(0.9, 0.1, len(masks)) if scores is None else np.array(scores)
    return Made([rle.encode(mask) for mask in masks], marks)


def numbered(masks: np.ndarray | list[np.ndarray]) -> dict[int, np.ndarray]:
    return dict(enumerate(masks, 1))


def report_of(pairs: list[tuple[np.ndarray, Made]]) -> RecallReport:
    """A report on images: their objects, and what is proposed for them."""
    found = [(str(i), made, match_objects(str(i), made, numbered(truth))) for i, (truth, made) in enumerate(pairs)]
    return recall_report([ImageRecall(name, len(made.rles), rows) for name, made, rows in found])


def blob(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """An ellipse or a box anywhere, of any size."""
    (height, width), (y, x) = size, (random.uniform(0, size[0]), random.uniform(0, size[1]))
    tall, wide = random.uniform(2, height / 2), random.uniform(2, width / 2)
    rows, columns = np.mgrid[:height, :width]
    far = np.abs(rows - y) / tall, np.abs(columns - x) / wide
    mask = np.maximum(*far) < 1 if random.random() < 0.5 else np.hypot(*far) < 1
    mask[int(y), int(x)] = True
    return np.asarray(mask)


def scene(random: np.random.Generator, overlapping: bool) -> tuple[np.ndarray, Made]:
    """Objects, some of them twice or inside each other, and proposals near them, elsewhere, and empty ones."""
    size = (int(random.integers(110, 200)), int(random.integers(110, 260)))
    truth = [blob(random, size) for _ in range(random.integers(1, 9))]
    if overlapping:
        truth.append(truth[0].copy())
        truth.append(truth[0] & blob(random, size) | truth[-1])
    square, large = np.zeros((2, *size), bool)
    square[10:42, 10:42] = True  # 32 x 32: small and medium
    large[5:105, 5:105] = True
    truth += [square, large]
    proposals = [np.roll(mask, tuple(random.integers(-6, 7, 2)), (0, 1)) for mask in truth for _ in range(4)]
    proposals += [truth[0].copy(), truth[0].copy(), square.copy(), np.zeros(size, bool)]
    proposals += [blob(random, size) for _ in range(random.integers(0, 12))]
    order = random.permutation(len(proposals))
    scores = random.integers(0, 6, len(proposals)) / 5  # many are equal
    return np.stack(truth), made([proposals[i] for i in order], scores.tolist())


def by_coco(pairs: list[tuple[np.ndarray, Made]]) -> dict[tuple[str, str], float]:
    """AR by size and limit, as pycocotools has it; a COCO crowd is added to each image, which must not matter."""
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    truth: list[dict[str, object]] = []
    found: list[dict[str, object]] = []
    for image, (masks, proposals) in enumerate(pairs):
        for mask in masks:
            truth.append(annotation(len(truth) + 1, image, mask, iscrowd=0))
        truth.append(annotation(len(truth) + 1, image, np.ones_like(masks[0]), iscrowd=1))
        for code, score in zip(proposals.rles, proposals.predicted_ious, strict=True):
            found.append({"image_id": image, "category_id": 1, "segmentation": code, "score": float(score)})
    data = coco.COCO()
    data.dataset = {
        "info": {},
        "images": [{"id": i, "height": m.shape[1], "width": m.shape[2]} for i, (m, _) in enumerate(pairs)],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": truth,
    }
    data.createIndex()
    judge = COCOeval(data, data.loadRes(found), "segm")
    judge.params.useCats, judge.params.maxDets = 0, [1, 10, 100, 1000]
    judge.evaluate()
    judge.accumulate()
    recall = judge.eval["recall"].mean(axis=0)[0]  # over IoUs; one class: (sizes, limits)
    sizes = ["all", "small", "medium", "large"]
    return {(size, limit): float(recall[s, k]) for s, size in enumerate(sizes) for k, limit in enumerate(LIMITS)}


def annotation(number: int, image: int, mask: np.ndarray, iscrowd: int) -> dict[str, object]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1 + number % 2,
        "segmentation": rle.encode(mask),
        "area": int(mask.sum()),
        "bbox": [0, 0, 1, 1],
        "iscrowd": iscrowd,
    }


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("seed", range(4))
def test_recall_is_that_of_coco(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = [scene(random, overlapping=bool(i % 2)) for i in range(6)]
    pairs.append((pairs[0][0], made([np.zeros_like(pairs[0][0][0])])))  # nothing found
    found, coco = report_of(pairs), by_coco(pairs)
    ours: dict[tuple[str, str], float | None] = {("all", limit): found.recall[limit] for limit in LIMITS}
    ours |= {(size, limit): figures[limit] for size, figures in found.recall_by_size.items() for limit in LIMITS}
    assert ours == pytest.approx(coco, abs=1e-6)
    assert 0 < coco["all", "1"] < coco["all", "10"] < coco["all", "100"] < 1
    assert all(coco[size, "1000"] > 0 for size in ("small", "medium", "large"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_only_the_first_thousand_count_as_with_coco() -> None:
    truth = two_objects()
    many = made([np.zeros_like(truth[0])] * 999 + [truth[0], truth[1]], [0.5] * 1001)
    found = report_of([(truth, many)])
    assert found.recall == {"1": 0, "10": 0, "100": 0, "1000": 0.5}
    assert found.recall["1000"] == pytest.approx(by_coco([(truth, many)])["all", "1000"])
    assert (found.mean_masks, found.mean_best_iou) == (1001, 0.5)


def test_the_truth_is_found_whole_with_as_many_proposals_as_objects() -> None:
    found = report_of([(two_objects(), made(two_objects()))])
    assert found.recall == {"1": 0.5, "10": 1, "100": 1, "1000": 1}
    assert found.mean_best_iou == 1
    assert found.objects_by_size == {"small": 2, "medium": 0, "large": 0}
    assert found.recall_by_size["small"]["1000"] == 1
    assert found.recall_by_size["medium"]["1000"] is None


@pytest.mark.parametrize("masks", [[], [np.zeros((60, 80), bool)]])
def test_nothing_found_is_zero(masks: list[np.ndarray]) -> None:
    found = report_of([(two_objects(), made(masks))])
    assert set(found.recall.values()) == {0}
    assert (found.mean_best_iou, found.mean_masks) == (0, len(masks))


def test_a_shifted_proposal_takes_its_object_up_to_its_iou() -> None:
    """20 x 30, moved by 5 columns: 25 of 35 columns, 0.714; reached at 0.5, 0.55, 0.6, 0.65 and 0.7."""
    truth = two_objects()[:1]
    shifted = np.roll(truth, 5, axis=2)
    found = report_of([(truth, made(shifted))])
    assert found.mean_best_iou == pytest.approx(25 / 35)
    assert found.recall == pytest.approx(dict.fromkeys(LIMITS, 0.5))


def test_proposals_of_another_image_find_nothing() -> None:
    first, second = two_objects()[:1], two_objects()[1:]
    assert report_of([(first, made(first)), (second, made(second))]).recall["1"] == 1
    shuffled = report_of([(first, made(second)), (second, made(first))])
    assert (shuffled.recall["1000"], shuffled.mean_best_iou) == (0, 0)


def test_the_better_score_comes_first_and_of_equal_ones_the_first() -> None:
    truth, empty = two_objects()[:1], np.zeros((60, 80), bool)
    assert report_of([(truth, made([truth[0], empty], [0.2, 0.9]))]).recall["1"] == 0
    assert report_of([(truth, made([empty, truth[0]], [0.2, 0.9]))]).recall["1"] == 1
    assert report_of([(truth, made([truth[0], empty], [0.5, 0.5]))]).recall["1"] == 1


def test_a_proposal_takes_one_object() -> None:
    twice = np.repeat(two_objects()[:1], 2, axis=0)
    assert report_of([(twice, made(twice[:1]))]).recall["1000"] == 0.5
    assert report_of([(twice, made(twice))]).recall["1000"] == 1


def test_precision_counts_the_masks_that_are_on_an_object() -> None:
    truth = two_objects()
    half, empty = truth[0].copy(), np.zeros_like(truth[0])
    rows, columns = np.nonzero(truth[0])
    half[rows[: len(rows) // 2], columns[: len(rows) // 2]] = False  # IoU is 0.5 or just above
    masks = [empty, truth[1], half, ~truth.any(axis=0)] + [empty] * 8 + [truth[1]]
    result = measure_proposals("x", made(masks), numbered(truth), seconds=2.0)
    assert result.correct_ranks == (2, 3, 13)
    assert (result.num_masks, result.seconds) == (13, 2.0)

    report = recall_report([result, measure_proposals("y", made([truth[0]]), numbered(truth))])
    assert report.precision == pytest.approx({"1": 1 / 2, "10": 3 / 11, "100": 4 / 14, "1000": 4 / 14})
    assert recall_report([measure_proposals("z", made([]), numbered(truth))]).precision["10"] is None


def test_precision_is_unknown_where_an_earlier_file_has_none() -> None:
    truth = two_objects()
    earlier = ImageRecall("x", 2, match_objects("x", made(truth), numbered(truth)))
    report = recall_report([earlier, measure_proposals("y", made(truth), numbered(truth))])
    assert set(report.precision.values()) == {None}
    assert report.recall["10"] == 1


def test_an_object_at_the_limit_is_of_both_sizes() -> None:
    mask = np.zeros((1, 60, 80), bool)
    mask[0, :32, :32] = True
    found = report_of([(mask, made(mask))])
    assert found.objects_by_size == {"small": 1, "medium": 1, "large": 0}
    assert found.recall_by_size["large"]["1000"] is None
    [row] = found.results[0].objects
    assert row == ObjectRecall("0", 1, 1024, 1.0, dict.fromkeys(("all", "small", "medium"), (1,) * 10))


def test_what_nobody_judges_counts_for_nobody() -> None:
    truth = two_objects()[0]
    judged = np.ones_like(truth)
    judged[:, 25:] = False
    too_wide = np.roll(truth, 20, axis=1) | truth
    [row] = match_objects("x", made([too_wide]), {1: truth}, judged)
    assert (row.best_iou, row.area) == (1, 20 * 15)


def test_iou_of_codes_is_that_of_masks() -> None:
    truth, proposals = scene(np.random.default_rng(9), overlapping=True)
    rows = match_objects("x", proposals, numbered(truth))
    masks = [rle.decode(code) for code in proposals.rles]
    assert [row.best_iou for row in rows] == pytest.approx([max(iou(m, one) for m in masks) for one in truth], abs=0)


def test_images_without_an_object_are_not_generated_at(tmp_path: Path) -> None:
    store_image(tmp_path / "a", "x", two_objects())
    store_image(tmp_path / "a", "y", np.zeros_like(two_objects()))
    generated: list[tuple[int, ...]] = []
    steps: list[None] = []

    def find(rgb: np.ndarray) -> Made:
        generated.append(rgb.shape)
        return made(two_objects())

    rows = [
        row
        for image in click_images(tmp_path)
        for row in evaluate_recall(find, image, on_progress=lambda: steps.append(None))
    ]
    assert (generated, len(steps)) == ([(60, 80, 3)], 2)
    assert [(row.image, row.num_masks, len(row.objects)) for row in rows] == [("a/x", 2, 2)]
    [row] = evaluate_recall(find, click_images(tmp_path)[0], max_objects=1)
    assert [one.id for one in row.objects] == [1]


def test_no_object_is_an_error() -> None:
    with pytest.raises(SourceError, match="no image has an object"):
        recall_report([])


def test_the_command_writes_protocol_model_and_options_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: SAM, capsys: pytest.CaptureFixture[str]
) -> None:
    store_image(tmp_path / "data" / "a", "x", two_objects())
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    file = tmp_path / "figures.json"
    with pytest.raises(SystemExit) as left:
        run(
            [
                "eval",
                "mask-generation",
                str(tmp_path / "data"),
                "--points",
                "4",
                "--objects",
                "1",
                "--report",
                str(file),
            ]
        )
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    kept = json.loads(file.read_text())
    assert list(kept)[:3] == ["protocol", "model", "options"]
    assert (kept["options"]["points_per_side"], kept["options"]["objects"]) == (4, 1)
    assert kept["objects"] == len(kept["rows"][0]["objects"]) == 1
    assert "1 object in 1 image" in output.out
    assert "AR@1000" in output.out
    assert "precision@100" in output.out


def test_after_ctrl_c_the_figures_of_what_was_done_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: SAM, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([made(two_objects())])

    def stops(*_: object) -> Made:
        found = next(answers, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    for name in ("x", "y"):
        store_image(tmp_path / "data" / "a", name, two_objects())
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    monkeypatch.setattr("masklet.image.automatic_mask_generator.generate_masks", stops)
    with pytest.raises(SystemExit) as left:
        run(["eval", "mask-generation", str(tmp_path / "data"), "--report", str(tmp_path / "figures.json")])
    assert left.value.code != 0
    assert "2 objects in 1 image" in capsys.readouterr().out
    kept = json.loads((tmp_path / "figures.json").read_text())
    assert (kept["images"], kept["recall"]["10"]) == (1, 1)


def test_an_unknown_preset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["eval", "mask-generation", str(tmp_path), "--preset", "best"])
    assert left.value.code
    assert "fast, default, fine" in capsys.readouterr().err
