"""A server that is killed at random moments while two clients work; the helper of the test of `kill -9`.

python server_killer.py FOLDER COUNT SEED

Each round forks a server, clicks, names classes, undoes, uploads and tracks, ends the process by SIGKILL, opens the
project, and checks that all that was acknowledged is in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from masklet import SAM
from masklet.projects import Project, open_project
from masklet.server import ServerOptions
from masklet.server.application import make_app, run_server
from masklet.server.wire_format import unpack_message

NUM_FRAMES = 6


@dataclass
class Acknowledged:
    """What the server answered, so what must be there."""

    actions: list[tuple[int, str]] = field(default_factory=list)
    """Revision and kind."""
    masks: list[tuple[int, int, str]] = field(default_factory=list)
    """Revision, object and the hash of the code, of clicks."""
    classes: list[tuple[int, str]] = field(default_factory=list)
    uploads: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """By name: the entire content, and how much of it was acknowledged."""
    sources: list[str] = field(default_factory=list)
    """SHA-256 of finished uploads."""
    num_runs: int = 0
    """Runs of tracking that were done."""
    faults: list[BaseException] = field(default_factory=list)
    """What went wrong before the server was gone."""

    def __len__(self) -> int:
        return len(self.actions) + len(self.classes) + len(self.uploads) + self.num_runs


def run_until_killed(folder: Path, model: SAM, pipe: int) -> None:
    """Serve, and write the port into the pipe."""
    options = ServerOptions(folder / "projects", (folder / "files",), port=0)
    run_server(make_app(options, lambda: model), options, lambda port: os.write(pipe, b"%d\n" % port) and None)


def click_and_undo(port: int, known: Acknowledged, rng: random.Random) -> None:
    """Click, name classes, undo and redo, until the server is gone."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http, suppress(httpx2.HTTPError):
        opened = http.post("/api/sessions", json={"project": "zoo", "author": "anna"}).json()
        base = f"/api/sessions/{opened['id']}"
        photo = next(one["id"] for one in http.get(base).json()["sources"] if one["name"] == "photo")
        obj = http.post(f"{base}/objects", json={"source": photo}).json()["id"]
        for number in range(100_000):
            choice = rng.random()
            if choice < 0.5:
                body = {"object": obj, "points": [[rng.randrange(90), rng.randrange(60)]]}
                response = http.post(f"{base}/prompts", json=body)
                answer = response.json()
                if response.status_code == 404:  # it was undone that the object was added
                    obj = http.post(f"{base}/objects", json={"source": photo}).json()["id"]
                    continue
                known.actions.append((answer["revision"], "prompt"))
                counts = answer["objects"][0]["rle"]["counts"]
                known.masks.append((answer["revision"], obj, hashlib.sha256(counts.encode()).hexdigest()))
            elif choice < 0.8:
                name = f"{opened['id']} {number}"
                http.post(f"{base}/classes", json={"name": name}).raise_for_status()
                known.classes.append((number, name))
            else:
                kind = rng.choice(["undo", "redo"])
                answer = http.post(f"{base}/{kind}", json={"mine": True}).json()
                if answer.get("actions"):
                    known.actions.append((answer["revision"], kind))


