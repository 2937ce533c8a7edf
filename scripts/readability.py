"""Check how the package reads: words, names, helpers, pages. Part of scripts/check; prints every figure.

A private function that is named once outside its definition usually hides nothing and belongs in its caller. Words are
those of an earlier vocabulary that no reader from the field would guess or grep.
"""

from __future__ import annotations

import ast
import collections
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "masklet"
MAX_CALLED_ONCE = 0.12
MEDIAN_BODY = (6, 9)
MAX_PAGE_LINES = 250
MAX_SUBJECT = 72
SHARED_STEMS = {
    "__init__", "__main__", "config", "model", "state_dict", "image", "video", "convnet", "hiera", "vit", "yolo",
    "mask_decoder", "memory_attention", "memory_encoder", "coco", "cvat", "davis", "labelme", "sav", "sa1b", "voc",
}  # fmt: skip
"""File names that several rooms share on purpose: formats and families."""
WORDS = (
    "film", "films", "picture", "pictures", "crowd", "lives", "wish", "nought", "asked", "asking", "said", "told",
    "looked", "looking", "gone on", "go on with", "be meant", "let go of", "anew", "of its own", "of one's own",
    "licence",
)  # fmt: skip
ALLOWED = {"COCO crowd", "iscrowd"}


def main() -> int:
    problems = [*functions_and_names(), *words(), *pages(), *commit_subject()]
    for problem in problems:
        print(f"  {problem}")
    return bool(problems)


def functions_and_names() -> Iterator[str]:
    total = once = 0
    lengths: list[int] = []
    stems, classes = collections.defaultdict[str, list[str]](list), collections.defaultdict[str, list[str]](list)
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        has_foreign_names = PACKAGE / "compat" in path.parents  # the names of other libraries are its purpose
        tree, names = ast.parse(text), collections.Counter(re.findall(r"\b\w+\b", text))
        if not has_foreign_names:
            stems[path.stem].append(path.relative_to(PACKAGE).as_posix())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not has_foreign_names:
                classes[node.name].append(path.relative_to(PACKAGE).as_posix())
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                total += 1
                once += node.name.startswith("_") and not node.name.startswith("__") and names[node.name] == 2
                if PACKAGE / "tensors" in path.parents:
                    continue  # the functions of the NumPy stand-in are PyTorch's, one by one
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                lengths.append((body[-1].end_lineno or 0) - body[0].lineno + 1)
    median = statistics.median(lengths)
    print(f"{total} functions, median body {median:g} lines, private and called once {once / total:.1%}")
    if once / total > MAX_CALLED_ONCE:
        yield f"{once} private functions are called once, {MAX_CALLED_ONCE:.0%} allowed: inline those that hide nothing"
    if not MEDIAN_BODY[0] <= median <= MEDIAN_BODY[1]:
        yield f"the median body has {median:g} lines, {MEDIAN_BODY[0]} to {MEDIAN_BODY[1]} wanted"
    for stem, files in stems.items():
        if len(files) > 1 and stem not in SHARED_STEMS:
            yield f"file name used twice: {', '.join(files)}"
    for name, files in classes.items():
        if len(files) > 1:
            yield f"class {name} is defined in {', '.join(files)}"


def words() -> Iterator[str]:
    pattern = re.compile(rf"\b({'|'.join(WORDS)})\b")
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *markdown()]
    for path in files:
        in_record = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            in_record = line.startswith("<!-- record:") or (in_record and line != "<!-- end -->")
            if in_record or any(allowed in line for allowed in ALLOWED):  # tables of earlier records keep their words
                continue
            low = re.sub(r"[_\W]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line)).lower()
            for match in pattern.finditer(low):
                yield f"{path.relative_to(ROOT)}:{number}: {match.group(1)!r} is not a word of this project"


def pages() -> Iterator[str]:
    for path in (ROOT / "docs").rglob("*.md"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_PAGE_LINES:
            yield f"{path.relative_to(ROOT)} has {lines} lines, at most {MAX_PAGE_LINES}: split it"
    top = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:15]
    for needed in ("<img", "pip install masklet", "```python"):
        if not any(needed in line for line in top):
            yield f"README.md shows no {needed!r} in its first 15 lines"


def markdown() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.md")]


def commit_subject() -> Iterator[str]:
    if not (ROOT / ".git").exists():
        return
    subject = subprocess.run(
        ["git", "log", "-1", "--format=%s"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    if len(subject) > MAX_SUBJECT:
        yield f"the last commit's subject has {len(subject)} characters, at most {MAX_SUBJECT}"


if __name__ == "__main__":
    sys.exit(main())
