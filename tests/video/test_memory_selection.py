from __future__ import annotations

from masklet.video import AvailableMemory, RecentFrames


def select(
    frame: int, prompted: tuple[int, ...], tracked: object, reverse: bool = False, length: int | None = None, **rule
):
    available = AvailableMemory(prompted, tracked)  # type: ignore[arg-type]
    return RecentFrames(**rule).select(frame, available, reverse=reverse, length=length)


def test_forward_selects_the_prompt_and_the_six_frames_before() -> None:
    seen = select(20, (0,), range(1, 20))
    assert seen.spatial == ((0, 0), (14, 6), (15, 5), (16, 4), (17, 3), (18, 2), (19, 1))
    assert seen.pointers == ((0, 20), *((20 - back, back) for back in range(1, 16)))
    assert seen.max_pointers == 16


def test_backwards_time_runs_the_other_way() -> None:
    seen = select(3, (9,), range(4, 9), reverse=True)
    assert seen.spatial == ((9, 0), (8, 5), (7, 4), (6, 3), (5, 2), (4, 1))
    assert seen.pointers == ((9, 6), (4, 1), (5, 2), (6, 3), (7, 4), (8, 5))


def test_a_prompt_in_the_future_is_selected_but_its_pointer_is_not() -> None:
    seen = select(5, (0, 8), range(1, 5))
    assert [frame for frame, age in seen.spatial if age == 0] == [0, 8]
    assert (8, -3) not in seen.pointers
    assert (0, 5) in seen.pointers


def test_a_short_video_has_a_short_horizon() -> None:
    seen = select(11, (0,), range(1, 11), length=12)
    assert seen.max_pointers == 12
    assert len(seen.pointers) == 11


def test_released_memories_are_not_selected_but_their_pointers_are() -> None:
    available = AvailableMemory((0,), range(1, 9), with_spatial=(7, 8))
    seen = RecentFrames().select(9, available, reverse=False, length=None)
    assert seen.spatial == ((0, 0), (7, 2), (8, 1))
    assert [frame for frame, _ in seen.pointers] == [0, *range(8, 0, -1)]


def test_a_cap_on_prompted_frames_takes_the_nearest_and_uses_others_as_ordinary_ones() -> None:
    available = AvailableMemory((0, 5, 8, 20), (9,))
    seen = RecentFrames(prompted=2).select(10, available, reverse=False, length=None)
    assert seen.spatial == ((8, 0), (20, 0), (5, 5), (9, 1))
    assert [frame for frame, _ in seen.pointers] == [8, 9, 5, 0]
