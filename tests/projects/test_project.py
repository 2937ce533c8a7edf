"""Projects: what is stored, who set it, what is refused, and two clients that follow each other."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.project_files import SIZE, save_frames, save_image, small_project, square
from masklet.errors import InputError, ProjectError, PromptError, SourceError, StateError
from masklet.masks import rle
from masklet.projects import open_project


def test_what_is_set_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    small_project(tmp_path).close()
    with open_project(tmp_path / "zoo.masklet", create=False) as project:
        photo, clip = project.sources
        assert (photo.name, photo.kind, photo.size, photo.num_frames) == ("photo", "image", SIZE, 1)
        assert (clip.name, clip.kind, clip.num_frames, len(clip.files or ())) == ("clip", "video", 6, 6)
        assert next((one.name, one.color) for one in project.classes) == ("dog", "#1e90ff")
        assert [obj.name for obj in project.objects(clip)] == ["dog 1", "cat 2"]
        rex = project.objects(photo)[0]
        mask = project.mask(rex)
        assert mask is not None
        assert np.array_equal(mask.mask, square())
        assert (mask.origin, mask.author, mask.score, mask.state) == ("edit", "anna", 0.5, "visible")
        tracked = project.masks(clip, 1, 2)
        assert [(one.frame, one.origin, one.author) for one in tracked] == [
            (1, "track", "masklet-builtin 6"),
            (1, "edit", "anna"),
        ]
        (prompt,) = project.prompts(clip)
        assert (prompt.points, prompt.labels, prompt.box) == (((5.0, 5.0), (30.0, 2.0)), (1, 0), None)


def test_prompts_of_every_kind_are_replaced_and_removed(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rex = project.objects(1)[0]
        project.set_prompt(rex, box=[2, 3, 10, 12])
        project.set_prompt(rex, points=[[6, 6]], box=[2, 3, 10.5, 12])
        (prompt,) = project.prompts(1, 0)
        assert (prompt.points, prompt.labels, prompt.box) == (((6.0, 6.0),), (1,), (2.0, 3.0, 10.5, 12.0))
        project.set_prompt(rex, mask=square(7))
        (prompt,) = project.prompts(1)
        assert prompt.box is None
        assert prompt.mask is not None
        assert np.array_equal(rle.decode({**prompt.mask}), square(7))
        project.set_prompt(rex, points=[[1, 1]], labels=[0])  # refines the mask that is there
        project.set_prompt(rex)
        assert project.prompts(1) == []
        project.set_mask(rex, 0, None)
        with pytest.raises(PromptError, match="what the object is not"):
            project.set_prompt(rex, points=[[1, 1]], labels=[0])


def test_masks_are_taken_as_arrays_and_codes_and_equal_ones_are_stored_once(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rex, before = project.objects(1)[0], project.database.query("SELECT COUNT(*) FROM contents")
        for mask in (square().astype(np.uint8) * 255, rle.encode(square()), {"size": [24, 32], "counts": [0, 768]}):
            project.set_mask(rex, 0, mask)
        stored = project.mask(rex)
        assert stored is not None
        assert stored.mask.all()
        assert project.database.query("SELECT COUNT(*) FROM contents")[0][0] == before[0][0] + 1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((32, 24), bool), "does not fit the source"),
        (np.ones((3, 24, 32), bool), "does not fit the source"),
        (np.full(SIZE, 7, np.uint8), "boolean, 0/1 or 0/255"),
        (np.full(SIZE, 0.5), "boolean, 0/1 or 0/255"),
        ({"size": [24, 32], "counts": [3]}, "cover 3 pixels"),
        ({"size": [24, 32], "counts": "~~"}, "not a compressed"),
        ({"counts": "06"}, "size None"),
        ({"size": [2, 3], "counts": "06"}, "does not fit the source"),
    ],
)
def test_masks_that_do_not_fit_change_nothing(tmp_path: Path, mask: object, message: str) -> None:
    with small_project(tmp_path) as project:
        rex, revision = project.objects(1)[0], project.revision
        with pytest.raises(InputError, match=message):
            project.set_mask(rex, 0, mask)  # type: ignore[arg-type]
        assert project.revision == revision


def test_ids_frames_and_values_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rex, clip = project.objects(1)[0], project.sources[1]
        for call, message in (
            (lambda: project.object(99), "no object 99"),
            (lambda: project.object(True), "no object True"),
            (lambda: project.object("Rex"), "no object 'Rex'"),  # type: ignore[arg-type]
            (lambda: project.object(2**70), "no object 1180591620"),
            (lambda: project.masks(7), "no source 7"),
            (lambda: project.add_object(1, 9), "no class 9"),
            (lambda: project.set_mask(rex, 1, square()), "frames are 0 to 0"),
            (lambda: project.set_mask(rex, -1, square()), "0 or more"),
            (lambda: project.set_mask(rex, 0, square(), state="gone"), "state='gone' is unknown"),
            (lambda: project.set_mask(rex, 0, square(), origin="me"), "origin='me' is unknown"),
            (lambda: project.set_mask(rex, 0, square(), score=2), "from 0 to 1"),
            (lambda: project.set_prompt(rex, 0, points=[[99, 2]]), "outside the image"),
            (lambda: project.add_class("dog"), "names are unique"),
            (lambda: project.add_class(" "), "at least one character"),
            (lambda: project.add_class(5), "at least one character"),  # type: ignore[arg-type]
            (lambda: project.add_class("x", color="red"), "#rrggbb"),
            (lambda: project.add_object(clip, number=1), "taken or below 1"),
            (lambda: project.swap(rex, project.objects(clip)[0]), "two of one source"),
            (lambda: project.add_class("x", author=""), "author=''"),
        ):
            with pytest.raises(InputError, match=message):
                call()
        with pytest.raises(StateError, match="2 object"):
            project.delete_class(project.classes[0])


def test_locked_objects_take_no_changes(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rex = project.objects(1)[0]
        project.update_object(rex, locked=True, hidden=True, name="King")
        for call in (
            lambda: project.set_mask(rex, 0, square(1)),
            lambda: project.set_prompt(rex, box=[1, 1, 9, 9]),
            lambda: project.delete_object(rex),
            lambda: project.delete_source(1),
        ):
            with pytest.raises(StateError, match="lock"):
                call()
        assert project.object(rex).name == "King"
        assert project.object(rex).hidden
        project.update_object(rex, locked=False)
        project.delete_source(1)
        assert [source.name for source in project.sources] == ["clip"]


def test_verified_masks_are_kept_from_tracking_and_lose_the_mark_with_another_mask(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        first = project.objects(2)[0]
        project.verify(first, 1, author="bo")
        project.verify(first, 4)  # its absence
        assert list(project.verified(2)) == [(first.id, 1), (first.id, 4)]
        assert project.verified(2)[first.id, 1][0] == "bo"
        for frame in (1, 4):
            with pytest.raises(StateError, match="tracking keeps it"):
                project.set_mask(first, frame, square(), origin="track")
        project.set_mask(first, 1, square(3, 4))  # the same pixels: still what was verified
        project.set_mask(first, 4, square(3), origin="click")
        assert list(project.verified(2)) == [(first.id, 1)]
        project.verify(first, 1, False)
        assert project.verified(2) == {}


def test_swapping_exchanges_everything_from_a_frame_on(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        first, second = project.objects(2)
        project.verify(second, 2)
        project.swap(first, second, from_frame=1)
        origins = {(mask.object_id, mask.frame): mask.origin for mask in project.masks(2)}
        assert [origins[first.id, frame] for frame in range(3)] == ["track", "edit", "edit"]
        assert [origins[second.id, frame] for frame in range(3)] == ["edit", "track", "track"]
        assert list(project.verified(2)) == [(first.id, 2)]
        assert [prompt.object_id for prompt in project.prompts(2)] == [first.id]


def test_dropping_caches_leaves_the_work_of_people(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        first, second = project.objects(2)
        project.verify(first, 1)
        project.caches.put("features/0", b"x" * 1000)
        assert project.drop_masks() == 2
        assert project.caches.drop() == 1000
        masks = {(mask.object_id, mask.frame): mask for mask in project.masks(2)}
        assert [masks[first.id, frame].is_dropped for frame in range(3)] == [True, False, True]
        assert not any(masks[second.id, frame].is_dropped for frame in range(3))
        assert project.caches.get("features/0") is None
        with pytest.raises(StateError, match="track the object again"):
            _ = masks[first.id, 0].mask
        with pytest.raises(StateError, match="was dropped"):
            project.verify(first, 0)
        project.set_mask(first, 0, square(2, 4), origin="track")  # made again
        assert np.array_equal(project.masks(2)[0].mask, square(2, 4))
        while project.undo():  # the log needs no content that was dropped
            pass
        assert project.sources == []


def test_the_file_gets_smaller_when_masks_are_dropped(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rng = np.random.default_rng(0)
        with project.action("track"):
            for _ in range(200):
                project.set_mask(2, 5, rng.random(SIZE) < 0.5, origin="track")
        pages = project.database.query("PRAGMA page_count")[0][0]
        assert project.drop_masks() == 203
        assert project.database.query("PRAGMA page_count")[0][0] < pages - 20


def test_masks_of_models_are_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    small_project(tmp_path).close()
    with open_project(tmp_path / "zoo.masklet", durable=False, max_mask_bytes=2000) as project, project.action("track"):
        first = project.objects(2)[0]
        for number in range(600):
            mask = np.zeros(SIZE, bool)
            mask.ravel()[number : number + 3] = True
            project.set_mask(first, 5, mask, origin="track")
        size = project.database.query("SELECT SUM(LENGTH(counts)) FROM contents WHERE kept = 0")[0][0]
        assert size < 2000 + 256 * 20
        assert project.mask(first, 5) is not None
        assert project.masks(2, 0, 1)[0].is_dropped
        assert not project.masks(2, 0, 1)[1].is_dropped


def test_an_action_of_many_is_all_or_nothing(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rex, revision = project.objects(1)[0], project.revision

        def fail() -> None:
            with project.action("paste", "bo"):
                project.update_object(rex, name="Max")
                raise FileNotFoundError

        with pytest.raises(FileNotFoundError):
            fail()
        with pytest.raises(StateError, match="inside of an action"), project.action("paste"):
            project.undo()
        assert project.object(rex).name == "Rex"
        assert project.revision == revision
        with project.action("paste", "bo", "two things") as number:
            project.update_object(rex, name="Max")
            project.set_mask(rex, 0, square(8))
        assert number == project.revision
        assert project.history(1)[0].summary == "two things"
        project.undo()
        assert project.object(rex).name == "Rex"
        with project.action("nothing"):
            pass
        assert project.history(1)[0].kind == "undo"


def test_a_client_follows_another_by_its_changes(tmp_path: Path) -> None:
    with small_project(tmp_path) as writer, open_project(tmp_path / "zoo.masklet", author="bo") as follower:
        revision = follower.revision
        rex = writer.objects(1)[0]
        state = {("objects", 1): dict(writer.database.get("objects", 1) or {})}
        writer.update_object(rex, name="Max")
        follower.update_object(rex, hidden=True)
        writer.undo(author="bo")
        writer.delete_object(rex)
        changes = follower.changes_since(revision)
        for change in changes:
            if change.table == "objects":
                assert change.before == state.get(("objects", 1))
                state[("objects", 1)] = dict(change.after or {})
        assert state == {("objects", 1): {}}
        assert [change.author for change in changes[:3]] == ["anna", "bo", "bo"]
        assert follower.changes_since(changes[-1].revision) == []
        assert {change.revision for change in follower.changes_since(revision, max_actions=1)} == {revision + 1}


def test_threads_share_one_project(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        errors: list[Exception] = []

        def add(number: int) -> None:
            try:
                for index in range(10):
                    project.add_object(2, name=f"{number}/{index}")
                    assert project.masks(2)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(project.objects(2)) == 42
        assert len({obj.number for obj in project.objects(2)}) == 42


def test_a_project_is_pickled_by_its_folder_and_closed_for_good(tmp_path: Path) -> None:
    with small_project(tmp_path) as project, pickle.loads(pickle.dumps(project)) as copy:
        assert copy.author == "anna"
        assert copy.revision == project.revision
    with pytest.raises(StateError, match="is closed"):
        project.add_class("bird")
    project.close()


def test_the_same_file_is_one_source_and_names_are_unique(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        assert project.add_source(tmp_path / "photo.png").id == 1
        other = project.add_source(save_image(tmp_path / "b" / "photo.png", 91))
        assert other.name == "photo_2"
        part = project.add_source([tmp_path / "clip" / "00001.png", tmp_path / "clip" / "00002.png"])
        assert (part.num_frames, part.files) == (2, ("00001.png", "00002.png"))
        with project.open_source(part) as video:
            assert video[0].rgb[0, 0, 0] == 11
        for bad in (
            tmp_path / "no.png",
            "rtsp://camera",
            [],
            [tmp_path / "photo.png", tmp_path / "b/photo.png"],
        ):
            with pytest.raises(SourceError):
                project.add_source(bad)


def test_moved_sources_are_found_by_their_content(tmp_path: Path) -> None:
    small_project(tmp_path / "here").close()
    (tmp_path / "here").rename(tmp_path / "there")  # together: found beside the project
    with open_project(tmp_path / "there" / "zoo.masklet") as project:
        assert project.missing_sources() == []
        (tmp_path / "there" / "photo.png").rename(tmp_path / "renamed.png")
        (tmp_path / "there" / "clip").rename(tmp_path / "frames")
        save_image(tmp_path / "decoy.png", 91)
        assert [source.name for source in project.missing_sources()] == ["photo", "clip"]
        with pytest.raises(SourceError, match="is missing: tell where"):
            project.source_path(1)
        with pytest.raises(SourceError, match="another content"):
            project.relocate({1: tmp_path / "decoy.png"})
        with pytest.raises(InputError, match="no source"):
            project.relocate({"other.png": tmp_path / "renamed.png"})
        assert [one.name for one in project.relocate(search=[tmp_path])] == ["photo", "clip"]
        assert project.source_path(1) == tmp_path / "renamed.png"
        assert project.source_path(2) == tmp_path / "frames"
        (tmp_path / "frames").rename(tmp_path / "video")
        assert project.relocate({tmp_path / "frames": tmp_path / "video"})[0].name == "clip"
        assert project.undo()
        assert project.source_path(2) == tmp_path / "video"


def test_a_missing_source_that_is_added_again_is_found(tmp_path: Path) -> None:
    with small_project(tmp_path / "here") as project:
        (tmp_path / "here" / "photo.png").rename(tmp_path / "photo.png")
        assert project.add_source(tmp_path / "photo.png").id == 1
        assert project.missing_sources() == []
        assert len(project.sources) == 2
        save_image(tmp_path / "here" / "photo.png", 91)  # another image where it was: the right one is known
        assert project.source_path(1) == tmp_path / "photo.png"


def test_sources_that_changed_are_named_and_touched_ones_are_not(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        data = (tmp_path / "photo.png").read_bytes()
        (tmp_path / "photo.png").write_bytes(data)  # another time, the same content
        assert project.source_state(1) == "present"
        save_image(tmp_path / "photo.png", 200)
        save_image(tmp_path / "clip" / "00009.png")  # not a frame of the source
        assert [project.source_state(number) for number in (1, 2)] == ["changed", "present"]
        with pytest.raises(SourceError, match="has changed since it was added"):
            project.open_source(1)
        (tmp_path / "clip" / "00003.png").unlink()
        with pytest.raises(SourceError, match=r"00003\.png"):
            project.open_source(2)


def test_folders_that_are_no_projects_are_kept(tmp_path: Path) -> None:
    save_frames(tmp_path / "photos.masklet")
    for path, create, message in (
        (tmp_path / "photos.masklet", True, "no project"),
        (tmp_path / "clip", True, "add the suffix"),
        (tmp_path / "none.masklet", False, "there is no project"),
    ):
        with pytest.raises(ProjectError, match=message):
            open_project(path, create=create)
        assert not (path / "project.sqlite").exists()
