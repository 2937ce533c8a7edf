"""The Dockerfile: built and run where docker works, and otherwise checked for the rules that it keeps.

MASKLET_DOCKER_BUILD has further words for `docker build`, such as `--build-arg TORCH_INDEX=URL` where PyTorch's own
index cannot be reached, or `--network host`. The base image is pulled unless it is there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from masklet import __main__
from masklet.cli.serve import serve
from masklet.server.server_options import MIN_TOKEN_LENGTH

ROOT = Path(__file__).parents[1]
IMAGE = "masklet-test"
TOKEN = "t" * 32
USE = """
import os, sys
import numpy as np
from PIL import Image
from masklet.client import Client

with Client("http://127.0.0.1:8700", os.environ["MASKLET_TOKEN"], author="anna") as client:
    if not client.sources():
        rgb = np.zeros((120, 160, 3), np.uint8)
        rgb[30:90, 40:100] = 255, 200, 0
        Image.fromarray(rgb).save("/tmp/square.png")
        square = client.upload("/tmp/square.png")
        square.add_prompt(1, box=[40, 30, 100, 90])
    [square] = client.sources()
    stored = client.request("GET", f"{client.session}/masks", source=square.id)["objects"]
    print(square.info["name"], [one["author"] for one in stored])
"""


def instructions() -> list[tuple[str, str]]:
    """Return word and arguments of each instruction; continued lines are one."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()]


def test_the_image_is_pinned_and_its_process_has_no_rights() -> None:
    steps = instructions()
    bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
    assert bases
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z0-9-]+", base) for base in bases), "a tag with a version, no :latest"
    last = steps[max(index for index, (word, _) in enumerate(steps) if word == "FROM") :]
    by_word = dict(last)
    assert by_word["USER"] not in ("0", "root")
    order = [word for word, _ in last]
    assert order.index("USER") > max(index for index, word in enumerate(order) if word in ("RUN", "COPY"))
    assert not any(word == "ADD" or "sudo" in rest or "curl" in rest for word, rest in steps)
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert all("constraints.txt" in rest for rest in installs)
    assert not any(
        re.search("token|secret|password", rest, re.IGNORECASE) for word, rest in steps if word in ("ENV", "ARG")
    )


def test_it_runs_the_server_with_a_health_check() -> None:
    steps = dict(instructions())
    command = json.loads(steps["ENTRYPOINT"])
    assert command[:2] == ["masklet", "serve"]
    assert command[command.index("--host") + 1] == "0.0.0.0"
    assert "MASKLET_TOKEN" in str(get_type_hints(serve, include_extras=True)["token"].__metadata__[0].envvar)
    assert steps["EXPOSE"] == "8700"
    options, _, check = steps["HEALTHCHECK"].partition(" CMD ")
    assert "--start-period" in options
    assert "127.0.0.1:8700/api/health" in json.loads(check)[2]
    compile(json.loads(check)[2], "HEALTHCHECK", "exec")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for word, rest in instructions():
        words = shlex.split(rest)
        if word == "COPY" and not words[0].startswith("--from"):
            copied |= set(words[:-1])
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_process_1_of_a_container_ends_by_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    handled = {}
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(signal, "signal", handled.__setitem__)
    monkeypatch.setattr(sys, "argv", ["masklet", "--version"])
    with pytest.raises(SystemExit):
        __main__.main()
    with pytest.raises(SystemExit) as ended:
        handled[signal.SIGTERM](signal.SIGTERM, None)
    assert ended.value.code == 143


def test_the_health_check_is_answered(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
    from helpers.server_files import running_server

    token = "t" * MIN_TOKEN_LENGTH
    with running_server(tmp_path, None, token=token) as client:
        assert client.get("/api/health").status_code == 401
        answer = client.get("/api/health", headers={"Authorization": f"Bearer {token}", "Host": "127.0.0.1:8700"})
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


HEALTH = json.loads(dict(instructions())["HEALTHCHECK"].partition(" CMD ")[2])[2]


def docker(*words: object, **options: Any) -> str:
    """Run docker and return what it prints.

    Raises:
        AssertionError: if it fails, with its output.
    """
    done = subprocess.run(
        ["docker", *map(str, words)], capture_output=True, text=True, check=False, **{"timeout": 120, **options}
    )
    assert done.returncode == 0, f"docker {words[0]}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout.strip()


def succeeds(*words: str, timeout: float = 30) -> bool:
    """Whether docker does something without an error."""
    try:
        return subprocess.run(["docker", *words], capture_output=True, timeout=timeout, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="module")
def image() -> str:
    """The image, built."""
    if shutil.which("docker") is None or not succeeds("info"):
        pytest.skip("docker or its daemon is missing: the Dockerfile is checked by its rules alone")
    base = dict(instructions())["FROM"].split()[0]
    if not succeeds("image", "inspect", base) and not succeeds("pull", base, timeout=600):
        pytest.skip(f"the base image {base} is neither here nor can it be pulled")
    further = shlex.split(os.environ.get("MASKLET_DOCKER_BUILD", ""))
    docker("build", *further, "--tag", IMAGE, ROOT, timeout=1800)
    return IMAGE


@pytest.fixture
def container(image: str) -> Iterator[str]:
    """A container that runs the server."""
    name = docker("run", "--detach", "--env", f"MASKLET_TOKEN={TOKEN}", image)
    yield name
    docker("rm", "--force", "--volumes", name)


def stop(name: str) -> tuple[float, int]:
    """Stop a container, and return the seconds until it has ended and its exit status."""
    start = time.monotonic()
    docker("stop", name)
    return time.monotonic() - start, int(docker("inspect", "--format", "{{.State.ExitCode}}", name))


def use(name: str) -> str:
    """Do a job in a container with the Python client, once the server answers."""
    for _ in range(100):
        if succeeds("exec", name, "python", "-c", HEALTH):
            return docker("exec", name, "python", "-c", USE)
        time.sleep(0.5)
    raise AssertionError(docker("logs", name))


@pytest.mark.slow
def test_a_container_becomes_healthy_works_and_has_no_rights(container: str) -> None:
    assert use(container) == "square ['anna']"
    for _ in range(100):
        shown = docker("inspect", "--format", "{{.State.Health.Status}} {{.Config.User}}", container).split()
        if shown[0] == "healthy":
            break
        time.sleep(1)
    assert shown == ["healthy", "10001"]
    assert docker("exec", container, "id", "--user") == "10001"
    found = docker("exec", container, "sh", "-c", "find / -xdev -type d -writable 2> /dev/null || true")
    assert set(found.split()) <= {"/home/masklet", "/projects", "/run/lock", "/tmp", "/var/tmp"}
    docker("exec", container, "touch", "/projects/written")


@pytest.mark.slow
def test_projects_last_and_the_container_stops_within_seconds(container: str) -> None:
    first = use(container)
    seconds, status = stop(container)
    assert (seconds < 8, status) == (True, 0)
    docker("start", container)
    assert use(container) == first
    docker("restart", container)
    time.sleep(1)  # it imports still, and listens later
    seconds, status = stop(container)
    assert seconds < 8
    assert status in (0, 143)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "MASKLET_TOKEN"),
        (
            ["--env", f"MASKLET_TOKEN={TOKEN}", "--tmpfs", "/projects:mode=0755"],
            "no project can be written in /projects",
        ),
    ],
)
def test_a_container_that_cannot_serve_ends_with_one_line(image: str, words: list[str], message: str) -> None:
    command = ["docker", "run", "--rm", *words, image]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert message in refused.stderr
