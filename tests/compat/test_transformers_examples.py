"""The examples of transformers' documentation on `masklet.compat.transformers`, and beside transformers itself.

Weights are small and the same; transformers needs torchvision for its processors, and timm for EdgeTAM.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import transformers_examples as examples
from helpers.reference import GOLDEN, golden_image, module_at
from helpers.transformers_examples import Recording
from helpers.transformers_folders import edgetam_folder, sam1_folder, sam2_folder, use_small_networks
from masklet.compat import transformers as ours

pytest.importorskip("transformers", reason="transformers (extra 'test') is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TOLERANCE = 5e-3
"""Of the deviation, of the largest difference of numbers: memory is bf16 in both, and rounding adds up."""
OVERLAP = 0.999
FRAMES = 6
EXAMPLES = ("sam2 images", "sam images", "videos", "stream", "everything sam", "everything sam2")
KINDS = GOLDEN / "transformers_examples.json"


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_small_networks(patch)
        yield


@pytest.fixture(scope="module")
def original() -> ModuleType:
    """transformers with its processors."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "adapters"))
    try:
        pytest.importorskip("torchvision_ops").import_torchvision()
        import transformers
    except ImportError:
        pytest.skip("torchvision is not installed, which processors of transformers need")
    finally:
        sys.path.pop(0)
    return transformers


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sam2_folder(tmp_path_factory.mktemp("transformers") / "sam2")


@pytest.fixture(scope="module")
def sam1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sam1_folder(tmp_path_factory.mktemp("transformers") / "sam1")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    first = Image.fromarray(golden_image()).resize((900, 600))
    return [first, first.transpose(Image.Transpose.ROTATE_180).resize((640, 400))]


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    clip: np.ndarray = module_at(GOLDEN / "portable" / "scene.py").clip(FRAMES)
    return clip


def agree(mine: Recording, reference: Recording) -> None:
    """Keys, types, shapes, ids and their order are the same; masks overlap, and numbers are close."""
    assert mine.kinds == reference.kinds
    for name, theirs in reference.arrays.items():
        found = mine.arrays[name]
        if theirs.dtype == bool:
            assert overlap(found, theirs) > OVERLAP, name
        else:
            deviation = max(float(theirs.std()), 1.0)
            assert np.abs(found.astype(float) - theirs).max() <= TOLERANCE * deviation, name


def overlap(mine: np.ndarray, theirs: np.ndarray) -> float:
    union = np.count_nonzero(mine | theirs)
    return float(np.count_nonzero(mine & theirs) / union) if union else 1.0


def visible(record: Recording, name: str) -> list[float]:
    """The part of each recorded mask of this name that is inside."""
    return [float(array.mean()) for key, array in record.arrays.items() if key.endswith(name)]


def run(name: str, library: Any, request: pytest.FixtureRequest) -> Recording:
    """Run one of the examples that need neither timm nor a network of the published size."""
    images, frames = request.getfixturevalue("images"), request.getfixturevalue("frames")
    sam1, sam2 = request.getfixturevalue("sam1"), request.getfixturevalue("sam2")
    square = images[0].resize((240, 240))
    calls: dict[str, Callable[[], Recording]] = {
        "sam2 images": lambda: examples.single_images(library, sam2, images, "Sam2Model", "Sam2Processor"),
        "sam images": lambda: examples.sam_images(library, sam1, images),
        "videos": lambda: examples.videos(library, sam2, frames),
        "stream": lambda: examples.stream(library, sam2, frames),
        "everything sam": lambda: examples.everything(library, sam1, square),
        "everything sam2": lambda: examples.everything(library, sam2, square),
    }
    return calls[name]()


@pytest.mark.parametrize("name", EXAMPLES)
def test_answers_are_those_of_transformers(name: str, original: ModuleType, request: pytest.FixtureRequest) -> None:
    """In images that are not square the grid of SAM 2 covers a part only in transformers 5.23."""
    agree(run(name, ours, request), run(name, original, request))


@pytest.mark.parametrize("name", EXAMPLES)
def test_answers_have_the_recorded_keys_and_shapes(name: str, request: pytest.FixtureRequest) -> None:
    """As transformers 5.23 gave them, where it is not at hand with torchvision."""
    found = run(name, ours, request)
    assert json.loads(json.dumps(found.kinds)) == json.loads(KINDS.read_text())[name]
    masks = visible(found, "binary")
    assert not masks or min(masks) > 0.01


