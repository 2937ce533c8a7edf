"""Environments of peers are created completely or not at all, and again for other versions; pip is a stub."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.__main__ import run
from benchmarks.environments import (
    PEERS,
    PipInstall,
    create_environment,
    environment_dir,
    environment_python,
    find_peer,
    installed_packages,
    remove_environments,
)
from masklet.errors import InputError, OutputError, StateError

SAM2 = find_peer("sam2")
LISTED = json.dumps([{"name": "sam2", "version": "1.1.0"}, {"name": "torch", "version": "2.13.0"}])


class Programs:
    """Record commands instead of running them; one with the word `fails` fails with `output`."""

    def __init__(self, fails: str = "", output: str = "") -> None:
        self.fails, self.output = fails, output
        self.commands: list[list[str]] = []
        self.variables: list[dict[str, str]] = []

    def __call__(self, words: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(words)
        self.variables.append(env)
        if "venv" in words:
            environments._python_path(Path(words[-1])).parent.mkdir(parents=True)
            environments._python_path(Path(words[-1])).touch()
        failed = bool(self.fails) and any(self.fails in word for word in words)
        return subprocess.CompletedProcess(words, int(failed), LISTED if "list" in words else "", self.output)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "home"))
    stub = Programs()
    monkeypatch.setattr(environments.subprocess, "run", stub)
    return stub


def fail(programs: Programs, fails: str, output: str) -> None:
    programs.fails, programs.output = fails, output


def test_packages_are_installed_in_order(programs: Programs) -> None:
    steps: list[None] = []
    folder = create_environment(SAM2, lambda: steps.append(None))
    assert programs.commands[0] == [sys.executable, "-m", "venv", str(folder)]
    installed = [words for words in programs.commands if "install" in words]
    assert [words[0] for words in installed] == [str(environment_python(SAM2))] * len(SAM2.installs)
    (own,) = (words for words in installed if "sam2==1.1.0" in words)
    assert {"--no-build-isolation", "--no-deps"} <= set(own)
    assert programs.variables[programs.commands.index(own)]["SAM2_BUILD_CUDA"] == "0"
    assert installed.index(own) > 0, "what it is built with comes first"
    assert len(steps) == len(SAM2.installs) + 1
    assert installed_packages(SAM2) == {"sam2": "1.1.0", "torch": "2.13.0"}


def test_shared_packages_have_the_same_version(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "version", {"torch": "2.9.1+cpu", "numpy": "2.4.6", "pillow": "13.0.0"}.get)
    create_environment(SAM2)
    words = {word for command in programs.commands for word in command}
    assert {"torch==2.9.1", "numpy==2.4.6", "pillow==13.0.0", "torchvision==0.24.1"} <= words


def test_an_environment_is_isolated(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org/simple")
    create_environment(SAM2)
    assert not any({"PYTHONPATH", "PIP_TARGET"} & set(env) for env in programs.variables)
    assert all(env["PIP_INDEX_URL"] == "https://example.org/simple" for env in programs.variables)


def test_a_complete_one_is_not_created_again(programs: Programs) -> None:
    create_environment(SAM2)
    before = len(programs.commands)
    assert create_environment(SAM2) == environment_dir(SAM2)
    assert len(programs.commands) == before


def test_other_versions_get_another_one(programs: Programs) -> None:
    create_environment(SAM2)
    newer = replace(SAM2, installs=(*SAM2.installs[:-1], PipInstall(("sam2==1.2.0",))))
    assert environment_dir(newer) != environment_dir(SAM2)
    assert installed_packages(newer) is None
    create_environment(newer)
    assert remove_environments(SAM2) == 2


def test_an_incomplete_one_is_created_again(programs: Programs) -> None:
    folder = environment_dir(SAM2)
    (folder / "bin").mkdir(parents=True)
    (folder / "left over").write_text("")
    with pytest.raises(StateError, match="python -m benchmarks environments --create sam2"):
        environment_python(SAM2)
    create_environment(SAM2)
    assert not (folder / "left over").exists()
    assert environment_python(SAM2).parent.parent == folder


@pytest.mark.parametrize("manifest", ["", "[1]", "{"])
def test_a_broken_manifest_counts_as_none(programs: Programs, manifest: str) -> None:
    environment_dir(SAM2).mkdir(parents=True)
    (environment_dir(SAM2) / "made.json").write_text(manifest)
    assert installed_packages(SAM2) is None


def test_one_without_its_python_is_created_again(programs: Programs) -> None:
    """The interpreter is a link to the one that created it."""
    python = environments._python_path(create_environment(SAM2))
    python.unlink()
    assert installed_packages(SAM2) is None
    create_environment(SAM2)
    assert environment_python(SAM2) == python


def test_offline_nothing_is_created(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    create_environment(SAM2)
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    create_environment(SAM2)
    with pytest.raises(StateError, match="transformers is not here, and MASKLET_OFFLINE is set"):
        create_environment(find_peer("transformers"))


def test_the_error_of_pip_is_reported_and_nothing_is_left(programs: Programs) -> None:
    fail(programs, "iopath", "Using an index\nERROR: No matching distribution found for iopath==0.1.10\n")
    with pytest.raises(StateError, match=r"iopath.* for sam2 .*\(No matching distribution found for iopath") as caught:
        create_environment(SAM2)
    assert len(str(caught.value).splitlines()) == 1
    assert not environment_dir(SAM2).exists()
    fail(programs, "", "")
    assert create_environment(SAM2).exists()


def test_a_full_disk_is_named(programs: Programs) -> None:
    fail(programs, "torch", "ERROR: Could not install: [Errno 28] No space left on device\n\nERROR: later\n")
    with pytest.raises(StateError, match="No space left on device"):
        create_environment(SAM2)


def test_no_module_venv_is_one_error(programs: Programs) -> None:
    fail(programs, "venv", "The virtual environment was not created successfully because ensurepip is missing")
    with pytest.raises(StateError, match=r"environment of sam2 could not be installed .*ensurepip is missing"):
        create_environment(SAM2)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "home"))
    with pytest.raises(OutputError, match="MASKLET_HOME"):
        create_environment(SAM2)


def test_ctrl_c_leaves_nothing(programs: Programs) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_environment(SAM2, stop)
    assert not environment_dir(SAM2).exists()


@pytest.mark.slow
def test_an_environment_is_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module venv itself, with nothing to install."""
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path))
    bare = replace(SAM2, name="bare", installs=())
    create_environment(bare)
    words = [str(environment_python(bare)), "-c", "import sys; print(sys.prefix)"]
    assert Path(subprocess.check_output(words, text=True).strip()).samefile(environment_dir(bare))
    assert "pip" in (installed_packages(bare) or {})
    assert remove_environments(bare) == 1
    assert list((tmp_path / "peers").iterdir()) == []


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InputError, match="'sam7' is no program that is compared with; choose from sam2, transformers"):
        find_peer("sam7")


def command(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        run(["environments", *words])
    return left.value.code


def test_the_command_lists_creates_and_removes(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 0
    out = capsys.readouterr().out
    assert all(name in out and peer.license in out for name, peer in PEERS.items())
    assert command("--create", "sam2,transformers") == 0
    out = capsys.readouterr().out
    assert "1.1.0, torch 2.13.0" in out
    assert str(environment_dir(find_peer("transformers"))) in out
    assert command("--remove", "all") == 0
    assert "sam2: 1 removed" in capsys.readouterr().out
    assert installed_packages(SAM2) is None


def test_mistakes_are_one_line(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--create", "sam2,sam7") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert programs.commands == [], "names are checked before anything is created"
