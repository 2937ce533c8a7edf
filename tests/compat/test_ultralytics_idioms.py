"""Everyday idioms of users of ultralytics, each run, and each a row of the table in docs/compat.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import masklet
from helpers.known_models import known_models, photograph
from masklet.compat.ultralytics import SAM
from masklet.compat.ultralytics.engine.results import Results
from masklet.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"
SIZE = (240, 320)
KEYS = {"name", "class", "confidence", "box", "segments"}
BGR = (40, 120, 220)


def is_orange(pixel: np.ndarray) -> bool:
    """Whether a pixel has the color of the object, in BGR, up to what JPEG changes."""
    return bool(abs(pixel.astype(int) - BGR).max() <= 2)


Check = Callable[[Any], object]
IDIOMS: list[tuple[str, str, Check]] = [
    ('model("dog.jpg", bboxes=box)[0]', 'sam("dog.jpg", bboxes=box)[0]', lambda got: len(got) == 1),
    ('model.predict(source="dog.jpg", bboxes=box)', 'sam.predict("dog.jpg", bboxes=box)', lambda got: len(got) == 1),
    (
        'for r in model("dog.jpg", stream=True, bboxes=box)',
        'for r in sam.stream("dog.jpg", bboxes=box)',
        lambda got: len(list(got)) == 1,
    ),
    ('model("dog.jpg", bboxes=box, imgsz=256)', "masklet.SAM(image_size=256)", lambda got: len(got)),
    ('model("dog.jpg", bboxes=box, device="cpu")', 'masklet.SAM(device="cpu")', lambda got: len(got)),
    ('model("dog.jpg", bboxes=box, conf=0.999)', "r[r.scores > 0.999]", lambda got: not got[0]),
    (
        'model("dog.jpg", bboxes=box, save=True)',
        'r.save("runs/dog.jpg")',
        lambda got: Path(got[0].save_dir, "dog.jpg").exists(),
    ),
    ('model("dog.jpg", bboxes=box, save_txt=True)', 'r.save_txt("labels/dog.txt")', lambda got: got[0].save_dir),
    ('model("dog.jpg", bboxes=box, save_crop=True)', 'r.save_crop("crops")', lambda got: got[0].save_dir),
    ('model("dog.jpg", bboxes=box, verbose=False)', 'sam("dog.jpg", bboxes=box)', lambda got: len(got)),
    ('model("dog.jpg", bboxes=box, retina_masks=True)', 'sam("dog.jpg", bboxes=box)', lambda got: len(got)),
    ("model(bgr, bboxes=box)", 'sam(bgr, bboxes=box, channels="bgr")', lambda got: len(got) == 1),
    ('model(["dog.jpg", "dog.jpg"], bboxes=box)', 'sam(["dog.jpg", "dog.jpg"], bboxes=box)', lambda got: len(got) == 2),
    ('model(Image.open("dog.jpg"), bboxes=box)', 'sam(Image.open("dog.jpg"), bboxes=box)', lambda got: len(got) == 1),
    ("model(tensor_of_images, bboxes=box)", "sam(list_of_rgb_arrays, bboxes=box)", lambda got: len(got) == 1),
    ("r.masks.data.cpu().numpy()", "r.masks.data", lambda got: got.shape == (1, *SIZE)),
    ("r.masks.xy", "r.masks.xy", lambda got: got[0].ndim == 2 and got[0].shape[1] == 2),
    ("r.masks.xyn", "r.masks.xyn", lambda got: 0 <= got[0].max() <= 1),
    ("r.boxes.xyxy", "r.boxes.xyxy", lambda got: abs(np.asarray(got)[0] - [100, 60, 220, 180]).max() < 8),
    ("r.boxes.xywhn", "r.boxes.xywhn", lambda got: 0 < float(got.min()) <= float(got.max()) < 1),
    ("r.boxes.conf.tolist()", "r.scores.tolist()", lambda got: 0 < got[0] <= 1),
    ("r.boxes.cls.int()", "r.classes", lambda got: got[0] == 0),
    ("r.boxes.data", "r.boxes.data", lambda got: got.shape == (1, 6)),
    ("[int(b.cls) for b in r.boxes]", "[int(c) for c in r.classes]", lambda got: got == [0]),
    ("len(r)", "len(r)", lambda got: got == 1),
    ("r[0]", "r[0]", lambda got: len(got) == 1),
    ("r.names", "r.names", lambda got: isinstance(got[0], str)),
    ("r.orig_img", "r.orig_img[..., ::-1]", lambda got: is_orange(got[120, 150])),
    ("r.orig_shape", "r.orig_shape", lambda got: got == SIZE),
    ("r.path", "r.path", lambda got: got == "dog.jpg"),
    ('r.speed["inference"]', 'r.speed["encode"] + r.speed["decode"]', lambda got: got >= 0),
    ("r.plot()[..., ::-1]", "r.plot()", lambda got: got.shape == (*SIZE, 3) and got.dtype == np.uint8),
    ('r.save("x.jpg")', 'r.save("x.jpg")', lambda got: cv2.imread(str(got)).shape == (*SIZE, 3)),
    ('r.save_txt("x.txt")', 'r.save_txt("x.txt")', lambda got: Path(got).read_text().startswith("0 0.")),
    (
        "r.tojson()",
        "r.to_json()",
        lambda got: json.loads(got)[0].keys() >= KEYS,
    ),
    ("r.to_df()", "r.to_df()", lambda got: len(got) == 1 and "confidence" in got),
    ("r.to_csv()", "r.to_df().to_csv()", lambda got: got.splitlines()[0].startswith(",")),
    ("r.summary()", "r.summary()", lambda got: got[0]["box"].keys() == {"x1", "y1", "x2", "y2"}),
    ("r.cpu().numpy().boxes.xyxy", "r.boxes.xyxy", lambda got: isinstance(got, np.ndarray)),
    ('r.to("cpu").masks', "r.masks", lambda got: len(got) == 1),
    ("r.verbose()", "len(r)", lambda got: got in ("1 0, ", 1)),
    ("r.boxes.xywh", "r.boxes.xywh", lambda got: abs(np.asarray(got)[0] - [160, 120, 120, 120]).max() < 8),
    ("r.boxes.xyxyn", "r.boxes.xyxyn", lambda got: 0 < float(got.min()) <= float(got.max()) < 1),
    ("r.masks[0].xy", "r[0].masks.xy", lambda got: len(got) == 1),
    ("model.task", "sam.info().name", lambda got: got == "segment"),
    (
        'model("dog.jpg", points=[160, 120], labels=[1])',
        'sam("dog.jpg", points=[160, 120], labels=[1])',
        lambda got: len(got[0]) == 1,
    ),
    (
        'model("dog.jpg", points=[[160, 120], [275, 45]])',
        'sam("dog.jpg", points=[[160, 120], [275, 45]])',
        lambda got: len(got[0]) == 2,
    ),
    (
        'model("dog.jpg", points=[[[160, 120], [20, 20]]], labels=[[1, 0]])',
        'sam("dog.jpg", points=[[[160, 120], [20, 20]]], labels=[[1, 0]])',
        lambda got: len(got[0]) == 1,
    ),
    ("(r.probs, r.keypoints, r.obb)", "(r.boxes, r.masks)", lambda got: got == (None, None, None)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = known_models(tmp_path_factory.mktemp("idioms"))
    photograph(made / "dog.png")
    cv2.imwrite(str(made / "dog.jpg"), cv2.imread(str(made / "dog.png")), [cv2.IMWRITE_JPEG_QUALITY, 100])
    return made


@pytest.fixture(scope="module")
def variables(folder: Path) -> dict[str, Any]:
    """What the idioms use."""
    from PIL import Image

    image = cv2.imread(str(folder / "dog.jpg"))
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    model = SAM(folder / "sam2.1_b.pt")
    native = masklet.SAM()
    return {
        "cv2": cv2, "Image": Image, "masklet": masklet, "model": model, "sam": native, "box": [100, 60, 220, 180],
        "bgr": image, "tensor_of_images": tensor, "list_of_rgb_arrays": [image[..., ::-1].copy()],
    }  # fmt: skip


@pytest.mark.parametrize(("code", "check"), [one[::2] for one in IDIOMS], ids=[one[0] for one in IDIOMS])
def test_an_idiom_works(
    code: str, check: Check, folder: Path, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if "r" not in variables:
        (variables["r"],) = variables["model"]("dog.jpg", bboxes=variables["box"], verbose=False)
    expression = code.removeprefix("for r in ")
    assert check(eval(expression, variables)), code


@pytest.mark.parametrize("native", sorted({native for _, native, _ in IDIOMS}))
def test_its_equivalent_works(
    native: str, folder: Path, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (r,) = variables["sam"]("dog.jpg", bboxes=variables["box"])
    assert eval(native.removeprefix("for r in "), {**variables, "r": r}) is not None


def test_the_page_has_the_table() -> None:
    rows = [f"| `{code}` | `{native}` |" for code, native, _ in IDIOMS]
    assert [line for line in PAGE.read_text().splitlines() if line in rows] == rows


def test_runs_are_numbered(
    folder: Path, variables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    given = {"bboxes": variables["box"], "save": True, "save_txt": True, "save_crop": True, "verbose": False}
    where = {"project": str(tmp_path / "runs"), "name": "dogs"}
    folders = [variables["model"]("dog.jpg", **given, **where)[0].save_dir for _ in range(3)]
    assert [Path(one).name for one in folders] == ["dogs", "dogs2", "dogs3"]
    (again,) = variables["model"]("dog.jpg", **given, **where, exist_ok=True)
    assert again.save_dir == folders[0]
    files = {path.relative_to(folders[0]).as_posix() for path in Path(folders[0]).rglob("*") if path.is_file()}
    assert files == {"dog.jpg", "labels/dog.txt", "crops/0/dog.jpg"}


def test_masks_are_those_of_masklet(folder: Path, variables: dict[str, Any]) -> None:
    source = str(folder / "dog.jpg")
    (theirs,) = variables["model"](source, bboxes=variables["box"], verbose=False)
    (ours,) = variables["sam"](source, bboxes=variables["box"])
    assert np.array_equal(theirs.masks.data.numpy(), ours.masks.data)
    assert np.array_equal(theirs.native.masks.data, ours.masks.data)
    assert theirs.native.scores.tolist() == ours.scores.tolist()
    array = variables["model"](variables["bgr"], bboxes=variables["box"], verbose=False)[0]
    assert np.array_equal(array.masks.data.numpy(), ours.masks.data)  # BGR was read as BGR


def test_the_crop_shows_the_object_in_its_colors(folder: Path, variables: dict[str, Any], tmp_path: Path) -> None:
    (r,) = variables["model"](str(folder / "dog.jpg"), bboxes=variables["box"], verbose=False)
    r.save_crop(tmp_path, "dog.png")
    crop = cv2.imread(str(tmp_path / "0" / "dog.png"))
    assert is_orange(crop[crop.shape[0] // 2, crop.shape[1] // 2])
    assert is_orange(r.plot(boxes=False, masks=False)[120, 150])


def test_an_image_without_objects_has_no_masks() -> None:
    results = Results(np.zeros((4, 6, 3), np.uint8), "empty.jpg", {}, boxes=torch.zeros(0, 6))
    assert results.masks is None
    assert len(results) == 0
    assert results.boxes.xywhn.shape == (0, 4)
    assert results.verbose() == "(no detections), "
    assert results.tojson() == "[]"
    assert results.plot().shape == (4, 6, 3)


def test_ids_are_columns_of_tracked_boxes() -> None:
    row = [[1.0, 1, 3, 3, 7, 0.5, 2]]
    results = Results(np.zeros((4, 6, 3), np.uint8), "a.jpg", {2: "dog"}, boxes=torch.tensor(row))
    assert results.boxes.is_track
    assert results.boxes.id.tolist() == [7]
    assert results.summary()[0]["track_id"] == 7
    assert results.boxes[0].xywh.tolist() == [[2, 2, 2, 2]]


def test_objects_are_chosen_by_tensors() -> None:
    rows = torch.tensor([[0.0, 0, 2, 2, 0.9, 0], [1, 1, 5, 4, 0.4, 1]])
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, :2, :2] = masks[1, 1:4, 1:5] = True
    results = Results(np.zeros((4, 6, 3), np.uint8), "a.jpg", {0: "cat", 1: "dog"}, boxes=rows, masks=masks)
    dogs = results[results.boxes.cls == 1]
    assert dogs.verbose() == "1 dog, "
    assert torch.equal(dogs.masks.data, masks[1:])
    assert [len(one) for one in results] == [1, 1]
    assert results[results.boxes.conf > 0.95].masks is None
    assert results.numpy()[1].boxes.xywhn.round(3).tolist() == pytest.approx(np.array([[0.5, 0.625, 0.667, 0.75]]))
    assert results.summary(normalize=True)[1]["box"] == {"x1": 0.16667, "y1": 0.25, "x2": 0.83333, "y2": 1.0}


def test_malformed_rows_name_their_shape() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(InputError, match=r"\(N, 6\)"):
        Results(image, "a.jpg", {}, boxes=torch.zeros(1, 5))
    with pytest.raises(InputError, match="size of the image"):
        Results(image, "a.jpg", {}, boxes=torch.zeros(1, 6), masks=torch.zeros(1, 8, 8))
    with pytest.raises(InputError, match=r"masklet\.Results"):
        Results(image, "a.jpg", {}, masks=torch.zeros(1, 4, 6))


def test_assets_are_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masklet.compat import ultralytics

    monkeypatch.setenv("MASKLET_HOME", str(tmp_path))
    files = sorted(ultralytics.ASSETS.iterdir())
    assert len(files) == 2
    assert all(cv2.imread(str(file)).ndim == 3 for file in files)


@pytest.mark.parametrize(
    ("keywords", "remedy"),
    [
        ({"augment": True}, "images are not augmented"),
        ({"visualize": True}, "predictor.features"),
        ({"classes": [0]}, "masklet.YOLO"),
        ({"imgsz": (480, 640)}, "must be one side"),
        ({"confidence": 0.5}, "no keyword of predict"),
        ({"points_stride": 8}, "without prompts"),
        ({"conf": 2}, "from 0 to 1"),
    ],
)
def test_what_is_not_possible_names_the_way(
    keywords: dict[str, Any], remedy: str, folder: Path, variables: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=remedy):
        variables["model"](str(folder / "dog.jpg"), bboxes=variables["box"], **keywords)


@pytest.mark.parametrize("method", ["train", "val", "export", "track"])
def test_other_modes_name_the_way(method: str, variables: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="masklet"):
        getattr(variables["model"], method)()
