"""Reports of made predictions: what they show, and that names in them are only text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import text, write_image
from helpers.predictions import FRAMES, HEIGHT, WIDTH, store_maps, store_objects, two
from masklet.cli.main import run
from masklet.errors import SourceError
from masklet.evaluate.benchmark_scoring import BENCHMARK_RULES, BenchmarkScore, ObjectScore, score_predictions
from masklet.evaluate.metrics import Statistics
from masklet.evaluate.report import PUBLISHED_RESULTS, ReportOptions, write_report
from masklet.evaluate.report.html import SCORING_RULES
from masklet.evaluate.report.published_results import PUBLISHED_BENCHMARKS, check_comparability
from masklet.evaluate.report.sequence_tables import MIN_FRAME_DISTANCE, summarize_sequences, worst_frames

HOSTILE = "<script>alert('1')<&script>|`[x](http:"
BAD = 4
"""The frame on which nothing is predicted."""
PAGE = (Path(__file__).parents[2] / "docs" / "published.md").read_text()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with a truth, its images, and predictions of a video that is right but for one frame."""
    for name in (HOSTILE, "bee"):
        shown = two()
        if name == HOSTILE:
            shown[BAD] = 0
        store_maps(tmp_path / "DAVIS" / "Annotations" / "480p" / name, two())
        store_maps(tmp_path / "predictions" / name, shown)
        for t in range(FRAMES):
            write_image(tmp_path / "DAVIS" / "JPEGImages" / "480p" / name / f"{t:05d}.png", t, (HEIGHT, WIDTH))
    return tmp_path


def scored(made: Path) -> BenchmarkScore:
    return score_predictions("davis17", made / "predictions", made / "DAVIS")


def report_of(made: Path, *, worst: int = 3, model: str = "") -> tuple[str, str]:
    """The HTML and the Markdown."""
    options = ReportOptions(made / "DAVIS", model, worst)
    files = write_report(scored(made), made / "predictions", made / "DAVIS", made / "report", options)
    return files[0].read_text(), files[1].read_text()


