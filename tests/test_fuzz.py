"""Damaged files of every kind end in a result or in one of masklet's own errors: seeded mutations of tiny files.

A run without `-m slow` tries a few mutations of each kind; the slow part tries 10,000 in all, and the whole run of
every night 20,000. A failure names the kind and the seed, and `mutated(content, random.Random(seed))` makes the file
again.
"""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, features

from helpers.dataset_files import OBJECTS, coco, native, pngs, sa1b, sav, sav_val, text, videos, yolo
from helpers.frame_results import frame
from helpers.labeling_tool_files import cvat, labelme, voc
from helpers.reference import reference_model
from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation
from masklet.annotate.resume_log import AnnotationLog, PendingEntry
from masklet.checkpoints.load import read_metadata, read_tensors
from masklet.cli.track_prompts import read_prompts_file
from masklet.datasets import check_dataset, open_dataset
from masklet.datasets.mixture import is_mixture, open_mixture
from masklet.errors import MaskletError
from masklet.evaluate.image_clicks import ClickResult, click_report
from masklet.evaluate.image_prompts import ImageMetrics, ImageReport
from masklet.evaluate.results_file import ResultsFile, RunManifest
from masklet.evaluate.scribble_robot import read_scribbles
from masklet.evaluate.validation_result import SampleCounts, TrackingMetrics, TrackingReport, ValidationResult
from masklet.masks import rle
from masklet.media import open_images, open_video
from masklet.media.image import MAX_PIXELS_VARIABLE
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.types import ImageFeatures
from masklet.train.checkpoint import read_checkpoint
from masklet.train.feature_cache import EmbeddingCache
from masklet.train.monitoring import truncate_log
from masklet.video import Session, TrackOptions
from masklet.video.job_files import JobRecord, ResumeFolder
from masklet.video.session_load import SavedSession
from masklet.writers import open_sink, read_tracks

FAST_MUTATIONS = 25
MAX_PIXELS = 4_000_000
"""Limit of the image size: a damaged header must not reserve gigabytes."""
MAX_SECONDS = 5.0
"""Time that one file may take; most take a millisecond."""
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x01")
WORDS = (b"nan", b"-1", b"1e999", b"99999999999999999999", b"\xff\xfe", b"\0", b"'\"<&{[(", b"../../etc", b"true")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to three ways: flipped bits, cuts, repeated and zero blocks, odd numbers, inserted text."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(max(1, len(data)))
        if rng.random() < 0.4:  # headers decide more than pixels
            at = rng.randrange(max(1, min(len(data), 128)))
        length = rng.choice((1, 2, 4, 16, 100))
        match rng.randrange(6):
            case 0:
                for _ in range(rng.choice((1, 1, 4, 20))):
                    if data:
                        data[rng.randrange(len(data)) if rng.random() < 0.5 else min(at, len(data) - 1)] ^= (
                            1 << rng.randrange(8)
                        )
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[at : at + length] * rng.choice((1, 3))
            case 3:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 4:
                number = rng.choice(NUMBERS)
                data[at : at + len(number)] = number
            case 5:
                data[at:at] = rng.choice(WORDS)
    return bytes(data)


def image_bytes(kind: str, **options: object) -> bytes:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (4, 5, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    image = Image.fromarray(pixels)
    if options.pop("deep", False):
        image = Image.fromarray(np.linspace(0, 65535, 320).astype(np.uint16).reshape(16, 20))
    frames = options.pop("frames", 0)
    if frames:
        options |= {"save_all": True, "append_images": [image.rotate(90 * i) for i in range(1, frames)], "duration": 40}
    if kind == "JPEG":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def video_bytes(container: str, codec: str, pixel_format: str = "yuv420p", **options: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixel_format
        stream.options = {"g": "2", **options}
        for number in range(4):
            pixels = np.full((32, 32, 3), 60 + 10 * number, np.uint8)
            pixels[4:20, 2 * number : 12 + 2 * number] = (220, 40, 40)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)))
        output.mux(stream.encode())
    return buffer.getvalue()


def read_image(path: Path) -> None:
    for image in open_images(path):
        assert image.rgb.shape[0] * image.rgb.shape[1] > 0


