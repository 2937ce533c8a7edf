"""The log of a run: complete entries only, wherever the file was truncated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.annotate_data import downgrade_log
from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation
from masklet.annotate.resume_log import AnnotationLog, PendingEntry
from masklet.errors import InputError, OutputError

RLE = {"size": [2, 3], "counts": "06"}
ONE = ObjectAnnotation(4, 0.123456, (1.5, 2.0, 3.25, 4.0), RLE, 6, (0.0, 0.0, 3.0, 2.0), None, 7)  # type: ignore[arg-type]
RECORDS = [
    ImageAnnotation("a", "photos/ä.jpg", (2, 3), (ONE, ONE)),
    ImageAnnotation("b/c", "photos/b/c.jpg", None, failure="cut short", split="val"),
    ImageAnnotation("clip/000001", "clip.mp4", (2, 3), (), video="clip", frame_idx=1),
]


@pytest.mark.parametrize("record", RECORDS)
def test_records_round_trip(record: ImageAnnotation) -> None:
    assert ImageAnnotation.from_line(record.to_line()) == record
    assert "\n" not in record.to_line()


def test_malformed_line_is_refused() -> None:
    with pytest.raises(InputError, match="is not the record"):
        ImageAnnotation.from_line('{"name": "a"}')


def filled(out: Path) -> list[str]:
    with AnnotationLog(out) as log:
        log.start({"conf": 0.5}, overwrite=False)
        log.add_class_names({4: "dog"})
        log.append([PendingEntry("a", [1, 2], 1, [RECORDS[0].to_line()])])
        log.append([PendingEntry("clip", [3, 4], 2, [RECORDS[2].to_line(), RECORDS[2].to_line()])])
        log.append([PendingEntry("b/c", [5, 6], 1, [RECORDS[1].to_line()], failed=True)])
        return list(log.entries)


def test_entries_are_read_again(tmp_path: Path) -> None:
    assert filled(tmp_path) == ["a", "clip", "b/c"]
    with AnnotationLog(tmp_path) as log:
        log.start({"conf": 0.5}, overwrite=False)
        assert list(log.entries) == ["a", "clip", "b/c"]
        assert log.class_names == {4: "dog"}
        assert list(log.records("a")) == [RECORDS[0]]
        assert list(log.records("clip")) == [RECORDS[2]] * 2
        assert log.entries["b/c"].failed


def test_truncated_anywhere_complete_entries_remain(tmp_path: Path) -> None:
    filled(tmp_path / "complete")
    settings, log_path = downgrade_log(tmp_path / "complete")
    content = log_path.read_bytes()
    seen = set()
    ends = [offset + 1 for offset, byte in enumerate(content) if byte == ord("\n")]
    for size in sorted({0, *range(5, len(content), 61), *(end - near for end in ends for near in (0, 1))}):
        out = tmp_path / "truncated"
        shutil.rmtree(out, ignore_errors=True)
        (out / ".masklet").mkdir(parents=True)
        (out / ".masklet/annotate.jsonl").write_bytes(content[:size])
        (out / ".masklet/annotate.json").write_bytes(settings.read_bytes())
        with AnnotationLog(out) as log:
            log.start({"conf": 0.5}, overwrite=False)
            names = list(log.entries)
            assert names == ["a", "clip", "b/c"][: len(names)]
            for name in names:
                assert len(list(log.records(name))) == log.entries[name].count
            log.append([PendingEntry("new", [0, 0], 1, [RECORDS[0].to_line()])])
        with AnnotationLog(out) as log:
            log.start({"conf": 0.5}, overwrite=False)
            assert list(log.entries) == [*names, "new"]
        assert sorted(path.name for path in (out / ".masklet").iterdir()) == ["annotate.lock", "annotate.sqlite"]
        seen.add(len(names))
    assert seen == {0, 1, 2, 3}


def test_log_of_an_earlier_version_is_imported_once(tmp_path: Path) -> None:
    filled(tmp_path)
    downgrade_log(tmp_path)
    with AnnotationLog(tmp_path) as log:
        assert log.has_previous_run
        with pytest.raises(InputError, match=r"conf was 0.5, now 0.7"):
            log.start({"conf": 0.7}, overwrite=False)
    for _ in range(2):
        with AnnotationLog(tmp_path) as log:
            log.start({"conf": 0.5}, overwrite=False)
            assert list(log.entries) == ["a", "clip", "b/c"]
            assert log.class_names == {4: "dog"}
            assert list(log.records("clip")) == [RECORDS[2]] * 2
    filled(tmp_path / "again")
    downgrade_log(tmp_path / "again")
    with AnnotationLog(tmp_path / "again") as log:
        assert log.previous_run() == ([], [])  # this run stored no formats
        log.start({"conf": 0.7}, overwrite=True)
        assert not log.entries


def test_error_while_appending_leaves_the_log_unchanged(tmp_path: Path) -> None:
    def broken() -> object:
        yield RECORDS[0].to_line()
        raise RuntimeError("while appending")

    with AnnotationLog(tmp_path) as log:
        log.start({}, overwrite=False)
        log.append([PendingEntry("a", [1, 2], 1, [RECORDS[0].to_line()])])
        stored = list(log._store.items())
        with pytest.raises(RuntimeError):
            log.append([PendingEntry("b", [1, 2], 2, broken())])  # type: ignore[arg-type]
        assert list(log._store.items()) == stored
        assert (list(log._store.lines("a")), list(log._store.lines("b"))) == ([RECORDS[0].to_line()], [])
        assert list(log.entries) == ["a"]


def test_class_has_one_name(tmp_path: Path) -> None:
    with AnnotationLog(tmp_path) as log:
        log.start({}, overwrite=False)
        log.add_class_names({0: "dog"})
        with pytest.raises(InputError, match="class 0 is 'cat' now and was 'dog' before"):
            log.add_class_names({0: "cat"})


def test_one_process_at_a_time_and_missing_settings_are_reported(tmp_path: Path) -> None:
    filled(tmp_path)
    with AnnotationLog(tmp_path), pytest.raises(OutputError, match="another run"), AnnotationLog(tmp_path):
        pass
    settings, _ = downgrade_log(tmp_path)
    settings.unlink()
    with (
        AnnotationLog(tmp_path) as log,
        pytest.raises(InputError, match="the options of the earlier run are unknown"),
    ):
        log.start({}, overwrite=False)


def test_record_of_an_earlier_version_is_read() -> None:
    line = (Path(__file__).parent / "old_record.json").read_text(encoding="utf-8")
    assert ImageAnnotation.from_line(line) == ImageAnnotation(
        "clip/000001", "clip.mp4", (2, 3), split="val", video="clip", frame_idx=1
    )
