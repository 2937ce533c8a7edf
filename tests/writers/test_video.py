"""The overlay video: what PyAV and a browser read, the audio of its source, and what a killed program leaves."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.frame_results import box_mask, frame
from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.results import Results
from masklet.writers import SinkOptions, open_sink, read_tracks, video, video_encoding

RATE = 44100


def write(folder: Path, frames: list[Results], **options: object) -> Path:
    with open_sink("video", folder, stem="clip", **options) as sink:
        for results in frames:
            sink.write(results)
    assert sorted(os.listdir(folder)) == ["clip_overlay.mp4"]
    return sink.paths[0]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(image.time) for image in container.decode(video=0)]


def times_before_truncation(path: Path) -> list[float]:
    timestamps: list[float] = []
    with contextlib.suppress(av.FFmpegError), av.open(str(path)) as container:
        for image in container.decode(video=0):
            timestamps.append(float(image.time))  # noqa: PERF401
    return timestamps


def make_source(path: Path, codec: str | None, seconds: int = 2, rate: int = RATE, channels: str = "mono") -> Path:
    """A video of 25 frames a second with a tone."""
    with av.open(str(path), "w") as out:
        images = out.add_stream("libx264", rate=25)
        images.width, images.height, images.pix_fmt = 32, 32, "yuv420p"
        audio = out.add_stream(codec, rate=rate, layout=channels) if codec else None
        for number in range(25 * seconds):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8))
            image.pts = number
            out.mux(images.encode(image))
        out.mux(images.encode(None))
        if audio is not None:
            tone = (np.sin(np.arange(rate * seconds) * 2 * np.pi * 440 / rate) * 8000).astype(np.int16)
            count = 2 if channels == "stereo" else 1
            for at in range(0, len(tone), 1024):
                samples = np.repeat(tone[None, at : at + 1024], count, axis=1)
                chunk = av.AudioFrame.from_ndarray(samples, format="s16", layout=channels)
                chunk.rate, chunk.pts = rate, at
                out.mux(audio.encode(chunk))
            out.mux(audio.encode(None))
    return path


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def clip_frames(start: int, stop: int, *, clock: bool = True) -> list[Results]:
    return [frame(number, time=number / 25 if clock else None) for number in range(start, stop)]


def test_video_plays_in_browsers(tmp_path: Path) -> None:
    path = write(tmp_path, [frame(number) for number in range(12)], fps=30.0)
    with av.open(str(path)) as container:
        [stream] = container.streams
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.width, stream.codec_context.height) == (38, 24)  # 37 is odd
        assert stream.frames == 12
        assert stream.duration * stream.time_base == Fraction(12, 30)
        assert stream.average_rate == 30
        assert stream.codec_context.color_range == video_encoding.LIMITED_RANGE
        assert stream.codec_context.colorspace == video_encoding.BT709
    assert times(path) == pytest.approx([number / 30 for number in range(12)], abs=1e-5)


def test_index_comes_first_without_fragments(tmp_path: Path) -> None:
    data = write(tmp_path, [frame(number) for number in range(3)]).read_bytes()
    names, at = [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name)
        at += size
    assert b"moof" not in names
    assert names.index(b"moov") < names.index(b"mdat")


@pytest.mark.parametrize("size", [(64, 96), (63, 96), (64, 95), (63, 95), (1, 1)])
def test_frames_have_the_colors_of_the_plot(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = size
    frames = [frame(number, {3: box_mask((8, 8, 40, 40), size)}) for number in range(3)]
    path = write(tmp_path, frames, options=SinkOptions(crf=1))
    with av.open(str(path)) as container:
        images = [image.to_ndarray(format="rgb24") for image in container.decode(video=0)]
    assert len(images) == 3
    assert images[0].shape == (height + height % 2, width + width % 2, 3)
    far = np.abs(images[0][:height, :width].astype(int) - frames[0].plot())
    assert np.median(far) <= 3
    assert far.mean() < 6


def test_boxes_and_labels_are_drawn_on_request(tmp_path: Path) -> None:
    frames = [frame(0, {3: box_mask((20, 40, 90, 110), (128, 160))})]
    plain = write(tmp_path / "plain", frames).stat().st_size
    assert write(tmp_path / "drawn", frames, options=SinkOptions(boxes=True, labels=True)).stat().st_size > plain


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    clock = [5.0, 5.04, 5.5, 5.51, 8.0]
    path = write(tmp_path, [frame(number, time=time) for number, time in enumerate(clock)], fps=25.0)
    assert times(path) == pytest.approx([time - 5.0 for time in clock], abs=1e-4)


def test_ntsc_timestamps_do_not_drift() -> None:
    fps = 30000 / 1001
    assert all(abs(round(n / fps * video_encoding.TICKS_PER_SECOND) - n * 3003) == 0 for n in range(0, 200_000, 997))


def test_gaps_between_frame_numbers_take_time(tmp_path: Path) -> None:
    assert times(write(tmp_path, [frame(7), frame(9), frame(10)], fps=10.0)) == pytest.approx([0, 0.2, 0.3], abs=1e-4)


def test_clock_that_jumps_back_counts_as_one_frame(tmp_path: Path) -> None:
    clock = [9.0, 9.1, 9.1, 2.0, 2.1, None, 2.5]
    path = write(tmp_path, [frame(number, time=time) for number, time in enumerate(clock)], fps=20.0)
    assert times(path) == pytest.approx([0, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4], abs=1e-4)


@pytest.mark.parametrize("number", [3, 2])
def test_frames_must_be_in_ascending_order(number: int, tmp_path: Path) -> None:
    with open_sink("video", tmp_path, stem="clip") as sink:
        sink.write(frame(3))
        with pytest.raises(StateError, match=f"frame {number} came after frame 3"):
            sink.write(frame(number))
        sink.write(frame(4))
    assert len(times(sink.paths[0])) == 2


def test_size_change_is_reported_and_the_video_kept(tmp_path: Path) -> None:
    with open_sink("video", tmp_path, stem="clip") as sink:
        sink.write(frame(0))
        with pytest.raises(InputError, match="frame 1 is 30x20 and the video is 37x24"):
            sink.write(frame(1, {1: box_mask((1, 1, 5, 5), (20, 30))}))
    assert len(times(sink.paths[0])) == 1


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("aac", ".ts"), ("mp3", ".mp4"), ("mp3", ".mkv")])
def test_audio_is_copied(codec: str, suffix: str, tmp_path: Path) -> None:
    clip = make_source(tmp_path / f"source{suffix}", codec)
    theirs = audio_packets(clip)
    ours = audio_packets(write(tmp_path / "out", clip_frames(0, 50), source=clip, fps=25.0))
    if suffix == ".ts":  # there each packet has a header of seven bytes, which MP4 has not
        theirs = [packet[7:] for packet in theirs]
    assert len(ours) >= len(theirs) - 2
    assert any(theirs[skip : skip + len(ours)] == ours for skip in range(3))


@pytest.mark.parametrize(
    ("codec", "suffix", "rate", "channels"),
    [
        ("pcm_s16le", ".mov", RATE, "stereo"),
        ("libopus", ".mkv", 48000, "mono"),
        ("flac", ".mkv", 32000, "mono"),
        ("pcm_s16le", ".mov", 37800, "mono"),
    ],
)
def test_other_audio_becomes_aac(codec: str, suffix: str, rate: int, channels: str, tmp_path: Path) -> None:
    clip = make_source(tmp_path / f"source{suffix}", codec, rate=rate, channels=channels)
    path = write(tmp_path / "out", clip_frames(0, 50), source=clip, fps=25.0)
    with av.open(str(path)) as container:
        [stream] = container.streams.audio
        assert stream.codec_context.name == "aac"
        assert stream.codec_context.channels == (2 if channels == "stereo" else 1)
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.05)
        samples = np.concatenate([chunk.to_ndarray()[0] for chunk in container.decode(stream)])
        rate = stream.codec_context.sample_rate
    middle = samples[rate // 2 : rate // 2 + rate]
    assert np.abs(np.fft.rfft(middle)).argmax() == pytest.approx(440, abs=1)


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("aac", ".ts"), ("pcm_s16le", ".mov")])
@pytest.mark.parametrize("clock", [True, False])
def test_audio_is_trimmed_to_the_frames_written(codec: str, suffix: str, clock: bool, tmp_path: Path) -> None:
    clip = make_source(tmp_path / f"source{suffix}", codec, seconds=4)
    path = write(tmp_path / "out", clip_frames(50, 75, clock=clock), source=clip, fps=25.0)
    with av.open(str(path)) as container:
        images, audio = container.streams.video[0], container.streams.audio[0]
        assert images.duration * images.time_base == 1
        assert float(audio.duration * audio.time_base) == pytest.approx(1.0, abs=0.05)
        assert container.start_time == 0
    if codec == "aac" and suffix == ".mp4":
        theirs, ours = audio_packets(clip), audio_packets(path)
        first = theirs.index(ours[0])
        assert theirs[first : first + len(ours)] == ours
        assert first == pytest.approx(2 * RATE / 1024, abs=2)


def test_audio_shorter_than_the_video(tmp_path: Path) -> None:
    clip = make_source(tmp_path / "source.mp4", "aac", seconds=1)
    path = write(tmp_path / "out", [frame(n, time=n / 5) for n in range(100)], source=clip)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 100
        assert float(container.streams.audio[0].duration * container.streams.audio[0].time_base) < 1.1


@pytest.mark.parametrize("kind", ["silent", "off", "none", "folder", "missing", "camera"])
def test_silent_video_without_audio(kind: str, tmp_path: Path) -> None:
    clip = make_source(tmp_path / "source.mp4", None if kind == "silent" else "aac")
    given = {"none": None, "folder": tmp_path, "missing": tmp_path / "x.mp4", "camera": "rtsp://camera/1"}.get(
        kind, clip
    )
    path = write(tmp_path / "out", clip_frames(0, 5), source=given, options=SinkOptions(audio=kind != "off"))
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_source_that_is_no_longer_a_video_gives_a_silent_video(tmp_path: Path) -> None:
    clip = tmp_path / "source.mp4"
    clip.write_bytes(b"not a video")
    with pytest.warns(MaskletWarning, match=r"audio of .*source.mp4' cannot be kept"):
        path = write(tmp_path / "out", clip_frames(0, 5), source=clip)
    assert len(times(path)) == 5


def test_truncated_source_gives_the_audio_it_has(tmp_path: Path) -> None:
    clip = make_source(tmp_path / "source.ts", "aac")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    path = write(tmp_path / "out", clip_frames(0, 50), source=clip)
    assert len(times(path)) == 50
    assert audio_packets(path)


def test_source_is_not_replaced(tmp_path: Path) -> None:
    clip = make_source(tmp_path / "clip_overlay.mp4", "aac")
    before = clip.read_bytes()
    with pytest.raises(OutputError, match="is not replaced"):
        open_sink("video", tmp_path, stem="clip", source=clip)
    assert clip.read_bytes() == before


def test_earlier_video_is_replaced_only_by_a_finished_one(tmp_path: Path) -> None:
    path = write(tmp_path, [frame(number) for number in range(9)])
    with open_sink("video", tmp_path, stem="clip") as sink:
        sink.write(frame(0))
        assert len(times(path)) == 9
    assert len(times(path)) == 1


def test_missing_encoder_is_reported_before_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "H264_ENCODERS", ("no_such_encoder",))
    with pytest.raises(OutputError, match=r"no H\.264 encoder"):
        open_sink("video", tmp_path, stem="clip")


def test_encoder_that_does_not_open_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [name for name in video_encoding.H264_ENCODERS if name in av.codecs_available]
    if "h264_nvenc" not in listed or os.path.exists("/dev/nvidia0"):
        pytest.skip("needs a build with an encoder for a graphics card that this machine lacks")
    monkeypatch.setattr(video_encoding, "H264_ENCODERS", ("h264_nvenc", "libx264"))
    assert len(times(write(tmp_path, [frame(0), frame(1)]))) == 2
    monkeypatch.setattr(video_encoding, "H264_ENCODERS", ("h264_nvenc",))
    with open_sink("video", tmp_path / "none", stem="clip") as sink, pytest.raises(OutputError, match="h264_nvenc: "):
        sink.write(frame(0))
    assert os.listdir(tmp_path / "none") == []


def test_full_disk_while_finalizing_keeps_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(part: Path, path: Path, audio: object) -> None:
        raise OutputError(f"{path} could not be written (No space left on device)")

    monkeypatch.setattr(video, "finalize_video", full)
    sink = open_sink("video", tmp_path, stem="clip")
    for number in range(40):
        sink.write(frame(number))
    with pytest.raises(OutputError, match="No space left"):
        sink.close()
    assert os.listdir(tmp_path) == ["clip_overlay.mp4"]
    assert sink.paths == [tmp_path / "clip_overlay.mp4"]
    assert len(times(sink.paths[0])) == 40


@pytest.mark.parametrize("fraction", [0.0, 0.002, 0.1, 0.5, 0.97, 1.0])
def test_part_truncated_anywhere_is_finalized(fraction: float, tmp_path: Path) -> None:
    part, final = tmp_path / "clip.part.mp4", tmp_path / "clip.mp4"
    writer = video_encoding.FragmentedMp4(part, (96, 128), 25.0, 20)
    noise = np.random.default_rng(0)
    for number in range(60):
        writer.add_frame(noise.integers(0, 256, (96, 128, 3), np.uint8), number / 25)
    writer.close(1 / 25)
    data = part.read_bytes()
    part.write_bytes(data[: round(fraction * len(data))])
    assert video_encoding.is_playable(part) == (fraction > 0.01)
    if fraction > 0.01:
        video_encoding.finalize_video(part, final, None)
        assert len(times(final)) == pytest.approx(fraction * 60, abs=2)


def test_original_error_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(part: Path, path: Path, audio: object) -> None:
        raise OutputError("No space left on device")

    monkeypatch.setattr(video, "finalize_video", full)
    sink = open_sink("video", tmp_path, stem="clip")
    sink.write(frame(0))
    with pytest.warns(MaskletWarning, match="No space left"):
        sink.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


FOREVER = """
import itertools, sys
from helpers.frame_results import frame
from masklet.writers import open_sink
folder = sys.argv[1]
with open_sink("video", folder, stem="clip", fps=25.0) as video, open_sink("coco", folder, stem="clip") as coco:
    for number in itertools.count():
        results = frame(number)
        coco.write(results)
        video.write(results)
        print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_killed_program_leaves_a_playable_video_and_complete_lines(tmp_path: Path) -> None:
    search_path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FOREVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        last = [int(line) for line in itertools.islice(process.stdout, 200)][-1]
        process.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
    part = tmp_path / "clip_overlay.part.mp4"
    assert sorted(os.listdir(tmp_path)) == ["clip_masks.jsonl", part.name]
    records = [record.frame_idx for record in read_tracks(tmp_path / "clip_masks.jsonl")]
    assert records[: last + 1] == list(range(last + 1))
    played = times_before_truncation(part)
    assert played == pytest.approx([number / 25 for number in range(len(played))], abs=1e-4)
    assert len(played) > last - 75  # the last fragment and what the encoder held: at most three seconds
    assert len(times(write(tmp_path / "again", [frame(0)]))) == 1
    with open_sink("video", tmp_path, stem="clip") as sink:
        sink.write(frame(0))
    assert not part.exists()


def test_a_camera_of_4000_frames_a_second(tmp_path: Path) -> None:
    frames = [frame(number, time=number / 4000) for number in range(6)]
    found = times(write(tmp_path, frames, fps=4000.0))
    assert found == pytest.approx([number / 4000 for number in range(6)], abs=1 / 90000)


def test_durations_that_mp4_cannot_hold_are_bounded(tmp_path: Path) -> None:
    frames = [frame(i, time=at) for i, at in enumerate((0.0, 1e9, 1e9 + 1e-7))]
    with pytest.warns(MaskletWarning, match=r"frame 0 is shown for 1e\+09 s.*1/90000 s to 6 h") as caught:
        found = times(write(tmp_path, frames))
    assert len(caught) == 1
    assert found == pytest.approx([0.0, 21600.0, 21600.0 + 1 / 90000])


def test_the_pixel_aspect_is_kept(tmp_path: Path) -> None:
    options = SinkOptions(pixel_aspect=Fraction(16, 11))
    path = write(tmp_path, [frame(0, time=0.0)], options=options)
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize("options", [{"pixel_aspect": 0}, {"pixel_aspect": float("inf")}, {"fps": float("inf")}])
def test_odd_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be over 0 and finite"):
        SinkOptions(**options)
