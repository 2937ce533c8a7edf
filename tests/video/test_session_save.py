"""A saved session goes on as if it had never stopped, and a file that is none is refused in one line."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from helpers.reference import encode_images_once
from masklet import SAM, Results
from masklet.errors import CheckpointError, InputError, MaskletError, OutputError, StateError
from masklet.video import AvailableMemory, MemorySelection, RecentFrames, Session, TrackOptions
from masklet.video.frame_cache import FeatureCache
from masklet.video.session_save import METADATA_KEY


@pytest.fixture
def model(tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> SAM:
    encode_images_once(monkeypatch)
    return tracker


def prompt(session: Session) -> Session:
    """Two objects, one known from a mask, a box and points, and later than the other."""
    mask = np.zeros((64, 96), bool)
    mask[30:50, 60:90] = True
    session.add_prompt(5, frame_idx=0, points=[[20, 25], [80, 60]], labels=[1, 0])
    session.add_prompt(2, frame_idx=4, box=[10, 10, 60, 50], points=[30, 30])
    session.add_prompt(9, frame_idx=3, mask=mask)
    return session


def frame_key(frame: Results) -> tuple[Any, ...]:
    assert frame.object_scores is not None
    masks = b"" if frame.masks is None else frame.masks.data.tobytes()
    return (
        frame.frame_idx,
        frame.ids.tolist(),
        frame.scores.tobytes(),
        frame.object_scores.tobytes(),
        frame.states,
        masks,
    )


WAYS: dict[str, Callable[[Session], Iterator[Results]]] = {
    "forward": lambda s: s.propagate(),
    "part": lambda s: s.propagate(2, 9),
    "back": lambda s: s.propagate(8, 0, reverse=True),
    "both": lambda s: s.propagate(bidirectional=True),
    "all retained": lambda s: s.propagate(bidirectional=True),
}


@pytest.fixture(scope="module")
def uninterrupted(tracker: SAM, small_video: np.ndarray) -> Callable[[str], tuple[list[Any], list[Any]]]:
    """The frames of a pass that nothing stops, and of a second pass both ways after it; each way is tracked once."""

    @functools.cache
    def frames(way: str) -> tuple[list[Any], list[Any]]:
        retain = "all" if way == "all retained" else "recent"
        with prompt(tracker.session(small_video, retain=retain)) as session:
            complete = [frame_key(frame) for frame in WAYS[way](session)]
            return complete, [frame_key(frame) for frame in session.propagate(bidirectional=True)]

    return frames


@pytest.mark.slow
@pytest.mark.parametrize("way", ["forward", "both", "all retained"])
def test_a_snapshot_restores_bit_for_bit_as_often_as_needed(
    way: str, model: SAM, small_video: np.ndarray, uninterrupted: Callable[[str], tuple[list[Any], list[Any]]]
) -> None:
    complete, _ = uninterrupted(way)
    with prompt(model.session(small_video, retain="all" if way == "all retained" else "recent")) as session:
        under_way = WAYS[way](session)
        first = [frame_key(next(under_way)) for _ in range(5)]
        known = session.snapshot()
        session.add_prompt(2, frame_idx=4, points=[5, 5], labels=0)
        session.remove_object(5)
        rest = [[frame_key(frame) for frame in under_way]]
        for _ in range(2):
            session.restore_snapshot(known)
            rest.append([frame_key(frame) for frame in session.resume()])
    assert first + rest[1] == complete
    assert rest[0] != rest[1] == rest[2]


@pytest.mark.slow
def test_cached_frames_are_encoded_once_where_they_fit(
    model: SAM, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    put = FeatureCache.put
    monkeypatch.setattr(FeatureCache, "put", lambda self, index, new: encoded.append(index) or put(self, index, new))
    for megabytes, times in ((2048, 1), (0, 2)):
        encoded.clear()
        with prompt(model.session(small_video)) as session:
            assert session.cache_features(0, 10, megabytes) == bool(megabytes)
            for _ in range(2):
                list(session.propagate())
        assert encoded.count(7) == times


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stopped", [1, 5])
def test_a_resumed_session_equals_an_uninterrupted_one_bit_for_bit(
    way: str,
    stopped: int,
    model: SAM,
    small_video: np.ndarray,
    tmp_path: Path,
    uninterrupted: Callable[[str], tuple[list[Any], list[Any]]],
) -> None:
    retain = "all" if way == "all retained" else "recent"
    complete, after = uninterrupted(way)
    with prompt(model.session(small_video, retain=retain)) as session:
        frames = WAYS[way](session)
        first = [frame_key(next(frames)) for _ in range(stopped)]
        assert session.save(tmp_path / "s.safetensors") == tmp_path / "s.safetensors"
    with model.session(small_video, resume=tmp_path / "s.safetensors") as session:
        assert session.object_ids == (5, 2, 9)
        assert session.options.retain == retain
        assert first + [frame_key(frame) for frame in session.resume()] == complete
        assert [frame_key(frame) for frame in session.propagate(bidirectional=True)] == after
        with pytest.raises(StateError, match="no pass is under way"):
            session.resume()
    assert len({masks for *_, masks in complete}) > 3, "a video in which nothing changes shows nothing"


def test_pending_corrections_are_saved(model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    def work(session: Session) -> list[Any]:
        return [frame_key(frame) for frame in session.repropagate()] + [session.changed_frames]

    with prompt(model.session(small_video, retain="all", non_overlapping=True, lost_after=3)) as session:
        list(session.propagate())
        session.correct(5, frame_idx=6, points=[50, 30], labels=[0])
        session.save(tmp_path / "s.safetensors")
        session.save(tmp_path / "again.safetensors")
        expected = work(session)
    with model.session(small_video, resume=tmp_path / "s.safetensors") as session:
        session.save(tmp_path / "third.safetensors")
        assert work(session) == expected
    assert len(expected) > 2
    texts = [(tmp_path / name).read_bytes() for name in ("s.safetensors", "again.safetensors", "third.safetensors")]
    assert texts[0] == texts[1] == texts[2], "saving what was loaded gives the same file"


def test_an_empty_session_and_an_unfinished_one_are_saved(model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    with model.session(small_video) as session:
        session.save(tmp_path / "s.safetensors")
    with model.session(small_video, resume=tmp_path / "s.safetensors") as session:
        assert session.object_ids == ()
        prompt(session).save(tmp_path / "s.safetensors")
    with (
        prompt(model.session(small_video)) as fresh,
        model.session(small_video, resume=tmp_path / "s.safetensors") as again,
    ):
        assert [frame_key(f) for f in again.propagate()] == [frame_key(f) for f in fresh.propagate()]


@dataclass(frozen=True)
class Short:
    """Looks at the frame before and at prompts."""

    max_distance: tuple[int, int] = (1, 1)

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        return RecentFrames(1, 2).select(frame_idx, available, reverse=reverse, length=length)


class Unnamed(Short):
    __repr__ = object.__repr__


def test_a_custom_memory_selector_is_passed_again(model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with prompt(model.session(small_video, options=TrackOptions(memory_selector=Short()))) as session:
        session.save(path)
    with pytest.raises(InputError, match=r"pass it again with TrackOptions\(memory_selector="):
        model.session(small_video, resume=path)
    with pytest.raises(InputError, match="was saved with memory_selector="):
        model.session(small_video, resume=path, memory_selector=RecentFrames())
    with model.session(small_video, resume=path, memory_selector=Short()) as session:
        assert session.options.memory_selector == Short()
    with model.session(small_video, memory_selector=Unnamed()) as session, pytest.raises(InputError, match="__repr__"):
        session.save(path)


def test_a_full_disk_keeps_the_earlier_file(
    model: SAM, small_video: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.safetensors"
    with model.session(small_video) as session:
        prompt(session).save(path)
        before = path.read_bytes()
        for _ in session.propagate(stop=3):
            pass

        def refuse(*_: Any, **__: Any) -> None:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

        with monkeypatch.context() as patch:
            patch.setattr("safetensors.torch.save_file", refuse)
            with pytest.raises(OutputError, match=r"s\.safetensors could not be written \(.*No space left.*make room"):
                session.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
        assert session.save(path).read_bytes() != before


def test_a_session_that_cannot_be_resumed_is_not_saved(model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with model.session(iter(small_video)) as session, pytest.raises(StateError, match="stream whose frames come once"):
        session.save(path)
    session = model.session(small_video)
    session.close()
    with pytest.raises(StateError, match="closed"):
        session.save(path)
    (tmp_path / "file").touch()
    with model.session(small_video) as session, pytest.raises(OutputError, match="could not be written"):
        session.save(tmp_path / "file" / "s.safetensors")
    assert not path.exists()


def test_another_source_model_or_option_is_one_clear_error(
    model: SAM, builtin_file: Path, small_video: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "s.safetensors"
    with prompt(model.session(small_video)) as session:
        session.save(path)
    with pytest.raises(InputError, match=r"saved for 'array' \(96 x 64, 10 frames\), and this is .*9 frames"):
        model.session(small_video[:9], resume=path)
    with pytest.raises(InputError, match="was saved with retain='recent'"):
        model.session(small_video, resume=path, retain="all")
    with pytest.raises(CheckpointError, match="other weights of 'builtin'"):
        SAM(builtin_file).session(small_video, resume=path)
    model.session(small_video, resume=path, retain="recent").close()


@pytest.fixture(scope="module")
def saved(tracker: SAM, small_video: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session in the middle of its forward pass, after its backward pass."""
    with prompt(tracker.session(small_video)) as session:
        next(session.propagate(bidirectional=True))
        return session.save(tmp_path_factory.mktemp("saved") / "saved.safetensors")


