"""A film without prompts: what a finder finds is followed with identities, from its birth to its death.

`follow_everything` goes through a film once, in memory that depends on how many objects are followed and not on how
long the film is. The finder is any callable that looks at one frame, segmenting everything or a detector; how finds
and followed objects are told apart is in `finding`, what became of each object in `lives`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from masklet.closing import Closing
from masklet.errors import ModelError
from masklet.media import Frame, Video
from masklet.results import Masks, Results
from masklet.video.association import Candidate, Finder, Found, Ground, Searcher, Verdict, candidates
from masklet.video.frame_cache import PushedFrames
from masklet.video.live import Live
from masklet.video.memory_bank import TrackedObject, said
from masklet.video.postprocess import NAMES
from masklet.video.track_history import NOT_FOUND_AGAIN, OUT_OF_SIGHT, Life, Lives
from masklet.video.track_options import FollowOptions, TrackOptions
from masklet.video.tracker import Engine, Stepper

__all__ = ["Follower", "Following", "follow_everything"]

Bools = npt.NDArray[np.bool_]

MOST_GROWTHS = 3
"""Times that an object which entered cut by the edge may be seen to be larger."""
ALIKE = 0.9
"""A find that agrees so far with what is followed says nothing that was not known."""


class Following(Closing, Iterator[Results]):
    """The frames of a film one by one, and in `lives` what became of its objects; close it to stop before the end.

    Example:
        >>> with follow_everything(stepper, video, finder) as following:
        ...     for frame in following:
        ...         frame.ids, following.lives.born, following.lives.died
        >>> print(following.lives)
        object 1: dog, frames 0 to 89, end of the film
    """

    def __init__(self, video: Video, frames: Iterator[Frame], step: Callable[[Frame], Results], lives: Lives) -> None:
        self.video, self.lives = video, lives
        self._results = self._stepped(frames, step)

    def __next__(self) -> Results:
        return next(self._results)

    def close(self) -> None:
        """Let go of the film; `lives` stays as it is."""
        self._results.close()
        self.video.close()

    def _stepped(self, frames: Iterator[Frame], step: Callable[[Frame], Results]) -> Generator[Results, None, None]:
        with self.video:
            for frame in frames:
                yield step(frame)
            self.lives.finish()


def follow_everything(
    stepper: Stepper | None,
    video: Video,
    finder: Finder,
    options: FollowOptions | None = None,
    track: TrackOptions | None = None,
    *,
    start: int | None = None,
    stop: int | None = None,
) -> Following:
    """Find objects in the first frame and in every `options.every`-th, follow them in between, join what is the same.

    `finder` is called with RGB (H, W, 3) uint8 and gives `Found`s: masks or boxes with score, class and name. An
    object keeps the id and the class it was born with; ids are 1, 2, ... and none is given twice. Frames from `start`
    to before `stop`. The film is closed at its end. Where a finder gives masks and no identities are wanted, no
    `stepper` is needed.

    Example:
        >>> def finder(rgb):
        ...     return [Found(score, box=box, class_id=c, name=names[c]) for box, score, c in detector(rgb)]
        >>> following = follow_everything(stepper, open_video("clip.mp4"), finder, FollowOptions(every=5))
        >>> for frame in following:
        ...     frame.ids, frame.classes, frame.names, frame.masks
        >>> print(following.lives)
        object 1: dog, frames 0 to 89, end of the film

    Raises:
        SourceError: frames that cannot be read.
        InputError: finds that cannot be meant.
    """
    wanted, how = options or FollowOptions(), track or TrackOptions()
    frames = video.frames(start, stop)
    if not wanted.identities:
        engine = None if stepper is None else Engine(stepper, PushedFrames(), how)
        return Following(video, frames, _Anew(engine, finder).step, Lives())
    assert stepper is not None, "objects are followed by a network"
    follower = Follower(stepper, finder, wanted, how, video.count)
    return Following(video, frames, follower.step, follower.lives)


class Follower:
    """One frame in, one result out: what the finder finds, followed with identities.

    Example:
        >>> follower = Follower(stepper, finder)
        >>> for frame in open_video(0):
        ...     follower.step(frame).ids
    """

    def __init__(
        self,
        stepper: Stepper,
        finder: Finder,
        options: FollowOptions | None = None,
        track: TrackOptions | None = None,
        length: int | None = None,
    ) -> None:
        self.finder, self.options = finder, options or FollowOptions()
        self.live = Live(stepper, track or TrackOptions(), length)
        self.lives = Lives()
        self.names: dict[int, str] = {}
        self._next_look: int | None = None
        self._twins: frozenset[tuple[int, int]] = frozenset()

    def step(self, frame: Frame) -> Results:
        """The next frame, with everything that is followed on it; `lives` then says who was born and who died.

        Raises:
            InputError: finds that cannot be meant.
        """
        self.lives.turn()
        shown = self.live.follow(frame)
        self._age(shown)
        began = perf_counter()
        if self._next_look is None or frame.index >= self._next_look:
            self._next_look = frame.index + self.options.every
            self._look(frame, shown)
            shown = self._again(frame, shown.speed)
        elif self.lives.died:
            shown = shown[[id in self.lives.alive for id in shown.ids.tolist()]]
        shown.speed["find"] = 1e3 * (perf_counter() - began)
        classes = [self.lives.alive[id].class_id for id in shown.ids.tolist()]
        return replace(shown, classes=np.array(classes, np.int32), names=dict(self.names or NAMES))

    def _again(self, frame: Frame, speed: dict[str, float]) -> Results:
        """The frame as it is known after a look."""
        every = self.live.engine.objects.values()
        return self.live.engine.show(frame, [(one, one.bank[frame.index]) for one in every], speed)

    # growing older -----------------------------------------------------------------------------------------------

    def _age(self, shown: Results) -> None:
        assert shown.frame is not None
        for id, state in zip(shown.ids.tolist(), shown.states or (), strict=True):
            life = self.lives.alive[id]
            if state == "visible":
                life.last, life.hidden, life.visible = shown.frame, 0, life.visible + 1
                continue
            life.hidden += 1
            if life.hidden >= self.options.forget_after:
                self._end(id, OUT_OF_SIGHT)

    def _end(self, id: int, reason: str) -> None:
        self.live.remove(id)
        self.lives.end(id, reason)

    # looking -----------------------------------------------------------------------------------------------------

    def _look(self, frame: Frame, shown: Results) -> None:
        """Ask the finder, and tell what is new from what is followed."""
        ground = Ground(self.options)
        for i, id in enumerate(shown.ids.tolist()):
            if id in self.lives.alive and shown.masks is not None:
                ground.put(id, shown.masks.data[i], self.lives.alive[id].class_id)
        self._join_twins(ground)
        met: set[int] = set()
        for candidate in candidates(self._finds(frame, ground), frame.size, self.options):
            id = self._meet(frame, candidate, ground, met)
            if id is not None:
                met.add(id)
                self._vote(self.lives.alive[id], candidate.found)
        self._miss(met)

    def _finds(self, frame: Frame, ground: Ground) -> Iterable[Found]:
        """What there is, or as much of it as can be new, where nothing hangs on finding the rest again."""
        known, wanted = ground.known, self.options
        again = wanted.parts or wanted.renew or wanted.unfound_after is not None
        if known is None or again or not isinstance(self.finder, Searcher):
            return self.finder(frame.rgb)
        return self.finder.beyond(frame.rgb, known)

    def _join_twins(self, ground: Ground) -> None:
        """Two that are one and the same at two looks in a row are one: the older."""
        twins = ground.twins()
        for older, younger in sorted(twins & self._twins):
            if older in self.lives.alive and younger in self.lives.alive:
                self._end(younger, f"joined with {older}")
                ground.drop(younger)
        self._twins = twins

    def _meet(self, frame: Frame, candidate: Candidate, ground: Ground, met: set[int]) -> int | None:
        """The followed object that a find is, born now if need be; None: a part, nothing, or there is no place."""
        found = candidate.found
        verdict = _first_sight(candidate, ground, met)
        if not verdict.new:
            return self._recognise(verdict, frame, found)
        full = len(self.lives.alive) >= self.options.max_objects
        if full and not any(life.cut for life in self.lives.alive.values()):
            self.lives.turned_away += 1
            return None
        one, mask = _prompted(self.live.engine, frame, found, self.lives.count + 1)
        verdict = ground.judge(mask, found.class_id) if mask.any() else Verdict(new=False)
        if not verdict.new:
            return self._recognise(verdict, frame, found)
        known = self._cut_before(ground.swallowed(mask, found.class_id))
        if known is None and full:
            self.lives.turned_away += 1
            return None
        ground.put(one.id if known is None else known.id, mask, found.class_id)
        return self._bear(frame, one, mask, found) if known is None else self._grow(frame, known, mask)

    def _recognise(self, verdict: Verdict, frame: Frame, found: Found) -> int | None:
        """A find that is followed already, maybe less well than it was found."""
        if verdict.id is not None and self.options.renew and verdict.alike < ALIKE:
            mask = found.full(frame.size)
            self.live.add(verdict.id, mask=mask, box=None if mask is not None else found.corners(frame.size))
            _forget_between(self.live.engine.objects[verdict.id])
        return verdict.id

    def _cut_before(self, swallowed: list[int]) -> Life | None:
        """The one object that a larger find is: it came in cut by the edge of the frame."""
        life = self.lives.alive[swallowed[0]] if len(swallowed) == 1 else None
        return life if life is not None and life.cut and life.grown < MOST_GROWTHS else None

    def _grow(self, frame: Frame, life: Life, mask: Bools) -> int:
        self.live.add(life.id, mask=mask)
        _forget_between(self.live.engine.objects[life.id])
        life.grown, life.cut = life.grown + 1, _at_edge(mask)
        return life.id

    def _bear(self, frame: Frame, one: TrackedObject, mask: Bools, found: Found) -> int:
        self.live.engine.objects[one.id] = one
        number = int(found.class_id)
        life = Life(one.id, number, found.name, float(found.score), first=frame.index, last=frame.index)
        life.cut = _at_edge(mask)
        self.lives.bear(life)
        return life.id

    def _vote(self, life: Life, found: Found) -> None:
        number = int(found.class_id)
        self.names.setdefault(number, found.name)
        life.unfound = 0
        life.votes[number] = life.votes.get(number, 0.0) + float(found.score)

    def _miss(self, met: set[int]) -> None:
        """What is in sight, and was not found."""
        for id, life in list(self.lives.alive.items()):
            if id in met or life.hidden:
                continue
            life.unfound += 1
            if self.options.unfound_after is not None and life.unfound >= self.options.unfound_after:
                self._end(id, NOT_FOUND_AGAIN)


class _Anew:
    """Every frame by itself, as the finder sees it: ids are 1, 2, ... on each, in the finder's order."""

    def __init__(self, engine: Engine | None, finder: Finder) -> None:
        self.engine, self.finder = engine, finder

    def step(self, frame: Frame) -> Results:
        """The next frame."""
        began = perf_counter()
        finds = list(self.finder(frame.rgb))
        masks = [self._mask(frame, found) for found in finds]
        rows = [i for i, mask in enumerate(masks) if mask.any()]
        return Results(
            frame.rgb,
            frame.path,
            Masks(np.stack([masks[i] for i in rows])) if rows else None,
            np.array([finds[i].score for i in rows], np.float32),
            prompt_ids=np.arange(1, len(rows) + 1, dtype=np.int32),
            classes=np.array([finds[i].class_id for i in rows], np.int32),
            names={int(found.class_id): found.name for found in reversed(finds)} or dict(NAMES),
            speed={"find": 1e3 * (perf_counter() - began)},
            frame=frame.index,
            time=frame.time,
            states=("visible",) * len(rows),
        )

    def _mask(self, frame: Frame, found: Found) -> Bools:
        mask = found.full(frame.size)
        if mask is not None:
            return mask
        if self.engine is None:
            raise ModelError(
                "the finder gave a box without a mask, and this model, which is for pictures only, does not draw it "
                "here: let the finder give masks, or choose another model, such as sam2.1_t.pt"
            )
        return _prompted(self.engine, frame, found, 1)[1]


