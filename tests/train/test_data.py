"""Batches: reproducible by number, consecutive frames, weights respected, broken samples skipped and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.train_data import FakeSample, frame_numbers, image_pool, tiny, video_pool
from masklet.datasets import AnnotatedFrame, open_dataset, open_mixture
from masklet.datasets.dataset import LazyMasks
from masklet.errors import InputError, SourceError
from masklet.synthetic import SCENARIOS, CutoutClipGenerator, DatasetSource, ProceduralSource
from masklet.train.augment import AffineView
from masklet.train.config import PromptConfig, SourceConfig, TrainConfig, TrainStage
from masklet.train.data import (
    PROCEDURAL_SEED_OFFSET,
    ClipBatch,
    ClipDataset,
    TrainData,
    build_pools,
    make_loader,
    open_train_data,
    read_difficulties,
)

LONG = FakeSample("long", tuple(range(30)))


def same(one: ClipBatch, other: ClipBatch) -> bool:
    parts = ("pixels_BT3SS", "masks_NTSS", "clip_index_N")
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in parts)


def clips_of(*pools: object, **changes: object) -> ClipDataset:
    config = tiny(**changes)
    return ClipDataset(pools, config, config.stages[0])


def augmented_config(stills: Path, squares: Path) -> TrainConfig:
    """Return a config with all augmentations."""
    return replace(tiny(batch=2), augment=TrainConfig("tiny", ()).augment)


# -- the order


def test_a_batch_depends_on_seed_and_number_alone(stills: Path, squares: Path) -> None:
    config = augmented_config(stills, squares)
    train_data = open_train_data([stills, squares], config)

    def batch(number: int, seed: int = 0) -> ClipBatch:
        return ClipDataset(train_data.pools, replace(config, seed=seed), config.stages[0]).make_batch(number)

    kinds = set()
    for number in range(8):
        assert same(batch(number), batch(number))
        kinds.add(batch(number).num_frames)
        other = batch(number, seed=1)
        assert batch(number).pixels_BT3SS.shape != other.pixels_BT3SS.shape or not same(batch(number), other)
    assert kinds == {1, 3}


@pytest.mark.slow
def test_batches_are_the_same_however_many_processes_make_them(stills: Path, squares: Path) -> None:
    config = augmented_config(stills, squares)
    train_data = open_train_data([stills, squares], config)
    clips = train_data.clip_dataset(config, config.stages[0], 3, 0, 1)
    expected = [clips.make_batch(number) for number in range(3, 8)]
    for workers in (0, 1, 2):
        found = list(islice(make_loader(clips, workers), 5))
        assert all(same(a, b) for a, b in zip(found, expected, strict=True)), workers


@pytest.mark.parametrize(("step", "rank", "expected"), [(0, 0, [0, 2, 4]), (5, 1, [31, 33, 35]), (6, 0, [36, 38, 40])])
def test_processes_interleave_batches(
    monkeypatch: pytest.MonkeyPatch, step: int, rank: int, expected: list[int]
) -> None:
    """With two processes and three passes per step, each process takes every second batch."""
    monkeypatch.setattr(ClipDataset, "make_batch", lambda self, number: number)
    config = tiny(grad_accum=3)
    train_data = TrainData((video_pool(LONG),), None)
    assert list(islice(train_data.clip_dataset(config, config.stages[0], step, rank, 2), 3)) == expected


# -- videos


def test_frames_are_consecutive_and_half_of_the_videos_are_reversed() -> None:
    clips = clips_of(video_pool(LONG), clip_length=4)
    found = [frame_numbers(clips.make_batch(number))[0] for number in range(200)]
    steps = {tuple(np.diff(numbers)) for numbers in found}
    assert steps == {(1, 1, 1), (-1, -1, -1)}
    assert 75 < sum(numbers[0] > numbers[1] for numbers in found) < 125
    assert {min(numbers) for numbers in found} == set(range(27))


def test_reverse_prob_zero_never_reverses() -> None:
    clips = clips_of(video_pool(LONG), clip_length=3, reverse_prob=0.0)
    assert all(np.diff(frame_numbers(clips.make_batch(k))[0]).tolist() == [1, 1] for k in range(20))


def test_only_annotated_frames_are_sampled() -> None:
    clips = clips_of(video_pool(FakeSample("sparse", (1, 6, 11, 16, 21, 26))), clip_length=3, reverse_prob=0.0)
    found = {tuple(frame_numbers(clips.make_batch(k))[0]) for k in range(40)}
    assert found == {(1, 6, 11), (6, 11, 16), (11, 16, 21), (16, 21, 26)}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [((0, 1, 2), (0, 1, 2, 1, 0, 1, 2)), ((3, 5), (3, 5, 3, 5, 3, 5, 3)), ((0, 1, 2, 3, 4, 5, 6), tuple(range(7)))],
)
def test_a_short_video_is_played_back_and_forth(frames: tuple[int, ...], expected: tuple[int, ...]) -> None:
    clips = clips_of(video_pool(FakeSample("short", frames)), clip_length=7, reverse_prob=0.0)
    assert tuple(frame_numbers(clips.make_batch(0))[0]) == expected


def test_objects_are_limited_and_visible_in_the_first_frame() -> None:
    """Object 2 is hidden in the first half, object 4 in the second; objects hidden at first are not chosen."""
    hidden = tuple((t, 2) for t in range(15)) + tuple((t, 4) for t in range(15, 30))
    sample = replace(LONG, objects=5, hidden=hidden)
    clips = clips_of(
        video_pool(sample), clip_length=6, batch=2, prompts=replace(tiny().stages[0].prompts, max_objects=3)
    )
    num_hidden = 0
    for number in range(60):
        batch = clips.make_batch(number)
        assert batch.masks_NTSS.shape[1:] == (6, 64, 64)
        assert batch.masks_NTSS[:, 0].flatten(1).any(1).all()
        assert batch.clip_index_N.bincount().tolist() == [3, 3]
        num_hidden += int((~batch.masks_NTSS.flatten(2).any(2)).any())
    assert num_hidden > 0, "objects may hide later"


def test_an_image_is_a_clip_of_one_frame() -> None:
    clips = clips_of(image_pool(FakeSample("one", objects=2)), batch=2, image_batch_multiplier=3)
    batch = clips.make_batch(0)
    assert batch.pixels_BT3SS.shape == (6, 1, 3, 64, 64)
    assert batch.masks_NTSS.shape == (12, 1, 64, 64)
    assert batch.clip_index_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert batch.num_frames == 1


# -- the mixture


def test_data_sets_are_sampled_by_weight() -> None:
    rare, often = FakeSample("rare", (2, 3, 4)), FakeSample("often", (12, 13, 14))
    clips = clips_of(video_pool(rare, weight=1.0), video_pool(often, weight=3.0), clip_length=2)
    found = [frame_numbers(clips.make_batch(number))[0][0] > 10 for number in range(400)]
    assert 265 < sum(found) < 335  # 300, four deviations


def test_videos_and_images_of_a_data_set_divide_its_weight(stills: Path, squares: Path) -> None:
    pools = build_pools(open_mixture({stills: 2.0, squares: 1.0}))
    assert [(len(pool.samples), pool.weight, pool.is_video) for pool in pools] == [(6, 2.0, False), (2, 1.0, True)]
    train_data = open_train_data({stills: 2.0, squares: 1.0}, tiny())
    assert train_data.num_samples == 8
    mixed = replace(open_dataset(squares), samples=(*open_dataset(squares).samples, *open_dataset(stills).samples))
    assert [(pool.weight, pool.is_video) for pool in build_pools([(mixed, 4.0)])] == [(3.0, False), (1.0, True)]


def test_sources_are_relative_to_the_data_folder(stills: Path, squares: Path, tmp_path: Path) -> None:
    shutil.copytree(stills, tmp_path / "stills")
    shutil.copytree(squares, tmp_path / "videos")
    config = tiny(sources=(SourceConfig("stills", 3.0, data_format="stills"), SourceConfig("videos", 1.0)))
    assert [(p.weight, p.is_video) for p in open_train_data(tmp_path, config).pools] == [(3.0, False), (1.0, True)]
    with pytest.raises(SourceError, match="nowhere"):
        open_train_data(tmp_path, replace(config, sources=(SourceConfig("nowhere"),)))
    with pytest.raises(InputError, match=r"folder in which stills, videos are"):
        open_train_data([tmp_path], config)


def test_synthetic_videos_are_made_from_images(stills: Path) -> None:
    config = tiny(synthetic_fraction=0.5, clip_length=4)
    train_data = open_train_data(stills, config)
    clips = train_data.clip_dataset(config, config.stages[0], 0, 0, 1)
    found = [clips.make_batch(number) for number in range(24)]
    synthetic = [batch for batch in found if batch.num_frames == 4]
    assert 5 <= len(synthetic) <= 19
    assert {batch.num_frames for batch in found} == {1, 4}
    assert all(batch.masks_NTSS[:, 0].flatten(1).any(1).all() for batch in synthetic)
    assert same(synthetic[0], clips.make_batch(next(k for k, batch in enumerate(found) if batch.num_frames == 4)))
    assert train_data.clip_dataset(config, replace(config.stages[0], clip_length=1), 0, 0, 1).generator is None


def test_composites_take_the_place_of_image_batches(stills: Path) -> None:
    config = tiny(composite_fraction=0.5, batch=2, image_batch_multiplier=2, still_image_size=96)
    train_data = open_train_data(stills, config)
    clips = train_data.clip_dataset(config, config.stages[0], 0, 0, 1)
    plain = clips.make_batch(0)
    clips.composites, composites = None, clips.composites
    unchanged = [clips.make_batch(number) for number in range(10)]
    clips.composites = composites
    found = [clips.make_batch(number) for number in range(10)]
    assert same(found[0], plain)
    assert {batch.pixels_BT3SS.shape for batch in found} == {(4, 1, 3, 96, 96)}
    assert composites is not None
    pasted = [torch.from_numpy(composites.clip(config.seed, 4 * number).frames_THW3) for number in range(10)]
    is_composite = [
        torch.equal(batch.pixels_BT3SS[0].permute(0, 2, 3, 1), frame)
        for batch, frame in zip(found, pasted, strict=True)
    ]
    assert 1 <= sum(is_composite) <= 9
    assert not any(same(one, other) for one, other in zip(found, unchanged, strict=True)), "other random numbers"
    assert open_train_data(stills, tiny()).clip_dataset(config, config.stages[0], 0, 0, 1).composites is None


def test_objects_by_area_takes_small_and_large_ones_alike() -> None:
    """Of nine small objects and one large one, the large one is always among two."""

    class Crowded(FakeSample):
        def frame(self, number: int) -> AnnotatedFrame:
            masks = {}
            for k in range(9):
                masks[k] = np.zeros((64, 64), bool)
                masks[k][2:6, 7 * k : 7 * k + 4] = True
            masks[9] = np.zeros((64, 64), bool)
            masks[9][16:60, 4:60] = True
            return AnnotatedFrame(np.zeros((64, 64, 3), np.uint8), masks)

    def large_objects(by_area: bool, prompts: PromptConfig) -> list[int]:
        clips = clips_of(image_pool(Crowded("full")), objects_by_area=by_area, prompts=prompts)
        batches = [clips.make_batch(number) for number in range(20)]
        assert all(len(batch.masks_NTSS) == 2 for batch in batches)
        return [int((batch.masks_NTSS.flatten(1).sum(1) > 1000).sum()) for batch in batches]

    prompts = replace(tiny().stages[0].prompts, max_objects=2)
    assert sum(large_objects(False, prompts)) < 12
    assert 14 < sum(large_objects(True, prompts)) <= 20, "eight of ten are tried"
    rng_free = clips_of(image_pool(Crowded("full")), objects_by_area=True, prompts=prompts)
    assert same(rng_free.make_batch(3), rng_free.make_batch(3))


def test_hard_images_are_drawn_more_often(stills: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    rows = [{"image": f"discs/{i:02d}", "source": "discs", "ious": [[0.9] * 5]} for i in range(4)]
    rows.append({"image": "discs/04", "source": "discs", "ious": [[0.1, 0.3, None, 0.1, 0.1], [0.15] * 5]})
    report.write_text(json.dumps({"rows": rows}))
    difficulties = read_difficulties(report)
    assert difficulties == {**{f"discs/{i:02d}": 0.5 for i in range(4)}, "discs/04": 3.0}, "limits of the weights"
    for data, config in (
        (stills, tiny(hard_examples=str(report))),
        (stills, tiny(hard_examples=str(report), sources=(SourceConfig("discs"),))),
    ):
        [pool] = open_train_data(data, config).pools
        assert pool.probabilities == pytest.approx([1 / 12] * 4 + [0.5, 1 / 6]), "the sixth is in no report"
        rng = np.random.default_rng(0)
        assert 80 < sum(pool.draw(rng) is pool.samples[4] for _ in range(200)) < 120
    assert open_train_data(stills, tiny()).pools[0].probabilities == ()
    report.write_text("[1]")
    with pytest.raises(SourceError, match=r"report\.json is no report of masklet eval images"):
        read_difficulties(report)


# -- broken samples


def test_a_broken_sample_is_skipped_and_named() -> None:
    clips = clips_of(image_pool(FakeSample("sound"), FakeSample("torn", broken=True)), batch=2)
    notes = [note for number in range(20) for note in clips.make_batch(number).warnings]
    assert notes
    assert set(notes) == {"torn.jpg is no image"}
    assert all(len(clips.make_batch(number).pixels_BT3SS) == 2 for number in range(20))


def test_a_broken_object_costs_itself() -> None:
    @dataclass(frozen=True)
    class Torn(FakeSample):
        def frame(self, number: int) -> AnnotatedFrame:
            frame = super().frame(number)

            def fail() -> np.ndarray:
                raise SourceError("object 2 is broken") if number == 0 else ValueError("object 3 is, too")

            decoders = {n: (lambda n=n: frame.masks[n]) for n in frame.masks}
            return replace(frame, masks=LazyMasks({**decoders, (2 if number == 0 else 3): fail}))

    batches = [clips_of(image_pool(Torn("a", objects=3)), batch=1).make_batch(n) for n in range(8)]
    assert {len(batch.masks_NTSS) for batch in batches} <= {1, 2}
    assert {note for batch in batches for note in batch.warnings} == {"object 2 is broken"}
    [batch] = islice(clips_of(video_pool(Torn("a", (0, 1), objects=3)), batch=1, clip_length=2, reverse_prob=0.0), 1)
    assert set(batch.warnings) <= {"object 2 is broken", "ValueError: object 3 is, too"}
    assert len(batch.masks_NTSS) == 1
    assert bool(batch.masks_NTSS[0].any())


def test_an_error_in_no_list_skips_its_sample() -> None:
    class Odd(FakeSample):
        def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
            raise RuntimeError("of a decoder")

    clips = clips_of(image_pool(FakeSample("sound"), Odd("odd")), batch=2)
    assert {note for number in range(9) for note in clips.make_batch(number).warnings} == {
        "odd: RuntimeError: of a decoder"
    }


def test_samples_without_objects_are_skipped_silently() -> None:
    pool = image_pool(FakeSample("sound"), FakeSample("empty", objects=0))
    assert all(clips_of(pool).make_batch(number).warnings == () for number in range(10))


def test_each_mask_and_image_is_warped_once_and_no_image_without_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warped: list[str] = []

    def counted(name: str) -> Callable[[AffineView, np.ndarray], np.ndarray]:
        original = getattr(AffineView, name)
        return lambda view, pixels: warped.append(name) or original(view, pixels)

    for name in ("warp_mask", "warp_image"):
        monkeypatch.setattr(AffineView, name, counted(name))
    clips_of(video_pool(replace(LONG, objects=2))).make_batch(0)
    assert sorted(warped) == ["warp_image"] * 3 + ["warp_mask"] * 6
    warped.clear()
    with pytest.raises(SourceError, match="no object"):
        clips_of(image_pool(FakeSample("hidden", hidden=((0, 1),)))).make_batch(0)
    assert set(warped) == {"warp_mask"}


@pytest.mark.parametrize(
    ("sample", "reason"),
    [(FakeSample("torn", broken=True), "torn.jpg is no image"), (FakeSample("a", objects=0), "no object")],
)
def test_data_without_a_usable_object_raises(sample: FakeSample, reason: str) -> None:
    with pytest.raises(SourceError, match=rf"{sample.name}.*{reason}.*masklet data check"):
        clips_of(image_pool(sample)).make_batch(0)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_error_passes_through_the_loader(workers: int) -> None:
    with pytest.raises(SourceError, match=r"torn\.jpg"):
        next(make_loader(clips_of(image_pool(FakeSample("torn", broken=True))), workers))


def test_synthetic_videos_skip_broken_images_too(stills: Path, tmp_path: Path) -> None:
    shutil.copytree(stills, tmp_path, dirs_exist_ok=True)
    torn = tmp_path / "discs" / "images" / "03.png"
    torn.write_bytes(torn.read_bytes()[:300])
    config = tiny(synthetic_fraction=1.0)
    generator = CutoutClipGenerator(DatasetSource(tuple(open_mixture(tmp_path))), size=64, frames=3, objects=2)
    clips = ClipDataset(build_pools(open_mixture(tmp_path)), config, config.stages[0], generator=generator)
    found = [clips.make_batch(number) for number in range(12)]
    assert all(batch.num_frames == 3 for batch in found)
    notes = [note for batch in found for note in batch.warnings]
    assert notes
    assert all(str(torn) in note for note in notes)
    assert same(found[0], clips.make_batch(0))


def test_the_cache_key_has_everything_that_pixels_depend_on() -> None:
    clips = clips_of(image_pool(FakeSample("one"), FakeSample("two")), cached_views=2)
    keys = {clips.make_batch(number).cache_keys[0] for number in range(40)}
    assert len(keys) == 4
    by_key: dict[str, torch.Tensor] = {}
    for number in range(40):
        batch = clips.make_batch(number)
        assert torch.equal(by_key.setdefault(batch.cache_keys[0], batch.pixels_BT3SS), batch.pixels_BT3SS)
    other = clips_of(image_pool(FakeSample("one"), FakeSample("two")), cached_views=2, image_size=96)
    assert not keys & {other.make_batch(number).cache_keys[0] for number in range(40)}
    assert clips_of(image_pool(FakeSample("one"))).make_batch(0).cache_keys == ()
    assert clips_of(video_pool(LONG), cached_views=2).make_batch(0).cache_keys == ()


def test_a_stage_has_at_least_one_frame_per_clip() -> None:
    assert TrainStage(image_size=64, batch=1, steps=1).clip_length == 8
    with pytest.raises(InputError, match="clip_length=0"):
        TrainStage(image_size=64, batch=1, steps=1, clip_length=0)


@pytest.mark.slow
def test_synthetic_videos_can_be_procedural(stills: Path) -> None:
    stage = TrainStage(image_size=128, batch=1, steps=1, clip_length=8, prompts=PromptConfig(max_objects=2))
    config = TrainConfig(model="builtin", stages=(stage,), synthetic_fraction=1.0, procedural_fraction=1.0, seed=3)
    clips = open_train_data(stills, config).clip_dataset(config, stage, 0, 0, 1)
    number = list(SCENARIOS).index("twins")
    batch = clips.make_batch(number)
    expected = SCENARIOS["twins"](3 + PROCEDURAL_SEED_OFFSET, number, (128, 128), 8, ProceduralSource())
    assert torch.equal(batch.pixels_BT3SS[0], torch.from_numpy(expected.frames_THW3).permute(0, 3, 1, 2))
    assert batch.masks_NTSS.shape == (2, 8, 128, 128)


def test_videos_too_short_for_any_scene_are_refused(stills: Path) -> None:
    stage = TrainStage(image_size=128, batch=1, steps=1, clip_length=2)
    config = TrainConfig(model="builtin", stages=(stage,), synthetic_fraction=1.0, procedural_fraction=1.0)
    with pytest.raises(InputError, match="no scene can be drawn in 2 frames"):
        open_train_data(stills, config).clip_dataset(config, stage, 0, 0, 1).make_batch(0)