def upload_and_track(port: int, known: Acknowledged, rng: random.Random) -> None:
    """Upload images in chunks and track the clip, by turns, until the server is gone."""
    failures = (httpx2.HTTPError, WebSocketException, OSError, EOFError)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http, suppress(*failures):
        opened = http.post("/api/sessions", json={"project": "zoo", "author": "bo"}).json()
        base = f"/api/sessions/{opened['id']}"
        clip = next(one["id"] for one in http.get(base).json()["sources"] if one["name"] == "clip")
        with connect(f"ws://127.0.0.1:{port}{base}/socket", proxy=None) as socket:
            for number in range(100_000):
                buffer = io.BytesIO()
                pixels = np.frombuffer(rng.randbytes(40 * 40 * 3), np.uint8).reshape(40, 40, 3)
                Image.fromarray(pixels).save(buffer, "png")
                content, name = buffer.getvalue(), f"u{hashlib.sha256(buffer.getvalue()).hexdigest()[:12]}.png"
                for offset in range(0, len(content), 1500):
                    chunk = content[offset : offset + 1500]
                    answer = http.put(f"{base}/uploads/{name}", params={"offset": offset}, content=chunk).json()
                    known.uploads[name] = (content, answer["offset"])
                http.post(f"{base}/uploads/{name}/finish").raise_for_status()
                known.sources.append(hashlib.sha256(content).hexdigest())
                socket.send(json.dumps({"type": "track", "id": number, "source": clip, "stop": NUM_FRAMES}))
                while True:
                    header, _ = unpack_message(socket.recv(30))
                    if header["type"] != "frame":
                        break
                    socket.send(json.dumps({"type": "ack", "seq": header["seq"]}))
                assert header["type"] == "done", header
                known.num_runs += 1


def check(project: Project, known: Acknowledged) -> None:
    """Check that everything that was acknowledged is in the project."""
    assert project.database.query("PRAGMA integrity_check") == [("ok",)]
    kinds = {action.id: action.kind for action in project.history(1_000_000)}
    for revision, kind in known.actions:
        assert kinds.get(revision) == kind, (
            f"action {revision} ({kind}) was acknowledged, {kinds.get(revision)} is there"
        )
    for revision, obj, digest in known.masks:
        changes = [one for one in project.changes_since(revision - 1, max_actions=1) if one.table == "masks"]
        stored = [one.after for one in changes if one.revision == revision]
        assert [(one or {})["object"] for one in stored] == [obj]
        assert [(one or {})["content"] for one in stored] == [digest]
    names = {cls.name for cls in project.classes}
    added = {
        (one.after or {}).get("name")
        for one in project.changes_since(0, max_actions=1_000_000)
        if one.table == "classes" and one.before is None
    }
    missing = {name for _, name in known.classes} - names - added
    assert not missing, f"{missing} were acknowledged"
    for name, (content, offset) in known.uploads.items():
        files = [project.folder / "uploads" / name, project.folder / "uploads" / f"{name}.part"]
        stored_bytes = next(one.read_bytes() for one in files if one.exists())
        assert stored_bytes[:offset] == content[:offset]
    hashes = {source.sha256 for source in project.sources}
    assert hashes.issuperset(known.sources)
    if known.num_runs:
        clip = next(source for source in project.sources if source.name == "clip")
        frames = {mask.frame for mask in project.masks(clip) if mask.rle is not None}
        assert frames == set(range(NUM_FRAMES))


def main(folder: Path, weights: Path, count: int, seed: int) -> None:
    """Kill a server `count` times, and print how much was acknowledged."""
    rng = random.Random(seed)
    model = SAM(weights)
    network = model.predictor.model
    network.image_size, network.video_pixels, network.edge_radius = 96, 96**2, None  # type: ignore[assignment]
    total = runs = 0
    for number in range(count):
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            os.close(read_end)
            run_until_killed(folder, model, write_end)
            os._exit(1)
        os.close(write_end)
        port = int(os.read(read_end, 16))
        os.close(read_end)
        known = Acknowledged()

        def guarded(
            work: Callable[..., None], port: int = port, known: Acknowledged = known, number: int = number
        ) -> None:
            try:
                work(port, known, random.Random(f"{seed} {number} {work.__name__}"))
            except BaseException as error:
                known.faults.append(error)

        clients = [threading.Thread(target=guarded, args=(work,)) for work in (click_and_undo, upload_and_track)]
        for one in clients:
            one.start()
        until = time.monotonic() + 60
        while not (known.actions and known.uploads) and not known.faults and time.monotonic() < until:
            time.sleep(0.01)  # both are at work
        time.sleep(rng.random() * 0.7)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for one in clients:
            one.join()
        if known.faults:
            raise known.faults[0]
        with open_project(folder / "projects" / "zoo.masklet", create=False) as project:
            check(project, known)
        total += len(known)
        runs += known.num_runs
    print(total, runs)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
