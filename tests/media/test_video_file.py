"""Video files: every frame has one number and the same pixels however it is reached; trouble is named."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.video_files import Shot, cut, damage, make_image, make_video, packet_spans
from masklet.errors import MaskletWarning, SourceError
from masklet.media import Frame, open_images, open_video
from masklet.media import video as video_module
from masklet.media.video_file import VideoFile

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
FAST = {"movflags": "faststart"}

X264_OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12"}
KINDS = {
    "group of 1": ("a.mp4", Shot(group=1)),
    "group of 12": ("a.mp4", Shot(group=12)),
    "group of 250": ("a.mp4", Shot(group=250)),
    "open groups": ("a.mkv", Shot(count=40, options=X264_OPEN)),
    "healing groups": ("a.mp4", Shot(count=60, options={"x264-params": "intra-refresh=1:keyint=12"})),
    "fragments": ("a.mp4", Shot(muxing={"movflags": "frag_keyframe+empty_moov"})),
    "transport stream": ("a.ts", Shot()),
    "programme stream": ("a.mpg", Shot(codec="mpeg2video")),
    "mpeg4 avi": ("a.avi", Shot(codec="mpeg4", between=0)),
    "vp8": ("a.webm", Shot(codec="libvpx")),
    "vp9": ("a.webm", Shot(codec="libvpx-vp9", options={"cpu-used": "8", "lag-in-frames": "16"})),
    "flash": ("a.flv", Shot(codec="flv", between=0)),
    "motion jpeg": ("a.avi", Shot(codec="mjpeg", pixels="yuvj420p", between=0)),
    "odd size": ("a.mkv", Shot(codec="ffv1", pixels="bgr0", between=0, size=(63, 47))),
    "variable rate": ("a.mp4", Shot(times=lambda number: number * number)),
    "first time not 0": ("a.mkv", Shot(times=lambda number: number + 100)),
    "no times": ("a.h264", Shot(container="h264")),
    "avi in decoding order": ("a.avi", Shot()),
}
UNCOUNTED = {"no times", "avi in decoding order"}


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    name, shot = KINDS[kind]
    with open_video(make_video(tmp_path / name, shot)) as video:
        assert isinstance(video, VideoFile)
        frames = list(video)
        assert [frame.index for frame in frames] == list(range(shot.count))
        assert video.num_frames == (None if kind in UNCOUNTED else shot.count)
        assert video.size == (shot.size[1], shot.size[0])
        for number in np.random.default_rng(0).permutation(shot.count):
            assert np.array_equal(video[int(number)].rgb, frames[number].rgb), number
        assert same(list(video.frames(reverse=True)), frames[::-1])
        assert same(list(video.frames(17, 25)), frames[17:25])
        assert same(list(video.frames(20, 4, reverse=True)), frames[20:4:-1])


def same(found: list[Frame], expected: list[Frame]) -> bool:
    return [frame.index for frame in found] == [frame.index for frame in expected] and all(
        np.array_equal(one.rgb, other.rgb) and one.time == other.time
        for one, other in zip(found, expected, strict=True)
    )


def test_hidden_frames_do_not_count(tmp_path: Path) -> None:
    """VP8 has frames that are only references; a separate packet carries them, and shows nothing."""
    plain, hidden = make_video(tmp_path / "plain.mkv", Shot(codec="libvpx", group=10)), tmp_path / "hidden.mkv"
    with av.open(str(plain)) as source, av.open(str(hidden), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts == 400:  # before the next group begins, so that nothing else changes
                data = bytes(packet)
                extra = av.Packet(bytes([data[0] & ~0x10]) + data[1:])
                extra.pts = extra.dts = packet.pts - 10
                extra.time_base, extra.stream, extra.is_keyframe = packet.time_base, stream, True
                target.mux(extra)
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with open_video(plain) as one, open_video(hidden) as other:
        assert other.num_frames == one.num_frames == 30
        assert same(list(other), list(one))


def test_lossless_pixels_equal_the_recorded_ones(tmp_path: Path) -> None:
    shot = Shot(codec="ffv1", pixels="bgr0", between=0, size=(63, 47))
    for frame in open_video(make_video(tmp_path / "a.mkv", shot)):
        assert np.array_equal(frame.rgb, make_image(frame.index, shot.size))
        assert frame.path == str(tmp_path / "a.mkv")


def test_reading_backward_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", Shot(group=250))
    expected = [frame.rgb for frame in open_video(path)][::-1]
    monkeypatch.setattr(video_module, "BUFFER_BYTES", 7 * 64 * 48 * 3)
    stretches: list[int] = []
    read = VideoFile._read

    def counted(self: VideoFile, start: int, stop: int | None) -> object:
        assert stop is not None
        stretches.append(stop - start)
        return read(self, start, stop)

    with open_video(path) as video:
        monkeypatch.setattr(VideoFile, "_read", counted)
        assert np.array_equal([frame.rgb for frame in video.frames(reverse=True)], expected)
    assert max(stretches) == 7
    assert sum(stretches) == 30


def test_times_come_from_the_video(tmp_path: Path) -> None:
    squares = open_video(make_video(tmp_path / "a.mp4", Shot(count=8, times=lambda number: number * number)))
    assert [frame.time for frame in squares] == pytest.approx([number**2 / 25 for number in range(8)])
    late = open_video(make_video(tmp_path / "late.ts", Shot(count=8, times=lambda number: number + 500)))
    assert [frame.time for frame in late] == pytest.approx([number / 25 for number in range(8)])
    assert (late.fps, late.expected_num_frames) == (25.0, 8)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(rotation: int, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", Shot(count=3, rotation=rotation))
    capture = cv2.VideoCapture(str(path))  # turns videos upright, too
    with open_video(path) as video, av.open(str(path)) as container:
        assert video.size == ((48, 64) if rotation == 180 else (64, 48))
        for frame, raw in zip(video, container.decode(video=0), strict=True):
            turns = raw.rotation // 90
            assert turns % 4 in (rotation // 90, -rotation // 90 % 4)
            assert np.array_equal(frame.rgb, np.rot90(raw.to_ndarray(format="rgb24"), turns))
            upright = capture.read()[1][:, :, ::-1].astype(int)
            assert np.abs(frame.rgb - upright).mean() < 8
    capture.release()


def test_a_mirrored_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    one = 1 << 16
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_matrix([-one, 0, 0, 0, one, 0, 0, 0, 1 << 30])
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(make_image(0, (64, 48)), "rgb24")), *stream.encode()]:
            container.mux(packet)
    assert np.abs(open_video(path)[0].rgb - make_image(0, (64, 48))[:, ::-1].astype(int)).mean() < 12


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations(name: str, tmp_path: Path) -> None:
    shades = [Image.new("RGB", (6, 4), (20 * value, 0, 0)) for value in range(5)]
    options = {"lossless": True} if name == "a.webp" else {}
    shades[0].save(
        tmp_path / name, save_all=True, append_images=shades[1:], duration=[100, 200, 100, 100, 100], **options
    )
    with open_video(tmp_path / name) as video:
        assert (video.num_frames, video.size, video.fps) == (5, (4, 6), 10.0)
        assert video[3].time == pytest.approx(0.4)
        frames = list(video)
        assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [0, 20, 40, 60, 80]
        assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4, 0.5])
        assert same([video[number] for number in (4, 0, 2)], [frames[number] for number in (4, 0, 2)])
        assert same(list(video.frames(reverse=True)), frames[::-1])


def test_an_animation_cut_short(tmp_path: Path) -> None:
    shades = [Image.fromarray(make_image(value, (60, 40))) for value in range(9)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=100)
    with (
        open_video(cut(tmp_path / "a.gif", 0.55)) as video,
        pytest.warns(MaskletWarning, match=r"a\.gif.*ends early: (\d+) frames expected, \d+ found"),
    ):
        frames = list(video)
    assert 2 <= len(frames) < 9


@pytest.mark.parametrize(
    ("name", "part"),
    [("a.mp4", slice(0, 100)), ("a.mp4", slice(40, 60)), ("a.mkv", slice(40, 60))],
    ids=["all of it", "its middle", "in matroska"],
)
def test_a_damaged_frame_is_skipped_with_a_warning(name: str, part: slice, tmp_path: Path) -> None:
    path = make_video(tmp_path / name, Shot(count=40, size=(320, 240)))
    whole = [frame.rgb for frame in open_video(path)]
    number = 16
    damage(path, number, part)
    with open_video(path) as video:
        with pytest.warns(MaskletWarning) as warned:
            frames = list(video)
        assert len(warned) == 1
        assert warned[0].filename == __file__
        for word in (name, f"frame {number} (at 0.640 s)", "left out", "keep their numbers", "up to 23"):
            assert word in str(warned[0].message)
        assert [frame.index for frame in frames] == [index for index in range(40) if index != number]
        assert video.num_frames == 40
        for frame in frames:  # neither the frames before nor the next group know of it
            assert np.array_equal(frame.rgb, whole[frame.index]) or number < frame.index < 24
        sound = [frame for frame in frames if not number < frame.index < 24]
        assert all(np.array_equal(video[frame.index].rgb, frame.rgb) for frame in sound)
        with pytest.raises(SourceError, match=rf"frame {number} cannot be decoded.*another frame"):
            video[number]
        with pytest.warns(MaskletWarning, match="frame 16"):
            back = list(video.frames(reverse=True))
        assert [frame.index for frame in back] == [frame.index for frame in frames[::-1]]
        # what the decoder paints over the damage is its own and may be another each time
        assert same([frame for frame in back if not number < frame.index < 24], sound[::-1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(video.frames(24))) == 16


def test_damage_at_both_ends(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", Shot(count=10, codec="mjpeg", pixels="yuvj420p", between=0))
    for number in (0, 1, 5, 9):
        damage(path, number, slice(0, 100))
    with open_video(path) as video, pytest.warns(MaskletWarning) as warned:
        assert [frame.index for frame in video] == [2, 3, 4, 6, 7, 8]
    assert [str(one.message).split(": ")[1].split(" (")[0] for one in warned] == ["frames 0 to 1", "frame 5", "frame 9"]


CUTS = {
    "mp4": ("a.mp4", Shot(muxing=FAST)),
    "mkv": ("a.mkv", Shot()),
    "avi": ("a.avi", Shot(codec="mjpeg", pixels="yuvj420p", between=0)),
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_video_that_ends_early(kind: str, tmp_path: Path) -> None:
    name, shot = CUTS[kind]
    path = cut(make_video(tmp_path / name, replace(shot, count=60, size=(160, 120))), 0.6)
    with open_video(path) as video:
        with pytest.warns(MaskletWarning) as warned:
            frames = list(video)
        assert video.num_frames is not None
        assert 10 < video.num_frames < 60
        assert video.expected_num_frames == 60
        assert f"60 frames expected, {video.num_frames} found" in str(warned[-1].message)
        numbers = [frame.index for frame in frames]
        assert numbers[: video.num_frames - 3] == list(range(video.num_frames - 3))  # the last packets may be in pieces
        assert numbers == sorted(set(numbers))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(video.frames(0, 5))) == 5


def test_a_change_of_size(tmp_path: Path) -> None:
    first = make_video(tmp_path / "one.ts", Shot(count=10))
    second = make_video(tmp_path / "two.ts", Shot(count=10, size=(96, 64), times=lambda number: number + 20))
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames: list[Frame] = []
    with open_video(path) as video:
        with pytest.raises(SourceError, match=r"frame 10 is 96 x 64, the frames before it are 64 x 48.*one size"):
            frames.extend(video)
        assert [frame.index for frame in frames] == list(range(10))
        with pytest.raises(SourceError, match=r"frame 1\d is 96 x 64"):
            video[15]
        assert np.array_equal(video[9].rgb, frames[9].rgb)


def song(path: Path, *, cover: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp3" if path.suffix == ".mp3" else "aac", rate=44100)
        image_stream = container.add_stream("mjpeg", rate=1) if cover else None
        if image_stream is not None:
            image_stream.width, image_stream.height, image_stream.pix_fmt = 32, 32, "yuvj420p"
            image_stream.disposition = av.stream.Disposition.attached_pic
            for packet in [
                *image_stream.encode(av.VideoFrame.from_ndarray(make_image(0, (32, 32)), "rgb24")),
                *image_stream.encode(),
            ]:
                container.mux(packet)
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 44100, number * 1024
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BAD_VIDEOS = {
    "missing": (lambda f: f / "clpi.mp4", ["no such video or image", "did you mean 'clip.mp4'"]),
    "empty": (lambda f: write(f / "e.mp4", b""), ["e.mp4", "empty (0 bytes)", "again"]),
    "text": (
        lambda f: write(f / "t.mp4", b"hello there"),
        ["t.mp4", "cannot be read as a video", "hello there", "MP4"],
    ),
    "notes": (lambda f: write(f / "t.txt", b"hello there " * 99), ["t.txt", "MP4"]),
    "web page": (lambda f: write(f / "w.mp4", b"<!DOCTYPE html><html>"), ["web page", "video itself"]),
    "lfs": (lambda f: write(f / "l.mp4", b"version https://git-lfs.github.com/spec/v1\n"), ["git lfs pull"]),
    "song": (lambda f: song(f / "s.mp3"), ["s.mp3", "no video stream", "audio", "right file"]),
    "song with a cover": (lambda f: song(f / "s.mp3", cover=True), ["no video stream", "audio"]),
    "cut index": (
        lambda f: cut(make_video(f / "c.mp4"), 0.6),
        ["c.mp4", "index is missing", "cut short", "copy it again"],
    ),
    "header only": (lambda f: cut(make_video(f / "h.mkv"), 0.05), ["h.mkv"]),
    "all damaged": (lambda f: ruined(f / "r.mp4"), ["r.mp4", "no frame that can be decoded", "at least one"]),
    "image of nothing": (lambda f: write(f / "p.png", b"\x89PNG\r\n"), ["p.png", "PNG", "cut short"]),
}


def ruined(path: Path) -> Path:
    make_video(path, Shot(count=6))
    for number, _, _ in packet_spans(path):
        damage(path, number, slice(0, 100))
    return path


@pytest.mark.parametrize("name", BAD_VIDEOS)
def test_bad_videos_are_refused_at_once(name: str, tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", Shot(count=2))
    make, words = BAD_VIDEOS[name]
    with pytest.raises(SourceError) as caught:
        open_video(make(tmp_path))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="everything is readable here")
def test_an_unreadable_video(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", Shot(count=2)).chmod(0)
    with pytest.raises(SourceError, match=r"a\.mp4.*Permission denied.*permissions"):
        open_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["take 1: dog.mp4", "ünï.mp4", "50%03d.mp4", "a[1].mp4", "dog.clip", "dog"])
def test_special_file_names(name: str, tmp_path: Path) -> None:
    made = make_video(tmp_path / "made.mp4", Shot(count=2))
    made.rename(tmp_path / name)
    assert open_video(tmp_path / name).num_frames == 2


def test_a_video_named_like_an_image_and_an_image_named_like_a_video(tmp_path: Path) -> None:
    make_video(tmp_path / "made.mp4", Shot(count=3)).rename(tmp_path / "a.jpg")
    assert open_video(tmp_path / "a.jpg").num_frames == 3
    Image.fromarray(make_image(0, (64, 48))).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.mp4")
    assert [frame.size for frame in open_video(tmp_path / "b.mp4")] == [(48, 64)]


def test_open_images_refuses_videos_and_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.mp4.*video.*model\.track"):
        open_images(make_video(tmp_path / "a.mp4", Shot(count=2)))


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/data/clips is not here")
@pytest.mark.parametrize(("name", "count"), [("01_dog", 289), ("02_cups", 300), ("bedroom", 200)])
def test_real_clips(name: str, count: int) -> None:
    with open_video(CLIPS / f"{name}.mp4") as video:
        assert video.num_frames == count
        frames = {frame.index: frame.rgb for frame in video.frames(0, 60)}
        assert list(frames) == list(range(60))
        for number in (59, 3, 31):
            assert np.array_equal(video[number].rgb, frames[number])
        assert [frame.index for frame in video.frames(reverse=True, stop=count - 4)] == [
            count - 1,
            count - 2,
            count - 3,
        ]
