"""Fixtures that several test files use."""

from __future__ import annotations

import ctypes
import functools
import gc
import multiprocessing
import os
import re
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.folder_processes import FolderProcesses, can_fork, own_bytes
from helpers.reference import ENCODED, encode_images_once, filled_network

if TYPE_CHECKING:
    from masklet import SAM

os.environ["MASKLET_PRECISION_TRIAL"] = "0"  # a time decides no test; what asks for a trial sets it again


TESTS = Path(__file__).parent
IMPORT_MUCH = (
    "benchmark", "benchmarks_peers", "compat", "detect", "docs", "export", "exported", "scale", "train",
    "cli/test_bench_models.py", "cli/test_demo.py", "cli/test_train.py", "datasets/test_other_readers.py",
    "evaluate/test_image_clicks.py", "models/sam2/test_checkpointing.py", "test_results.py", "test_sam_train.py",
)  # fmt: skip
"""Folders and files whose tests import pandas, transformers, onnxscript, OpenVINO or what optimizers need."""
SHARE_MUCH = ("scale/test_ray.py", "docs/test_ray.py", "exported/test_without_torch.py", "export")
"""Files and folders whose tests share what takes long to make: a Ray cluster, an exported model, traced graphs."""


def pytest_configure(config: pytest.Config) -> None:
    """Run fast tests in forks, without pyarrow: pandas would import it, 60 MB in each process, and none needs it."""
    if config.option.markexpr == "not slow":
        sys.modules.setdefault("pyarrow", None)  # type: ignore[arg-type]
        if can_fork(config):
            config.pluginmanager.register(FolderProcesses(config))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files whose tests are all slow before they import transformers or a browser, 100 MB in each process."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return True if re.search(r"^pytestmark = .*\bmark\.slow\b", text, re.MULTILINE) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the fast tests that import much in the middle, so that one process at a time needs memory for it.

    With `--dist worksteal` each begins with one half, and takes from the end of the other's when it is done. Among all
    tests those that share much come first, so that one process runs them and makes it once. Those that are marked as
    whole run where -m names them.
    """
    if "whole" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("whole")])
        items[:] = [item for item in items if not item.get_closest_marker("whole")]
    if config.option.markexpr != "not slow":
        sharing = [{TESTS / name, *(TESTS / name).rglob("test_*.py")} for name in SHARE_MUCH]
        ranks = {path: rank for rank, paths in enumerate(sharing) for path in paths}
        items.sort(key=lambda item: ranks.get(item.path, len(sharing)))
        return
    importing = {path for name in IMPORT_MUCH for path in [TESTS / name, *(TESTS / name).rglob("test_*.py")]}
    much = [item for item in items if item.path in importing]
    little = [item for item in items if item.path not in importing]
    half = len(items) // 2
    items[:] = [*little[:half], *much, *little[half:]]


def pytest_collection_finish() -> None:
    """Exempt what the imports made from garbage collection, which then takes milliseconds, not 0.4 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _command_built_once() -> Iterator[None]:
    """Build the commands of a command line once, not for every line: 75 ms each time, for hundreds of lines."""
    import typer.main
    import typer.testing

    with pytest.MonkeyPatch.context() as patched:
        once = functools.cache(typer.main.get_command)
        patched.setattr(typer.main, "get_command", once)
        patched.setattr(typer.testing, "_get_command", once)
        yield


