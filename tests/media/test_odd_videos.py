"""Videos of odd cameras and broken copies: HDR tags, pixels that are not square, any rate, raw and cut streams."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from masklet.errors import MaskletWarning, SourceError
from masklet.media import open_video, video_decoder
from masklet.media.video_decoder import MAX_FRAME_RATE, frame_rate

RED = (220, 40, 40)


def made(
    path: Path,
    codec: str = "libx264",
    *,
    rate: int = 10,
    aspect: Fraction | None = None,
    rotation: int | None = None,
    pixels: str = "yuv420p",
    container: str | None = None,
    count: int = 10,
    **options: str,
) -> Path:
    """Red frames of 128 x 96 with noise, so that each takes space in the file."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, options={"g": "5", **options})
        stream.width, stream.height, stream.pix_fmt = 128, 96, pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number in range(count):
            image = np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8)
            image[:48, :64] = RED
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def read(path: Path) -> tuple[list[int], list[str]]:
    """The numbers of the frames, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_video(path) as video:
            numbers = [frame.index for frame in video]
    return numbers, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("matrix", "curve", "words"),
    [
        ("bt2020c", "smpte2084", ["HDR (PQ)", "constant luminance", "the nearest, BT.2020"]),
        ("bt2020nc", "arib-std-b67", ["HDR (HLG)", "without tone mapping"]),
        ("ictcp", "bt709", ["ICtCp", "the nearest, BT.2020"]),
    ],
)
def test_hdr_is_converted_and_warned_of_once(matrix: str, curve: str, words: list[str], tmp_path: Path) -> None:
    tags = f"log-level=none:colormatrix={matrix}:colorprim=bt2020:transfer={curve}"
    path = made(tmp_path / "hdr.mp4", **{"x264-params": tags})
    numbers, notes = read(path)
    assert numbers == list(range(10))
    assert len(notes) == 1
    for word in ["hdr.mp4", *words]:
        assert word in notes[0]
    with pytest.warns(MaskletWarning, match="hdr"), open_video(path) as video:
        assert np.abs(video[0].rgb[20, 20].astype(int) - (226, 47, 36)).max() <= 4  # as BT.2020


def test_usual_videos_have_no_color_note(tmp_path: Path) -> None:
    assert read(made(tmp_path / "usual.mp4")) == (list(range(10)), [])


def test_an_error_of_conversion_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        colorspace = 14
        format = av.VideoFormat("yuv420p")

        def to_ndarray(self, format: str) -> np.ndarray:
            raise OSError(95, "Operation not supported")

    frame = Odd()
    with pytest.raises(
        SourceError, match=r"'odd\.mp4'.*yuv420p cannot be converted to RGB \(Operation not supported\)"
    ):
        video_decoder.upright_rgb(frame, "odd.mp4")  # type: ignore[arg-type]
    assert frame.colorspace == 9


@pytest.mark.parametrize(
    ("aspect", "rotation", "upright"),
    [
        (None, None, 1),
        (Fraction(2), None, 2),
        (Fraction(2), 90, Fraction(1, 2)),
        (Fraction(16, 11), 180, Fraction(16, 11)),
    ],
)
def test_the_pixel_aspect_is_that_of_the_upright_video(
    aspect: Fraction | None, rotation: int | None, upright: Fraction, tmp_path: Path
) -> None:
    with open_video(made(tmp_path / "dvd.mp4", aspect=aspect, rotation=rotation)) as video:
        assert video.pixel_aspect == upright


def test_a_high_speed_camera(tmp_path: Path) -> None:
    with open_video(made(tmp_path / "fast.mp4", rate=4000)) as video:
        assert video.fps == 4000
        assert [frame.time for frame in video] == pytest.approx([number / 4000 for number in range(10)], abs=1e-4)


@pytest.mark.parametrize(
    ("average", "guessed", "expected"),
    [
        (None, None, None),
        (0, 25, 25.0),
        (-5, None, None),
        (10 * MAX_FRAME_RATE, 30, 30.0),
        (Fraction(1, 3600), 1, 1 / 3600),
    ],
)
def test_rates_that_cannot_be_are_unknown(average: object, guessed: object, expected: float | None) -> None:
    class Stream:
        average_rate = average
        guessed_rate = guessed

    assert frame_rate(Stream()) == expected  # type: ignore[arg-type]


STREAMS = {
    "a.h264": ("libx264", "yuv420p", "h264"),
    "a.m2v": ("mpeg2video", "yuv420p", "mpeg2video"),
    "a.y4m": ("wrapped_avframe", "yuv420p", "yuv4mpegpipe"),
    "a.ivf": ("libvpx", "yuv420p", "ivf"),
    "a.mjpeg": ("mjpeg", "yuvj420p", "mjpeg"),
    "a.ts": ("libx264", "yuv420p", "mpegts"),
    "a.mkv": ("libx264", "yuv420p", "matroska"),
    "a.avi": ("mjpeg", "yuvj420p", "avi"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_raw_and_cut_streams_are_read_as_far_as_they_go(name: str, tmp_path: Path) -> None:
    codec, pixels, container = STREAMS[name]
    path = made(tmp_path / name, codec, pixels=pixels, container=container, count=20)
    assert read(path) == (list(range(20)), [])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.62)])
    numbers, notes = read(path)
    assert numbers == list(range(len(numbers)))
    assert 7 <= len(numbers) <= 13
    assert any("ends early" in note or "cannot be decoded and is left out" in note for note in notes), notes


def test_a_number_of_frames_that_a_header_made_up(tmp_path: Path) -> None:
    """An AVI whose header claims four billion frames has those that are in it."""
    path = made(tmp_path / "a.avi", "mjpeg", pixels="yuvj420p", container="avi")
    data = bytearray(path.read_bytes())
    at = data.find(b"vids") - 4 + 4 + 32  # dwLength of the stream header
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with open_video(path) as video:
        assert (video.num_frames, video.expected_num_frames) == (10, 10)