def test_edgetam_on_images(original: ModuleType, images: list[Image.Image], tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed, which EdgeTAM of transformers needs")
    folder = edgetam_folder(tmp_path / "edgetam", video=False)
    names = ("EdgeTamModel", "Sam2Processor")
    agree(*(examples.single_images(library, folder, images, *names) for library in (ours, original)))


def test_edgetam_on_a_video(original: ModuleType, frames: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed, which EdgeTAM of transformers needs")
    folder = edgetam_folder(tmp_path / "edgetam", video=True)
    mine, theirs = (examples.videos(library, folder, frames, "EdgeTamVideoModel") for library in (ours, original))
    shape = theirs.kinds.pop("mask.object_score_logits")  # of a mask theirs has one dimension less than of points
    assert mine.kinds.pop("mask.object_score_logits") == [shape[0], [1, 1]]
    agree(mine, theirs)


def test_padding_changes_nothing(original: ModuleType, sam2: Path, images: list[Image.Image]) -> None:
    """Inputs are padded as in transformers; each object is segmented as transformers does it without padding."""
    mine, theirs = (examples.padded_images(library, sam2, images) for library in (ours, original))
    model = original.Sam2Model.from_pretrained(sam2)
    for (inputs, outputs), (their_inputs, their_outputs) in zip(mine, theirs, strict=True):
        assert list(inputs) == list(their_inputs)
        assert all(torch.equal(inputs[name], their_inputs[name]) for name in ("input_labels", "original_sizes"))
        assert torch.allclose(inputs["input_points"], their_inputs["input_points"], atol=1e-4)
        assert outputs.pred_masks.shape == their_outputs.pred_masks.shape
        for image in range(2):
            for n in range(2):
                count = int((inputs["input_labels"][image, n] != -10).sum())
                if not count:
                    assert (outputs.pred_masks[image, n] < 0).all()
                    continue
                alone = {
                    name: their_inputs[name][image : image + 1, n : n + 1, :count]
                    for name in ("input_points", "input_labels")
                }
                with torch.no_grad():
                    expected = model(their_inputs["pixel_values"][image : image + 1], **alone, multimask_output=False)
                assert torch.allclose(outputs.pred_masks[image, n], expected.pred_masks[0, 0], atol=1e-2)


def test_names_and_processors_of_folders(sam1: Path, sam2: Path) -> None:
    assert isinstance(ours.AutoModel.from_pretrained(sam1), ours.SamModel)
    assert isinstance(ours.AutoModel.from_pretrained(sam2), ours.Sam2Model)
    assert isinstance(ours.AutoProcessor.from_pretrained(sam1), ours.SamProcessor)
    assert ours.AutoProcessor.from_pretrained(sam2).target_size == 256
    assert isinstance(ours.AutoProcessor.from_pretrained("facebook/sam-vit-base"), ours.SamProcessor)


def test_a_correction_is_used_when_its_frame_is_reached(sam2: Path, frames: np.ndarray) -> None:
    """The page's example of refinement; transformers 5.23 tracks as if nothing had been added."""
    model, processor = ours.Sam2VideoModel.from_pretrained(sam2), ours.Sam2VideoProcessor.from_pretrained(sam2)
    session = processor.init_video_session(video=list(frames))

    def prompt(frame_idx: int, points: Any, labels: Any) -> None:
        processor.add_inputs_to_inference_session(session, frame_idx, 2, [[points]], [[labels]])

    prompt(0, [[90, 130]], [1])
    before = [output.pred_masks for output in model.propagate_in_video_iterator(session)]
    prompt(3, [[220, 180], [60, 60]], [1, 0])
    after = [output.pred_masks for output in model.propagate_in_video_iterator(session)]
    assert [torch.equal(a, b) for a, b in zip(before[:3], after[:3], strict=True)] == [True] * 3
    assert not torch.allclose(before[3], after[3], atol=0.1)
    assert not torch.allclose(before[5], after[5], atol=0.1)


def test_an_object_has_no_mask_before_its_first_prompt(sam2: Path, frames: np.ndarray) -> None:
    model, processor = ours.Sam2VideoModel.from_pretrained(sam2), ours.Sam2VideoProcessor.from_pretrained(sam2)
    session = processor.init_video_session(video=list(frames))
    for number, frame_idx in ((4, 2), (1, 0)):
        processor.add_inputs_to_inference_session(session, frame_idx, number, [[[[90, 130]]]], [[[1]]])
    first, _, third = model.propagate_in_video_iterator(session, max_frame_num_to_track=2)
    assert first.object_ids == [4, 1]
    assert (first.pred_masks[0] == -1024).all()
    assert (first.pred_masks[1] > 0).any()
    assert (third.pred_masks[0] > 0).any()