def read_video(path: Path) -> None:
    """Read a video forward and one frame by its number; a damaged header must not make it endless."""
    with open_video(path) as video, closing(video.frames()) as frames:
        count = sum(frame.rgb.shape[:2] == video.size for frame in islice(frames, 100))
        if video.num_frames:
            assert count <= video.num_frames or count == 100
            video[video.num_frames - 1]


def read_labels(path: Path) -> None:
    """Read every mask of the dataset that the file belongs to; `path` is the damaged file."""
    for _ in check_dataset(open_dataset(next(folder for folder in path.parents if folder.name == "dataset"))):
        pass


def read_lines(path: Path) -> None:
    for record in read_tracks(path):
        with suppress(MaskletError):  # of one frame
            record.to_results(np.zeros((24, 37, 3), np.uint8))


def read_tensors_and_header(path: Path) -> None:
    read_metadata(path)
    read_tensors(path)


def read_mixture(path: Path) -> None:
    if is_mixture(path):
        open_mixture(path)


RESULTS_MANIFEST = RunManifest("clicks", "mine", "ab", {"limit": None}, ("bee", "cow"))


def results_file(path: Path) -> ResultsFile[ClickResult]:
    return ResultsFile(path, RESULTS_MANIFEST, ClickResult, lambda rows: asdict(click_report(rows)))


def make_results(folder: Path) -> Path:
    file = results_file(folder / "clicks.json")
    for unit, name in enumerate(RESULTS_MANIFEST.unit_names):
        file.add(unit, [ClickResult(name, 1, tuple(np.linspace(0.1, 0.9, 20)))], complete=True)
    file.write()
    return folder / "clicks.json"


def read_results(path: Path) -> None:
    file = results_file(path)
    file.load()
    if file.results:
        click_report(file.results)


def make_validation(folder: Path) -> Path:
    metrics, tracking = ImageMetrics(2, *[0.5] * 5), TrackingMetrics(1, 0.5, 0.25, 0.375)
    report = {"box": TrackingReport(tracking, {"ant": tracking}), "click": TrackingReport(tracking, {"ant": tracking})}
    images = ImageReport(metrics, {"photos": metrics}, metrics)
    result = ValidationResult(images, report, SampleCounts(1, 1, 3, 2), {"bad": "cut"}, 1.5)
    return text(folder / "val.json", result.to_json())


def read_validation(path: Path) -> None:
    assert str(ValidationResult.from_json(path.read_bytes().decode("utf-8", "replace")))


