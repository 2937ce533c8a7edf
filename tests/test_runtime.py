"""Devices by name, threads, copies, and settings that a program has made in PyTorch for its own work."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from helpers.yolo_files import network, save
from masklet import SAM
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.results import Results
from masklet.runtime import resolve_device, standard_torch
from masklet.yolo import YOLO, FastSAM

RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.integers(0, 255, (*size, 3), np.uint8) for size in ((48, 64), (80, 50), (33, 99), (64, 64))]
COARSE = MaskGeneratorOptions(points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0)
Answer = list[Any]


@pytest.fixture
def model(builtin_file: Path) -> SAM:
    sam = SAM(builtin_file)
    sam.predictor.model.set_image_size(96)
    return sam


@pytest.fixture(scope="module")
def yolo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("yolo") / "mine.pt", network())


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)


def numbers(results: Results) -> Answer:
    masks = None if results.masks is None else results.masks.data
    return [masks, results.scores, results.ids, results.boxes.xyxy, results.logits]


def same(one: Answer, other: Answer) -> bool:
    return all(np.array_equal(a, b) if b is not None else a is None for a, b in zip(one, other, strict=True))


def close(one: Answer, other: Answer) -> bool:
    """Compare with a copy, whose weights lie elsewhere: products of other alignments differ in the last digit."""
    return same(one[:1], other[:1]) and all(
        np.allclose(a, b, atol=1e-5) for a, b in zip(one[1:], other[1:], strict=True)
    )


def by_point(model: SAM, index: int) -> Answer:
    return numbers(model(IMAGES[index], points=[20, 15 + index])[0])


def by_box(model: SAM, index: int) -> Answer:
    return numbers(model(IMAGES[index], bboxes=[[3, 4, 30, 31], [8, 8, 40, 30]])[0])


def by_mask(model: SAM, index: int) -> Answer:
    mask = np.zeros(IMAGES[index].shape[:2], bool)
    mask[5:20, 8:30] = True
    return numbers(model(IMAGES[index], masks=mask)[0])


def without_prompts(model: SAM, index: int) -> Answer:
    return numbers(model(IMAGES[index], everything=COARSE)[0])


def tracked(model: SAM, index: int) -> Answer:
    video = np.stack([np.roll(IMAGES[index], step, axis=1) for step in range(3)])
    frames = [numbers(frame) for frame in model.track(video, points=[20, 15])]
    return [value for frame in frames for value in frame]


ASK: list[Callable[[SAM, int], Answer]] = [by_point, by_box, by_mask, without_prompts]


@pytest.mark.slow
def test_four_threads_get_the_answers_of_one(model: SAM) -> None:
    calls = [(ask, index) for ask in ASK[:3] for index in range(len(IMAGES))]
    expected = [ask(model, index) for ask, index in calls]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda call: call[0](model, call[1]), calls))
    assert all(same(one, other) for one, other in zip(answers, expected, strict=True))


@pytest.mark.slow
def test_sixteen_threads_on_one_model(model: SAM, tracker: SAM, yolo_file: Path) -> None:
    """Every kind of call in every thread, in another order in each, and every other thread on another image.

    Threads give way five times as often as by default.
    """
    detectors = [YOLO(yolo_file), FastSAM(yolo_file)]
    video = np.stack([np.roll(IMAGES[0], step, axis=1) for step in range(3)])
    session = tracker.session(video, retain="all")
    ids = iter(range(1, 10**6))

    def detected(model: SAM, index: int) -> Answer:
        return [part for one in detectors for part in numbers(one(IMAGES[index], imgsz=64, conf=0.01)[0])]

    def in_a_shared_session(model: SAM, index: int) -> Answer:
        number = next(ids)  # ids differ from call to call, masks and scores do not
        answer = session.add_prompt(number, index % 3, points=[20, 15 + index])
        session.remove_object(number)
        return [answer.masks.data, answer.scores, answer.object_scores]

    asks = [*ASK, tracked, detected, in_a_shared_session]
    expected = {(ask, index): ask(model, index) for ask in asks for index in range(2)}
    wrong, count, kinds = [], [0] * 16, Counter[str]()

    def work(thread: int) -> None:
        index = thread % 2
        for number in np.random.default_rng(thread).permutation(len(asks)):
            ask = asks[number]
            if not same(ask(model, index), expected[ask, index]):
                wrong.append((ask.__name__, index))
            count[thread] += 1
            kinds[ask.__name__] += 1

    threads = [Thread(target=work, args=(number,)) for number in range(16)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-3)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert min(count) == len(asks)
    assert min(kinds[ask.__name__] for ask in asks) > 0


def test_threads_share_a_detector_with_their_own_options(yolo_file: Path) -> None:
    model = YOLO(yolo_file)
    options: list[dict[str, Any]] = [{"max_det": 1}, {"max_det": 3}, {"conf": 0.9}, {"imgsz": 96}]
    calls = [{"imgsz": 64, "conf": 0.01, **one} for one in options] * 4
    expected = [numbers(model(IMAGES[0], **one)[0]) for one in calls]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: numbers(model(IMAGES[0], **one)[0]), calls))
    assert all(same(one, other) for one, other in zip(answers, expected, strict=True))


def test_a_prompt_of_another_thread_waits_for_the_frame_under_way(tracker: SAM) -> None:
    video = np.stack([np.roll(IMAGES[0], step, axis=1) for step in range(4)])
    with tracker.session(video, retain="all") as session:
        session.add_prompt(1, 0, points=[20, 15])
        with ThreadPoolExecutor(2) as pool:
            frames = pool.submit(lambda: [frame.frame_idx for frame in session.propagate()])
            added = [pool.submit(session.add_prompt, number, 0, points=[20 + number, 15]) for number in range(2, 6)]
            assert [len(one.result()) for one in added] == [1] * 4
            assert frames.result() == [0, 1, 2, 3]
        assert sorted(session.object_ids) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_copied_before_and_after_its_first_image(model: SAM, copied: Callable[[SAM], SAM]) -> None:
    early = copied(model)
    expected = by_point(model, 1)
    assert close(by_point(early, 1), expected)
    late = copied(model)
    assert late.predictor.model is not model.predictor.model
    assert close(by_point(late, 1), expected)


def test_a_predictor_keeps_its_image_in_a_copy(model: SAM) -> None:
    predictor = model.predictor
    predictor.set_image(IMAGES[0])
    expected = predictor.predict(point_coords=[20, 15]).logits
    for other in (copy.copy(predictor), copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        predictor.set_image(IMAGES[1])
        np.testing.assert_allclose(other.predict(point_coords=[20, 15]).logits, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [YOLO, FastSAM])
def test_detectors_are_copied(yolo_file: Path, kind: Callable[..., Any]) -> None:
    model = kind(yolo_file)
    expected = numbers(model(IMAGES[0], imgsz=64, conf=0.01)[0])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found = numbers(other(IMAGES[0], imgsz=64, conf=0.01)[0])
        assert [len(part) for part in found[:4]] == [len(part) for part in expected[:4]]
        np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


@pytest.mark.slow
def test_a_model_is_sent_to_another_process(model: SAM) -> None:
    expected = by_point(model, 0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert close(pool.apply(by_point, (model, 0)), expected)


SETTINGS: dict[str, Callable[[], Any]] = {
    "double": lambda: torch.set_default_dtype(torch.float64),
    "half": lambda: torch.set_default_dtype(torch.float16),
    "meta": lambda: torch.set_default_device("meta"),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_process_change_no_answer(builtin_file: Path, model: SAM, setting: str) -> None:
    expected = [ask(model, 0) for ask in (by_point, by_mask, tracked)]
    with SETTINGS[setting]() or nullcontext():
        before = torch.get_default_dtype(), torch.get_default_device()
        opened = SAM(builtin_file)
        opened.predictor.model.set_image_size(96)
        for one in (model, opened):
            answers = [ask(one, 0) for ask in (by_point, by_mask, tracked)]
            assert all(same(a, b) for a, b in zip(answers, expected, strict=True))
        assert (torch.get_default_dtype(), torch.get_default_device()) == before
    assert not any(tensor.is_inference() for tensor in opened.predictor.model.parameters())


def test_the_default_dtype_is_restored_when_the_last_block_ends() -> None:
    torch.set_default_dtype(torch.float64)
    first, second = standard_torch(), standard_torch()
    with first:
        second.__enter__()
        assert torch.zeros(1).dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32  # the second block is still open
    second.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("name", [None, "", "auto", "cpu", "CPU", torch.device("cpu"), "[cpu]"])
def test_names_of_the_processor_and_of_the_best(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device(name) == "cpu"


@pytest.mark.parametrize(
    ("name", "expected"),
    [(0, "cuda:0"), ("0", "cuda:0"), ([1], "cuda:1"), ("cuda", "cuda"), ("gpu", "cuda"), ("1", "cuda:1")],
)
def test_numbers_are_gpus(name: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *size, **options: None)
    assert resolve_device(name) == expected


@pytest.mark.parametrize("name", ["0", 0, "0,1", [0, 1], "mps", "gpu", "cuda:9", "meta", "no", True, 1.5, [], "xla"])
def test_a_device_that_is_not_here_is_refused_in_a_sentence(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError) as caught:
        SAM(device=name)
    assert str(name) in str(caught.value)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "remedy"),
    [
        ({"imgsz": 512}, "SAM(image_size=512)"),
        ({"device": "cpu"}, "SAM(device="),
        ({"half": True}, "SAM(precision='fp16')"),
        ({"save": True}, "results[0].save("),
        ({"verbose": False}, "nothing is printed"),
        ({"conf": 0.5}, "results[0].scores > 0.5"),
        ({"iou": 0.5}, "box_nms_thresh"),
        ({"retina_masks": True}, "size of the image"),
        ({"stream": True}, "model.stream(source)"),
        ({"max_det": 3}, "results[0][:100]"),
        ({"box": [1, 2, 3, 4]}, "bboxes"),
        ({"pionts": [1, 2]}, "did you mean points?"),
        ({"entirely_unknown": 1}, "it takes source, points"),
    ],
)
def test_keywords_of_other_libraries_are_refused_with_the_remedy(
    model: SAM, keyword: dict[str, Any], remedy: str
) -> None:
    for call in (model, model.predict, model.stream):
        with pytest.raises(InputError) as caught:
            call(IMAGES[0], **keyword)
        assert remedy in str(caught.value)
    with pytest.raises(InputError, match="its name here is image_size"):
        SAM(imgsz=512)  # type: ignore[call-arg]
