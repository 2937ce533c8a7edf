"""Every function of the NumPy stand-in gives what PyTorch gives: values, types and shapes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from masklet.tensors import numpy_functional, numpy_torch
from masklet.tensors.numpy_tensor import Tensor
from masklet.tensors.safetensors_file import read_header, read_safetensors, write_safetensors

RANDOM = np.random.default_rng(7)
ARRAYS = {
    "x": RANDOM.normal(size=(2, 3, 9, 12)).astype(np.float32),
    "y": RANDOM.normal(size=(2, 3, 9, 12)).astype(np.float32),
    "line": RANDOM.normal(size=(1, 5, 11)).astype(np.float32),
    "rows": RANDOM.normal(size=(6, 8)).astype(np.float32),
    "small": RANDOM.normal(size=(3, 4)).astype(np.float32),
    "one": np.float32([[1.5]]),
    "half": RANDOM.normal(size=(4, 4)).astype(np.float16),
    "whole": np.array([3, -1, 4, 1, -5, 9]),
    "bits": RANDOM.normal(size=(6, 8)) > 0.3,
    "bytes": RANDOM.integers(0, 255, (5, 4), np.uint8),
    "index": np.array([2, 0, 2]),
    "columns": np.array([[0, 3], [1, 1], [7, 2], [4, 4], [5, 0], [6, 7]]),
    "mask": (RANDOM.normal(size=(1, 1, 32, 48)) > 0.8).astype(np.float32),
}

EXPRESSIONS = """
torch.zeros(2, 3) | torch.zeros((2, 3), dtype=torch.int64) | torch.zeros(3, dtype=torch.bool) | torch.zeros(2, dtype=torch.float64)
torch.empty(1, device=torch.device("cpu"), dtype=torch.float32).shape | torch.eye(3) | ~torch.eye(3, dtype=torch.bool)
torch.full((2, 2), 0.5) | torch.full((2, 1), -1) | torch.full((2,), True) | torch.full((2,), 1, dtype=torch.float32)
torch.zeros_like(whole) | torch.ones_like(rows) | torch.arange(4) | torch.arange(2, 7) | torch.tensor([1.5, 2]) | torch.tensor([1, 2])
torch.tensor([True]) | torch.tensor([[1, 2], [3, 4]], dtype=torch.float32) | torch.tensor(rows.shape) | torch.tensor([])
torch.tensor([1, 2], dtype=torch.uint8) | torch.tensor([1], dtype=torch.int32) | torch.tensor([1], dtype=torch.long)
torch.from_numpy(np.ones((2, 2), np.float32)) | torch.frombuffer(bytearray(b"abc"), dtype=torch.uint8)
torch.cat([x, y]) | torch.cat([x, y], dim=1) | torch.stack([x, y]) | torch.stack([x, y], dim=-1) | torch.cat([whole, whole])
torch.cat([rows.to(torch.bfloat16), rows.to(torch.bfloat16)]).float() | torch.stack(torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij"))
torch.where(bits, rows, 0.0) | torch.where(bits, 0.0, -torch.inf) | torch.where(bits, 0, 1) | torch.where(bits, rows, rows.T.reshape(6, 8))
torch.where(whole > 2, 0, whole) | torch.where(rows > 0, rows, -1024.0)
torch.minimum(x, y) | torch.maximum(x, y) | torch.minimum(whole, whole.abs()) | torch.lerp(x, y, 0.3) | torch.lerp(x, y, 0.75) | torch.lerp(x, y, 0.0)
torch.addcmul(x, y, y) | torch.matmul(small, rows[:4]) | torch.baddbmm(x[0][:, :2, :2], x[0][:, :2], y[0][:, :2].transpose(1, 2))
torch.einsum("nm,mhw->nhw", small[:3, :3], x[0]) | torch.einsum("qc,fkc->qfk", rows, x[0][..., :8]) | torch.unflatten(rows, 1, (2, 4))
torch.unflatten(x, -1, (3, 4)) | torch.aminmax(rows)[0] | torch.aminmax(rows)[1] | torch.isfinite(torch.tensor([1.0, torch.inf]))
rows.shape | rows.ndim | len(rows) | rows.numel() | rows.element_size() | half.element_size() | rows.size(1) | rows.stride(0) | x[:1].expand(4, -1, -1, -1).stride(0)
rows.T | rows.t() | rows.reshape(4, 12) | rows.view((8, 6)) | rows.reshape(-1) | rows.flatten() | x.flatten(1) | x.flatten(2) | x.flatten(0, 1) | x.flatten(1, 2)
x[:, :, :0].flatten(1) | one.flatten() | x[:1].expand(4, -1, -1, -1) | one.expand(2, 3) | torch.tensor([1, 2]).expand(3, 2) | x.permute(0, 2, 3, 1) | x.permute((1, 0, 3, 2))
x.transpose(1, 2) | torch.stack(x.unbind(1)) | torch.stack(rows.unbind()) | rows[:, :6].diagonal() | rows.clone() | rows.T.contiguous() | rows.detach() | rows.cpu()
rows[2] | rows[1:3, ::2] | rows[..., None] | rows[[1, 0]] | rows[index] | rows[index, index] | rows[bits] | x[:, :, index] | whole[whole > 0] | rows[index[:, None], index] | rows[None, None]
torch.cat([part[None] * 2 for part in rows]) | rows.float() | rows.half() | whole.float() | rows.long() | bits.float() | bits.long() | bytes.float() | half.float()
rows.to(torch.float16) | rows.to(half) | rows.to("cpu") | rows.to(torch.device("cpu")) | rows.to(dtype=torch.float64) | rows.to("cpu", copy=True) | bits.to(rows)
rows.to(torch.bfloat16).float() | (rows * 1e30).to(torch.bfloat16).float() | torch.tensor([torch.inf, -torch.inf, 1.00390625, 1.01171875]).to(torch.bfloat16).float()
rows.to(torch.bfloat16)[1:3].float() | rows.to(torch.bfloat16).clone().half() | rows.to(torch.bfloat16).element_size()
rows.to(torch.bfloat16).contiguous().to(torch.bfloat16).float() * 2
rows.tolist() | whole.tolist() | one.item() | float(one) | int(one) | bool(one) | [0, 1, 2, 3][torch.tensor(2)] | rows.is_floating_point() | whole.is_floating_point() | rows.to(torch.bfloat16).is_floating_point()
rows.numpy().sum() | np.asarray(rows) | rows.new_zeros(2, 3) | rows.new_zeros((2, 3)) | whole.new_ones((2,)) | rows.new_ones(rows.shape[1:]) | half.new_full((2, 2), 0.5)
rows.device.type | str(rows.device) | rows.is_quantized | str(rows.dtype) | str(rows.to(torch.bfloat16).dtype) | str(bits.dtype) | rows.dtype == torch.float32 | rows.dtype == torch.float16
rows + 1 | 1 + rows | rows - rows.flatten()[0] | 1 - rows | rows * 0.5 | 2 * whole | whole * 0.5 | rows / 3 | 1 / (rows.abs() + 1) | whole / 2 | 255 * bytes.float() | -rows | rows ** 2 | whole // 2 | whole % 3
bits * 2 | rows * bits | rows * whole[:, None] | half * rows[:4, :4] | bits & (rows > 0) | bits.any() | bits.__or__(rows > 0) | ~bits | rows @ rows.T | x @ y.transpose(-1, -2)
rows == rows | rows != 0 | rows < 0 | rows <= 0.5 | rows > 0 | rows >= rows.T.reshape(6, 8) | whole == 4 | bits == 1 | half > 0.1 | 0 < rows
rows.clone().add_(1) | rows.clone().add_(rows) | rows.clone().zero_() | rows.abs() | whole.abs() | rows.exp() | (rows * 3).round() | torch.tensor([0.5, 1.5]).round()
rows.sigmoid() | (rows * 1000).sigmoid() | rows.clamp(min=0) | rows.clamp(-0.5, 0.5) | rows.clamp(max=0.1) | whole.clamp(min=1) | rows.clamp_min(0.2) | rows.softmax(1) | (rows * 100).softmax(0)
rows.masked_fill(bits, -torch.inf) | rows.sum() | rows.sum(1) | x.sum((1, 2, 3), keepdim=True) | bits.sum(1) | bytes.sum() | rows.mean() | rows.mean(0) | bits.any() | bits.any(1) | bits.any(dim=1, keepdim=True)
rows.flatten().any() | bits.all() | bits.all(0) | rows.amax(-1) | x.amax(2) | rows.max() | rows.argmax(1) | x.argmax(dim=0, keepdim=True) | rows.argmax() | bits.nonzero() | whole.nonzero()
rows.gather(1, columns) | rows.topk(3, dim=1).values | rows.topk(3, dim=1).indices | rows.topk(8, dim=1)[0] | rows.topk(2, dim=0)[1] | rows.topk(3, dim=1, sorted=False).values.sum(1)
F.interpolate(x, (20, 31), mode="bilinear", align_corners=False) | F.interpolate(x, (4, 5), mode="bilinear") | F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) | F.interpolate(x, (9, 12), mode="bilinear")
F.interpolate(x, (4, 5), mode="bilinear", antialias=True) | F.interpolate(x, (20, 17), mode="bilinear", antialias=True) | F.interpolate(mask, scale_factor=0.25, mode="bilinear", antialias=True) | F.interpolate(x, 6, mode="bilinear", antialias=True)
F.interpolate(x, (3, 4), mode="area") | F.interpolate(x, (5, 7), mode="area") | F.interpolate(line, 23, mode="linear") | F.interpolate(line, 4, mode="linear")
F.max_pool2d(x, 3) | F.max_pool2d(x, 3, 1, 1) | F.max_pool2d(x, 2) | F.max_pool2d(x, (3, 2)) | F.avg_pool2d(x, 2) | F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) | F.avg_pool2d(x, 2, ceil_mode=True) | F.avg_pool2d(x, 5, ceil_mode=True)
F.adaptive_max_pool2d(x, (4, 5)) | F.adaptive_max_pool2d(x, (9, 12)) | F.normalize(x, dim=1) | F.normalize(rows * 0, dim=-1) | F.pad(x, (0, 2, 0, 3)) | F.pad(x, (1, 2, 3, 4))
""".strip()  # noqa: E501
CASES = [case.strip() for line in EXPRESSIONS.splitlines() for case in line.split(" | ")]


def evaluate(expression: str, namespace: object, functions: object, wrap: object) -> object:
    values = {name: wrap(array.copy()) for name, array in ARRAYS.items()}  # type: ignore[operator]
    return eval(expression, {"torch": namespace, "F": functions, "np": np, **values})


@pytest.mark.parametrize("expression", CASES)
def test_the_stand_in_gives_what_pytorch_gives(expression: str) -> None:
    wanted = evaluate(expression, torch, functional, torch.from_numpy)
    found = evaluate(expression, numpy_torch, numpy_functional, numpy_torch.from_numpy)
    if isinstance(wanted, torch.Tensor):
        assert isinstance(found, Tensor)
        assert str(found.dtype) == str(wanted.dtype)
        assert found.shape == tuple(wanted.shape)
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=2e-5, atol=2e-6)
    elif isinstance(wanted, (np.ndarray, np.floating)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)  # type: ignore[arg-type]
    else:
        assert found == (tuple(wanted) if isinstance(wanted, torch.Size) else wanted)


def test_every_function_and_method_is_compared() -> None:
    public = {name for name in vars(Tensor) if not name.startswith("_")}
    for name in public - {"array", "dtype", "device"}:
        assert any(f".{name}" in case for case in CASES), name
    apart = {"backends", "cuda", "dtype", "strided", "Tensor", "get_num_threads", "set_num_threads", "inference_mode"}
    for name in set(numpy_torch.__all__) - apart:
        assert any(f"torch.{name}" in case for case in CASES), name
    for name in numpy_functional.__all__:
        assert any(f"F.{name}(" in case for case in CASES), name


def test_assignment_writes_into_the_same_memory() -> None:
    array = np.zeros((3, 4), np.float32)
    tensor = numpy_torch.from_numpy(array)
    for row in tensor[:2]:
        row[1:3] = 7
    tensor[numpy_torch.tensor([2]), 0] = numpy_torch.tensor([5.0])
    assert array[:2].tolist() == [[0, 7, 7, 0]] * 2
    assert array[2, 0] == 5


def test_bfloat16_takes_half_the_memory_and_is_no_array() -> None:
    tensor = numpy_torch.from_numpy(ARRAYS["rows"]).to(numpy_torch.bfloat16)
    assert tensor.array.nbytes * 2 == ARRAYS["rows"].nbytes
    with pytest.raises(TypeError, match="BFloat16"):
        tensor.numpy()


def test_tensors_are_pickled() -> None:
    tensor = numpy_torch.from_numpy(ARRAYS["rows"]).to(numpy_torch.bfloat16)
    again = pickle.loads(pickle.dumps(tensor))
    assert again.dtype == numpy_torch.bfloat16
    assert (again.float() == tensor.float()).all()


def test_what_is_not_there_is_an_error() -> None:
    x = numpy_torch.from_numpy(ARRAYS["x"])
    with pytest.raises(NotImplementedError, match="nearest"):
        numpy_functional.interpolate(x, (3, 3), mode="nearest")
    with pytest.raises(NotImplementedError, match="padding"):
        numpy_functional.avg_pool2d(x, 3, 1, 1)
    with pytest.raises(RuntimeError, match="only a CPU"):
        numpy_torch.empty(1, device="cuda")
    with pytest.raises(RuntimeError, match="device string"):
        numpy_torch.device("toaster")
    with pytest.raises(TypeError, match="complex64"):
        numpy_torch.from_numpy(np.zeros(2, np.complex64))


def run_python(program: str, **environment: str) -> SimpleNamespace:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return SimpleNamespace(out=done.stdout, err=done.stderr, code=done.returncode)


@pytest.mark.slow
def test_the_stand_in_can_be_chosen_and_then_pytorch_is_not_imported() -> None:
    program = "import sys, masklet.transforms as t; print(t.torch.__name__, 'torch' in sys.modules)"
    assert run_python(program, MASKLET_TENSORS="numpy").out.split() == ["masklet.tensors.numpy_torch", "False"]
    assert run_python(program).out.split() == ["torch", "True"]


def test_an_unknown_choice_is_an_error() -> None:
    done = run_python("import masklet.tensors", MASKLET_TENSORS="jax")
    assert "MASKLET_TENSORS='jax' must be 'torch' or 'numpy'" in done.err


def test_weights_need_pytorch() -> None:
    done = run_python("from masklet import SAM; SAM()", MASKLET_TENSORS="numpy")
    assert "needs PyTorch" in done.err
    assert "exported folder" in done.err


@pytest.mark.parametrize("spoil", [None, b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]"])
def test_safetensors_files_are_those_of_the_package(spoil: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    tensors = {name: numpy_torch.from_numpy(array) for name, array in ARRAYS.items()}
    tensors["brain"] = tensors["rows"].to(numpy_torch.bfloat16)
    write_safetensors(tensors, path, {"title": "small"})
    if spoil is not None:
        path.write_bytes(spoil)
        with pytest.raises(ValueError, match="header"):
            read_safetensors(path)
        return
    package = load_file(path)
    again = read_safetensors(path)
    assert set(package) == set(again) == set(tensors)
    for name, tensor in package.items():
        assert str(again[name].dtype) == str(tensor.dtype)
        np.testing.assert_array_equal(again[name].float().numpy(), tensor.float().numpy())
    save_file({name: tensor.contiguous() for name, tensor in package.items()}, path, metadata={"title": "other"})
    assert read_header(path)[0]["__metadata__"] == {"title": "other"}
    assert (read_safetensors(path)["brain"].float() == tensors["brain"].float()).all()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "4 bytes for"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "out of place"),
        ({"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}, "of type 'C64'"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "bytes behind"),
        ({"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}, "36 bytes"),
    ],
)
def test_a_damaged_safetensors_file_is_an_error(entry: dict, words: str, tmp_path: Path) -> None:
    header = json.dumps({"one": entry}).encode()
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(ValueError, match=words):
        read_safetensors(tmp_path / "file")
