"""An exported folder runs where PyTorch cannot be imported, nor anything else but NumPy, OpenCV, Pillow and PyAV."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.exported_folder import write_memory_attentions
from helpers.networks import network_to_export
from helpers.traced_graphs import trace_once
from masklet import SAM
from masklet.export import export_model
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
from masklet.load_model import LoadedModel

pytestmark = pytest.mark.slow
MISSING = ("torch", "torchvision", "onnx", "safetensors", "filelock", "jinja2", "scipy", "pandas", "typing_extensions")
COMMAND_LINE = ("typer", "rich", "click")
BY_COMMAND_LINE = ("filelock", "typing_extensions")
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
OPTIONS = "points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0"
PROGRAM = """
import numpy as np
from masklet import SAM
from masklet.image.automatic_mask_generator import MaskGeneratorOptions
folder, image, video, out = sys.argv[1:]
rgb, frames, found = np.load(image), np.load(video), {{}}
model = SAM(folder, threads=1)
found["click"] = model(rgb, points=[30, 25])[0].logits
found["box"] = model(rgb, bboxes=[10, 12, 70, 50], multimask=True)[0].logits
found["mask"] = model(rgb, masks=rgb[..., 0] > 200)[0].logits
found["everything"] = model(rgb, everything=MaskGeneratorOptions({options}))[0].masks.data.sum((1, 2))
with model.session(frames, retain="all") as session:
    session.add_prompt(1, frame_idx=4, points=[30, 25])
    session.add_prompt(2, frame_idx=4, box=[60, 30, 90, 60])
    for frame in session.propagate(bidirectional=True):
        found[f"frame{{frame.frame_idx}}"] = frame.masks.data
for memory in ("samurai", "dam4sam"):
    with model.session(frames, memory=memory) as session:
        session.add_prompt(1, frame_idx=0, points=[30, 25])
        found[memory] = np.stack([frame.masks.data for frame in session.propagate()])
live = model.live()
live.add_prompt(1, points=[20, 25])
for index, frame in enumerate(frames):
    found[f"live{{index}}"] = live.step(frame).masks.data
