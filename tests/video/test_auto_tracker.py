"""A film without prompts: births, deaths, no duplicates; with a tracker that cannot err, then with the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from helpers.oracle import Oracle, film, finder, found
from masklet.errors import InputError, SourceError
from masklet.media import Frame, open_video
from masklet.results import Results
from masklet.video import Follower, Following, FollowOptions, Found, TrackOptions, follow_everything
from masklet.video.track_history import HELD, Life, Lives

LEFT, RIGHT = (5, 10, 20, 25), (40, 10, 60, 30)


def two(t: int) -> dict[int, Any]:
    return {1: (5 + t, 10, 20 + t, 25), 2: (40, 10 + t // 2, 60, 30 + t // 2)}


def follow(frames: Any, find: Any = None, oracle: Oracle | None = None, **options: Any) -> Following:
    chosen = FollowOptions(**{"every": 4, "forget_after": 3, **options})
    return follow_everything(oracle or Oracle(), open_video(frames), find or finder(), chosen)  # type: ignore[arg-type]


def numbers(frame: Results) -> list[int]:
    """What is painted where each object is said to be; 0: it is out of sight."""
    assert frame.masks is not None
    return [int(frame.orig_img[..., 0][mask].max(initial=0)) for mask in frame.masks.data]


def test_two_objects_keep_their_ids_and_classes() -> None:
    following = follow(film(12, two))
    for index, frame in enumerate(following):
        assert frame.frame == index
        assert frame.ids.tolist() == numbers(frame) == [1, 2]
        assert frame.states == ("visible", "visible")
        assert [frame.name_of(i) for i in range(2)] == ["kind1", "kind2"]
        assert following.lives.born == ((1, 2) if index == 0 else ())
        assert following.lives.died == ()
    assert [(life.first, life.last, life.visible, life.reason) for life in following.lives] == [
        (0, 11, 12, "end of the film"), (0, 11, 12, "end of the film"),
    ]  # fmt: skip


def test_what_enters_later_is_born_once_at_the_next_look() -> None:
    following = follow(film(13, two, lambda t: {3: (30, 35, 40, 45)} if t >= 5 else {}))
    born = {frame.frame: following.lives.born for frame in following if following.lives.born}
    assert born == {0: (1, 2), 8: (3,)}
    assert following.lives[3].first == 8


def test_the_finder_is_asked_at_the_first_frame_and_then_at_every_so_many() -> None:
    calls: list[int] = []
    asked = []
    for frame in follow(film(12, two), finder(calls=calls), every=5):
        asked += [frame.frame] * len(calls)
        calls.clear()
    assert asked == [0, 5, 10]


def test_an_object_that_leaves_dies_and_is_followed_no_longer() -> None:
    oracle = Oracle()
    following = follow(film(12, lambda t: {1: LEFT} | ({2: RIGHT} if t < 4 else {})), oracle=oracle)
    ids = [frame.ids.tolist() for frame in following]
    died = following.lives[2]
    assert ids == [[1, 2]] * 6 + [[1]] * 6  # out of sight on 4, 5 and 6, the third of which ends it
    assert (died.first, died.last, died.visible, died.reason) == (0, 3, 4, "out of sight")
    assert oracle.tracked == [2] * 6 + [1] * 5


def test_who_is_hidden_for_a_while_lives_on() -> None:
    following = follow(film(10, lambda t: {1: LEFT} | ({} if 3 <= t < 5 else {2: RIGHT})))
    states = [frame.states[1] for frame in following if frame.states is not None]
    assert states == ["visible"] * 3 + ["occluded"] * 2 + ["visible"] * 5
    assert following.lives.count == 2


def test_who_comes_back_after_death_has_a_new_id() -> None:
    following = follow(film(20, lambda t: {1: LEFT} | ({} if 3 <= t < 14 else {2: RIGHT})))
    ids = [frame.ids.tolist() for frame in following]
    assert ids[-1] == [1, 3]
    assert str(following.lives).splitlines() == [
        "object 1: kind1, frames 0 to 19, end of the film",
        "object 2: kind2, frames 0 to 2, out of sight",
        "object 3: kind2, frames 16 to 19, end of the film",
    ]


def test_parts_and_wholes_of_what_is_followed_are_not_born() -> None:
    def with_parts(rgb: np.ndarray) -> list[Found]:
        whole = rgb[..., 0] > 0
        part = whole.copy()
        part[:, 12:] = False
        return [found(whole, 1, class_id=0), found(part, 9, class_id=0), found(whole, 8, class_id=0)]

    frames = film(9, lambda t: {1: LEFT})
    following = follow(frames, with_parts)
    assert all(frame.ids.tolist() == [1] for frame in following)
    assert following.lives.count == 1
    assert follow(frames, with_parts, parts=True, same_iou=0.9).__next__().ids.tolist() == [1, 2]


def test_two_that_have_become_one_are_joined() -> None:
    oracle = Oracle(swaps={2: 1})  # from its second frame on, 2 is taken for 1
    following = follow(film(10, two), finder([1, 2]), oracle)
    ids = [frame.ids.tolist() for frame in following]
    assert ids[:8] == [[1, 2]] * 4 + [[1, 2, 3]] * 4
    assert ids[8] == [1, 3, 4]
    assert following.lives[2].reason == "joined with 1"


def test_no_two_objects_are_ever_born_on_one_thing() -> None:
    def thrice(rgb: np.ndarray) -> list[Found]:
        return [one for boxes in (False, True, False) for one in finder(boxes=boxes)(rgb)]

    following = follow(film(9, two), thrice, every=1)
    assert all(sorted(numbers(frame)) == [1, 2] for frame in following)


def test_a_limit_keeps_those_who_are_there_and_newcomers_wait_for_a_place() -> None:
    def spots(t: int) -> dict[int, Any]:
        early = {2: (0, 0, 10, 10)} if t < 4 else {}
        return early | {3: (20, 0, 40, 20)} | ({1: (45, 20, 60, 40)} if t >= 2 else {})

    following = follow(film(13, spots), max_objects=2)
    shown = {frame.frame: numbers(frame) for frame in following}
    assert shown[0] == [2, 3]
    assert shown[4] == [0, 3]  # 2 is hidden and has its place still
    assert shown[8] == [3, 1]
    assert following.lives.turned_away == 1
    assert str(following.lives).splitlines()[-1] == "turned away for want of a place: 1"


@pytest.mark.parametrize(("first", "kept"), [("score", 1), ("area", 2)])
def test_who_comes_first_where_there_is_one_place(first: str, kept: int) -> None:
    following = follow(film(2, two), max_objects=1, first=first)
    assert [numbers(frame) for frame in following] == [[kept]] * 2


def test_what_the_finder_does_not_find_again_dies_where_that_is_wanted() -> None:
    looks: list[int] = []

    def once(rgb: np.ndarray) -> list[Found]:
        looks.append(1)
        return finder([1, 2] if len(looks) == 1 else [1])(rgb)

    following = follow(film(12, two), once, unfound_after=2)
    assert [len(frame) for frame in following] == [2] * 8 + [1] * 4
    assert following.lives[2].reason == "not found again"
    assert following.lives[2].unfound == 2


@pytest.mark.parametrize("again", [{}, {"parts": True}, {"renew": True}, {"unfound_after": 3}])
def test_a_finder_that_can_is_asked_beyond_what_is_known(again: dict[str, Any]) -> None:
    asked: list[int | None] = []

    class Searching:
        def __call__(self, rgb: np.ndarray) -> Any:
            asked.append(None)
            return finder()(rgb)

        def beyond(self, rgb: np.ndarray, known: np.ndarray) -> Any:
            asked.append(int(known.sum()))
            return [one for one in finder()(rgb) if not known[one.mask].all()]

    frames = film(9, two, lambda t: {3: (30, 35, 40, 45)} if t >= 5 else {})
    following = follow(frames, Searching(), **again)
    assert [frame.ids.tolist() for frame in following][-1] == [1, 2, 3]
    assert asked == ([None] * 3 if again else [None, 15 * 15 + 20 * 20, 15 * 15 + 20 * 20])
    assert following.lives.count == 3


def test_boxes_are_followed_as_masks_are() -> None:
    frames = film(9, two, lambda t: {3: (30, 35, 40, 45)} if t >= 3 else {})
    by_mask, by_box = (list(follow(frames, finder(boxes=boxes))) for boxes in (False, True))
    for one, other in zip(by_mask, by_box, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.classes.tolist() == other.classes.tolist()
        np.testing.assert_array_equal(one.masks.data, other.masks.data)  # type: ignore[union-attr]


def test_a_box_around_nothing_is_not_born() -> None:
    following = follow(film(3, lambda t: {}), lambda rgb: [Found(0.9, box=(1, 1, 20, 20))])
    assert [len(frame) for frame in following] == [0, 0, 0]
    assert str(following.lives) == "nothing was found"


def test_a_detector_may_change_its_mind_and_the_class_of_an_id_stays() -> None:
    classes = iter([1, 4, 4])
    following = follow(film(9, lambda t: {1: LEFT}), lambda rgb: [found(rgb[..., 0] == 1, class_id=next(classes))])
    assert {frame.name_of(0) for frame in following} == {"kind1"}
    assert following.lives[1].votes == {1: pytest.approx(0.996, abs=1e-3), 4: pytest.approx(1.992, abs=1e-3)}
    assert following.lives[1].likely_class == 4


def test_who_enters_cut_by_the_edge_is_one_object_when_more_is_seen() -> None:
    """What was cut is number 1, the rest of it number 2; the oracle sees the whole where it is shown the whole."""

    def whole(rgb: np.ndarray) -> list[Found]:
        return [found(rgb[..., 0] > 0, class_id=0)]

    frames = film(9, lambda t: {2: (0, 10, 40, 40), 1: (0, 10, 15, 40)} if t >= 4 else {1: (0, 10, 15, 40)})
    following = follow(frames, whole)
    shown = list(following)
    assert all(frame.ids.tolist() == [1] for frame in shown)
    assert [int(shown[t].masks.data.sum()) for t in (0, 3, 4)] == [450, 450, 1200]  # type: ignore[union-attr]
    assert following.lives.count == 1
    assert following.lives[1].grown == 2


@pytest.mark.parametrize("renew", [False, True])
def test_an_object_is_followed_on_from_what_was_found_where_that_is_wanted(renew: bool) -> None:
    """Number 1 becomes 2 rows wider on frame 4, of number 2: the oracle does not see that by itself."""

    def whole(rgb: np.ndarray) -> list[Found]:
        return [found(rgb[..., 0] > 0, class_id=0)]

    frames = film(30, lambda t: {1: (20, 10, 40, 30)} | ({2: (20, 30, 40, 34)} if t >= 4 else {}))
    follower = Follower(Oracle(), whole, FollowOptions(every=4, renew=renew))  # type: ignore[arg-type]
    shown = []
    for frame in open_video(frames):
        shown.append(follower.step(frame))
        one = follower.live.engine.objects[1]
        assert set(one.prompts) == set(one.bank.prompted) <= {0, 4 * (frame.index // 4)}
    assert int(shown[3].masks.data.sum()) == 400
    assert int(shown[4].masks.data.sum()) == (480 if renew else 400)
    assert all(frame.ids.tolist() == [1] for frame in shown)


def test_renewing_goes_with_corrections_as_published() -> None:
    """A renewed frame is then a tracked one: from the third on there was nothing prompted to be let go of."""

    def whole(rgb: np.ndarray) -> list[Found]:
        return [found(rgb[..., 0] > 0, class_id=0)]

    frames = film(20, lambda t: {1: (20, 10, 40, 30)} | ({2: (20, 30, 40, 34)} if t >= 4 else {}))
    track = TrackOptions(corrections="published")
    options = FollowOptions(every=4, renew=True)
    shown = list(follow_everything(Oracle(), open_video(frames), whole, options, track))  # type: ignore[arg-type]
    assert [int(shown[t].masks.data.sum()) for t in (0, 4, 8, 12, 16)] == [400] + [480] * 4  # type: ignore[union-attr]


def test_without_identities_every_frame_stands_alone() -> None:
    calls: list[int] = []
    frames = film(5, lambda t: {2: RIGHT} | ({1: LEFT} if t in (1, 3) else {}))
    following = follow(frames, finder(calls=calls), identities=False)
    shown = list(following)
    assert len(calls) == 5
    assert [frame.ids.tolist() for frame in shown] == [[1], [1, 2], [1], [1, 2], [1]]
    assert [numbers(frame) for frame in shown] == [[2], [1, 2], [2], [1, 2], [2]]
    assert shown[1].names == {1: "kind1", 2: "kind2"}
    assert shown[1].classes.tolist() == [1, 2]
    assert shown[1].states == ("visible", "visible")
    assert len(following.lives) == 0


def test_without_identities_boxes_become_masks_and_overlaps_stay() -> None:
    frames = film(2, two)
    assert [numbers(frame) for frame in follow(frames, finder(boxes=True), identities=False)] == [[1, 2]] * 2
    twice = follow(frames, lambda rgb: finder()(rgb) * 2, identities=False)
    assert [numbers(frame) for frame in twice] == [[1, 2, 1, 2]] * 2


def test_where_nothing_is_found_frames_are_empty_and_not_encoded() -> None:
    class Blind(Oracle):
        def features(self, frame: Frame) -> Any:
            raise AssertionError("no network is needed")

    for identities in (True, False):
        following = follow(film(6, two), lambda rgb: [], Blind(), identities=identities)
        assert [(len(frame), frame.masks, frame.states) for frame in following] == [(0, None, ())] * 6


def test_time_is_told_of_what_was_done() -> None:
    following = follow(film(7, lambda t: {1: LEFT} if t < 2 else {}), forget_after=1)
    spent = [frame.speed["track"] > 0 for frame in following]
    assert spent == [False, True, True, False, False, False, False]


def test_a_film_without_frames_says_so_as_ever() -> None:
    with pytest.raises(SourceError, match="without a frame"):
        list(follow(iter([])))


def test_a_stream_gives_what_the_film_gives_and_is_read_once_frame_by_frame() -> None:
    frames = film(9, two)
    given: list[int] = []

    def camera() -> Iterator[np.ndarray]:
        for index, frame in enumerate(frames):
            given.append(index)
            yield frame

    with follow(camera()) as following:
        next(following)
        assert len(given) < 9  # a few are read ahead
        rest = list(following)
    assert [frame.frame for frame in rest] == list(range(1, 9))
    assert given == list(range(9))
    assert [frame.ids.tolist() for frame in rest] == [[1, 2]] * 8


def test_a_part_of_a_film_begins_with_a_look() -> None:
    following = follow_everything(Oracle(), open_video(film(9, two)), finder(), start=3, stop=7)  # type: ignore[arg-type]
    assert [(frame.frame, frame.ids.tolist()) for frame in following] == [(t, [1, 2]) for t in range(3, 7)]


def test_stopping_early_closes_the_film_and_ends_nobody() -> None:
    with follow(film(9, two)) as following:
        next(following)
    assert [life.reason for life in following.lives] == [None, None]
    assert list(following) == []
    assert following.video._closed


def test_memory_does_not_grow_with_the_film() -> None:
    def passers(t: int) -> dict[int, Any]:
        """Every ten frames another one comes by, for five."""
        return {1 + t // 10: LEFT} if t % 10 < 5 else {}

    follower = Follower(Oracle(), finder(), FollowOptions(every=1, forget_after=3))  # type: ignore[arg-type]
    sizes = []
    for frame in open_video(film(200, passers)):
        follower.step(frame)
        objects = follower.live.engine.objects.values()
        sizes.append((len(objects), max((len(one.bank.tracked) for one in objects), default=0)))
    assert follower.lives.count == 20
    assert max(count for count, _ in sizes) == 1
    assert max(kept for _, kept in sizes) <= 16


def test_a_wrong_find_stops_it_and_closes_the_film() -> None:
    following = follow(film(3, two), lambda rgb: [Found(0.5, mask=np.ones((2, 2), bool))])
    with pytest.raises(InputError, match="frame"):
        next(following)
    assert following.video._closed


def test_lives_in_plain_numbers() -> None:
    following = follow(film(3, two))
    list(following)
    records = json.loads(json.dumps(following.lives.records()))
    assert records[1] == {
        "id": 2, "name": "kind2", "first": 0, "last": 2, "visible": 3, "reason": "end of the film", "class_id": 2,
        "score": 1 - 2 / 256,
    }  # fmt: skip
    with pytest.raises(KeyError):
        following.lives[3]


def test_the_report_of_a_film_without_end_stays_bounded() -> None:
    lives = Lives()
    for id in range(1, HELD + 10):
        lives.bear(Life(id, 0, "object", 0.5, 0, 0))
        lives.end(id, "out of sight")
    assert len(lives) == HELD
    assert lives.count == HELD + 9


# the real tracker ---------------------------------------------------------------------------------------------------


def scene(t: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A red disc that goes right, a green square that goes up, and from frame 5 on a blue disc from below."""
    y, x = np.mgrid[:120, :160]
    red = (x - 30 - 2 * t) ** 2 + (y - 40) ** 2 < 18**2
    green = (abs(x - 110) < 16) & (abs(y - 80 + t) < 14)
    blue = (x - 50) ** 2 + (y - max(145 - 5 * t, 96)) ** 2 < 15**2
    rgb = np.repeat((90 + (x + y)[..., None] % 7).astype(np.uint8), 3, axis=2)
    for mask, colour in ((red, (220, 40, 40)), (green, (40, 200, 60)), (blue, (40, 60, 230))):
        rgb[mask] = colour
    return rgb, [red, green, blue]


def test_the_built_in_model_follows_what_a_finder_found() -> None:
    """What it is shown by masks first, and what comes later by boxes."""
    from masklet import SAM

    made = [scene(t) for t in range(8)]
    truth = {rgb.tobytes(): masks for rgb, masks in made}

    def find(rgb: np.ndarray) -> list[Found]:
        return [found(mask, n + 1, boxes=n > 1) for n, mask in enumerate(truth[rgb.tobytes()]) if mask.sum() > 150]

    model = SAM(device="cpu")
    following = model.follow(iter([rgb for rgb, _ in made]), finder=find, options=FollowOptions(every=5))
    for frame in following:
        assert frame.masks is not None
        for mask, id, kind in zip(frame.masks.data, frame.ids, frame.classes, strict=True):
            true = made[frame.frame or 0][1][kind - 1]
            assert id == kind
            assert (mask & true).sum() / (mask | true).sum() > 0.7, (frame.frame, id)
    assert [life.first for life in following.lives] == [0, 0, 5]
