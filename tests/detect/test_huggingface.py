"""Detectors of the `transformers` extra, opened from folders, beside the library's own reading of their answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.tiny_huggingface import MAKERS, NAMES, make
from masklet.detect import Detections, DetectOptions
from masklet.detect.huggingface import HubDetector, open_hub_detector
from masklet.detect.huggingface_files import is_hub_name, resolve_model_dir
from masklet.errors import CheckpointError, DownloadError, InputError, MissingExtraError

pytestmark = pytest.mark.slow  # loads transformers, a hundred megabytes

TEXT = "A dog. a red leash."
TEXT_KINDS = ("grounding_dino", "owlv2")
CLASS_KINDS = tuple(kind for kind in MAKERS if kind not in TEXT_KINDS)
Opener = Callable[..., HubDetector]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small wait for a second thread longer than it helps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("hub")

    def get(kind: str) -> Path:
        return root / kind if (root / kind).is_dir() else make(kind, root / kind)

    return get


@pytest.fixture(scope="module")
def opened(folder: Callable[[str], Path]) -> Opener:
    def get(kind: str, **how: Any) -> HubDetector:
        text = {"text": TEXT} if kind in TEXT_KINDS else {}
        return open_hub_detector(folder(kind), DetectOptions(**{"conf": 0.0, "iou": 1.0, **text, **how}), "cpu")

    return get


def images() -> list[Any]:
    """Of odd sizes, two of them alike."""
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((57, 83), (120, 91), (57, 83))]


def _as_the_library_reads(kind: str, folder: Path, rgb: Any) -> list[tuple[list[float], float, int]]:
    """Boxes, scores and classes by the library's own post-processing, best first, cut to the image."""
    import transformers as hf

    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(images=Image.fromarray(rgb), return_tensors="pt")
    size = [rgb.shape[:2]]
    if kind in TEXT_KINDS:
        tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        network = hf.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
        words = ["A dog", "a red leash"] if kind == "owlv2" else TEXT.lower()
        inputs.update(tokenizer(words, return_tensors="pt", padding=True))
    else:
        network = hf.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.inference_mode():
        answer = network(**inputs)
    if kind == "grounding_dino":
        both = hf.GroundingDinoProcessor(processor, tokenizer)
        found = both.post_process_grounded_object_detection(answer, inputs["input_ids"], 0.0, 0.25, size)[0]
        return _in_order(found, [0] * len(found["scores"]), rgb.shape)
    found = processor.post_process_object_detection(answer, 0.0, size)[0]
    return _in_order(found, found["labels"], rgb.shape)


