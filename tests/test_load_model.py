"""From files to networks: which one a file holds is read from its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.networks import HIERA
from helpers.reference import published_shapes, reference_model
from masklet import SAM
from masklet.errors import CheckpointError, InputError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import to_transformers
from masklet.registry import MODELS


@pytest.fixture(scope="module")
def tiny() -> Iterator[dict[str, torch.Tensor]]:
    """Weights of the published parts behind a small image encoder, which counts as published in this file."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("sam2_hiera_tiny", "sam2.1_hiera_tiny"):
            patched.setitem(CONFIGS, name, replace(CONFIGS[name], trunk=HIERA))
        model = reference_model("sam2.1_hiera_tiny", small_trunk=True)
        yield {name: tensor.clone() for name, tensor in model.state_dict().items()}


def saved(folder: Path, kind: str, state: dict[str, torch.Tensor]) -> Path:
    """The same weights in one of the ways they are published."""
    path = folder / "called_anything.bin"
    if kind == "published .pt":
        torch.save({"model": state}, path)
    elif kind == "bare .pt":
        torch.save(state, path)
    elif kind == "safetensors":
        save_file(state, path)
    else:
        named = to_transformers(state)
        save_file({name: tensor.clone() for name, tensor in named.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["published .pt", "bare .pt", "safetensors", "transformers safetensors"])
def test_the_same_weights_however_they_are_saved(tmp_path: Path, tiny: dict[str, torch.Tensor], kind: str) -> None:
    loaded = load(saved(tmp_path, kind, tiny))
    assert loaded.name == "sam2.1_hiera_tiny"
    found = loaded.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tiny.items())


def test_sam2_weights_are_distinguished_from_sam2_1_weights(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> None:
    older = {n: t for n, t in tiny.items() if not n.startswith(("no_obj_embed_spatial", "obj_ptr_tpos_proj"))}
    assert load(saved(tmp_path, "bare .pt", older)).name == "sam2_hiera_tiny"


def test_half_precision_files_are_read(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> None:
    halved = {name: tensor.half() for name, tensor in tiny.items()}
    network = load(saved(tmp_path, "bare .pt", halved)).network
    assert all(t.dtype == torch.float32 for t in network.state_dict().values())


def test_one_missing_tensor_is_named(tmp_path: Path, tiny: dict[str, torch.Tensor]) -> None:
    short = {name: tensor for name, tensor in tiny.items() if name != "sam_mask_decoder.iou_token.weight"}
    with pytest.raises(CheckpointError, match=r"sam_mask_decoder\.iou_token\.weight"):
        load(saved(tmp_path, "bare .pt", short))


def test_another_network_is_named(tmp_path: Path) -> None:
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    with pytest.raises(CheckpointError, match="ResNet"):
        SAM(saved(tmp_path, "bare .pt", resnet))


@pytest.fixture(scope="module")
def efficienttam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of EfficientTAM Ti, under a name that says nothing."""
    path = tmp_path_factory.mktemp("efficienttam") / "weights.pt"
    shapes = published_shapes("efficienttam_ti")
    torch.save({"model": {name: torch.zeros(shape) for name, shape in shapes.items()}}, path)
    return path


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("efficienttam_ti.pt", "efficienttam_ti"),
        ("efficienttam_ti_1.pt", "efficienttam_ti_1"),
        ("tuned-EfficientTAM-ti-2.pt", "efficienttam_ti_2"),
        ("efficienttam_ti_512x512.pt", "efficienttam_ti_512x512"),
        ("efficienttam_ti (1).pt", "efficienttam_ti"),
        ("efficienttam_s_1.pt", "efficienttam_ti_1"),  # the size is that of the tensors
    ],
)
def test_the_name_of_a_file_says_which_variant_it_is(tmp_path: Path, efficienttam: Path, file: str, name: str) -> None:
    (tmp_path / file).symlink_to(efficienttam)
    loaded = load(tmp_path / file)
    assert loaded.name == name
    assert loaded.network.config == CONFIGS[name]
    assert loaded.card is MODELS[name]
    assert loaded.variant is not None
    assert "by the file's name" in loaded.variant


def test_a_variant_that_nothing_says_is_given_or_assumed(efficienttam: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(efficienttam).variant == "base (assumed: neither its tensors nor its name tell)"
    assert "weights.pt is an EfficientTAM of unknown variant" in caplog.text
    caplog.clear()
    info = SAM(efficienttam, variant="2").info()
    assert not caplog.text
    assert info.name == "efficienttam_ti_2"
    assert "variant: 2 (as given)" in str(info)
    assert SAM(efficienttam, variant="512x512").info().image_size == 512


def test_a_given_variant_wins_over_the_name(tmp_path: Path, efficienttam: Path) -> None:
    (tmp_path / "efficienttam_ti_1.pt").symlink_to(efficienttam)
    assert load(tmp_path / "efficienttam_ti_1.pt", variant="base").name == "efficienttam_ti"


def test_wrong_variants_are_refused(efficienttam: Path) -> None:
    with pytest.raises(InputError, match="variant='3' is unknown; choose one of base, 1, 2, 512x512"):
        load(efficienttam, variant="3")
    with pytest.raises(InputError, match="is for EfficientTAM, and builtin has no variants"):
        SAM(variant="1")


def test_edgetam_takes_sizes_that_its_perceiver_can_cut(tmp_path: Path) -> None:
    shapes = published_shapes("edgetam")
    counters = {n: torch.zeros(s, dtype=torch.long) for n, s in shapes.items() if n.endswith("num_batches_tracked")}
    torch.save({"model": {name: torch.zeros(s) for name, s in shapes.items()} | counters}, tmp_path / "a.pt")
    model = SAM(tmp_path / "a.pt", image_size=512)
    assert (model.info().name, model.info().image_size, model.info().variant) == ("edgetam", 512, None)
    with pytest.raises(InputError, match="image_size=288 must be a multiple of 256 for this model"):
        SAM(tmp_path / "a.pt", image_size=288)