class Read(HTMLParser):
    """Tags with their attributes, and whether each that must be is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_html_is_whole_and_loads_nothing(made: Path) -> None:
    html, _ = report_of(made)
    read = Read(html)
    assert read.open == []
    names = {tag for tag, _ in read.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "use", "image"}
    for tag, has in read.tags:
        assert not {name for name in has if name.startswith("on")}
        assert (has.get("src") or "data:").startswith("data:image/jpeg;base64,") or "src" not in has
        assert "href" not in has or (tag == "a" and has["href"] in {one.source for one in PUBLISHED_RESULTS})
    assert not re.search(r"url\(|@import", html)


def test_names_of_videos_are_only_text(made: Path) -> None:
    html, markdown = report_of(made, model="<img src=x>")
    assert "<script" not in html
    assert "<img src=x" not in html
    assert HOSTILE in Read(html).text
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert r"&lt;script&gt;alert\('1'\)&lt;&amp;script&gt;\|\`\[x\]\(http:" in markdown


def test_a_name_that_is_no_text_does_not_stop_the_report(made: Path) -> None:
    for place in ("DAVIS/Annotations/480p", "DAVIS/JPEGImages/480p", "predictions"):
        try:
            (made / place / "bee").rename(made / place / "b\udcffe")
        except OSError:
            pytest.skip("this file system has names of text only")
    html, markdown = report_of(made)
    assert "b?e" in html
    assert "Video b e, " in markdown


def test_the_worst_frame_is_the_one_that_was_spoilt(made: Path) -> None:
    frame = worst_frames(scored(made), 3)[0]
    assert (frame.sequence, frame.frame_name, frame.jf) == (HOSTILE, f"{BAD:05d}", 0)
    _, markdown = report_of(made)
    assert f"frame {BAD:05d}: J&F 0.000" in markdown
    assert markdown.index("worst/01.jpg") < markdown.index(f"frame {BAD:05d}") < markdown.index("worst/02.jpg")


def test_its_image_is_the_frame_with_the_truth_outlined(made: Path) -> None:
    html, _ = report_of(made, worst=1)
    [data] = [has["src"] for tag, has in Read(html).tags if tag == "img"]
    assert data is not None
    jpeg = base64.b64decode(data.partition(",")[2])
    assert (made / "report" / "worst" / "01.jpg").read_bytes() == jpeg
    shown = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
    plain = np.asarray(
        Image.open(made / "DAVIS" / "JPEGImages" / "480p" / HOSTILE / f"{BAD:05d}.png").convert("RGB")
    ).astype(int)
    assert shown.shape == (HEIGHT, WIDTH, 3)
    far = two()[BAD] == 0
    for _ in range(3):  # well away from any object the image is as it was
        far[1:] &= far[:-1].copy()
        far[:-1] &= far[1:].copy()
        far[:, 1:] &= far[:, :-1].copy()
        far[:, :-1] &= far[:, 1:].copy()
    assert np.abs(shown - plain)[far].mean() < 12
    assert (shown.min(2) > 200).sum() > 40 > (plain.min(2) > 200).sum()


def test_neighbors_of_a_frame_that_is_shown_are_passed_over(made: Path) -> None:
    places = [int(frame.frame_name) for frame in worst_frames(scored(made), 99) if frame.sequence == "bee"]
    assert len(places) == 2
    assert abs(places[0] - places[1]) >= MIN_FRAME_DISTANCE


def test_bars_and_curves_are_of_the_score(made: Path) -> None:
    worst, best = summarize_sequences(scored(made))
    assert (worst.name, best.name) == (HOSTILE, "bee")
    assert (best.jf, best.first_frame, best.last_frame) == (1, "00001", f"{FRAMES - 2:05d}")
    assert worst.jf == pytest.approx(1 - 1 / (FRAMES - 2))
    heights = [float(point.partition(",")[2]) for point in worst.curves[0].points.split()]
    assert heights == [100.0 if t == BAD else 0.0 for t in range(1, FRAMES - 1)]
    assert worst.curves[0].sparkline == "".join("▁" if t == BAD else "█" for t in range(1, FRAMES - 1))
    html, _ = report_of(made)
    assert "width: 90.0%" in html
    assert "width: 100.0%" in html


def test_families_are_apart_and_second_hand_figures_are_starred(made: Path) -> None:
    html, markdown = report_of(made, model="weights/sam2_b.pt")
    released, paper = markdown.index("### Released weights"), markdown.index("### The paper's models")
    assert released < markdown.index("| 88.9\\* |") < paper < markdown.index("SAM 2.1 base+ | 90.2 |")
    assert "sam2\\_b.pt (this model, as published)" in markdown
    assert "sam2_b.pt (this model, as published)" in html
    assert "as published" not in report_of(made, model="mine")[0]


def statements_about(model: str) -> list[str]:
    """The rows, clauses and paragraphs of the page about a model."""
    row = re.sub(r"^(EfficientTAM|SAM2Long on) ", "", model)
    paragraphs = [part.replace("\n", " ") for part in PAGE.split("\n\n") if not part.startswith("|")]
    clauses = [clause.strip() for part in paragraphs for clause in re.split("[;:]", part)]
    lines = [line for line in PAGE.splitlines() if line.startswith((f"| {row} |", f"| {row} (", f"| `{row}` |"))]
    named = [part for part in paragraphs if part.startswith(f"For `{row}`")]
    return [*lines, *named, *(clause for clause in clauses if re.match(rf"{re.escape(row)} \d", clause))]


def test_every_published_figure_stands_in_the_page() -> None:
    for one in PUBLISHED_RESULTS:
        statements = statements_about(one.model)
        assert any(str(one.value) in re.findall(r"\d+\.\d+", part) for part in statements), (one, statements)
        assert one.source in PAGE, one


def test_figures_marked_as_read_are_not_second_hand_there() -> None:
    rows = [line for line in PAGE.splitlines() if "(second-hand)" in line and line.startswith("|")]
    second = {line.split("|")[1].replace("(second-hand)", "").strip() for line in rows}
    assert second == {one.model for one in PUBLISHED_RESULTS if one.family == "paper" and not one.is_first_hand}


def test_every_kind_of_score_has_its_sets() -> None:
    assert set(PUBLISHED_BENCHMARKS) == set(SCORING_RULES) == set(BENCHMARK_RULES)
    assert {one.benchmark for one in PUBLISHED_RESULTS} == {
        name for names in PUBLISHED_BENCHMARKS.values() for name in names
    }


def of_videos(kind: str, count: int, *, seen: bool | None = None) -> BenchmarkScore:
    """A score of videos f0, f1 and so on, whose figures nobody looks at."""
    one = Statistics(1, 1, 0)
    return BenchmarkScore(kind, {"J&F": 1.0}, tuple(ObjectScore(f"f{n}", "1", 1, one, one, seen) for n in range(count)))


@pytest.mark.parametrize(
    ("kind", "videos", "benchmark", "of"),
    [
        ("davis17", 30, "DAVIS 2017 val", "30"),
        ("sav", 155, "SA-V val", "155"),
        ("sav", 150, "SA-V test", "150"),
        ("ytvos", 507, "YouTube-VOS 2019 val", "507"),
        ("mose", 311, "MOSE val", "311"),
        ("lvos", 140, "LVOS v2", "140"),
    ],
)
def test_figures_compare_where_all_videos_of_the_set_were_scored(
    kind: str, videos: int, benchmark: str, of: str, tmp_path: Path
) -> None:
    found = {one.benchmark: str(one) for one in check_comparability(of_videos(kind, videos, seen=True), tmp_path)}
    assert found[benchmark] == f"{benchmark}: figures compare; all {of} videos of it were scored."
    assert all("do not compare. It has" in verdict for name, verdict in found.items() if name != benchmark)
    fewer = {one.benchmark: str(one) for one in check_comparability(of_videos(kind, videos - 1, seen=True), tmp_path)}
    assert fewer[benchmark].endswith(f"do not compare. It has {of} videos, and {videos - 1} were scored.")


def test_videos_are_compared_by_name_where_the_list_is_there(tmp_path: Path) -> None:
    truth = tmp_path / "Annotations" / "480p"
    text(tmp_path / "ImageSets" / "2017" / "val.txt", "".join(f"f{n}\n" for n in range(1, 31)))
    [found] = check_comparability(of_videos("davis17", 30), truth)
    assert str(found) == (
        "DAVIS 2017 val: figures do not compare. Of its 30 videos 1 were not scored (f30). 1 of the videos that were "
        "scored are not of it."
    )
    [found] = check_comparability(of_videos("davis17", 3), truth)
    assert "28 were not scored (f10, f11, f12, f13, f14, ...)" in str(found)


def test_groups_and_prompts_must_be_those_of_published_figures(tmp_path: Path) -> None:
    [found] = check_comparability(of_videos("lvos", 140), tmp_path)
    assert "name --unseen" in str(found)
    [found] = check_comparability(of_videos("mose", 311), tmp_path, "click")
    assert "prompted by click" in str(found)
    assert check_comparability(of_videos("davis16", 20), tmp_path) == []


def test_the_page_says_whether_figures_compare(made: Path) -> None:
    html, markdown = report_of(made)
    verdict = "figures do not compare. It has 30 videos, and 2 were scored"
    assert verdict in Read(html).text
    assert verdict in markdown
    assert '<td class="n">(95.0)</td>' in html
    names = [f"n{n}" for n in range(28)] + ["bee", HOSTILE]
    for name in names[:28]:  # as good as what is there
        for place in (made / "DAVIS" / "Annotations" / "480p", made / "predictions"):
            (place / name).symlink_to(place / "bee")
    text(made / "DAVIS" / "ImageSets" / "2017" / "val.txt", "".join(f"{name}\n" for name in names))
    html, markdown = report_of(made)
    assert "all 30 videos of it were scored" in Read(html).text
    assert "all 30 videos of it were scored" in markdown
    assert '<td class="n">99.7</td>' in html


def test_videos_of_sav_have_a_folder_for_each_object(tmp_path: Path) -> None:
    store_objects(tmp_path / "sav_val" / "Annotations_6fps" / "v", two())
    store_objects(tmp_path / "shown" / "v", np.roll(two(), 3, axis=2))
    run_report = ["eval", "report", str(tmp_path / "shown"), str(tmp_path / "sav_val"), "--benchmark", "sav"]
    with pytest.raises(SystemExit) as left:
        run([*run_report, "--model", "mine", "--out", str(tmp_path / "out"), "--worst", "2"])
    assert left.value.code == 0
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "masks are on gray" in markdown
    assert "| SA-V val | SA-V test |" in markdown
    assert len(list((tmp_path / "out" / "worst").iterdir())) == 2


def test_images_that_lack_are_named(made: Path) -> None:
    with pytest.raises(SourceError, match="name another, or none"):
        write_report(
            scored(made), made / "predictions", made / "DAVIS", made / "r", ReportOptions(made / "predictions" / "bee")
        )
