"""Environments of peers are made whole or not at all, and made again when versions change; pip is a stub here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from masklet.benchmark.peers import environments
from masklet.benchmark.peers.environments import (
    PEERS,
    PipInstall,
    create_environment,
    environment_dir,
    environment_python,
    find_peer,
    installed_packages,
    remove_environments,
)
from masklet.cli.main import run
from masklet.errors import InputError, OutputError, StateError

SAM2 = find_peer("sam2")
LISTED = json.dumps([{"name": "sam2", "version": "1.1.0"}, {"name": "torch", "version": "2.13.0"}])


class Programs:
    """What would be started, and what it says; a `fails` word in a command makes that one fail."""

    def __init__(self, fails: str = "", said: str = "") -> None:
        self.fails, self.said = fails, said
        self.asked: list[list[str]] = []
        self.surroundings: list[dict[str, str]] = []

    def __call__(self, words: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        self.asked.append(words)
        self.surroundings.append(env)
        if "venv" in words:
            environments._python_path(Path(words[-1])).parent.mkdir(parents=True)
            environments._python_path(Path(words[-1])).touch()
        failed = bool(self.fails) and any(self.fails in word for word in words)
        return subprocess.CompletedProcess(words, int(failed), LISTED if "list" in words else "", self.said)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "home"))
    stub = Programs()
    monkeypatch.setattr(environments.subprocess, "run", stub)
    return stub


def failing(programs: Programs, fails: str, said: str) -> None:
    programs.fails, programs.said = fails, said


def test_all_are_installed_in_their_order(programs: Programs) -> None:
    steps: list[None] = []
    folder = create_environment(SAM2, lambda: steps.append(None))
    assert programs.asked[0] == [sys.executable, "-m", "venv", str(folder)]
    installed = [words for words in programs.asked if "install" in words]
    assert [words[0] for words in installed] == [str(environment_python(SAM2))] * len(SAM2.installs)
    (own,) = (words for words in installed if "sam2==1.1.0" in words)
    assert {"--no-build-isolation", "--no-deps"} <= set(own)
    assert programs.surroundings[programs.asked.index(own)]["SAM2_BUILD_CUDA"] == "0"
    assert installed.index(own) > 0, "what it is built with comes first"
    assert len(steps) == len(SAM2.installs) + 1
    assert installed_packages(SAM2) == {"sam2": "1.1.0", "torch": "2.13.0"}


def test_what_masklet_stands_on_has_the_same_version(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "version", {"torch": "2.9.1+cpu", "numpy": "2.4.6", "pillow": "13.0.0"}.get)
    create_environment(SAM2)
    words = {word for asked in programs.asked for word in asked}
    assert {"torch==2.9.1", "numpy==2.4.6", "pillow==13.0.0", "torchvision==0.24.1"} <= words


def test_an_environment_leads_nowhere_else(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org/simple")
    create_environment(SAM2)
    assert not any({"PYTHONPATH", "PIP_TARGET"} & set(env) for env in programs.surroundings)
    assert all(env["PIP_INDEX_URL"] == "https://example.org/simple" for env in programs.surroundings)


def test_a_whole_one_is_not_made_again(programs: Programs) -> None:
    create_environment(SAM2)
    before = len(programs.asked)
    assert create_environment(SAM2) == environment_dir(SAM2)
    assert len(programs.asked) == before


def test_other_versions_make_another_one(programs: Programs) -> None:
    create_environment(SAM2)
    newer = replace(SAM2, installs=(*SAM2.installs[:-1], PipInstall(("sam2==1.2.0",))))
    assert environment_dir(newer) != environment_dir(SAM2)
    assert installed_packages(newer) is None
    create_environment(newer)
    assert remove_environments(SAM2) == 2


def test_a_half_made_one_is_made_again(programs: Programs) -> None:
    folder = environment_dir(SAM2)
    (folder / "bin").mkdir(parents=True)
    (folder / "left over").write_text("")
    with pytest.raises(StateError, match="masklet bench peers --make sam2"):
        environment_python(SAM2)
    create_environment(SAM2)
    assert not (folder / "left over").exists()
    assert environment_python(SAM2).parent.parent == folder


@pytest.mark.parametrize("note", ["", "[1]", "{"])
def test_a_broken_note_is_none(programs: Programs, note: str) -> None:
    environment_dir(SAM2).mkdir(parents=True)
    (environment_dir(SAM2) / "made.json").write_text(note)
    assert installed_packages(SAM2) is None


def test_one_whose_python_is_gone_is_made_again(programs: Programs) -> None:
    """The interpreter is a link to the one that it was made with."""
    python_of_it = environments._python_path(create_environment(SAM2))
    python_of_it.unlink()
    assert installed_packages(SAM2) is None
    create_environment(SAM2)
    assert environment_python(SAM2) == python_of_it


def test_offline_nothing_is_made(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    create_environment(SAM2)
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    create_environment(SAM2)
    with pytest.raises(StateError, match="transformers is not here, and MASKLET_OFFLINE is set"):
        create_environment(find_peer("transformers"))


def test_what_pip_says_is_said_and_nothing_is_left(programs: Programs) -> None:
    failing(programs, "iopath", "Looking in indexes\nERROR: No matching distribution found for iopath==0.1.10\n")
    with pytest.raises(StateError, match=r"iopath.* for sam2 .*\(No matching distribution found for iopath") as told:
        create_environment(SAM2)
    assert len(str(told.value).splitlines()) == 1
    assert not environment_dir(SAM2).exists()
    failing(programs, "", "")
    assert create_environment(SAM2).exists()


def test_a_full_disk_is_named(programs: Programs) -> None:
    failing(programs, "torch", "ERROR: Could not install: [Errno 28] No space left on device\n\nERROR: later\n")
    with pytest.raises(StateError, match="No space left on device"):
        create_environment(SAM2)


def test_no_module_venv_is_one_error(programs: Programs) -> None:
    failing(programs, "venv", "The virtual environment was not created successfully because ensurepip is missing")
    with pytest.raises(StateError, match=r"environment of sam2 could not be installed .*ensurepip is missing"):
        create_environment(SAM2)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def masklet(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        run(["bench", "peers", *words])
    return left.value.code


def test_the_command_lists_makes_and_removes(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert masklet() == 0
    out = capsys.readouterr().out
    assert all(name in out and peer.license in out for name, peer in PEERS.items())
    assert masklet("--make", "sam2,transformers") == 0
    out = capsys.readouterr().out
    assert "1.1.0, torch 2.13.0" in out
    assert str(environment_dir(find_peer("transformers"))) in out
    assert masklet("--remove", "all") == 0
    assert "sam2: 1 removed" in capsys.readouterr().out
    assert installed_packages(SAM2) is None


def test_mistakes_are_one_line(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert masklet("--make", "sam2,sam7") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert programs.asked == [], "names are looked at before anything is made"
