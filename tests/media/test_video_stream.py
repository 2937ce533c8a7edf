"""What streams goes forward once; live frames that come too fast are dropped and counted; breaks are named."""

from __future__ import annotations

import http.server
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.video_files import Shot, make_image, make_video
from masklet.errors import MaskletWarning, SourceError, StateError
from masklet.media import Frame, SourceImage, open_video, video_stream

GRAY = np.full((4, 6, 3), 100, np.uint8)


def shades(count: int) -> Iterator[np.ndarray]:
    for value in range(count):
        yield np.full((4, 6, 3), value, np.uint8)


def test_a_generator() -> None:
    with open_video(shades(6)) as video:
        assert (video.num_frames, video.expected_num_frames, video.fps, video.live, video.seekable) == (
            None,
            None,
            None,
            False,
            False,
        )
        assert video.size == (4, 6)  # the frame it was read from is not lost
        frames = list(video)
        assert [(frame.index, int(frame.rgb[0, 0, 0]), frame.time) for frame in frames] == [
            (value, value, None) for value in range(6)
        ]
        assert video.dropped == 0


def test_everything_a_generator_may_yield(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    items = [GRAY, Image.fromarray(GRAY), tmp_path / "a.png", SourceImage(GRAY, "mine"), Frame(GRAY, "clip", 77, 3.5)]
    frames = list(open_video(item for item in items))
    assert [frame.index for frame in frames] == list(range(5))
    assert [Path(frame.path).name for frame in frames] == ["image0", "image1", "a.png", "mine", "clip"]
    assert frames[4].time == 3.5


def test_opencv_order_applies_to_arrays() -> None:
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 255
    assert next(iter(open_video(iter([blue]), channels="bgr"))).rgb[0, 0].tolist() == [0, 0, 255]


def test_an_endless_generator_is_read_a_little_ahead() -> None:
    taken = itertools.count()
    with open_video((GRAY for _ in taken), prefetch_frames=3) as video:
        assert [frame.index for frame in video.frames(stop=5)] == [0, 1, 2, 3, 4]
        time.sleep(0.05)
        assert next(taken) <= 10
        assert [frame.index for frame in video.frames(8, 10)] == [8, 9]
    with pytest.raises(StateError, match=r"closed.*open it again"):
        video.frames()


def test_an_abandoned_loop_continues_where_it_stopped() -> None:
    video = open_video(shades(9))
    for frame in video:
        if frame.index == 3:
            break
    assert [frame.index for frame in video] == [4, 5, 6, 7, 8]


def test_going_back_is_refused() -> None:
    with open_video(shades(9)) as video:
        next(iter(video))
        next(iter(video))
        for call in (lambda: video[0], lambda: video.frames(reverse=True), lambda: video.frames(1)):
            with pytest.raises(StateError, match=r"'iterator'.*come once.*save it as a video"):
                call()


def test_errors_of_a_generator_are_raised() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield GRAY
        yield GRAY
        raise ZeroDivisionError("mine")

    frames: list[Frame] = []
    with pytest.raises(ZeroDivisionError, match="mine"):
        frames.extend(open_video(broken()))
    assert len(frames) == 2


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], ["iterator", "without a frame"]),
        ([GRAY, GRAY[:2]], ["frame 1 is 6 x 2", "6 x 4"]),
        ([GRAY, 3], ["int"]),
        ([GRAY, GRAY.astype(np.int64)], ["int64", "uint8"]),
        (["gone.png"], ["gone.png", "no such image"]),
    ],
)
def test_bad_items(items: list[object], words: list[str]) -> None:
    with pytest.raises(SourceError) as caught:
        list(open_video(item for item in items))
    for word in words:
        assert word in str(caught.value)


