"""Predictions of benchmarks in their layouts: what is written, resumed, zipped and scored."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import png, write_image
from helpers.predictions import store_maps, store_objects
from helpers.synthetic_truth import FRAMES, HEIGHT, WIDTH, Oracle, late, store_video
from masklet import SAM
from masklet.cli.main import run
from masklet.errors import InputError, OutputError, SourceError
from masklet.evaluate.benchmark_predictions import benchmark_videos, predict, zip_predictions
from masklet.masks.label_map import davis_palette
from masklet.prompts import ObjectPrompt

NO_IMAGES = np.zeros((0, HEIGHT, WIDTH), bool)


class Knows(Oracle):
    """An Oracle that is stopped after `left` videos."""

    def __init__(self, videos: np.ndarray, left: int = 99, shift: int = 0) -> None:
        super().__init__(NO_IMAGES, videos, shift=shift)
        self.left = left
        self.opened = 0

    def session(self, source: object, *, options: object = None) -> Oracle:
        self.opened += 1
        if self.opened > self.left:
            raise KeyboardInterrupt
        return super().session(source)

    def propagate(self, start: int | None = None, stop: int | None = None):  # type: ignore[no-untyped-def, override]
        return super().propagate(stop)


def steady() -> np.ndarray:
    """Both objects from the first frame on."""
    labels = late()
    labels[:2][:, 50:58, 45:65] = 2
    return labels


def labels_in(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of DAVIS 2017, each listed, and one that is not."""
    root = tmp_path / "DAVIS"
    for name in ("ant", "bee", "cow"):
        store_video(root, f"480p/{name}", steady(), annotated=range(FRAMES))
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("ant\nbee\n")
    return root