def _first_sight(candidate: Candidate, ground: Ground, met: set[int]) -> Verdict:
    """What a find is, as far as it can be said without the network: of a box only whose box it is."""
    if candidate.mask is not None:
        return ground.judge(candidate.mask, candidate.found.class_id)
    return ground.framed(candidate.box, candidate.found.class_id, met)


def _prompted(engine: Engine, frame: Frame, found: Found, id: int) -> tuple[TrackedObject, Bools]:
    """An object that is not followed yet, and what the network sees of it where the find is: maybe nothing."""
    mask = found.full(frame.size)
    box = None if mask is not None else found.corners(frame.size)
    one = TrackedObject(id)
    if box is not None and (box[2:] - box[:2] < 1).any():
        return one, np.zeros(frame.size, bool)
    asked = said(None, None, box, mask, size=frame.size, refine=False)
    shown = engine.show(frame, [(one, engine.prompt(one, frame, asked))])
    assert shown.masks is not None
    return one, shown.masks.data[0]


def _forget_between(one: TrackedObject) -> None:
    """Of the frames on which an object was found, the first and the last are remembered: its memory does not grow."""
    for index in sorted(one.prompts)[1:-1]:
        del one.prompts[index]
        one.bank.prompted.pop(index, None)  # with published corrections it went to the tracked frames
    one.stale.clear()


def _at_edge(mask: Bools) -> bool:
    """Whether a mask touches the edge of the frame, but for a hundredth of its side."""
    y, x = (max(1, round(side / 100)) for side in mask.shape)
    return bool(mask[:y].any() or mask[-y:].any() or mask[:, :x].any() or mask[:, -x:].any())
