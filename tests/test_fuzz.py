"""Damaged files of every kind end in a result or in one of masklet's own errors: seeded mutations of tiny files.

A run without `-m slow` tries a few mutations of each kind; the slow part tries 20,000 in all. A failure names the kind
and the seed, and `mutated(content, random.Random(seed))` makes the file again.
"""

from __future__ import annotations

import io
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, features

from helpers.dataset_files import coco, native, pngs, sa1b, videos, yolo
from helpers.frame_results import frame
from helpers.labeling_tool_files import cvat, labelme, voc
from masklet.checkpoints.load import read_metadata, read_tensors
from masklet.datasets import check_dataset, open_dataset
from masklet.errors import MaskletError
from masklet.media import open_images, open_video
from masklet.media.image import MAX_PIXELS_VARIABLE
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
        for track in record.objects:
            assert track.area >= 0


def read_checkpoint(path: Path) -> None:
    read_metadata(path)
    read_tensors(path)


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
    "png": (written("a.png", lambda: image_bytes("PNG")), read_image, 1300),
    "png of 16 bits": (written("a.png", lambda: image_bytes("PNG", deep=True)), read_image, 600),
    "jpg": (written("a.jpg", lambda: image_bytes("JPEG")), read_image, 1300),
    "webp": (written("a.webp", lambda: image_bytes("WEBP")), read_image, 800),
    "gif": (written("a.gif", lambda: image_bytes("GIF")), read_image, 800),
    "bmp": (written("a.bmp", lambda: image_bytes("BMP")), read_image, 800),
    "tiff": (written("a.tif", lambda: image_bytes("TIFF", compression="tiff_lzw")), read_image, 800),
    "tiff of 16 bits": (written("a.tif", lambda: image_bytes("TIFF", deep=True)), read_image, 600),
    "mp4": (written("a.mp4", lambda: video_bytes("mp4", "libx264")), read_video, 800),
    "fragmented mp4": (written("a.mp4", lambda: video_bytes("mp4", "mpeg4")), read_video, 500),
    "mkv": (written("a.mkv", lambda: video_bytes("matroska", "libx264")), read_video, 800),
    "webm": (written("a.webm", lambda: video_bytes("webm", "libvpx")), read_video, 400),
    "avi": (written("a.avi", lambda: video_bytes("avi", "mjpeg", "yuvj420p")), read_video, 500),
    "mpeg-ts": (written("a.ts", lambda: video_bytes("mpegts", "libx264")), read_video, 400),
    "y4m": (written("a.y4m", lambda: video_bytes("yuv4mpegpipe", "wrapped_avframe")), read_video, 400),
    "raw h264": (written("a.h264", lambda: video_bytes("h264", "libx264")), read_video, 350),
    "gif video": (written("a.gif", lambda: image_bytes("GIF", frames=4)), read_video, 800),
    "webp video": (written("a.webp", lambda: image_bytes("WEBP", frames=4)), read_video, 500),
    "png video": (written("a.png", lambda: image_bytes("PNG", frames=4)), read_video, 400),
    "native json": (labels(native, "masks/b.json"), read_labels, 400),
    "coco json": (labels(coco, "annotations/instances_val2017.json"), read_labels, 700),
    "yolo text": (labels(yolo, "labels/train/2.txt"), read_labels, 600),
    "yolo yaml": (labels(yolo, "data.yaml"), read_labels, 400),
    "labelme json": (labels(labelme, "a2.json"), read_labels, 500),
    "voc map": (labels(voc, "SegmentationObject/2007_000002.png"), read_labels, 400),
    "cvat xml": (labels(cvat, "annotations.xml"), read_labels, 500),
    "png map": (labels(pngs, "masks/a.png"), read_labels, 500),
    "davis map": (labels(videos, "Annotations/ant/00002.png"), read_labels, 300),
    "sa1b json": (labels(sa1b, "sa_2.json"), read_labels, 500),
    "tracks": (make_lines, read_lines, 1200),
    "safetensors": (make_safetensors, read_checkpoint, 1500),
    "torch zip": (make_torch_zip, read_checkpoint, 700),
}
if features.check("avif"):
    KINDS["avif"] = (written("a.avif", lambda: image_bytes("AVIF")), read_image, 500)


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
def test_many_mutations_of_every_kind(kind: str, tmp_path: Path) -> None:
    assert list(failures(kind, tmp_path, range(1000, 1000 + KINDS[kind][2]))) == []