def test_davis_has_every_frame_in_its_palette_and_size(davis: Path, tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", davis)
    assert [video.name for video in videos] == ["ant", "bee"]
    out = predict(Knows(steady()), videos, tmp_path / "out")
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        f"{name}/{t:05d}.png" for name in ("ant", "bee") for t in range(FRAMES)
    ]
    for t, expected in enumerate(steady()):
        with Image.open(out / "ant" / f"{t:05d}.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[: 3 * 4] == davis_palette()[:4].ravel().tolist()  # type: ignore[index]
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_of_davis_2016_all_objects_are_prompted_as_one(davis: Path, tmp_path: Path) -> None:
    (davis / "ImageSets" / "2016").mkdir()
    (davis / "ImageSets" / "2016" / "val.txt").write_text("cow\n")
    videos, model = benchmark_videos("davis16", davis), Knows(np.minimum(steady(), 1))
    assert [video.name for video in videos] == ["cow"]
    out = predict(model, videos, tmp_path / "out")
    [(number, (frame, prompt))] = model.prompts.items()
    assert (number, frame) == (1, 0)
    assert prompt.mask is not None
    np.testing.assert_array_equal(prompt.mask.mask, steady()[0] > 0)
    np.testing.assert_array_equal(labels_in(out / "cow" / "00003.png"), steady()[3] > 0)


def test_a_zip_has_the_sequences_at_its_top_and_is_the_same_twice(davis: Path, tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", davis)
    predict(Knows(steady()), videos, tmp_path / "out")
    archive = zip_predictions(videos, tmp_path / "out")
    assert archive == tmp_path / "out.zip"
    with zipfile.ZipFile(archive) as file:
        assert len(file.namelist()) == 2 * FRAMES
        assert file.namelist()[0] == "ant/00000.png"
        assert file.read("bee/00003.png") == (tmp_path / "out" / "bee" / "00003.png").read_bytes()
    before = archive.read_bytes()
    assert zip_predictions(videos, tmp_path / "out").read_bytes() == before
    (tmp_path / "out" / "bee" / "00003.png").unlink()
    with pytest.raises(OutputError, match=r"00003\.png is missing"):
        zip_predictions(videos, tmp_path / "out")
    assert archive.read_bytes() == before


def test_a_stopped_run_is_resumed(davis: Path, tmp_path: Path) -> None:
    videos, out = benchmark_videos("davis17", davis), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(Knows(steady(), left=1), videos, out)
    (out / "ant" / "00005.png").unlink()  # as if it had been stopped within
    again = Knows(steady())
    predict(again, videos, out)
    assert again.opened == 2
    predict(again, videos, out)
    assert again.opened == 2
    whole = predict(Knows(steady()), videos, tmp_path / "whole")
    for file in whole.rglob("*.png"):
        assert (out / file.relative_to(whole)).read_bytes() == file.read_bytes()


def test_what_was_made_with_something_else_is_refused(davis: Path, tmp_path: Path) -> None:
    videos = benchmark_videos("davis17", davis)
    predict(Knows(steady()), videos, tmp_path / "out", "mask", model_name="one")
    with pytest.raises(OutputError, match="name another folder"):
        predict(Knows(steady()), videos, tmp_path / "out", "mask", model_name="two")
    with pytest.raises(OutputError, match="name another folder"):
        predict(Knows(steady()), videos, tmp_path / "out", "box", model_name="one")
    with pytest.raises(OutputError, match="has files"):
        predict(Knows(steady()), videos, davis)
    with pytest.raises(InputError, match="scribble"):
        predict(Knows(steady()), videos, tmp_path / "out", "scribble")


def youtube(root: Path) -> None:
    """A video of every frame, of which each second one is requested; objects are given where they come."""
    store_video(root / "valid", "ape", late(), annotated=(0, 2))
    frames = {"1": ["00000", "00002", "00004"], "2": ["00002", "00004"]}
    objects = {number: {"category": "ape", "frames": own} for number, own in frames.items()}
    (root / "valid" / "meta.json").write_text(json.dumps({"videos": {"ape": {"objects": objects}}}))


def test_youtube_vos_has_the_images_that_its_list_names(tmp_path: Path) -> None:
    youtube(tmp_path)
    videos = benchmark_videos("ytvos", tmp_path)
    model = Knows(late())
    out = predict(model, videos, tmp_path / "out")
    files = sorted((out / "Annotations" / "ape").iterdir())
    assert [file.name for file in files] == ["00000.png", "00002.png", "00004.png"]
    for file, t in zip(files, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(labels_in(file), late()[t])
    assert {number: frame for number, (frame, _) in model.prompts.items()} == {1: 0, 2: 2}
    with zipfile.ZipFile(zip_predictions(videos, out)) as file:
        assert file.namelist()[0] == "Annotations/ape/00000.png"


def test_before_the_first_object_comes_there_is_nothing(tmp_path: Path) -> None:
    labels = late()
    labels[:2] = 0
    store_video(tmp_path, "ape", labels, annotated=(2,))
    out = predict(Knows(labels), benchmark_videos("ytvos", tmp_path), tmp_path / "out")
    assert [labels_in(out / "Annotations" / "ape" / f"{t:05d}.png").max() for t in range(FRAMES)] == [0, 0, 2, 2, 2, 2]


def sav_tree(root: Path) -> np.ndarray:
    """Every second image is annotated, in folders 000 and 001."""
    labels = steady()
    for t in range(FRAMES):
        write_image(root / "JPEGImages_24fps" / "v" / f"{t:05d}.jpg", size=(HEIGHT, WIDTH))
    store_objects(root / "Annotations_6fps" / "v", labels, 2)
    return labels


def test_sa_v_has_a_folder_for_each_object(tmp_path: Path) -> None:
    labels = sav_tree(tmp_path / "sav_val")
    out = predict(Knows(labels), benchmark_videos("sav", tmp_path / "sav_val"), tmp_path / "out")
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        f"v/{name}/{t:05d}.png" for name in ("000", "001") for t in (0, 2, 4)
    ]
    np.testing.assert_array_equal(labels_in(out / "v" / "001" / "00004.png"), (labels[4] == 2) * 255)


def test_what_has_no_video_or_no_mask_is_named(davis: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose 'davis17'"):
        benchmark_videos("davis18", davis)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("ant\neel\n")
    with pytest.raises(SourceError, match="eel"):
        benchmark_videos("davis17", davis)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("ant\n")
    png(davis / "Annotations" / "480p" / "ant" / "00000.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(SourceError, match="ant has no object"):
        predict(Knows(steady()), benchmark_videos("davis17", davis), tmp_path / "out")


class Box(Knows):
    """An Oracle that accepts boxes only."""

    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> None:
        assert prompt.box is not None
        super().add_object_prompt(object_id, frame_idx, prompt)


def test_objects_can_be_prompted_by_their_boxes(davis: Path, tmp_path: Path) -> None:
    predict(Box(steady()), benchmark_videos("davis17", davis, limit=1), tmp_path / "out", "box")
    assert not (tmp_path / "out" / "bee").exists()


def command(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    with pytest.raises(SystemExit) as left:
        run(["eval", *map(str, words)])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    return output.out + output.err


def test_the_command_follows_writes_and_scores(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tracker: SAM
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    out, report = tmp_path / "out", tmp_path / "score.json"
    output = command(capsys, "davis17", "--root", davis, "--out", out, "--limit", "1", "--report", report)
    assert "davis17: 2 objects in 1 sequences" in output
    assert "out.zip: 1 videos" in output
    scored = command(capsys, "score", out, davis, "--benchmark", "davis17", "--partial")
    figures = json.loads(report.read_text())["metrics"]
    assert all(
        f"{name:<12}{value:8.4f}" in scored and f"{name:<12}{value:8.4f}" in output for name, value in figures.items()
    )


def test_without_the_truth_there_is_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    youtube(tmp_path)
    labels = np.zeros_like(late())
    labels[:3] = late()[:3]
    store_video(tmp_path / "test", "ape", labels, annotated=(0,))
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: Info(late()))
    output = command(capsys, "davis17", "--root", tmp_path / "test", "--out", tmp_path / "out")
    assert "no score" in output
    assert (tmp_path / "out.zip").is_file()
    output = command(capsys, "ytvos", "--root", tmp_path)  # here two annotations: a truth
    assert "overall       1.0000" in output
    sav_tree(tmp_path / "sav_val")
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: Info(steady()))
    assert "J&F           1.0000" in command(capsys, "sav", "--root", tmp_path / "sav_val")


def test_of_mose_the_first_frame_is_known_and_its_server_has_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store_video(tmp_path / "MOSE" / "valid", "ant", steady(), annotated=(0,))
    store_video(tmp_path / "MOSE" / "train", "bee", steady(), annotated=range(FRAMES))
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: Info(steady()))
    output = command(capsys, "mose", "--root", tmp_path / "MOSE", "--out", tmp_path / "out")
    assert "no score" in output
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        assert file.namelist() == [f"ant/{t:05d}.png" for t in range(FRAMES)]
    output = command(capsys, "mose", "--root", tmp_path / "MOSE", "--split", "train")
    assert "mose: 2 objects in 1 sequences" in output
    assert "J&F           1.0000" in output


def test_of_lvos_an_object_is_prompted_and_measured_from_where_it_comes(tmp_path: Path) -> None:
    from masklet.evaluate.benchmark_scoring import score_predictions
    from masklet.evaluate.metrics import region_similarity

    store_video(tmp_path / "valid", "ant", late(), annotated=range(FRAMES))
    videos, model = benchmark_videos("lvos", tmp_path), Knows(late(), shift=4)
    out = predict(model, videos, tmp_path / "out")
    assert {number: frame for number, (frame, _) in model.prompts.items()} == {1: 0, 2: 2}
    found = score_predictions("lvos", out, videos[0].truth_dir)
    assert [(one.id, one.frames) for one in found.objects] == [("1", FRAMES - 2), ("2", FRAMES - 4)]
    expected = [
        np.mean(
            [region_similarity(np.roll(late()[t] == n, 4, 1), late()[t] == n) for t in range(first + 1, FRAMES - 1)]
        )
        for n, first in ((1, 0), (2, 2))
    ]
    assert found.metrics["J"] == pytest.approx(np.mean(expected))
    assert found.metrics["J"] < 1


class Info(Knows):
    """Has a name, and a network in the place of its predictor."""

    name, model = "oracle", SimpleNamespace(score_family="builtin")

    def info(self) -> Info:
        return self


def test_a_folder_of_predictions_is_a_truth_of_itself(tmp_path: Path) -> None:
    """What is written is in the layout that is scored."""
    from masklet.evaluate.benchmark_scoring import score_predictions

    store_maps(tmp_path / "maps" / "a", steady())
    assert score_predictions("davis17", tmp_path / "maps", tmp_path / "maps").metrics["J&F"] == 1
