"""Measure `masklet serve` as a page uses it: hover, click, frames, tracking and memory, through its real socket."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from masklet.atomic_files import write_image
from masklet.benchmark.machine import resident_mb
from masklet.benchmark.model_family import SAMPLE_IMAGE_SIZE, sample_image
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase
from masklet.benchmark.sample_video import SAMPLE_VIDEO_SIZE, object_centers, sample_video
from masklet.errors import InputError, MissingExtraError, StateError
from masklet.sam import SAM
from masklet.server.wire_format import unpack_message
from masklet.writers.video_encoding import FragmentedMp4

__all__ = ["PROTOCOL", "AppBenchmarkJob", "measure_app"]

PROTOCOL = (
    "`masklet serve` in a separate process, and a client on the same machine, each with all cores; one request after "
    "the other, from sending to the complete answer. first image: from the start of the process to the first mask. "
    "hover: a preview as int8 logits on an image that is encoded, at another point each time. click: a prompt whose "
    "mask is stored and waits for the disk. new frame: JPEG of a frame that was not shown yet; frame step: of one that "
    "was. tracked frame: the time of the run over its frames, through the socket and with the library alone, by turns, "
    "after a short run of each. prepare: encode a shown image ahead of hovering. image: add, show, prepare, click "
    "and delete one. Memory is that of the server's process. p95: 95 % are faster."
)
START_SECONDS = 120.0
WAIT_SECONDS = 120.0
WARM_UP_FRAMES, TRACKING_ROUNDS = 4, 3


@dataclass(frozen=True)
class AppBenchmarkJob:
    """What is measured: requests of each kind, frames that are tracked, images opened and closed, clients at once."""

    model: str = "builtin"
    requests: int = 100
    frames: int = 60
    images: int = 200
    clients: int = 8
    image_size: tuple[int, int] = SAMPLE_IMAGE_SIZE
    """Height and width of images."""
    video_size: tuple[int, int] = SAMPLE_VIDEO_SIZE
    options: tuple[str, ...] = field(default=())
    """Further options of `masklet serve`."""

    def __post_init__(self) -> None:
        if min(self.requests, self.frames - WARM_UP_FRAMES, self.images - 1, self.clients) < 1:
            raise InputError(
                f"requests={self.requests}, frames={self.frames}, images={self.images}, clients={self.clients}: give 1 "
                f"request or more, {WARM_UP_FRAMES + 1} frames, 2 images, 1 client"
            )


class ServedSession:
    """A session on the server, with its WebSocket; each call returns when the answer is complete."""

    def __init__(self, http: Any, url: str, project: str) -> None:
        from websockets.sync.client import connect

        self.http = http
        self.base = f"/api/sessions/{self.request('POST', '/api/sessions', {'project': project})['id']}"
        address = f"ws{url.removeprefix('http')}{self.base}/socket"
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(connect(address, max_size=1 << 30, proxy=None))
        self._number = 0

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a route and return its JSON.

        Raises:
            StateError: if the server refuses.
        """
        response = self.http.request(method, path, **({} if body is None else {"json": body}))
        if response.status_code != 200:
            raise StateError(f"{method} {path} was answered with {response.status_code}: {response.text:.300}")
        return dict(response.json())

    def send(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a request over the WebSocket and return the header of its answer.

        Raises:
            StateError: if it is an error.
        """
        self._number += 1
        self.socket.send(json.dumps({"type": kind, "id": self._number, **fields}))
        while True:
            header, _ = unpack_message(self.socket.recv(WAIT_SECONDS))
            if header["request"] == self._number:
                break
        if header["type"] == "error":
            raise StateError(f"{kind} failed: {header['error']['message']}")
        return header

    def track(self, source: int, stop: int) -> float:
        """Track to before a frame, with each frame acknowledged, and return the seconds."""
        self._number += 1
        began = time.perf_counter()
        self.socket.send(json.dumps({"type": "track", "id": self._number, "source": source, "stop": stop}))
        while True:
            header, _ = unpack_message(self.socket.recv(WAIT_SECONDS))
            if header["type"] == "error":
                raise StateError(f"tracking failed: {header['error']['message']}")
            if header["type"] == "done":
                return time.perf_counter() - began
            self.socket.send(json.dumps({"type": "ack", "seq": header["seq"]}))

    def add(self, path: Path) -> tuple[int, int]:
        """Add a file as a source with one object, and return the ids of both."""
        source = int(self.request("POST", f"{self.base}/sources", {"path": str(path)})["id"])
        return source, int(self.request("POST", f"{self.base}/objects", {"source": source})["id"])

    def frame(self, source: int, number: int = 0) -> float:
        """Fetch a frame as JPEG and return the seconds."""
        began = time.perf_counter()
        response = self.http.get(f"{self.base}/sources/{source}/frames/{number}?format=jpeg")
        if response.status_code != 200 or not response.content:
            raise StateError(f"frame {number} was answered with {response.status_code}: {response.text:.300}")
        return time.perf_counter() - began

    def close(self) -> None:
        """Close the WebSocket and the session."""
        self._stack.close()
        self.request("DELETE", self.base)


def measure_app(job: AppBenchmarkJob, on_case: Callable[[BenchmarkCase], None] = lambda _: None) -> BenchmarkAnswer:
    """Start a server on synthetic images and a video, and measure it; `on_case` gets each case at once.

    Example:
        >>> [case.name for case in measure_app(AppBenchmarkJob(requests=5)).cases][:2]  # doctest: +SKIP
        ['first image', 'hover']

    Raises:
        MissingExtraError: if the extra `app` is not installed.
        StateError: if the server does not start, or refuses a request.
    """
    try:
        import httpx2
        import websockets  # noqa: F401
    except ImportError as error:
        raise MissingExtraError.for_package(error.name or "httpx2", "app") from error
    cases: list[BenchmarkCase] = []
    rng = np.random.default_rng(0)

    def report(name: str, setting: str, samples: list[float], unit: str = "s") -> None:
        found = [BenchmarkCase(name, setting, unit, tuple(samples))]
        if len(samples) >= 20:
            highest = statistics.quantiles(samples, n=20, method="inclusive")[-1]
            found.append(BenchmarkCase(f"{name}, p95", setting, unit, (highest,)))
        for case in found:
            cases.append(case)
            on_case(case)

    def points(size: tuple[int, int], count: int) -> Iterator[list[list[int]]]:
        for x, y in rng.integers(1, (size[1] - 1, size[0] - 1), (count, 2)):
            yield [[int(x), int(y)]]

    with TemporaryDirectory() as name:
        folder = Path(name)
        pixels = sample_image(job.image_size)
        for number in range(job.images):  # another content each, as a project knows files by it
            write_image(folder / "images" / f"{number:03d}.jpg", np.roll(pixels, number, axis=1))
        clip = folder / "clip.mp4"
        video = FragmentedMp4(clip, job.video_size, 25.0, crf=20)
        for number, rgb in enumerate(islice(sample_video(job.video_size, 1), job.frames)):
            video.add_frame(rgb, number / 25)
        video.close(1 / 25)
        with _running(job, folder) as (process, url, began), httpx2.Client(base_url=url, timeout=WAIT_SECONDS) as http:
            session = ServedSession(http, url, "one")
            setting = f"{job.image_size[1]} x {job.image_size[0]}"
            source, obj = session.add(folder / "images" / "000.jpg")
            session.frame(source)
            session.send("hover", source=source, points=next(points(job.image_size, 1)), logits=True)
            report("first image", setting, [time.perf_counter() - began])

            def time_each(kind: str, size: tuple[int, int], **fields: Any) -> list[float]:
                samples = []
                for xy in points(size, job.requests + 3):
                    start = time.perf_counter()
                    session.send(kind, points=xy, **fields)
                    samples.append(time.perf_counter() - start)
                return samples[3:]

            report("hover", setting, time_each("hover", job.image_size, source=source, logits=True))
            report("click", setting, time_each("prompt", job.image_size, object=obj))

            setting = f"{job.video_size[1]} x {job.video_size[0]}"
            source, obj = session.add(clip)
            report("new frame", setting, [session.frame(source, number) for number in range(job.frames)])
            report("frame step", setting, [session.frame(source, number) for number in range(job.frames)])
            report("click on a video", setting, time_each("prompt", job.video_size, object=obj))
            center = [list(map(round, object_centers(job.video_size, 1, 0)[0]))]
            session.send("prompt", object=obj, points=center)
            model, served, alone = SAM(job.model), [], []
            for stop in (WARM_UP_FRAMES, *[job.frames] * TRACKING_ROUNDS):  # by turns, as machines change their speed
                served.append(session.track(source, stop) / stop)
                start = time.perf_counter()
                with model.session(clip) as plain:
                    plain.add_prompt(1, 0, points=center)
                    deque(plain.propagate(stop=stop), maxlen=0)
                alone.append((time.perf_counter() - start) / stop)
            report("tracked frame", f"{setting}, socket", served[1:])
            report("tracked frame", f"{setting}, library", alone[1:])
            session.close()

            session, readings = ServedSession(http, url, "many"), {}
            setting, samples, prepared = f"{job.image_size[1]} x {job.image_size[0]}", [], []
            for number, xy in enumerate(points(job.image_size, job.images), start=1):
                start = time.perf_counter()
                source, obj = session.add(folder / "images" / f"{number - 1:03d}.jpg")
                session.frame(source)
                shown = time.perf_counter()
                session.send("prepare", source=source)
                prepared.append(time.perf_counter() - shown)
                session.send("prompt", object=obj, points=xy)
                session.request("DELETE", f"{session.base}/sources/{source}")
                samples.append(time.perf_counter() - start)
                if number in (max(1, job.images // 10), job.images // 2, job.images):
                    readings[number] = resident_mb(pid=process.pid)
            session.close()
            report("prepare", setting, prepared)
            report("image", setting, samples)
            for number, resident in readings.items():
                if resident is not None:
                    report(f"memory after {number} images", setting, [resident], "MB")

            samples, failures = [], []
            gate = threading.Barrier(job.clients)

            def client(number: int) -> None:
                try:
                    mine = ServedSession(http, url, f"client {number}")
                    _, own = mine.add(folder / "images" / f"{number % job.images:03d}.jpg")
                    places = list(points(job.image_size, max(1, job.requests // 5)))
                    gate.wait(WAIT_SECONDS)
                    for xy in places:
                        start = time.perf_counter()
                        mine.send("prompt", object=own, points=xy)
                        samples.append(time.perf_counter() - start)
                    mine.close()
                except BaseException as error:
                    gate.abort()
                    failures.append(error)

            threads = [threading.Thread(target=client, args=(number,)) for number in range(job.clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for failure in failures:
                raise StateError(f"a client of {job.clients} failed: {failure}") from failure
            report("click", f"{setting}, {job.clients} clients at once", samples)
            resident = resident_mb(pid=process.pid)
            if resident is not None:
                report("memory", f"after {job.clients} clients", [resident], "MB")
    return BenchmarkAnswer(tuple(cases))


@contextmanager
def _running(job: AppBenchmarkJob, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """Start a server on a free port, and yield the process, the address and when it was started.

    Raises:
        StateError: if it ends at once, or does not answer.
    """
    import httpx2

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-m", "masklet", "serve", str(folder), "--project", str(folder / "projects"), "--port", str(port)]
    command += ["--model", job.model, "--quiet", *job.options]
    environment = {key: value for key, value in os.environ.items() if key != "MASKLET_TOKEN"}
    began, url = time.perf_counter(), f"http://127.0.0.1:{port}"
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=environment)
    try:
        while True:
            with suppress(httpx2.HTTPError):
                if httpx2.get(f"{url}/api/health", timeout=5).status_code == 200:
                    break
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                words = (folder / "server.log").read_text(errors="replace").strip().splitlines() or ["no message"]
                raise StateError(f"masklet serve did not start ({words[-1]:.300}): run it to see why")
            time.sleep(0.02)
        yield process, url, began
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