def rewritten(saved: Path, path: Path, change: Callable[[Any, dict[str, torch.Tensor]], object]) -> Path:
    with safe_open(saved, "pt") as file:
        doc, tensors = json.loads(file.metadata()[METADATA_KEY]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(doc, tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {METADATA_KEY: json.dumps(doc)})
    return path


def edit_backward(tensors: dict[str, torch.Tensor], change: Callable[[Any], object]) -> None:
    rows = json.loads(bytes(tensors["backward_results"].numpy()))
    change(rows)
    tensors["backward_results"] = torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)


POINTER = "5.prompted.0.pointer"
MOTION = {"frame": 0, "reverse": False, "mean": [1.0] * 8, "covariance": [[1.0] * 8] * 8, "stable_frames": 1}
HOSTILE: dict[str, Callable[[Any, dict[str, torch.Tensor]], object]] = {
    "no objects": lambda d, t: d.pop("objects"),
    "objects are words": lambda d, t: d.update(objects=["a"]),
    "an object twice": lambda d, t: d["objects"].append(d["objects"][0]),
    "an id below 0": lambda d, t: d["objects"][0].update(id=-1),
    "an id of words": lambda d, t: d["objects"][0].update(id="one"),
    "NaN": lambda d, t: d["objects"][0]["prompted"][0].update(score=float("nan")),
    "a score of words": lambda d, t: d["objects"][0]["prompted"][0].update(score="high"),
    "a frame below 0": lambda d, t: d["objects"][0]["prompted"][0].update(frame=-3),
    "a frame of 33 bits": lambda d, t: d["objects"][0]["prompted"][0].update(frame=2**32),
    "a rule below 0": lambda d, t: d["options"].update(memory_selector={"rule": "RecentFrames", "memories": -1}),
    "a pass without end": lambda d, t: d["propagation"].update(stop=10**30),
    "a direction of words": lambda d, t: d["objects"][0]["prompted"][0].update(reverse="up"),
    "an unknown tensor": lambda d, t: d["objects"][0]["prompted"][0]["tensors"].append("secret"),
    "no pointer": lambda d, t: d["objects"][0]["prompted"][0]["tensors"].remove("pointer"),
    "a tensor less": lambda d, t: t.pop(POINTER),
    "a tensor of another shape": lambda d, t: t.update({POINTER: torch.zeros(1, 3)}),
    "a tensor of another kind": lambda d, t: t.update({POINTER: t[POINTER].long()}),
    "a tensor of infinity": lambda d, t: t.update({POINTER: t[POINTER] / 0}),
    "a point outside": lambda d, t: d["objects"][0]["prompts"][0].update(points=[[1e9, 1], [2, 2]]),
    "labels too few": lambda d, t: d["objects"][0]["prompts"][0].update(labels=[1]),
    "a box of three": lambda d, t: d["objects"][1]["prompts"][0].update(box=[1, 2, 3]),
    "a mask too large": lambda d, t: d["objects"][2]["prompts"][0].update(mask="o" * 50),
    "a prompt without a mask": lambda d, t: d["objects"][0]["prompts"][0].update(frame=77),
    "an option out of range": lambda d, t: d["options"].update(fill_hole_area=-1),
    "an unknown option": lambda d, t: d["options"].update(speed=9),
    "options are a list": lambda d, t: d.update(options=[1]),
    "no rule": lambda d, t: d["options"].update(memory_selector={}),
    "a rule of words": lambda d, t: d["options"].update(memory_selector={"rule": "RecentFrames", "memories": "six"}),
    "an unknown policy": lambda d, t: d["options"].update(memory="sam3"),
    "a motion of words": lambda d, t: d["objects"][0].update(motion={**MOTION, "mean": ["a"] * 8}),
    "a motion without height": lambda d, t: d["objects"][0].update(motion={**MOTION, "mean": [0.0] * 8}),
    "a motion too small": lambda d, t: d["objects"][0].update(motion={**MOTION, "covariance": [[1.0] * 8]}),
    "an area below 0": lambda d, t: d["objects"][0]["prompted"][0].update(area=-2),
    "an anchor of words": lambda d, t: d["objects"][0]["prompted"][0].update(is_anchor="yes"),
    "looks that are not there": lambda d, t: d["objects"][0].update(looks=9),
    "a cut below 0": lambda d, t: d.update(cuts=[-4]),
    "both and back": lambda d, t: d["propagation"].update(reverse=True),
    "a pass of text": lambda d, t: d["propagation"].update(next_frame="soon"),
    "backward results are no rows": lambda d, t: t.update(backward_results=torch.zeros(7, dtype=torch.uint8)),
    "backward rows too few": lambda d, t: edit_backward(t, lambda rows: rows[0].update(scores=[])),
    "a backward mask cut": lambda d, t: edit_backward(t, lambda r: r[0].update(masks=["4"] * len(r[0]["ids"]))),
    "a backward state": lambda d, t: edit_backward(t, lambda r: r[0].update(states=["gone"] * len(r[0]["ids"]))),
    "a later version": lambda d, t: d.update(version=99),
    "no version": lambda d, t: d.pop("version"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_clear_error(
    name: str, saved: Path, model: SAM, small_video: np.ndarray, tmp_path: Path
) -> None:
    path = rewritten(saved, tmp_path / "bad.safetensors", HOSTILE[name])
    with pytest.raises(CheckpointError) as caught:
        model.session(small_video, resume=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unchanged_file_is_accepted(saved: Path, model: SAM, small_video: np.ndarray, tmp_path: Path) -> None:
    path = rewritten(saved, tmp_path / "good.safetensors", lambda d, t: None)
    with model.session(small_video, resume=path) as session:
        assert [frame.frame_idx for frame in session.resume()] == list(range(1, 10))


OLD_KEYS = {
    "propagation_start": "anchor", "initial_ids": "begun", "bidirectional": "both", "changed_frames": "changed",
    "fill_hole_area": "clean", "non_overlapping": "exclusive", "has_backward_results": "held",
    "frames_unseen": "hidden", "retain": "keep", "next_frame": "next", "objects_per_batch": "objects_at_once",
    "object_scores": "presence", "memory_selector": "recall", "corrected_frames": "stale", "propagation": "under_way",
}  # fmt: skip


def as_version_1(doc: Any, tensors: dict[str, torch.Tensor]) -> None:
    """The document as it was written before its keys were renamed."""

    def old(value: Any) -> Any:
        if isinstance(value, dict):
            return {OLD_KEYS.get(key, key): old(each) for key, each in value.items()}
        return [old(each) for each in value] if isinstance(value, list) else value

    rows = old(json.loads(bytes(tensors.pop("backward_results").numpy())))
    tensors["held"] = torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)
    now = old(doc)
    doc.clear()
    doc.update(now, version=1)
    doc["options"]["recall"] = {"rule": "Recent", "memories": 6, "pointers": 16, "prompted": None}
    for name in ("memory", "scene_cuts", "verify_returns"):
        del doc["options"][name]
    for each in doc["objects"]:
        del each["motion"], each["looks"]
    if doc["options"]["corrections"] == "sam2":
        doc["options"]["corrections"] = "published"


@pytest.mark.parametrize("corrections", ["kept", "sam2"])
def test_a_session_of_an_earlier_version_is_resumed(
    corrections: str, model: SAM, small_video: np.ndarray, tmp_path: Path
) -> None:
    options = {"corrections": corrections, "retain": "all", "fill_hole_area": 3, "non_overlapping": True}
    with prompt(model.session(small_video, **options)) as session:
        under_way = session.propagate(bidirectional=True)
        first = [frame_key(next(under_way)) for _ in range(2)]
        session.add_prompt(2, frame_idx=1, points=[30, 30])
        new = session.save(tmp_path / "new.safetensors")
    path = rewritten(new, tmp_path / "old.safetensors", as_version_1)
    text = path.read_bytes()[:20000].decode("latin-1")
    assert all(f'\\"{key}\\"' in text for key in set(OLD_KEYS.values()) - {"presence"})
    with model.session(small_video, resume=new) as session:
        expected = [frame_key(frame) for frame in session.resume()]
    with model.session(small_video, resume=path) as session:
        for name, value in options.items():
            assert getattr(session.options, name) == value
        assert [frame_key(frame) for frame in session.resume()] == expected
    assert first
    assert expected
    with pytest.raises(InputError, match="was saved with retain='all'"):
        model.session(small_video, resume=path, retain="recent")


def test_a_cut_or_foreign_file_is_one_clear_error(
    saved: Path, tracking_file: Path, model: SAM, small_video: np.ndarray, tmp_path: Path
) -> None:
    content = saved.read_bytes()
    texts = {"empty": b"", "half": content[: len(content) // 2], "no end": content[:-1], "head": content[:40]}
    texts |= {"words": b"hello there", "image": b"\x89PNG\r\n\x1a\n" + bytes(50), "noise": content[:9] + bytes(500)}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    torch.save({"a": torch.zeros(3)}, tmp_path / "weights.pt")
    for path in [*(tmp_path / name for name in texts), tmp_path / "weights.pt", tracking_file, tmp_path, Path("gone")]:
        with pytest.raises(MaskletError) as caught:
            model.session(small_video, resume=path)
        assert isinstance(caught.value, CheckpointError)
        assert str(path) in str(caught.value)