np.savez(out, **found)
print("torch" in sys.modules)
"""


@pytest.fixture(scope="module", params=["small", pytest.param("builtin", marks=pytest.mark.whole)])
def in_torch(request: pytest.FixtureRequest) -> SAM:
    """The model, and the one of the package, whose graphs take a minute to trace."""
    if request.param == "builtin":
        return SAM(precision="fp32")
    loaded = LoadedModel(network_to_export(), "small", Path("small.pt"), None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("masklet.sam.model.load", lambda *given: loaded)
        return SAM(precision="fp32")


@pytest.fixture(scope="module")
def folder(in_torch: SAM, tmp_path_factory: pytest.TempPathFactory, traced_graphs: Path) -> Path:
    """All parts, with memory attention for one memory and for seven; the tests compare what the graphs find.

    `export/test_export_model` compares all graphs through twenty frames, and `test_video_network` selects among three.
    """
    with pytest.MonkeyPatch.context() as patched:
        trace_once(traced_graphs, patched)
        write_memory_attentions(patched, 1, 7)
        frames, masks = export_model.sample_video()
        patched.setattr(export_model, "sample_video", lambda: (frames[:8], masks))
        return in_torch.export(
            tmp_path_factory.mktemp("exported") / "onnx", export_model.ModelExportOptions(parts="all")
        )


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory, small_video: np.ndarray) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("arrays")
    np.save(root / "image.npy", small_video[2])
    np.save(root / "video.npy", small_video)
    return root / "image.npy", root / "video.npy"


def run_program(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MASKLET_TENSORS"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def without_torch(folder: Path, arrays: tuple[Path, Path]) -> dict[str, np.ndarray]:
    """What the program finds in a process in which none of these packages can be imported."""
    out = arrays[0].with_name("found.npz")
    program = BLOCK.format(names=(*MISSING, *COMMAND_LINE)) + PROGRAM.format(options=OPTIONS)
    done = run_program(program, folder, *arrays, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
    with np.load(out) as found:
        return dict(found)


def test_images_are_segmented_as_with_pytorch(
    in_torch: SAM, without_torch: dict[str, np.ndarray], small_video: np.ndarray
) -> None:
    rgb = small_video[2]
    wanted = {
        "click": in_torch(rgb, points=[30, 25]),
        "box": in_torch(rgb, bboxes=[10, 12, 70, 50], multimask=True),
        "mask": in_torch(rgb, masks=rgb[..., 0] > 200),
    }
    for name, results in wanted.items():
        np.testing.assert_allclose(without_torch[name], results[0].logits, atol=2e-2, err_msg=name)
    options = MaskGeneratorOptions(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    areas = in_torch(rgb, everything=options)[0].masks.data.sum((1, 2))
    np.testing.assert_allclose(without_torch["everything"], areas, atol=4)


def test_videos_are_tracked_as_with_pytorch(
    in_torch: SAM, without_torch: dict[str, np.ndarray], small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.transforms.HAS_TORCH", False)  # frames are resized by Pillow there
    with in_torch.session(small_video, retain="all") as session:
        session.add_prompt(1, frame_idx=4, points=[30, 25])
        session.add_prompt(2, frame_idx=4, box=[60, 30, 90, 60])
        frames = list(session.propagate(bidirectional=True))
    assert len(frames) == len(small_video)
    differing = [np.mean(without_torch[f"frame{one.frame_idx}"] != one.masks.data) for one in frames]
    assert max(differing) < 0.01
    live = in_torch.live()
    live.add_prompt(1, points=[20, 25])
    steps = [live.step(frame).masks.data for frame in small_video]
    assert max(np.mean(without_torch[f"live{i}"] != one) for i, one in enumerate(steps)) < 0.01
    assert any(one.any() for one in steps)
    for memory in ("samurai", "dam4sam"):
        with in_torch.session(small_video, memory=memory) as session:
            session.add_prompt(1, frame_idx=0, points=[30, 25])
            masks = np.stack([frame.masks.data for frame in session.propagate()])
        assert np.mean(without_torch[memory] != masks) < 0.01


def test_the_command_line_runs_without_pytorch(folder: Path, small_video: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(small_video):
        Image.fromarray(frame).save(frames / f"{index:02d}.png")
    blocked = BLOCK.format(names=tuple(name for name in MISSING if name not in BY_COMMAND_LINE))
    program = f"{blocked}\nsys.argv[0] = 'masklet'\nfrom masklet.__main__ import main\nmain()"
    masks, tracked = tmp_path / "masks", tmp_path / "tracked"
    image = frames / "00.png"
    done = run_program(program, "segment", image, "--model", folder, "-p", "20,25", "-f", "png", "-o", masks)
    assert done.returncode == 0, done.stderr
    assert (masks / "00.png").is_file()
    done = run_program(program, "track", frames, "--model", folder, "-p", "20,25", "-f", "png", "-o", tracked)
    assert done.returncode == 0, done.stderr
    assert len(list(tracked.rglob("*.png"))) == len(small_video)
    done = run_program(program, "info", folder)
    assert "onnxruntime" in done.stdout
    done = run_program(program, "segment", image, "-p", "20,25", "-o", masks)
    assert done.returncode == 2
    assert "needs PyTorch" in done.stderr
    assert "Traceback" not in done.stderr
    done = run_program(program, "val", "--data", frames)
    assert "PyTorch" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_command_lines_packages_one_line_says_so() -> None:
    program = f"{BLOCK.format(names=COMMAND_LINE)}\nfrom masklet.__main__ import main\nmain()"
    done = run_program(program, "info")
    assert done.returncode == 1
    assert done.stderr.strip() == "masklet: typer is not installed, and this needs it: pip install typer"