@pytest.fixture(autouse=True)
def _same_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the next test the threads that this one had: `--threads 2` is for a whole process."""
    import torch

    from masklet import cpu_threads

    threads = torch.get_num_threads()
    for name in ("_chooser", "_chooser_made"):
        monkeypatch.setattr(cpu_threads, name, getattr(cpu_threads, name))
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


GROWN_LITTLE = 16e6
"""Bytes that a process may grow by before its garbage is collected, which takes up to a tenth of a second."""
collected_at = [0.0]
"""The bytes that this process had when that was done last."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Give the memory of a file's networks and images back to the system when its last test is done.

    A fixture's teardown is too early: the test still has its arguments.
    """
    done = yield
    if nextitem is None or nextitem.path != item.path:
        filled_network.cache_clear()
        BUILTIN_LOADED.clear()
        ENCODED.clear()
        if sys.platform != "linux":
            gc.collect()
        elif own_bytes() > collected_at[0] + GROWN_LITTLE:
            gc.collect()
            if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
                libc.malloc_trim(0)
            collected_at[0] = own_bytes()
    return done


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes of a worker pool from one that has imported PyTorch, which spares each of them two seconds.

    Users' are fresh, as in the tests that do without this fixture.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["masklet.annotate.labeler", "masklet.evaluate.benchmark_predictions"])
        monkeypatch.setattr("masklet.worker_pool.SpawnProcess", context.Process)


BUILTIN_LOADED: list[tuple[Any, dict[str, Any]]] = []
"""The built-in model of `small_models`, once it is loaded, and the attributes of its network."""


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that `SAM` opens sees 96 x 96 pixels: that commands and the code of a page run depends on no size.

    The built-in model is loaded once for a file of tests.
    """
    from masklet.load_model import load

    def load_small(model: Any, *given: Any, **options: Any) -> Any:
        if model is not None:
            loaded, values = load(model, *given, **options), {}
        else:
            if not BUILTIN_LOADED:
                loaded = load()
                BUILTIN_LOADED.append((loaded, dict(vars(loaded.network))))
            [(loaded, values)] = BUILTIN_LOADED
        network: Any = loaded.network
        vars(network).update(values)  # as it was loaded, whatever the last command chose
        network.image_size, network.still_image_size_override = 96, None
        network.video_pixels, network.edge_radius = 96**2, None
        return loaded

    monkeypatch.setattr("masklet.sam.model.load", load_small)


@pytest.fixture(scope="session")
def traced_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `trace_once`."""
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(scope="session")
def builtin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the built-in network with random weights, the same in every run: tests need no training."""
    import torch
    from safetensors.torch import save_file

    from masklet.models.sam2 import CONFIGS, SAM2

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SAM2(CONFIGS["builtin"])
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def tracking_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `builtin_file`, with weights that predict objects whose masks change from frame to frame."""
    import torch
    from safetensors.torch import save_file

    from masklet.models.sam2 import CONFIGS, SAM2
    from masklet.train.initialization import init_weights

    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = SAM2(CONFIGS["builtin"])
        init_weights(network)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    presence = max(name for name in tensors if "pred_obj_score_head" in name and name.endswith("bias"))
    tensors[presence] = tensors[presence] + 1.0
    path = tmp_path_factory.mktemp("weights") / "tracking.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="session")
def tracker(tracking_file: Path) -> Iterator[SAM]:
    """A model of `tracking_file` at 96 x 96 pixels, which takes a tenth of the time, and encodes each frame once."""
    from masklet import SAM

    with pytest.MonkeyPatch.context() as patch:
        model = SAM(tracking_file)
        network: Any = model.predictor.model
        network.set_image_size(96)
        network.edge_radius = None
        encode_images_once(patch, network)
        vars(model.predictor.encode)["owner"] = network  # which was made before
        yield model


@pytest.fixture
def memory_tracker(tracker: SAM) -> Iterator[SAM]:
    """As `tracker`, half by memory: weights that were never trained answer every prior alike."""
    network = tracker.predictor.model
    config = network.config
    network.config = replace(config, matching=replace(config.matching, memory_weight=0.5))
    yield tracker
    network.config = config


@pytest.fixture(scope="session")
def small_video() -> np.ndarray:
    """A red square that moves over a gradient: (10, 64, 96, 3) RGB uint8; a click at 20, 25 is on it at first."""
    rows, columns = np.mgrid[:64, :96]
    frames = np.empty((10, 64, 96, 3), np.uint8)
    frames[:] = np.stack([rows * 2, columns * 2, rows + columns], axis=2)
    for number, frame in enumerate(frames):
        frame[15:40, 10 + 3 * number : 35 + 3 * number] = (220, 40, 40)
    return frames