def make_train_log(folder: Path) -> Path:
    with (folder / "log.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "steps", "loss"), *((step, 9, f"{1 / step:.6g}") for step in range(1, 8))])
    return folder / "log.csv"


def make_state(folder: Path) -> Path:
    content = {
        "model": {"a": torch.ones(3, 4)},
        "ema": {"a": torch.ones(3, 4)},
        "ema_updates": 2,
        "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "step": 2,
        "config": '{"model": "tiny", "lora": 0}',
        "license": "Apache-2.0",
    }
    torch.save(content, folder / "state.pt")
    return folder / "state.pt"


def make_features(folder: Path) -> Path:
    features = ImageFeatures(torch.ones(1, 4, 2, 2), (torch.ones(1, 2, 4, 4), torch.ones(1, 1, 8, 8)))
    EmbeddingCache(folder, 1 << 20).put("ab", features)
    return folder / "ab.safetensors"


def read_features(path: Path) -> None:
    features = EmbeddingCache(path.parent, 1 << 20).get("ab")
    assert features is None or features.embed_BCHW.isfinite().all()


def make_mixture(folder: Path) -> Path:
    pngs(folder / "data")
    parts = [{"path": "data", "weight": 2}, {"path": "data", "data_format": "png", "split": None}]
    return text(folder / "mixture.json", parts)


def listed_yolo(root: Path) -> Path:
    """A data.yaml whose training images are the lines of a text."""
    yolo(root)
    text(root / "train.txt", "./images/train/2.jpg\nimages/train/10.jpg\n")
    return text(root / "data.yaml", "path: .\ntrain: train.txt\nval: images/val\nnames:\n  0: thing\n")


def session() -> Session:
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    frames[:, 8:20, 10:30] = 200
    return Session(FastSAM2(reference_model("builtin", 96, "v")), open_video(frames), TrackOptions())


def make_session(folder: Path) -> Path:
    with session() as opened:
        opened.add_prompt(5, frame_idx=0, points=[[20, 15]], labels=[1])
        opened.add_prompt(2, frame_idx=2, mask=np.pad(np.ones((8, 8), bool), ((4, 20), (20, 20))))
        next(opened.propagate(bidirectional=True))
        return opened.save(folder / "session.safetensors")


def read_session(path: Path) -> None:
    saved = SavedSession.read(path)
    saved.options(None)
    with session() as opened:
        opened.restore_saved(saved)


PROMPTS = [
    {"object": 1, "frame": 0, "points": [[21, 35], [30, 4]], "labels": [1, 0]},
    {"object": 2, "frame": 4, "box": [3, 0, 50, 40]},
    {"object": 3, "mask": "third.png"},
]


def make_prompts(folder: Path) -> Path:
    Image.fromarray(OBJECTS[0]).save(folder / "third.png")
    return text(folder / "prompts.json", PROMPTS)


JOB: JobRecord = {
    "source": "clip.mp4",
    "stamp": [100, 12345678901234567],
    "prompts": [
        {"object": 1, "frame": 0, "points": [[21.0, 35.0]], "labels": [1], "box": None, "mask": None},
        {"object": 2, "frame": 1, "points": [], "labels": [], "box": [0.0, 1.0, 20.0, 30.0], "mask": "ab"},
    ],
    "bidirectional": False,
    "reverse": False,
    "start": None,
    "stop": 9,
    "non_overlapping": False,
    "retain": "recent",
    "memory": "sam2",
    "scene_cuts": True,
    "verify_returns": True,
    "model": {"name": "builtin", "side": 512},
}


def make_job(folder: Path) -> Path:
    job = ResumeFolder(folder, "clip")
    job.acquire()
    job.begin(JOB, overwrite=True)
    job.close()
    return job.path / "job.json"


def make_run_log(folder: Path) -> Path:
    code = rle.encode(OBJECTS[0])
    one = ObjectAnnotation(16, 0.9, (10.0, 5.0, 30.0, 20.0), code, 300, (10.0, 5.0, 30.0, 20.0), 0.8)
    with AnnotationLog(folder) as log:
        log.start({"formats": ["coco"], "conf": 0.25}, overwrite=True)
        log.add_class_names({16: "dog"})
        for name in ("cat", "dog"):
            record = ImageAnnotation(name, f"{name}.jpg", (40, 60), (one,))
            log.append([PendingEntry(name, [1, 2], 1, [record.to_line()])])
    return folder / ".masklet" / "annotate.sqlite"


def read_run_log(path: Path) -> None:
    for other in path.parent.glob("*.sqlite-*"):
        other.unlink()
    with AnnotationLog(path.parent.parent) as log:
        log.start({"formats": ["coco"], "conf": 0.25}, overwrite=False)
        for name in log.entries:
            list(log.records(name))


def make_scribbles(folder: Path) -> Path:
    strokes = [{"path": [[0.1, 0.2], [0.5, 0.6]], "object_id": 1, "start_time": 0, "end_time": 5}]
    return text(folder / "001.json", {"sequence": "bear", "scribbles": [[], strokes, []]})


def written(name: str, make: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(make())
        return folder / name

    return write


def labels(make: Callable[[Path], object], name: str) -> Callable[[Path], Path]:
    """Make a dataset; its file `name` is the one that is damaged."""

    def write(folder: Path) -> Path:
        make(folder / "dataset")
        return folder / "dataset" / name

    return write


def make_lines(folder: Path) -> Path:
    with open_sink("coco", folder, stem="a") as sink:
        for number in range(3):
            sink.write(frame(number, time=number / 10))
    return sink.paths[0]


def make_safetensors(folder: Path) -> Path:
    metadata = {"config": '{"a": 1}', "format": "pt"}
    safetensors.torch.save_file({"a": torch.ones(3, 4), "b.c": torch.arange(5.0)}, folder / "a.safetensors", metadata)
    return folder / "a.safetensors"


def make_torch_zip(folder: Path) -> Path:
    torch.save({"model": {"a": torch.ones(3, 4), "b.c": torch.arange(5.0)}}, folder / "a.pt")
    return folder / "a.pt"


Kind = tuple[Callable[[Path], Path], Callable[[Path], None], int]
"""Makes the file in a folder, reads it, and how many of the 20,000 mutations it gets."""
KINDS: dict[str, Kind] = {
    "png": (written("a.png", lambda: image_bytes("PNG")), read_image, 930),
    "png of 16 bits": (written("a.png", lambda: image_bytes("PNG", deep=True)), read_image, 430),
    "jpg": (written("a.jpg", lambda: image_bytes("JPEG")), read_image, 930),
    "webp": (written("a.webp", lambda: image_bytes("WEBP")), read_image, 570),
    "gif": (written("a.gif", lambda: image_bytes("GIF")), read_image, 570),
    "bmp": (written("a.bmp", lambda: image_bytes("BMP")), read_image, 570),
    "tiff": (written("a.tif", lambda: image_bytes("TIFF", compression="tiff_lzw")), read_image, 570),
    "tiff of 16 bits": (written("a.tif", lambda: image_bytes("TIFF", deep=True)), read_image, 430),
    "mp4": (written("a.mp4", lambda: video_bytes("mp4", "libx264")), read_video, 570),
    "fragmented mp4": (written("a.mp4", lambda: video_bytes("mp4", "mpeg4")), read_video, 360),
    "mkv": (written("a.mkv", lambda: video_bytes("matroska", "libx264")), read_video, 570),
    "webm": (written("a.webm", lambda: video_bytes("webm", "libvpx")), read_video, 280),
    "avi": (written("a.avi", lambda: video_bytes("avi", "mjpeg", "yuvj420p")), read_video, 360),
    "mpeg-ts": (written("a.ts", lambda: video_bytes("mpegts", "libx264")), read_video, 280),
    "y4m": (written("a.y4m", lambda: video_bytes("yuv4mpegpipe", "wrapped_avframe")), read_video, 280),
    "raw h264": (written("a.h264", lambda: video_bytes("h264", "libx264")), read_video, 250),
    "gif video": (written("a.gif", lambda: image_bytes("GIF", frames=4)), read_video, 570),
    "webp video": (written("a.webp", lambda: image_bytes("WEBP", frames=4)), read_video, 360),
    "png video": (written("a.png", lambda: image_bytes("PNG", frames=4)), read_video, 280),
    "native json": (labels(native, "masks/b.json"), read_labels, 280),
    "coco json": (labels(coco, "annotations/instances_val2017.json"), read_labels, 500),
    "yolo text": (labels(yolo, "labels/train/2.txt"), read_labels, 430),
    "yolo yaml": (labels(yolo, "data.yaml"), read_labels, 280),
    "labelme json": (labels(labelme, "a2.json"), read_labels, 360),
    "voc map": (labels(voc, "SegmentationObject/2007_000002.png"), read_labels, 280),
    "cvat xml": (labels(cvat, "annotations.xml"), read_labels, 360),
    "png map": (labels(pngs, "masks/a.png"), read_labels, 360),
    "davis map": (labels(videos, "Annotations/ant/00002.png"), read_labels, 210),
    "sa1b json": (labels(sa1b, "sa_2.json"), read_labels, 360),
    "tracks": (make_lines, read_lines, 850),
    "safetensors": (make_safetensors, read_tensors_and_header, 1040),
    "torch zip": (make_torch_zip, read_tensors_and_header, 500),
    "voc list": (labels(voc, "ImageSets/Segmentation/trainval.txt"), read_labels, 110),
    "voc xml": (labels(voc, "Annotations/2007_000002.xml"), read_labels, 140),
    "voc classes": (labels(voc, "SegmentationClass/2007_000002.png"), read_labels, 140),
    "sav json": (labels(sav, "sav_000001_manual.json"), read_labels, 110),
    "sav map": (labels(sav_val, "Annotations_6fps/sav_7/000/00004.png"), read_labels, 110),
    "yolo list": (labels(listed_yolo, "train.txt"), read_labels, 280),
    "mixture": (make_mixture, read_mixture, 280),
    "results of eval": (make_results, read_results, 430),
    "validation": (make_validation, read_validation, 430),
    "training log": (make_train_log, lambda path: truncate_log(path, 5), 430),
    "training state": (make_state, read_checkpoint, 360),
    "cached features": (make_features, read_features, 280),
    "session": (make_session, read_session, 360),
    "prompts": (make_prompts, read_prompts_file, 430),
    "tracking job": (make_job, lambda path: ResumeFolder(path.parent.parent, "clip").check(JOB), 360),
    "annotation log": (make_run_log, read_run_log, 140),
    "scribbles": (make_scribbles, lambda path: read_scribbles(path, "bear", frames=3, objects=2), 280),
}
if features.check("avif"):
    KINDS["avif"] = (written("a.avif", lambda: image_bytes("AVIF")), read_image, 360)


def failures(kind: str, folder: Path, seeds: range) -> Iterator[str]:
    """Read mutations of one kind of file; yield each that ends in an error of another library, or takes too long."""
    make, read, _ = KINDS[kind]
    path = make(folder)
    original = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
        for seed in seeds:
            path.write_bytes(mutated(original, random.Random(seed)))
            begin = time.monotonic()
            try:
                read(path)
            except MaskletError:
                pass
            except Exception as error:
                yield f"{kind}, seed {seed}: {type(error).__module__}.{type(error).__name__}: {error}"
            if time.monotonic() - begin > MAX_SECONDS:
                yield f"{kind}, seed {seed}: took {time.monotonic() - begin:.0f} s"


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(MAX_PIXELS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutations_of_every_kind(kind: str, tmp_path: Path) -> None:
    assert list(failures(kind, tmp_path, range(FAST_MUTATIONS))) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [2, pytest.param(1, marks=pytest.mark.whole)], ids=["half", "all"])
def test_many_mutations_of_every_kind(kind: str, part: int, tmp_path: Path) -> None:
    assert list(failures(kind, tmp_path, range(1000, 1000 + KINDS[kind][2] // part))) == []


def add_odd_entry(path: Path, rng: random.Random) -> None:
    """Put something in the place of `path`, or beside it, that nobody expects in a dataset."""
    names = ("a2.jpg", "b.json", ".DS_Store", "Thumbs.db", "x" * 200, "a\n.png", "\udce9.txt")
    beside = path.with_name(rng.choice(names))
    target = path if rng.random() < 0.5 else beside
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    match rng.randrange(7):
        case 0:
            target.mkdir()
        case 1:
            target.symlink_to(target.name)  # a link to itself
        case 2:
            target.symlink_to(rng.choice(("gone", "..", ".", "/dev/null", "/dev/zero")))
        case 3:
            os.mkfifo(target)
        case 4:
            with socket.socket(socket.AF_UNIX) as server, suppress(OSError):  # a path may be too long for one
                server.bind(str(target))
        case 5:
            target.touch()
        case 6:
            target.write_bytes(rng.randbytes(50))


ODD_FOLDERS = {
    "native": native, "coco": coco, "yolo": yolo, "labelme": labelme, "voc": voc, "cvat": cvat, "png": pngs,
    "davis": videos, "sa1b": sa1b, "sav": sav_val,
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and sockets")
@pytest.mark.filterwarnings("ignore::masklet.errors.MaskletWarning")
@pytest.mark.parametrize("data_format", ODD_FOLDERS)
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(1000, 1060), marks=pytest.mark.slow)], ids=str)
def test_odd_entries_in_a_dataset(data_format: str, seeds: range, tmp_path: Path) -> None:
    """A folder, a pipe, a socket, a link that loops or leads nowhere, a device, odd names: findings or errors."""
    failed = []
    for seed in seeds:
        root, rng = tmp_path / str(seed), random.Random(seed)
        ODD_FOLDERS[data_format](root)
        for _ in range(rng.choice((1, 2, 4))):
            add_odd_entry(rng.choice([*sorted(root.rglob("*"), key=str)] or [root / "a"]), rng)
        begin = time.monotonic()
        try:
            for _ in check_dataset(open_dataset(root)):
                pass
        except MaskletError:
            pass
        except Exception as error:
            failed.append(f"seed {seed}: {type(error).__module__}.{type(error).__name__}: {error}")
        if time.monotonic() - begin > MAX_SECONDS:
            failed.append(f"seed {seed}: took {time.monotonic() - begin:.0f} s")
        shutil.rmtree(root)
    assert failed == []