def test_a_damaged_image_of_a_generator(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.warns(MaskletWarning, match=r"frame 1 is left out.*bad\.png"):
        frames = list(open_video(iter([GRAY, tmp_path / "bad.png", GRAY])))
    assert [frame.index for frame in frames] == [0, 2]


class Camera:
    """Stands for OpenCV's VideoCapture: `last` frames, as fast as they are read."""

    def __init__(self, last: int = 10**9, opened: bool = True) -> None:
        self.last, self.opened, self.released, self.given = last, opened, False, 0
        self.enough = threading.Event()

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def get(self, property: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, np.ndarray]:
        self.given += 1
        if self.given > 100:
            self.enough.set()
            time.sleep(0.001)
        return self.given <= self.last, np.full((4, 6, 3), (self.given % 200, 0, 0), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    made = Camera()
    monkeypatch.setattr(video_stream, "open_capture", lambda number: made)
    return made


def test_a_camera_drops_old_frames_and_counts_them(camera: Camera) -> None:
    with open_video(0, prefetch_frames=2) as video:
        assert (video.path, video.live, video.seekable, video.fps, video.num_frames) == (
            "camera 0",
            True,
            False,
            30.0,
            None,
        )
        assert video.size == (4, 6)
        assert camera.enough.wait(5)
        frames = [frame for frame, _ in zip(video, range(20), strict=False)]
        assert frames[1].index > 50  # the first was taken for its size, perhaps before any was dropped
        assert all(frame.rgb[0, 0].tolist() == [0, 0, (frame.index + 1) % 200] for frame in frames)  # cameras are BGR
        numbers = [frame.index for frame in frames]
        assert numbers == sorted(set(numbers))
        assert video.dropped >= frames[-1].index - 19
        assert all(a.time <= b.time for a, b in itertools.pairwise(frames))  # type: ignore[operator]
    assert camera.released


def test_a_camera_that_waits(camera: Camera) -> None:
    with open_video(0, on_overflow="wait") as video:
        assert [frame.index for frame in video.frames(stop=50)] == list(range(50))
        assert video.dropped == 0


def test_a_camera_that_stops(camera: Camera) -> None:
    camera.last = 3
    frames: list[Frame] = []
    with (
        pytest.raises(SourceError, match=r"camera 0 stopped after 3 frames.*cable"),
        open_video(0, on_overflow="wait") as video,
    ):
        frames.extend(video)
    assert len(frames) == 3
    assert camera.released


def test_a_camera_that_was_never_read_is_released(camera: Camera) -> None:
    open_video(0).close()
    assert camera.released


@pytest.mark.parametrize("number", [3, -1])
def test_no_such_camera(number: int, camera: Camera) -> None:
    camera.opened = False
    with pytest.raises(SourceError, match=rf"camera {number} cannot be opened.*0 for the first.*connected"):
        open_video(number)


class Handler(http.server.BaseHTTPRequestHandler):
    bodies: dict[str, tuple[bytes, int]]

    def do_GET(self) -> None:
        body, length = self.bodies.get(self.path, (b"", -1))
        self.send_response(200 if length >= 0 else 404)
        self.send_header("Content-Length", str(max(length, 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(video_stream, "READ_TIMEOUT_S", 3.0)
    monkeypatch.setattr(video_stream, "OPEN_TIMEOUT_S", 3.0)
    whole = make_video(tmp_path / "a.mp4", Shot(muxing={"movflags": "faststart"}, size=(160, 120))).read_bytes()
    flow = make_video(tmp_path / "a.ts", Shot(count=80, size=(160, 120))).read_bytes()
    Handler.bodies = {
        "/a.mp4": (whole, len(whole)),
        "/cut.ts": (flow[: len(flow) * 7 // 10], len(flow)),
        "/page": (b"<html>" * 50, 300),
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.mark.network
def test_a_video_behind_an_address(server: str, tmp_path: Path) -> None:
    with open_video(server + "/a.mp4") as video, open_video(tmp_path / "a.mp4") as file:
        assert (video.live, video.seekable, video.num_frames, video.expected_num_frames) == (False, False, None, 30)
        assert video.fps == 25.0
        for streamed, stored in zip(video, file, strict=True):
            assert np.array_equal(streamed.rgb, stored.rgb)
            assert (streamed.index, streamed.time) == (stored.index, pytest.approx(stored.time))


@pytest.mark.network
def test_a_stream_that_breaks(server: str) -> None:
    frames: list[Frame] = []
    with open_video(server + "/cut.ts", on_overflow="wait") as video:
        with pytest.raises(SourceError, match=r"cut\.ts' broke off after \d+ frames.*open it again"):
            frames.extend(video)
        assert 20 < len(frames) < 80
        assert [frame.index for frame in frames] == list(range(len(frames)))


@pytest.mark.network
@pytest.mark.parametrize(
    ("path", "word"), [("/gone.mp4", "404"), ("/page", "Invalid data")], ids=["not there", "a web page"]
)
def test_an_address_without_a_video(path: str, word: str, server: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_video(server + path)
    for part in (path, "cannot open", word, "check the address"):
        assert part in str(caught.value)


@pytest.mark.network
@pytest.mark.parametrize("scheme", ["rtsp", "tcp"])
def test_a_server_that_never_answers(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_stream, "OPEN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(video_stream, "READ_TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"{scheme}://me:secret@127.0.0.1:{silent.getsockname()[1]}/a"
        begin = time.monotonic()
        with pytest.raises(SourceError, match=r"cannot open.*me:\*\*\*@127") as caught:
            open_video(address)
        assert time.monotonic() - begin < 5
        assert "secret" not in str(caught.value)


@pytest.mark.network
def test_a_live_stream_over_tcp_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_stream, "READ_TIMEOUT_S", 0.3)
    flow = make_video(tmp_path / "a.ts", Shot(count=200, size=(160, 120))).read_bytes()
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(flow)
                done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        frames: list[Frame] = []
        with open_video(f"tcp://127.0.0.1:{listening.getsockname()[1]}", on_overflow="wait") as video:
            assert video.live
            with pytest.raises(SourceError, match=r"broke off after \d+ frames"):
                frames.extend(video)
        done.set()
        thread.join()
    assert len(frames) > 100
    assert np.abs(frames[7].rgb - make_image(7, (160, 120)).astype(int)).mean() < 20
