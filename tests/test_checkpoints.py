"""Weight files: good ones open, every other kind is refused in words, and nothing in a file is run."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.hostile_files import Hostile, Maker, repickled, saved, words_of_refusal
from helpers.reference import published_shapes
from masklet.checkpoints import check_finite, check_shapes, identify_architecture, read_metadata, read_tensors
from masklet.errors import CheckpointError
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import expected_shapes

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def header(fields: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text + data


def overclaim(data: bytes) -> bytes:
    """2**20 numbers where 77 are stored."""
    return data.replace(b"K\x4d", b"J" + struct.pack("<i", 2**20))


def hoard(_: bytes) -> bytes:
    """bytearray(2**44)"""
    return pickle.dumps(bytearray, 2)[:-1] + b"\x8a\x06\0\0\0\0\0\x10\x85R."


def nan() -> Tensor:
    return torch.tensor([0.0, float("nan")])


# -- files that open


@pytest.mark.parametrize("content", [STATE, {"model": STATE}, {"state_dict": STATE}, {"model": STATE, "epoch": 3}])
@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_torch_files_open(tmp_path: Path, content: object, zip_format: bool, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(saved(content, _use_new_zipfile_serialization=zip_format))
    tensors = read_tensors(file)
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


def test_safetensors_open_with_their_words(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(STATE, file, metadata={"format": "pt", "steps": "12"})
    assert torch.equal(read_tensors(file)["a.weight"], STATE["a.weight"])
    assert read_metadata(file) == {"format": "pt", "steps": "12"}


def test_headers_of_earlier_versions_have_current_keys(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    old = json.loads((Path(__file__).parent / "old_weights_header.json").read_text(encoding="utf-8"))
    save_file(STATE, file, metadata={**old, "config": json.dumps(old["config"])})
    metadata = read_metadata(file)
    assert metadata["license"] == "Apache-2.0"
    assert metadata.keys() == {"format", "license", "config"}
    assert json.loads(metadata["config"]) == {
        "image_size": 288,
        "still_image_size": 512,
        "stability_threshold": 0.0,
        "memory": {"channels": 64},
    }


def test_the_header_of_the_builtin_model_describes_its_network() -> None:
    from masklet.registry import BUILTIN, MODELS, locate

    metadata = read_metadata(locate(MODELS[BUILTIN]))
    assert metadata["license"] == "Apache-2.0"
    config, current = json.loads(metadata["config"]), json.loads(json.dumps(asdict(CONFIGS["builtin"])))
    added = {name: current["memory"].pop(name) for name in ("perceiver", "key_pooling")}  # later than the file
    assert config == current
    assert set(added.values()) == {None}


def test_a_config_that_is_not_json_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(STATE, file, metadata={"config": "no json"})
    assert read_metadata(file) == {"config": "no json"}


def test_what_masklet_wrote_beside_the_tensors_of_a_torch_file(tmp_path: Path) -> None:
    written = {"model": "efficienttam_ti_2", "license": "Apache-2.0"}
    torch.save({"model": STATE, "masklet": {**written, "step": 7, 1: "one"}}, tmp_path / "w.pt")
    assert read_metadata(tmp_path / "w.pt") == written


def test_torch_files_carry_no_words(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(saved(STATE))
    assert read_metadata(str(file)) == {}


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    save_file(STATE, file)
    assert read_tensors(file).keys() == STATE.keys()


def test_parameters_come_back_as_plain_tensors(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(saved(torch.nn.Linear(2, 2).state_dict(keep_vars=True)))
    assert not any(t.requires_grad for t in read_tensors(file).values())


def test_tied_tensors_are_no_bomb(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    weight = torch.rand(64, 64)
    file.write_bytes(saved({"encoder": weight, "decoder": weight, "part": weight[:2]}))
    assert read_tensors(file)["part"].shape == (2, 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8])
def test_kinds_of_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(saved({"a": torch.ones(3, dtype=dtype), "none": torch.empty(0, dtype=dtype)}))
    assert read_tensors(file)["a"].dtype == dtype


# -- files that do not; what is written, and words the error must hold

REFUSED: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "empty": (lambda _: b"", ("is empty", "download it again")),
    "zeros": (lambda _: bytes(100), ("nothing but zeros",)),
    "text": (lambda _: b"hello, these are no weights", ("a text file", "'hello, these")),
    "utf-8 text, cut inside a letter": (lambda _: "ä".encode() * 400 + b"x", ("a text file",)),
    "html": (lambda _: b"\n<!DOCTYPE html><html>Sign in</html>", ("an HTML page", "in a browser")),
    "lfs pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 156008466\n",
        ("Git LFS pointer of a file of 156008466 bytes", "git lfs pull"),
    ),
    "image": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(60), ("a PNG image",)),
    "noise": (lambda _: b"\xf7\x01\x93\xaa" * 50, ("no format masklet knows", "f7 01 93 aa")),
    "zip without tensors": (lambda _: zipped({"notes.txt": b"x"}), ("without tensors", "notes.txt")),
    "empty zip": (lambda _: zipped({}), ("without tensors", "nothing")),
    "truncated torch file": (lambda _: saved({"a": torch.rand(999)})[:2000], ("cut short at 2000 bytes",)),
    "truncated legacy file": (
        lambda _: saved({"a": torch.rand(999)}, _use_new_zipfile_serialization=False)[:2000],
        ("damaged",),
    ),
    "torchscript": (
        lambda _: zipped({"m/data.pkl": b"", "m/constants.pkl": b""}),
        ("a TorchScript program", "state dict"),
    ),
    "zip bomb": (
        lambda _: zipped({"m/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED),
        ("unpacks to more than its size",),
    ),
    "hostile pickle in a zip": (
        lambda d: saved({"model": Hostile(d / "proof")}),
        ("mkdir", "nothing in it was run", "torch.save"),
    ),
    "hostile legacy pickle": (lambda d: pickle.dumps(Hostile(d / "proof"), 2), ("nothing in it was run",)),
    "hostile protocol 4 pickle": (
        lambda d: pickle.dumps(Hostile(d / "proof"), 4),
        ("a Python pickle that PyTorch did not write", "nothing in it was run"),
    ),
    "whole network": (
        lambda _: saved(torch.nn.Linear(1, 1)),
        ("torch.nn.modules.linear.Linear", "saved whole"),
    ),
    "damaged pickle": (
        lambda _: repickled(lambda _: b"\x80\x02garbage."),
        ("damaged or holds more",),
    ),
    "no dictionary": (lambda _: saved([1, 2]), ("one list, not names with tensors",)),
    "lone tensor": (lambda _: saved(torch.ones(2)), ("one Tensor, not names",)),
    "no tensors": (lambda _: saved({"model": {}}), ("without a single tensor",)),
    "values that are no tensors": (lambda _: saved({"a": torch.ones(1), "b": 3}), ("'b' is of type int",)),
    "names that are no words": (lambda _: saved({1: torch.ones(1)}), ("names other than text, such as 1",)),
    "training checkpoint": (
        lambda _: saved({"net": STATE, "optimizer": {}, "epoch": 7}),
        ("a training checkpoint", "net, optimizer, epoch"),
    ),
    "stride-0 bomb": (lambda _: saved({"a": torch.zeros(1).expand(10**12)}), ("claims 4000000000000 bytes",)),
    "one storage under many names": (
        lambda _: saved(dict.fromkeys([f"t{i}" for i in range(2000)], torch.rand(10**4))),
        ("whose tensors claim 80000000 bytes",),
    ),
    "storage that claims too much": (lambda _: repickled(overclaim), ("damaged or holds more",)),
    "pickle that asks for memory": (lambda _: repickled(hoard), ("damaged or holds more",)),
    "sparse": (lambda _: saved({"a": torch.eye(3).to_sparse()}), ("not a plain one",)),
    "meta": (lambda _: saved({"a": torch.empty(3, device="meta")}), ("not a plain one", "meta")),
    "nan": (lambda _: saved({"fine": torch.ones(2), "bad.one": nan()}), ("NaN or infinity", "bad.one")),
    "infinity in bf16": (
        lambda _: saved({"bad": torch.tensor([float("-inf")], dtype=torch.bfloat16)}),
        ("NaN or infinity", "bad"),
    ),
    "safetensors cut in the header": (
        lambda _: header({"a": "b" * 500})[:60],
        ("cut short", "header claims"),
    ),
    "safetensors cut in the data": (
        lambda _: header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"1234"),
        ("a damaged safetensors file",),
    ),
    "safetensors that claims too much": (
        lambda _: header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}, b"1234"),
        ("a damaged safetensors file",),
    ),
    "safetensors without tensors": (lambda _: header({"__metadata__": {}}), ("without a single tensor",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    message = words_of_refusal(read_tensors, make, tmp_path)
    assert all(word in message for word in words), message


def test_the_hostile_pickle_is_hostile(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt does not exist"):
        read_tensors(tmp_path / "none.pt")


def test_a_folder_names_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"a folder. Give a file in it: w\.safetensors"):
        read_tensors(tmp_path)


def test_metadata_of_a_foreign_file(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_metadata(file)


def test_finite_values_pass() -> None:
    check_finite({"a": torch.tensor([3e38, -3e38]), "b": torch.empty(0)}, path="w.pt")


# -- whether tensors fit

TINY = "sam2.1_hiera_tiny"


def refusal(found: dict[str, tuple[int, ...]]) -> str:
    with pytest.raises(CheckpointError) as caught:
        check_shapes(published_shapes(TINY), found, path="w.pt", model_name=TINY)
    return str(caught.value)


def test_the_same_tensors_fit() -> None:
    check_shapes(published_shapes(TINY), published_shapes(TINY), path="w.pt", model_name=TINY)


def test_the_first_five_and_the_count_are_listed() -> None:
    found = published_shapes("sam2.1_hiera_small")
    message = refusal(found)
    first, *rest = message.splitlines()
    extra = [name for name in found if name not in published_shapes(TINY)]
    assert first == f"w.pt does not hold {TINY}: 2 of 471 tensors missing, {len(extra)} unexpected, 22 misshapen."
    assert [name for name in extra if f"    {name} " in message] == extra[:5]
    assert f"and {len(extra) - 5} more" in message
    assert "and 17 more" in message
    assert rest[-1].startswith("It looks like SAM 2.1 small.")


def test_missing_and_misshapen_tensors_are_named() -> None:
    found = published_shapes(TINY)
    del found["no_mem_embed"]
    found["no_obj_ptr"] = (1, 128)
    message = refusal(found)
    assert "1 of 471 tensors missing, 0 unexpected, 1 misshapen" in message
    assert "no_mem_embed 1x1x256" in message
    assert "no_obj_ptr 1x128, not 1x256" in message


def test_unknown_tensor_names_are_refused() -> None:
    assert "no network masklet knows" in refusal({"weird": (1,)})


SAM1 = {"mask_decoder.iou_token.weight": (1, 256)}
YOLO = {"model.22.cv3.0.2.weight": (80, 80, 1, 1)}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({**SAM1, "image_encoder.pos_embed": (1, 64, 64, 768)}, "SAM 1 ViT-B"),
        ({**SAM1, "image_encoder.pos_embed": (1, 64, 64, 1280)}, "SAM 1 ViT-H"),
        ({"vision_encoder.pos_embed": (1, 64, 64, 1024)}, "SAM 1 ViT-L in the naming of transformers"),
        ({**SAM1, "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)}, "MobileSAM"),
        ({**SAM1, "mask_decoder.hf_token.weight": (1, 256)}, "HQ-SAM"),
        ({**YOLO, "model.0.conv.weight": (16, 3, 3, 3)}, "YOLOv8n, a detector of 80 classes"),
        (
            {**YOLO, "model.0.conv.weight": (48, 3, 3, 3), "model.22.proto.cv1.conv.weight": (1,)},
            "YOLOv8m-seg with 80 classes",
        ),
        (
            {
                "model.0.conv.weight": (32, 3, 3, 3),
                "model.22.cv3.0.2.weight": (1, 128, 1, 1),
                "model.22.proto.cv1.conv.weight": (1,),
            },
            "FastSAM-s",
        ),
        ({"model.0.conv.weight": (16, 3, 3, 3)}, "a YOLO network, not a version 8 one"),
        ({"roi_heads.box_head.fc6.weight": (1024, 12544)}, "a torchvision detector (Mask R-CNN or kin)"),
        ({"sam_mask_decoder.iou_token.weight": (1, 256)}, "a SAM 2 with a custom image encoder"),
        ({"weird": (1,)}, None),
        ({}, None),
    ],
)
def test_families_are_recognized(found: dict[str, tuple[int, ...]], words: str | None) -> None:
    assert identify_architecture(found) == words


@pytest.mark.parametrize("version", ["2", "2.1"])
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_every_published_model_is_recognized(version: str, size: str) -> None:
    found = published_shapes(f"sam{version}_hiera_{size}")
    assert identify_architecture(found) == f"SAM {version} {size}"
    wrapped = {f"module.{name}": shape for name, shape in found.items()}
    assert identify_architecture(wrapped) == f"SAM {version} {size}, with 'module.' before its names"


@pytest.mark.parametrize(
    ("name", "words"),
    [("edgetam", "EdgeTAM"), ("efficienttam_ti", "EfficientTAM Ti"), ("efficienttam_s", "EfficientTAM S")],
)
def test_edgetam_and_efficienttam_are_recognized(name: str, words: str) -> None:
    found = published_shapes(name)
    assert identify_architecture(found) == words
    with pytest.raises(CheckpointError, match=f"It looks like {words}"):
        check_shapes(expected_shapes(CONFIGS["sam2_hiera_tiny"]), found, path="w.pt", model_name="sam2_hiera_tiny")
