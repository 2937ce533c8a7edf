"""One face for every kind of video: what is stored goes in any order, what is not a video is refused."""

from __future__ import annotations

import gc
import io
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.video_files import Shot, make_video
from masklet.errors import MaskletWarning, SourceError, StateError
from masklet.media import Frame, SourceImage, Video, open_video

SHADES = np.stack([np.full((4, 6, 3), 20 * value, np.uint8) for value in range(12)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, pixels in enumerate(SHADES):
        Image.fromarray(pixels).save(tmp_path / f"shot{value}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


SOURCES = {
    "folder": lambda f: f,
    "folder as text": str,
    "glob": lambda f: str(f / "shot*.png"),
    "list of paths": lambda f: [f / f"shot{value}.png" for value in range(12)],
    "tuple of names": lambda f: tuple(str(f / f"shot{value}.png") for value in range(12)),
    "list of arrays": lambda f: list(SHADES),
    "list of PIL": lambda f: [Image.fromarray(pixels) for pixels in SHADES],
    "list of images": lambda f: [SourceImage(pixels, "p") for pixels in SHADES],
    "list of frames": lambda f: [Frame(pixels, "p", 5, 1.0) for pixels in SHADES],
    "array": lambda f: SHADES,
    "float array": lambda f: SHADES.astype(np.float32) / 255,
    "array with alpha": lambda f: np.concatenate([SHADES, SHADES[..., :1]], axis=3),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_images_forwards_backwards_and_anywhere(kind: str, folder: Path) -> None:
    with open_video(SOURCES[kind](folder)) as video:
        assert (video.num_frames, video.expected_num_frames, video.size, video.fps) == (12, 12, (4, 6), None)
        assert (video.live, video.seekable, video.dropped) == (False, True, 0)
        frames = list(video)
        assert [frame.index for frame in frames] == list(range(12))
        assert all(frame.time is None for frame in frames)
        assert np.array_equal([frame.rgb for frame in frames], SHADES)
        assert all(np.array_equal(video[number].rgb, SHADES[number]) for number in (7, 0, 11, 3))
        assert [frame.index for frame in video.frames(7, 3, reverse=True)] == [7, 6, 5, 4]
        assert [frame.index for frame in video.frames(reverse=True)] == list(range(11, -1, -1))
        assert [frame.index for frame in video.frames(2, -1, reverse=True)] == [2, 1, 0]
        assert [frame.index for frame in video.frames(4, 6)] == [4, 5]
        assert list(video.frames(5, 5)) == list(video.frames(12)) == []
        assert video[-1].index == video[np.int64(11)].index == 11


def test_paths_name_the_images(folder: Path) -> None:
    assert [Path(frame.path).name for frame in open_video(folder)][:3] == ["shot0.png", "shot1.png", "shot2.png"]
    assert [frame.path for frame in open_video(SHADES)][:2] == ["image0", "image1"]
    assert open_video(folder).path == str(folder)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: f / "shot3.png",
        lambda f: f"file://{f / 'shot3.png'}",
        lambda f: SHADES[3],
        lambda f: Image.fromarray(SHADES[3]),
        lambda f: SourceImage(SHADES[3], "p"),
        lambda f: Frame(SHADES[3], "p", 9),
    ],
)
def test_one_image_is_a_video_of_one_frame(make: object, folder: Path) -> None:
    with open_video(make(folder)) as video:  # type: ignore[operator]
        (frame,) = video
        assert (video.num_frames, frame.index) == (1, 0)
        assert np.array_equal(frame.rgb, SHADES[3])


def test_a_video_is_taken_as_it_is() -> None:
    video = open_video(SHADES)
    assert open_video(video) is video
    assert isinstance(video, Video)


def test_opencv_order() -> None:
    blue = np.zeros((2, 4, 6, 3), np.uint8)
    blue[..., 0] = 255
    assert open_video(blue, channels="bgr")[1].rgb[0, 0].tolist() == [0, 0, 255]
    assert open_video(list(blue), channels="bgr")[1].rgb[0, 0].tolist() == [0, 0, 255]


def test_frames_belong_to_the_caller(folder: Path) -> None:
    with open_video(folder) as video:
        video[2].rgb[:] = 255
        assert np.array_equal(video[2].rgb, SHADES[2])
        assert video[2].rgb.flags.writeable


def test_a_damaged_image_is_skipped_with_a_warning(folder: Path) -> None:
    (folder / "shot0.png").write_bytes(b"no image")
    (folder / "shot4.png").write_bytes(b"")
    with open_video(folder) as video:
        assert (video.num_frames, video.size) == (12, (4, 6))
        with pytest.warns(MaskletWarning) as warned:
            numbers = [frame.index for frame in video]
        assert numbers == [1, 2, 3, *range(5, 12)]
        assert all(word in str(one.message) for one, word in zip(warned, ("frame 0", "frame 4"), strict=True))
        assert "shot4.png" in str(warned[1].message)
        assert warned[0].filename == __file__
        with pytest.raises(SourceError, match="frame 4 cannot be decoded"):
            video[4]


def test_warnings_as_errors_stop_the_video_and_its_thread(folder: Path) -> None:
    (folder / "shot4.png").write_bytes(b"")
    video = open_video(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MaskletWarning, match="frame 4"):
            list(video)
    assert quiet()


def test_an_image_of_another_size(folder: Path) -> None:
    Image.new("RGB", (9, 8)).save(folder / "shot5.png")
    frames: list[Frame] = []
    with open_video(folder) as video:
        with pytest.raises(SourceError, match=r"shot5\.png'.*frame 5 is 9 x 8, .* 6 x 4"):
            frames.extend(video)
        assert len(frames) == 5
        with pytest.raises(SourceError, match="9 x 8"):
            video[5]
        assert video[6].index == 6


@pytest.mark.parametrize(
    "call",
    [
        lambda v: v[12],
        lambda v: v[-13],
        lambda v: v.frames(13),
        lambda v: v.frames(-1),
        lambda v: v.frames(12, reverse=True),
    ],
)
def test_frames_that_do_not_exist(call: object) -> None:
    with open_video(SHADES) as video:
        with pytest.raises(SourceError, match=r"has no frame -?\d+; frames are 0 to 11") as caught:
            call(video)  # type: ignore[operator]
        assert isinstance(caught.value, IndexError)
        with pytest.raises(TypeError):
            video["3"]  # type: ignore[index]


def test_frames_beyond_the_end_of_a_video_of_unknown_length(tmp_path: Path) -> None:
    with open_video(make_video(tmp_path / "a.h264", Shot(count=6, container="h264"))) as video:
        assert video.num_frames is None
        assert video[5].index == 5
        with pytest.raises(IndexError, match="no frame 6"):
            video[6]
        assert video[2].index == 2


def test_a_closed_video_reads_nothing(tmp_path: Path) -> None:
    for source in (SHADES, make_video(tmp_path / "a.mp4")):
        with open_video(source) as video:
            running = iter(video)
            next(running)
        video.close()
        for call in (running.__next__, video.frames, partial(video.__getitem__, 0)):
            with pytest.raises(StateError, match=r"closed.*open it again"):
                call()
        assert quiet()


def quiet() -> bool:
    """Whether the read-ahead threads end within five seconds."""
    for _ in range(500):
        if not any(thread.name == "masklet read-ahead" for thread in threading.enumerate()):
            return True
        time.sleep(0.01)
    return False


def test_an_abandoned_video_ends_its_thread(tmp_path: Path) -> None:
    running = iter(open_video(make_video(tmp_path / "a.mp4", Shot(count=200))))
    next(running)
    assert any(thread.name == "masklet read-ahead" for thread in threading.enumerate())
    del running
    gc.collect()
    assert quiet()


def test_two_readers_and_random_access_at_once(tmp_path: Path) -> None:
    with open_video(make_video(tmp_path / "a.mp4", Shot(count=40))) as video:
        for one, other, again in zip(video, video, video.frames(reverse=True), strict=True):
            assert np.array_equal(one.rgb, other.rgb)
            assert np.array_equal(again.rgb, video[39 - one.index].rgb)


class Tensor:
    """Stands for a torch tensor: media knows torch by name only."""

    __module__ = "torch"

    def __iter__(self) -> object:
        return iter([])


BAD_SOURCES = {
    "missing": (lambda f: f / "shto1.png", ["no such video or image", "did you mean 'shot1"]),
    "missing in a list": (lambda f: [f / "gone.png"], ["no such image", "gone.png"]),
    "video in a list": (lambda f: [make_video(f / "a.mp4", Shot(count=2))], ["a.mp4", "model.track", "alone"]),
    "empty folder": (lambda f: mkdir(f / "void"), ["void", "empty", ".jpg"]),
    "folder of videos": (lambda f: mkdir(f / "v", "a.mp4"), ["a.mp4", "model.track", "alone"]),
    "glob of nothing": (lambda f: str(f / "*.webp"), ["*.webp", "matches nothing"]),
    "empty list": (lambda f: [], ["[]", "no frames"]),
    "empty text": (lambda f: " ", ["' '", "path"]),
    "no frames": (lambda f: SHADES[:0], ["(0, 4, 6, 3)", "(T, H, W, 3)"]),
    "five dimensions": (lambda f: SHADES[None], ["(1, 12, 4, 6, 3)", "(H, W, 3)"]),
    "wrong pixels": (lambda f: SHADES.astype(np.int32), ["int32", "uint8"]),
    "none": (lambda f: None, ["NoneType", "video", "camera"]),
    "true": (lambda f: True, ["bool", "camera", "0"]),
    "number": (lambda f: 1.5, ["float", "whole number"]),
    "bytes": (lambda f: b"\x00\x00", ["bytes", "file", "path"]),
    "open file": (lambda f: io.BytesIO(b"x"), ["BytesIO", "path"]),
    "dict": (lambda f: {"a": 1}, ["dict", "video"]),
    "set": (lambda f: {"a.png"}, ["set", "video"]),
    "tensor": (lambda f: Tensor(), ["torch.Tensor", "permute(0, 2, 3, 1)"]),
    "scheme": (lambda f: "gopher://x/y", ["gopher", "rtsp", "https"]),
}


def mkdir(path: Path, *files: str) -> Path:
    path.mkdir(parents=True)
    for file in files:
        (path / file).write_bytes(b"")
    return path


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_bad_sources_are_refused_at_once(name: str, folder: Path) -> None:
    make, words = BAD_SOURCES[name]
    with pytest.raises(SourceError) as caught:
        open_video(make(folder))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": "BGR"}, ["'BGR'", "'rgb' and 'bgr'"]),
        ({"prefetch_frames": 0}, ["prefetch_frames=0", "1 to 64"]),
        ({"prefetch_frames": 2.0}, ["prefetch_frames=2.0", "1 to 64"]),
        ({"on_overflow": "skip"}, ["'skip'", "'drop'", "'wait'"]),
    ],
)
def test_bad_options(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SourceError) as caught:
        open_video(SHADES, **options)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)
