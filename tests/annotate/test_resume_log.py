"""The memory of a run: whole things or nothing, wherever it was cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation
from masklet.annotate.resume_log import AnnotationLog, PendingEntry
from masklet.errors import InputError, OutputError

RLE = {"size": [2, 3], "counts": "06"}
ONE = ObjectAnnotation(4, 0.123456, (1.5, 2.0, 3.25, 4.0), RLE, 6, (0.0, 0.0, 3.0, 2.0), None, 7)  # type: ignore[arg-type]
RECORDS = [
    ImageAnnotation("a", "photos/ä.jpg", (2, 3), (ONE, ONE)),
    ImageAnnotation("b/c", "photos/b/c.jpg", None, failure="cut short", split="val"),
    ImageAnnotation("film/000001", "film.mp4", (2, 3), (), video="film", frame_idx=1),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_what_its_line_says(record: ImageAnnotation) -> None:
    assert ImageAnnotation.from_line(record.to_line()) == record
    assert "\n" not in record.to_line()


def test_a_line_that_is_no_record_is_refused() -> None:
    with pytest.raises(InputError, match="is no record"):
        ImageAnnotation.from_line('{"name": "a"}')


def filled(out: Path) -> list[str]:
    with AnnotationLog(out) as journal:
        journal.start({"conf": 0.5}, overwrite=False)
        journal.add_class_names({4: "dog"})
        journal.append([PendingEntry("a", [1, 2], 1, [RECORDS[0].to_line()])])
        journal.append([PendingEntry("film", [3, 4], 2, [RECORDS[2].to_line(), RECORDS[2].to_line()])])
        journal.append([PendingEntry("b/c", [5, 6], 1, [RECORDS[1].to_line()], failed=True)])
        return list(journal.entries)


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    assert filled(tmp_path) == ["a", "film", "b/c"]
    with AnnotationLog(tmp_path) as journal:
        journal.start({"conf": 0.5}, overwrite=False)
        assert list(journal.entries) == ["a", "film", "b/c"]
        assert journal.class_names == {4: "dog"}
        assert list(journal.records("a")) == [RECORDS[0]]
        assert list(journal.records("film")) == [RECORDS[2]] * 2
        assert journal.entries["b/c"].failed


def test_wherever_it_was_cut_whole_things_are_left(tmp_path: Path) -> None:
    filled(tmp_path / "whole")
    path = Path(".masklet") / "annotate.jsonl"
    content = (tmp_path / "whole" / path).read_bytes()
    seen = set()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in sorted({0, *range(5, len(content), 61), *(end - near for end in ends for near in (0, 1))}):
        out = tmp_path / "cut"
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content[:cut])
        (out / ".masklet/annotate.json").write_bytes((tmp_path / "whole/.masklet/annotate.json").read_bytes())
        with AnnotationLog(out) as journal:
            journal.start({"conf": 0.5}, overwrite=False)
            names = list(journal.entries)
            assert names == ["a", "film", "b/c"][: len(names)]
            for name in names:
                assert len(list(journal.records(name))) == journal.entries[name].count
            journal.append([PendingEntry("new", [0, 0], 1, [RECORDS[0].to_line()])])
        with AnnotationLog(out) as journal:
            journal.start({"conf": 0.5}, overwrite=False)
            assert list(journal.entries) == [*names, "new"]
        seen.add(len(names))
    assert seen == {0, 1, 2, 3}


def test_an_error_on_the_way_in_leaves_it_as_it_was(tmp_path: Path) -> None:
    def broken() -> object:
        yield RECORDS[0].to_line()
        raise RuntimeError("on the way")

    with AnnotationLog(tmp_path) as journal:
        journal.start({}, overwrite=False)
        journal.append([PendingEntry("a", [1, 2], 1, [RECORDS[0].to_line()])])
        size = (tmp_path / ".masklet/annotate.jsonl").stat().st_size
        with pytest.raises(RuntimeError):
            journal.append([PendingEntry("b", [1, 2], 2, broken())])  # type: ignore[arg-type]
        assert (tmp_path / ".masklet/annotate.jsonl").stat().st_size == size
        assert list(journal.entries) == ["a"]


def test_a_class_has_one_name(tmp_path: Path) -> None:
    with AnnotationLog(tmp_path) as journal:
        journal.start({}, overwrite=False)
        journal.add_class_names({0: "dog"})
        with pytest.raises(InputError, match="class 0 is 'cat' now and was 'dog' before"):
            journal.add_class_names({0: "cat"})


def test_one_process_at_a_time_and_lost_settings_are_told(tmp_path: Path) -> None:
    filled(tmp_path)
    with AnnotationLog(tmp_path), pytest.raises(OutputError, match="another run"), AnnotationLog(tmp_path):
        pass
    (tmp_path / ".masklet/annotate.json").unlink()
    with (
        AnnotationLog(tmp_path) as journal,
        pytest.raises(InputError, match="nothing says what the earlier run was asked"),
    ):
        journal.start({}, overwrite=False)