def _in_order(found: Any, labels: Any, shape: tuple[int, ...]) -> list[tuple[list[float], float, int]]:
    height, width = shape[:2]
    rows = []
    for box, score, label in zip(found["boxes"].tolist(), found["scores"].tolist(), labels, strict=True):
        cut = [min(max(n, 0), edge) for n, edge in zip(box, (width, height, width, height), strict=True)]
        if np.float32(cut[2]) > np.float32(cut[0]) and np.float32(cut[3]) > np.float32(cut[1]):
            rows.append((cut, score, int(label)))
    return sorted(rows, key=lambda row: -row[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_it_finds_what_the_library_reads(kind: str, folder: Callable[[str], Path], opened: Opener) -> None:
    for rgb, found in zip(images(), opened(kind).detect(images()), strict=True):
        expected = _as_the_library_reads(kind, folder(kind), rgb)
        assert len(found) == len(expected) >= 3
        assert found.xyxy == pytest.approx(np.array([box for box, _, _ in expected]), abs=2e-3)
        assert found.scores == pytest.approx(np.array([score for _, score, _ in expected]), abs=1e-5)
        if kind != "grounding_dino":  # there the library gives words, which may be of both phrases
            assert found.classes.tolist() == [label for _, _, label in expected]


def test_the_phrase_is_that_of_the_best_token(folder: Callable[[str], Path], opened: Opener) -> None:
    """What the library calls the box with one phrase alone, we call so too."""
    import transformers as hf

    rgb, detector = images()[0], opened("grounding_dino")
    processor = hf.AutoImageProcessor.from_pretrained(folder("grounding_dino"), backend="pil")
    tokenizer = hf.AutoTokenizer.from_pretrained(folder("grounding_dino"))
    inputs = {**processor(images=Image.fromarray(rgb), return_tensors="pt"), **tokenizer(TEXT, return_tensors="pt")}
    with torch.inference_mode():
        probability = detector.network(**inputs).logits[0].sigmoid().numpy()
    words = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert words == ["[CLS]", "a", "dog", ".", "a", "red", "leash", ".", "[SEP]"]
    leash = probability[:, 4:7].max(1) > probability[:, 1:3].max(1)
    expected = dict(zip(np.round(probability[:, :9].max(1), 5).tolist(), leash.astype(int).tolist(), strict=True))
    found = detector.detect([rgb])[0]
    assert {*found.classes.tolist()} == {0, 1}
    for score, number in zip(np.round(found.scores, 5).tolist(), found.classes.tolist(), strict=True):
        assert expected[score] == number


@pytest.mark.parametrize("kind", ["rt_detr", "detr", "grounding_dino", "owlv2"])
def test_neighbors_in_a_batch_change_nothing(kind: str, opened: Opener) -> None:
    detector = opened(kind)
    together = detector.detect(images())
    for rgb, found in zip(images(), together, strict=True):
        alone = detector.detect([rgb])[0]
        assert found.xyxy == pytest.approx(alone.xyxy, abs=1e-3)
        assert found.classes.tolist() == alone.classes.tolist()
    assert detector.detect([]) == []


def test_names_are_the_classes_or_the_phrases(opened: Opener) -> None:
    assert opened("rt_detr").names == NAMES
    assert opened("owlv2").names == opened("grounding_dino").names == {0: "A dog", 1: "a red leash"}


def test_options_hold(opened: Opener) -> None:
    all_of_them = opened("rt_detr").detect(images()[:1])[0]
    middle = float(np.sort(all_of_them.scores)[-4])
    few = opened("rt_detr", conf=middle, max_det=2).detect(images()[:1])[0]
    assert few.scores.tolist() == all_of_them.scores[:2].tolist()
    kept = opened("rt_detr", classes=("leash",)).detect(images()[:1])[0]
    assert kept.scores.tolist() == all_of_them.scores[all_of_them.classes == 2].tolist()
    assert 0 < len(kept) < len(all_of_them)


def test_detectors_by_text_answer_an_object_once(opened: Opener) -> None:
    crowded = opened("owlv2").detect(images()[:1])[0]
    distinct = opened("owlv2", iou=0.05).detect(images()[:1])[0]
    assert 0 < len(distinct) < len(crowded)
    assert opened("owlv2", iou=0.05).detect(images()[:1])[0].scores[0] == crowded.scores[0]


def test_long_narrow_images_are_read(opened: Opener) -> None:
    narrow = np.zeros((3, 300, 3), np.uint8)
    for kind in ("rt_detr", "detr"):
        found = opened(kind).detect([narrow])[0]
        assert isinstance(found, Detections)
        assert (found.xyxy[:, 2] <= 300).all()
        assert (found.xyxy[:, 3] <= 3).all()


@pytest.mark.parametrize(
    ("kind", "how", "message"),
    [
        ("rt_detr", {"classes": ("dgo",)}, "Did you mean 'dog'"),
        ("rt_detr", {"text": "a dog"}, "takes no text"),
        ("owlv2", {"text": None}, "no text was given: text='a dog. a leash.'"),
        ("owlv2", {"classes": ("a cat",)}, "It has 0 A dog, 1 a red leash"),
        ("owlv2", {"text": "a dog a dog a dog a dog"}, "10 tokens in a phrase, and 8 are read"),
        ("grounding_dino", {"text": "a dog. " + "a red car " * 8}, "and 24 are read"),
    ],
)
def test_invalid_classes_and_texts_are_refused(kind: str, how: dict[str, Any], message: str, opened: Opener) -> None:
    with pytest.raises(InputError) as error:
        opened(kind, **how)
    assert message in str(error.value)


def test_the_offline_error_names_the_download_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    with pytest.raises(DownloadError) as error:
        open_hub_detector("somebody/a-detector@no_timm", DetectOptions())
    assert "MASKLET_OFFLINE is set" in str(error.value)
    assert "hf download somebody/a-detector --revision no_timm --local-dir DIR" in str(error.value)


def test_whatever_the_hub_answers_is_one_kind_of_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def failing(*args: object, **how: object) -> str:
        raise OSError("no route to host.\nsecond line")

    monkeypatch.delenv("MASKLET_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    with pytest.raises(DownloadError, match=r"no route to host\. Where there is a network"):
        resolve_model_dir("somebody/a-detector")


def test_what_the_hub_has_must_be_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **how: str(tmp_path))
    with pytest.raises(DownloadError, match=r"no model\.safetensors"):
        resolve_model_dir("somebody/a-detector")
    (tmp_path / "model.safetensors").touch()
    assert resolve_model_dir("somebody/a-detector") == tmp_path


def test_older_weights_are_taken_where_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Callable[[str], Path]
) -> None:
    import huggingface_hub
    from safetensors.torch import load_file

    older = tmp_path / "detr"
    shutil.copytree(folder("detr"), older)
    torch.save(load_file(older / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (older / "model.safetensors").unlink()

    def fetch(name: str, allow_patterns: list[str], **how: object) -> str:
        if "pytorch_model*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").rename(older / "pytorch_model.bin")
        return str(older)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    found = open_hub_detector("somebody/older", DetectOptions(conf=0.0)).detect(images()[:1])[0]
    same = open_hub_detector(folder("detr"), DetectOptions(conf=0.0)).detect(images()[:1])[0]
    assert (found.xyxy == same.xyxy).all()


def test_only_numbers_and_settings_are_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    requested: dict[str, Any] = {}
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **how: requested.update(how, name=name) or str(tmp_path)
    )
    resolve_model_dir("somebody/a-detector@branch/x")
    assert (requested["name"], requested["revision"]) == ("somebody/a-detector", "branch/x")
    assert not [pattern for pattern in requested["allow_patterns"] if pattern.endswith((".py", ".bin", ".pt", "*"))]


def test_names_of_the_hub_have_an_owner() -> None:
    assert is_hub_name("PekingU/rtdetr_r50vd")
    assert is_hub_name("facebook/detr-resnet-50@no_timm")
    assert not any(is_hub_name(name) for name in ("yolov8n.pt", "a/b/c", "/abs/path", "a b/c", "./x/y"))


def _spoiled(source: Path, target: Path, spoil: Callable[[Path], object]) -> Path:
    shutil.copytree(source, target)
    spoil(target)
    return target


def _forget_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["class_labels_classifier.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _of_timm(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["backbone_config"] = {"model_type": "timm_backbone", "backbone": "resnet50"}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be opened"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "cannot be opened"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be opened"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), "cannot be opened"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "cannot be opened"),
        (_forget_a_tensor, "lacks 1 of the detector's tensors, the first is class_labels_classifier.weight"),
        (_of_timm, "detr-resnet-50@no_timm"),
    ],
)
def test_a_damaged_model_folder_is_refused(
    spoil: Callable[[Path], object], message: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    spoiled = _spoiled(folder("detr"), tmp_path / "detr", spoil)
    with pytest.raises(CheckpointError) as error:
        open_hub_detector(spoiled)
    assert message in str(error.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, folder: Callable[[str], Path]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"masklet\[transformers\]"):
        open_hub_detector(folder("detr"))


def test_opening_leaves_the_library_as_talkative_as_it_was(opened: Opener, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    opened("rt_detr").detect(images()[:1])
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
