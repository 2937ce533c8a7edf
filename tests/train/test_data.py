"""Batches: the same by their number, videos as they go, weights respected, what is broken left out and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.train_data import FakeEntry, numbers_in, stills_of, tiny, videos
from masklet.datasets import open_dataset, open_mixture
from masklet.errors import InputError, SourceError
from masklet.synthetic import SCENARIOS, CutoutClipGenerator, DatasetSource, ProceduralSource
from masklet.train.augment import AffineView
from masklet.train.config import PromptConfig, SourceConfig, Stage, TrainConfig
from masklet.train.data import (
    PROCEDURAL_SEED_OFFSET,
    ClipBatch,
    ClipDataset,
    TrainData,
    build_pools,
    make_loader,
    open_train_data,
)

LONG = FakeEntry("long", tuple(range(30)))


def same(one: ClipBatch, other: ClipBatch) -> bool:
    parts = ("pixels_BT3SS", "masks_NTSS", "clip_N")
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in parts)


def samples_of(*pools: object, **changes: object) -> ClipDataset:
    config = tiny(**changes)
    return ClipDataset(pools, config, config.stages[0])


def both_kinds(stills: Path, squares: Path) -> TrainConfig:
    """Turned, flipped and recoloured."""
    return replace(tiny(batch=2), augment=TrainConfig("tiny", ()).augment)


# -- the order


def test_a_batch_depends_on_seed_and_number_alone(stills: Path, squares: Path) -> None:
    config = both_kinds(stills, squares)
    material = open_train_data([stills, squares], config)

    def batch(number: int, seed: int = 0) -> ClipBatch:
        return ClipDataset(material.pools, replace(config, seed=seed), config.stages[0]).make_batch(number)

    kinds = set()
    for number in range(8):
        assert same(batch(number), batch(number))
        kinds.add(batch(number).num_frames)
        other = batch(number, seed=1)
        assert batch(number).pixels_BT3SS.shape != other.pixels_BT3SS.shape or not same(batch(number), other)
    assert kinds == {1, 3}


@pytest.mark.slow
def test_batches_are_the_same_however_many_processes_make_them(stills: Path, squares: Path) -> None:
    config = both_kinds(stills, squares)
    material = open_train_data([stills, squares], config)
    samples = material.clip_dataset(config, config.stages[0], 3, 0, 1)
    expected = [samples.make_batch(number) for number in range(3, 8)]
    for workers in (0, 1, 2):
        found = list(islice(make_loader(samples, workers), 5))
        assert all(same(a, b) for a, b in zip(found, expected, strict=True)), workers


@pytest.mark.parametrize(("step", "rank", "expected"), [(0, 0, [0, 2, 4]), (5, 1, [31, 33, 35]), (6, 0, [36, 38, 40])])
def test_processes_take_turns(monkeypatch: pytest.MonkeyPatch, step: int, rank: int, expected: list[int]) -> None:
    """Of two processes that make three passes a step, each takes every second batch."""
    monkeypatch.setattr(ClipDataset, "make_batch", lambda self, number: number)
    config = tiny(accumulate=3)
    material = TrainData((videos(LONG),), None)
    assert list(islice(material.clip_dataset(config, config.stages[0], step, rank, 2), 3)) == expected


# -- videos


def test_frames_follow_each_other_and_half_of_the_videos_are_reversed() -> None:
    samples = samples_of(videos(LONG), frames=4)
    found = [numbers_in(samples.make_batch(number))[0] for number in range(200)]
    steps = {tuple(np.diff(numbers)) for numbers in found}
    assert steps == {(1, 1, 1), (-1, -1, -1)}
    assert 75 < sum(numbers[0] > numbers[1] for numbers in found) < 125
    assert {min(numbers) for numbers in found} == set(range(27))


def test_videos_are_never_reversed_where_that_is_not_wanted() -> None:
    samples = samples_of(videos(LONG), frames=3, reverse=0.0)
    assert all(np.diff(numbers_in(samples.make_batch(k))[0]).tolist() == [1, 1] for k in range(20))


def test_only_annotated_frames_are_shown() -> None:
    samples = samples_of(videos(FakeEntry("sparse", (1, 6, 11, 16, 21, 26))), frames=3, reverse=0.0)
    found = {tuple(numbers_in(samples.make_batch(k))[0]) for k in range(40)}
    assert found == {(1, 6, 11), (6, 11, 16), (11, 16, 21), (16, 21, 26)}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [((0, 1, 2), (0, 1, 2, 1, 0, 1, 2)), ((3, 5), (3, 5, 3, 5, 3, 5, 3)), ((0, 1, 2, 3, 4, 5, 6), tuple(range(7)))],
)
def test_a_short_video_is_played_to_and_fro(frames: tuple[int, ...], expected: tuple[int, ...]) -> None:
    samples = samples_of(videos(FakeEntry("short", frames)), frames=7, reverse=0.0)
    assert tuple(numbers_in(samples.make_batch(0))[0]) == expected


def test_objects_are_at_most_so_many_and_all_seen_at_first() -> None:
    """Object 2 is hidden in the first half, object 4 in the second; what is hidden first is not asked for."""
    hidden = tuple((t, 2) for t in range(15)) + tuple((t, 4) for t in range(15, 30))
    entry = replace(LONG, objects=5, hidden=hidden)
    samples = samples_of(videos(entry), frames=6, batch=2, prompts=replace(tiny().stages[0].prompts, objects=3))
    gone = 0
    for number in range(60):
        batch = samples.make_batch(number)
        assert batch.masks_NTSS.shape[1:] == (6, 64, 64)
        assert batch.masks_NTSS[:, 0].flatten(1).any(1).all()
        assert batch.clip_index_N.bincount().tolist() == [3, 3]
        gone += int((~batch.masks_NTSS.flatten(2).any(2)).any())
    assert gone > 0, "objects may hide later"


def test_a_still_is_a_video_of_one_frame() -> None:
    samples = samples_of(stills_of(FakeEntry("one", objects=2)), batch=2, stills=3)
    batch = samples.make_batch(0)
    assert batch.pixels_BT3SS.shape == (6, 1, 3, 64, 64)
    assert batch.masks_NTSS.shape == (12, 1, 64, 64)
    assert batch.clip_index_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert batch.num_frames == 1


# -- the mixture


def test_data_sets_are_drawn_by_their_weights() -> None:
    rare, often = FakeEntry("rare", (2, 3, 4)), FakeEntry("often", (12, 13, 14))
    samples = samples_of(videos(rare, weight=1.0), videos(often, weight=3.0), frames=2)
    found = [numbers_in(samples.make_batch(number))[0][0] > 10 for number in range(400)]
    assert 265 < sum(found) < 335  # 300, four deviations


def test_videos_and_stills_of_a_data_set_share_its_weight(stills: Path, squares: Path) -> None:
    pools = build_pools(open_mixture({stills: 2.0, squares: 1.0}))
    assert [(len(pool.samples), pool.weight, pool.is_video) for pool in pools] == [(6, 2.0, False), (2, 1.0, True)]
    material = open_train_data({stills: 2.0, squares: 1.0}, tiny())
    assert material.num_samples == 8
    mixed = replace(open_dataset(squares), entries=(*open_dataset(squares).samples, *open_dataset(stills).samples))
    assert [(pool.weight, pool.is_video) for pool in build_pools([(mixed, 4.0)])] == [(3.0, False), (1.0, True)]


def test_sources_are_named_below_a_folder(stills: Path, squares: Path, tmp_path: Path) -> None:
    shutil.copytree(stills, tmp_path / "stills")
    shutil.copytree(squares, tmp_path / "films")
    config = tiny(sources=(SourceConfig("stills", 3.0, data_format="stills"), SourceConfig("films", 1.0)))
    assert [(p.weight, p.is_video) for p in open_train_data(tmp_path, config).pools] == [(3.0, False), (1.0, True)]
    with pytest.raises(SourceError, match="nowhere"):
        open_train_data(tmp_path, replace(config, sources=(SourceConfig("nowhere"),)))
    with pytest.raises(InputError, match=r"folder in which stills, videos are"):
        open_train_data([tmp_path], config)


def test_videos_are_made_out_of_stills(stills: Path) -> None:
    config = tiny(made=0.5, frames=4)
    material = open_train_data(stills, config)
    samples = material.clip_dataset(config, config.stages[0], 0, 0, 1)
    found = [samples.make_batch(number) for number in range(24)]
    made = [batch for batch in found if batch.num_frames == 4]
    assert 5 <= len(made) <= 19
    assert {batch.num_frames for batch in found} == {1, 4}
    assert all(batch.masks_NTSS[:, 0].flatten(1).any(1).all() for batch in made)
    assert same(made[0], samples.make_batch(next(k for k, batch in enumerate(found) if batch.num_frames == 4)))
    assert material.clip_dataset(config, replace(config.stages[0], frames=1), 0, 0, 1).generator is None


# -- what is broken


def test_a_broken_entry_is_left_out_and_named() -> None:
    samples = samples_of(stills_of(FakeEntry("sound"), FakeEntry("torn", broken=True)), batch=2)
    notes = [note for number in range(20) for note in samples.make_batch(number).warnings]
    assert notes
    assert set(notes) == {"torn.jpg is no image"}
    assert all(len(samples.make_batch(number).pixels_BT3SS) == 2 for number in range(20))


def test_entries_without_objects_are_passed_over_in_silence() -> None:
    pool = stills_of(FakeEntry("sound"), FakeEntry("empty", objects=0))
    assert all(samples_of(pool).make_batch(number).warnings == () for number in range(10))


def test_each_mask_and_image_is_turned_once_and_none_where_nothing_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turned: list[str] = []

    def counted(name: str) -> Callable[[AffineView, np.ndarray], np.ndarray]:
        usual = getattr(AffineView, name)
        return lambda view, pixels: turned.append(name) or usual(view, pixels)

    for name in ("mask", "picture"):
        monkeypatch.setattr(AffineView, name, counted(name))
    samples_of(videos(replace(LONG, objects=2))).make_batch(0)
    assert sorted(turned) == ["mask"] * 6 + ["picture"] * 3
    turned.clear()
    with pytest.raises(SourceError, match="no object"):
        samples_of(stills_of(FakeEntry("hidden", hidden=((0, 1),)))).make_batch(0)
    assert set(turned) == {"mask"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [(FakeEntry("torn", broken=True), "torn.jpg is no image"), (FakeEntry("a", objects=0), "no object")],
)
def test_where_nothing_can_be_learnt_it_is_told(entry: FakeEntry, reason: str) -> None:
    with pytest.raises(SourceError, match=rf"{entry.name}.*{reason}.*masklet data check"):
        samples_of(stills_of(entry)).make_batch(0)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_error_comes_as_it_is_from_whoever_makes_batches(workers: int) -> None:
    with pytest.raises(SourceError, match=r"torn\.jpg"):
        next(make_loader(samples_of(stills_of(FakeEntry("torn", broken=True))), workers))


def test_made_videos_leave_broken_images_out_too(stills: Path, tmp_path: Path) -> None:
    shutil.copytree(stills, tmp_path, dirs_exist_ok=True)
    torn = tmp_path / "discs" / "images" / "03.png"
    torn.write_bytes(torn.read_bytes()[:300])
    config = tiny(made=1.0)
    maker = CutoutClipGenerator(DatasetSource(tuple(open_mixture(tmp_path))), size=64, frames=3, objects=2)
    samples = ClipDataset(build_pools(open_mixture(tmp_path)), config, config.stages[0], generator=maker)
    found = [samples.make_batch(number) for number in range(12)]
    assert all(batch.num_frames == 3 for batch in found)
    notes = [note for batch in found for note in batch.warnings]
    assert notes
    assert all(str(torn) in note for note in notes)
    assert same(found[0], samples.make_batch(0))


def test_embeddings_are_kept_under_a_name_that_says_all_that_pixels_depend_on() -> None:
    samples = samples_of(stills_of(FakeEntry("one"), FakeEntry("two")), views=2)
    keys = {samples.make_batch(number).cache_keys[0] for number in range(40)}
    assert len(keys) == 4
    by_key: dict[str, torch.Tensor] = {}
    for number in range(40):
        batch = samples.make_batch(number)
        assert torch.equal(by_key.setdefault(batch.cache_keys[0], batch.pixels_BT3SS), batch.pixels_BT3SS)
    other = samples_of(stills_of(FakeEntry("one"), FakeEntry("two")), views=2, size=96)
    assert not keys & {other.make_batch(number).cache_keys[0] for number in range(40)}
    assert samples_of(stills_of(FakeEntry("one"))).make_batch(0).cache_keys == ()
    assert samples_of(videos(LONG), views=2).make_batch(0).cache_keys == ()


def test_a_stage_wants_at_least_one_of_everything() -> None:
    assert Stage(image_size=64, batch=1, steps=1).clip_length == 8
    with pytest.raises(InputError, match="frames=0"):
        Stage(image_size=64, batch=1, steps=1, clip_length=0)


def test_a_share_of_made_videos_is_drawn(stills: Path) -> None:
    stage = Stage(image_size=128, batch=1, steps=1, clip_length=8, prompts=PromptConfig(max_objects=2))
    config = TrainConfig(model="builtin", stages=(stage,), synthetic_fraction=1.0, procedural_fraction=1.0, seed=3)
    samples = open_train_data(stills, config).clip_dataset(config, stage, 0, 0, 1)
    number = list(SCENARIOS).index("twins")
    batch = samples.make_batch(number)
    expected = SCENARIOS["twins"](3 + PROCEDURAL_SEED_OFFSET, number, (128, 128), 8, ProceduralSource())
    assert torch.equal(batch.pixels_BT3SS[0], torch.from_numpy(expected.frames_THW3).permute(0, 3, 1, 2))
    assert batch.masks_NTSS.shape == (2, 8, 128, 128)


def test_videos_too_short_for_any_scene_are_refused(stills: Path) -> None:
    stage = Stage(image_size=128, batch=1, steps=1, clip_length=2)
    config = TrainConfig(model="builtin", stages=(stage,), synthetic_fraction=1.0, procedural_fraction=1.0)
    with pytest.raises(InputError, match="no scene can be drawn in 2 frames"):
        open_train_data(stills, config).clip_dataset(config, stage, 0, 0, 1).make_batch(0)
