"""How a model runs reaches each command that opens one: threads, providers, memory of fewer frames or pooled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.exported_folder import write_folder
from helpers.networks import CONVNET, small_network
from masklet import SAM, cpu_threads
from masklet.benchmark.video import VideoBenchmarkJob, measure_video
from masklet.errors import InputError
from masklet.exported import RuntimeOptions
from masklet.server import ServerOptions
from masklet.server.work_sessions import ServerState
from masklet.video import RecentFrames, TrackOptions

Masklet = Callable[..., Any]
WORDS = ["--threads", 2, "--providers", "CPUExecutionProvider", "--graph-cache", "graphs"]
WANTED = RuntimeOptions(2, ("CPUExecutionProvider",), Path("graphs"))


@pytest.fixture
def opened_with(monkeypatch: pytest.MonkeyPatch) -> list[RuntimeOptions]:
    """The options with which folders are opened; opening ends in an error."""
    found: list[RuntimeOptions] = []

    def open_exported(folder: object, options: RuntimeOptions) -> object:
        found.append(options)
        raise InputError("opened")

    monkeypatch.setattr("masklet.sam.model.open_exported", open_exported)
    return found


@pytest.fixture
def exported(folder: Path) -> Path:
    return write_folder(folder / "small-onnx", small_network(CONVNET))


@pytest.fixture
def torch_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(cpu_threads, "_chooser", cpu_threads._chooser)
    monkeypatch.setattr(cpu_threads, "_chooser_made", cpu_threads._chooser_made)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "words",
    [
        ["segment", "a.png", "--point", "30,20"],
        ["generate", "a.png"],
        ["track", "video.mp4", "--point", "30,20"],
        ["track", "video.mp4"],
    ],
)
def test_options_reach_the_runtime(
    masklet: Masklet, opened_with: list[RuntimeOptions], exported: Path, video: Path, words: list[str]
) -> None:
    done = masklet(*[video if word == "video.mp4" else word for word in words], "--model", exported, *WORDS)
    assert (done.code, done.err) == (2, "masklet: opened\n")
    assert opened_with == [WANTED]


def test_options_reach_the_model_of_a_server_and_of_a_benchmark(
    opened_with: list[RuntimeOptions], exported: Path, tmp_path: Path
) -> None:
    state = ServerState(ServerOptions(tmp_path / "zoo.masklet", model=str(exported), runtime=WANTED))
    with closing(state), pytest.raises(InputError, match="opened"):
        state.queue.run(lambda model: model)
    with pytest.raises(InputError, match="opened"):
        measure_video(
            VideoBenchmarkJob(str(exported), threads=2, providers=WANTED.providers, graph_cache=str(WANTED.cache_dir))
        )
    assert opened_with == [WANTED, WANTED]


def test_threads_are_those_of_pytorch_with_weights(torch_threads: None, builtin_file: Path) -> None:
    SAM(builtin_file, threads=3)
    assert torch.get_num_threads() == 3
    with pytest.raises(InputError, match="threads=0"):
        SAM(builtin_file, threads=0)


def test_providers_do_not_go_with_weights(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    done = masklet("segment", "a.png", "--point", "3,3", "--model", builtin_file, "--providers", "GPU,CPU")
    assert done.code == 2
    assert "providers=['GPU', 'CPU'] is for exported folders" in done.err


def test_options_of_the_command_reach_the_model_and_the_rule(
    masklet: Masklet, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    class Model:
        def session(self, source: object, **options: Any) -> object:
            found.append(options["options"])
            raise InputError("opened")

    def open_model(*options: object) -> Model:
        found.append(options[-1])
        return Model()

    monkeypatch.setattr(sys.modules["masklet.cli.track"], "open_model", open_model)
    words = ["--memories", 3, "--pointers", 4, "--memory-pooling", 2]
    assert masklet("track", video, "--point", "20,25", *words).code == 2
    assert found == [2, TrackOptions(memory_selector=RecentFrames(3, 4))]
    for word in ("--memories=7", "--pointers=0", "--memory-pooling=3"):
        assert masklet("track", video, "--point", "20,25", word).code == 2
    assert len(found) == 2
