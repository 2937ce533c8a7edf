"""The Dockerfile: built and run where docker works, and otherwise checked for the rules that it keeps."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import get_type_hints

import pytest

from masklet.cli.serve import serve
from masklet.server.server_options import MIN_TOKEN_LENGTH

ROOT = Path(__file__).parents[1]


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


def test_the_health_check_is_answered(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
    from helpers.server_files import running_server

    token = "t" * MIN_TOKEN_LENGTH
    with running_server(tmp_path, None, token=token) as client:
        assert client.get("/api/health").status_code == 401
        answer = client.get("/api/health", headers={"Authorization": f"Bearer {token}", "Host": "127.0.0.1:8700"})
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def works() -> bool:
    """Whether there is docker, and its daemon."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.slow
def test_the_image_is_built_and_answers() -> None:
    if not works():
        pytest.skip("docker or its daemon is missing: the Dockerfile is checked by its rules alone")
    subprocess.run(["docker", "build", "--tag", "masklet-test", str(ROOT)], check=True, timeout=1800)
    refused = subprocess.run(["docker", "run", "--rm", "masklet-test"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "MASKLET_TOKEN" in refused.stderr
    command = ["docker", "run", "--rm", "--detach", "--env", f"MASKLET_TOKEN={'t' * 32}", "masklet-test"]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        for _ in range(100):
            inspect = ["docker", "inspect", "--format", "{{.State.Health.Status}} {{.Config.User}}", name]
            shown = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.split()
            if shown[0] == "healthy":
                break
            time.sleep(1)
        assert shown == ["healthy", "10001"]
    finally:
        subprocess.run(["docker", "kill", name], capture_output=True, check=False)
