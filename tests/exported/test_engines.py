"""Each runtime runs a graph by the names of its inputs and outputs, from any number of threads."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masklet.errors import CheckpointError, InputError, MissingExtraError
from masklet.exported.graphs import RuntimeOptions, check_signature, signature
from masklet.exported.onnxruntime_engine import OnnxRuntimeEngine
from masklet.exported.openvino_core import import_openvino, openvino_core
from masklet.exported.openvino_engine import OpenVinoEngine
from masklet.exported.torch_engine import TorchEngine

PART = "memory_encoder"
SIGNATURE = signature(PART, has_finer_maps=True, has_keys=False)
INPUTS = {"image_embeddings": (1, 2, 3, 4), "masks": ("N", 1, 3, 4), "object_scores": ("N", 1), "prompted": (1,)}


class Sum(torch.nn.Module):
    def forward(self, image: Any, masks: Any, scores: Any, prompted: Any) -> Any:
        return image + masks * prompted + scores[..., None, None]


def write_graph(folder: Path) -> Path:
    """The features plus the masks of each object, times `prompted`, plus its score."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Mul", ["masks", "prompted"], ["scaled"]),
        helper.make_node("Add", ["image_embeddings", "scaled"], ["sum"]),
        helper.make_node("Constant", [], ["last"], value=helper.make_tensor("last", TensorProto.INT64, [2], [2, 3])),
        helper.make_node("Unsqueeze", ["object_scores", "last"], ["scores"]),
        helper.make_node("Add", ["sum", "scores"], ["memory"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in INPUTS.items()],
        [helper.make_tensor_value_info("memory", TensorProto.FLOAT, ("N", 2, 3, 4))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "sum.onnx")
    return folder / "sum.onnx"


def make_engine(kind: str, folder: Path, options: RuntimeOptions | None = None) -> Any:
    options = options or RuntimeOptions()
    if kind == "torch":
        example = tuple(torch.zeros([3 if side == "N" else side for side in shape]) for shape in INPUTS.values())
        objects = torch.export.Dim("N", min=1, max=64)
        program = torch.export.export(Sum(), example, dynamic_shapes=(None, {0: objects}, {0: objects}, None))
        torch.export.save(program, folder / "sum.pt2")
        return TorchEngine({PART: folder / "sum.pt2"}, {PART: SIGNATURE}, options, 1)
    path = write_graph(folder)
    if kind == "onnx":
        return OnnxRuntimeEngine({PART: path}, {PART: SIGNATURE}, options, 1)
    import_openvino().save_model(openvino_core().read_model(path), folder / "sum.xml")
    return OpenVinoEngine({PART: folder / "sum.xml"}, {PART: SIGNATURE}, options, 1)


def arrays(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {name: [count if side == "N" else side for side in shape] for name, shape in INPUTS.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def wanted(inputs: dict[str, np.ndarray]) -> np.ndarray:
    scores = inputs["object_scores"][..., None, None]
    return np.asarray(inputs["image_embeddings"] + inputs["masks"] * inputs["prompted"] + scores)


def test_openvino_reports_nothing_to_its_makers() -> None:
    """In a fresh process: importing it is what it reports first."""
    if importlib.util.find_spec("openvino_telemetry") is None:
        pytest.skip("openvino_telemetry is not installed")
    code = (
        "import sys; from masklet.exported.openvino_core import openvino_core; openvino_core();"
        "from openvino.tools.ovc import telemetry as t; print(type(t).__module__, 'openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


@pytest.mark.parametrize("kind", ["onnx", "openvino", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # of the runtimes
def test_a_graph_runs_for_any_number_of_objects_and_threads(kind: str, tmp_path: Path) -> None:
    engine = make_engine(kind, tmp_path)
    for count in (1, 3, 2):
        inputs = arrays(count, count)
        np.testing.assert_allclose(engine.run(PART, inputs)["memory"], wanted(inputs), atol=1e-5)
    transposed = {name: np.asfortranarray(value) for name, value in arrays(3, 4).items()}
    np.testing.assert_allclose(engine.run(PART, transposed)["memory"], wanted(transposed), atol=1e-5)
    many = [arrays(2, seed) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda inputs: engine.run(PART, inputs)["memory"], many))
    for inputs, memory in zip(many, found, strict=True):
        np.testing.assert_allclose(memory, wanted(inputs), atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "openvino", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_no_graph_is_an_error(kind: str, tmp_path: Path) -> None:
    engine = make_engine(kind, tmp_path)
    engine.files[PART].write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match=r"sum\.\w+ cannot be loaded by .*export"):
        engine.load(PART)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_graph_of_another_part_is_an_error(kind: str, tmp_path: Path) -> None:
    engine = make_engine(kind, tmp_path)
    engine.signatures[PART] = signature("prompt_decoder", has_finer_maps=False, has_keys=False)
    with pytest.raises(CheckpointError, match="is another graph: it has no input has_mask_input"):
        engine.load(PART)


@pytest.mark.parametrize(
    ("kind", "name", "known"),
    [("onnx", "CUDA", "CPUExecutionProvider"), ("openvino", "TPU", "CPU"), ("torch", "CPU", "are for other runtimes")],
)
@pytest.mark.filterwarnings("ignore")
def test_a_provider_that_is_not_there_is_an_error(kind: str, name: str, known: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=known):
        make_engine(kind, tmp_path, RuntimeOptions(providers=(name,)))


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_is_named(kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    make = OnnxRuntimeEngine if kind == "onnx" else OpenVinoEngine
    with pytest.raises(MissingExtraError, match=f"{package} is not installed.*pip install {package}"):
        make({PART: tmp_path / "sum"}, {PART: SIGNATURE}, RuntimeOptions(), 1)


def test_openvino_keeps_what_it_compiled(tmp_path: Path) -> None:
    engine = make_engine("openvino", tmp_path, RuntimeOptions(cache_dir=tmp_path / "cache"))
    engine.run(PART, arrays(1, 0))
    assert any((tmp_path / "cache").iterdir())


def test_openvino_compiles_the_first_shapes_and_then_one_graph_for_any(tmp_path: Path) -> None:
    engine = make_engine("openvino", tmp_path)
    for count in (1, 2, 1, 3, 4, 5, 9, 2):
        inputs = arrays(count, count)
        np.testing.assert_allclose(engine.run(PART, inputs)["memory"], wanted(inputs), atol=1e-6)
    compiled = [key[2] and key[2][1][0] for key in engine._compiled]  # the objects of `masks`
    assert compiled == [1, 2, 3, None]
    assert len(engine._local.requests) == 4


def test_many_objects_have_one_graph_from_the_first_on(tmp_path: Path) -> None:
    engine = make_engine("openvino", tmp_path)
    engine.run(PART, arrays(64, 0))
    assert [key[2] for key in engine._compiled] == [None]


def test_precisions_share_graphs_and_are_those_of_the_processor(tmp_path: Path) -> None:
    engine = make_engine("openvino", tmp_path)
    assert engine.in_precision("fp32") is engine
    engine.precisions = ("fp32", "bf16")  # a processor without bf16 runs it in fp32, which is enough here
    rounded = engine.in_precision("bf16")
    assert (rounded.precision, engine.precision) == ("bf16", "fp32")
    assert rounded.in_precision("bf16") is rounded
    inputs = arrays(2, 0)
    assert np.array_equal(rounded.run(PART, inputs)["memory"], engine.run(PART, inputs)["memory"])
    assert len(engine._compiled) == 1  # memory is encoded in fp32 by both
    engine.precisions = ("fp32",)
    with pytest.raises(InputError, match="precision='bf16' does not go with this exported folder, which runs in fp32"):
        engine.in_precision("bf16")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torch_keeps_what_it_compiled_and_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.aot_inductor.compile_wrapper_opt_level", "O0", raising=False)
    options = RuntimeOptions(cache_dir=tmp_path / "cache")
    engine = make_engine("torch", tmp_path, options)
    assert engine.description.endswith("cpu, compiled")
    for count in (1, 3):
        inputs = arrays(count, count)
        np.testing.assert_allclose(engine.run(PART, inputs)["memory"], wanted(inputs), atol=1e-5)
    [compiled] = (tmp_path / "cache").iterdir()

    def compile_again(*_: object, **__: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", compile_again)
    again = TorchEngine(engine.files, {PART: SIGNATURE}, options, 1)
    inputs = arrays(2, 5)
    np.testing.assert_allclose(again.run(PART, inputs)["memory"], wanted(inputs), atol=1e-5)
    compiled.unlink()
    with pytest.raises(AssertionError, match="compiled again"):
        TorchEngine(engine.files, {PART: SIGNATURE}, options, 1).load(PART)


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_compiled_is_an_error_that_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    with monkeypatch.context() as patched:
        patched.setattr("shutil.which", lambda name: None)
        with pytest.raises(InputError, match=r"no C\+\+ compiler was found .*install g\+\+.*or leave cache_dir out"):
            make_engine("torch", tmp_path, RuntimeOptions(cache_dir=cache))

    def fail(*_: object, package_path: str, **__: object) -> None:
        Path(package_path).write_bytes(b"half")
        raise RuntimeError("C++ compile error\nmany lines")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fail)
    engine = make_engine("torch", tmp_path, RuntimeOptions(cache_dir=cache))
    with pytest.raises(InputError, match=r"sum\.pt2 cannot be compiled \(C\+\+ compile error\): leave out cache_dir"):
        engine.load(PART)
    assert list(cache.iterdir()) == []


def test_signatures() -> None:
    assert signature("image_encoder", has_finer_maps=True, has_keys=True)[1][-1] == "matching_keys"
    assert signature("memory_attention_4", has_finer_maps=True, has_keys=True)[1] == ("conditioned",)
    check_signature(Path("a"), PART, SIGNATURE, SIGNATURE)


INTERRUPTED = """
import faulthandler, pathlib, signal, sys
from masklet.exported.graphs import RuntimeOptions, signature
from masklet.exported.openvino_engine import OpenVinoEngine

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
faulthandler.enable()  # gives the thread a stack for signals, as pytest does and Ray
file, part = pathlib.Path(sys.argv[1]), sys.argv[2]
signatures = {part: signature(part, has_finer_maps=True, has_keys=False)}
engines = []
for _ in range(2):
    engines.append(OpenVinoEngine({part: file}, signatures, RuntimeOptions(), 1))
    engines[-1].load(part)
del engines[0]
del engines[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_ctrl_c_is_survived_when_engines_of_openvino_were_dropped(tmp_path: Path) -> None:
    make_engine("openvino", tmp_path)
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "sum.xml"), PART]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
