"""Undo without a limit: random actions against a plain model of the state, two authors, runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.project_files import SIZE, small_project, square
from masklet.errors import StateError
from masklet.projects import Project, open_project

FRAMES = 3
KINDS = ("add", "delete", "rename", "lock", "prompt", "clear", "mask", "mask", "drop", "verify", "verify", "swap")


def read_state(project: Project) -> dict[str, Any]:
    """Everything that a person sees of the video, as plain values."""
    return {
        "objects": {obj.id: (obj.name, obj.class_id, obj.hidden, obj.locked) for obj in project.objects(2)},
        "prompts": {(one.object_id, one.frame): one.points for one in project.prompts(2)},
        "masks": {(one.object_id, one.frame): (one.mask.tobytes(), one.origin) for one in project.masks(2)},
        "verified": set(project.verified(2)),
    }


def act(project: Project, state: dict[str, Any], rng: np.random.Generator) -> None:
    """Do one random action in the project, and the same in the model."""
    ids, kind = list(state["objects"]), rng.choice(KINDS)
    if kind == "add" or not ids:
        obj = project.add_object(2, int(rng.integers(1, 3)), name=f"n{rng.integers(9)}")
        state["objects"][obj.id] = (obj.name, obj.class_id, False, False)
        return
    chosen, frame = int(rng.choice(ids)), int(rng.integers(FRAMES))
    key, (name, class_id, hidden, locked) = (chosen, frame), state["objects"][chosen]
    if kind == "rename":
        project.update_object(chosen, name="renamed", hidden=bool(rng.integers(2)))
        state["objects"][chosen] = ("renamed", class_id, project.object(chosen).hidden, locked)
    elif kind == "lock":
        project.update_object(chosen, locked=not locked)
        state["objects"][chosen] = (name, class_id, hidden, not locked)
    elif locked:
        with pytest.raises(StateError, match="locked"):
            project.set_prompt(chosen, frame, points=[[1, 1]])
    elif kind == "delete":
        project.delete_object(chosen)
        del state["objects"][chosen]
        for table in ("prompts", "masks"):
            state[table] = {key: value for key, value in state[table].items() if key[0] != chosen}
        state["verified"] = {key for key in state["verified"] if key[0] != chosen}
    elif kind == "prompt":
        point = (float(rng.integers(SIZE[1])), float(rng.integers(SIZE[0])))
        project.set_prompt(chosen, frame, points=[point])
        state["prompts"][key] = (point,)
    elif kind == "clear":
        project.set_prompt(chosen, frame)
        state["prompts"].pop(key, None)
    elif kind == "mask":
        mask = square(int(rng.integers(5)))
        project.set_mask(chosen, frame, mask)
        if state["masks"].get(key, (b"",))[0] != mask.tobytes():
            state["verified"].discard(key)
        state["masks"][key] = (mask.tobytes(), "edit")
    elif kind == "drop":
        project.set_mask(chosen, frame, None)
        state["masks"].pop(key, None)
        state["verified"].discard(key)
    elif kind == "verify":
        project.verify(chosen, frame, key not in state["verified"])
        state["verified"] ^= {key}
    elif kind == "swap" and len(ids) > 1:
        other = int(rng.choice([one for one in ids if one != chosen]))
        if state["objects"][other][3]:
            return
        project.swap(chosen, other, from_frame=frame)
        partner = {chosen: other, other: chosen}

        def moved(key: tuple[int, int]) -> tuple[int, int]:
            return (partner.get(key[0], key[0]), key[1]) if key[1] >= frame else key

        for table in ("prompts", "masks"):
            state[table] = {moved(key): value for key, value in state[table].items()}
        state["verified"] = {moved(key) for key in state["verified"]}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_actions_undone_and_redone_agree_with_a_plain_model(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    small_project(tmp_path).close()
    with open_project(tmp_path / "zoo.masklet", durable=False) as project:  # another author than that of the start
        states, position = [read_state(project)], 0
        for _ in range(60):
            choice, revision = rng.random(), project.revision
            if choice < 0.2:
                assert bool(project.undo(author="person")) == (position > 0)
                position = max(0, position - 1)
            elif choice < 0.35:
                assert bool(project.redo()) == (position < len(states) - 1)
                position = min(len(states) - 1, position + 1)
            else:
                state = copy.deepcopy(states[position])
                act(project, state, rng)
                if project.revision > revision:
                    states, position = [*states[: position + 1], state], position + 1
                else:
                    assert state == states[position]
            assert read_state(project) == states[position]
        while project.undo(author="person"):
            position -= 1
            assert read_state(project) == states[position]
        assert position == 0


def test_undo_survives_the_end_of_the_process_and_is_seen_in_the_history(tmp_path: Path) -> None:
    small_project(tmp_path).close()
    with open_project(tmp_path / "zoo.masklet", author="bo") as project:
        count = len(project.history(1000))
        while project.undo():
            pass
        assert project.sources == project.classes == project.objects() == []
        assert len(project.history(1000)) == 2 * count
        first = project.history(2)
        assert project.history(1, before=first[0].id)[0] == first[1]
    with open_project(tmp_path / "zoo.masklet") as project:
        while project.redo():
            pass
        assert len(project.masks(2)) == 6
        assert np.array_equal(project.masks(1)[0].mask, square())


def test_undo_of_one_author_leaves_the_others_alone(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        rex = project.objects(1)[0]
        project.update_object(rex, name="Anna's")
        project.update_object(2, name="Bo's", author="bo")
        assert project.undo(author="anna")
        assert (project.object(1).name, project.object(2).name) == ("Rex", "Bo's")
        assert project.redo(author="anna")
        project.update_object(rex, hidden=True, author="bo")
        with pytest.raises(StateError, match="a later action changed"):
            project.undo(author="anna")
        assert project.undo()
        assert project.undo(author="anna")
        assert project.object(rex).name == "Rex"
        assert project.object(2).name == "Bo's"


def test_something_new_takes_the_place_of_redo(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        project.add_class("bird")
        project.undo()
        project.add_class("fish")
        assert project.redo() == []
        assert [action.state for action in project.history(3)] == ["done", "undo", "dropped"]


def test_a_run_is_one_step_as_far_as_nothing_came_between(tmp_path: Path) -> None:
    with small_project(tmp_path) as project:
        for name in ("a", "b"):
            with project.action("import", run=7):
                project.add_class(name)
        project.add_class("between")
        for name in ("c", "d"):
            with project.action("import", run=7):
                project.add_class(name)
        assert len(project.undo()) == 2
        assert len(project.undo()) == 1
        assert len(project.undo()) == 2
        assert [cls.name for cls in project.classes] == ["dog", "cat"]
        assert len(project.redo()) == 2
        assert [cls.name for cls in project.classes] == ["dog", "cat", "a", "b"]
