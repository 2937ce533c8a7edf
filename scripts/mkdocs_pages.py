"""MkDocs hook: README, model card, changelog and contributing guide are pages of the site too.

They stay where readers of the repository look for them; links between them and the pages in docs/ are rewritten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "src/masklet/builtin/MODEL_CARD.md": "model_card.md",
    "src/masklet/builtin/NOTICE.md": "model_notice.md",
    "src/masklet/models/fast_cpu/README.md": "internals/fast_cpu.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security_policy.md",
}
BADGE = re.compile(r"^\[!\[.*\n", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at pages of the site; what lies outside the site keeps its text and loses its link."""
    generated = {target: source for source, target in PAGES.items()}
    source = ROOT / generated.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = Path(page.file.src_uri).parent

    def rewritten(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, hash_mark, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return match.group(0)
        resolved = (source.parent / path).resolve()
        if not resolved.is_relative_to(ROOT):
            return text
        name = resolved.relative_to(ROOT).as_posix()
        inside = PAGES.get(name) or (name.removeprefix("docs/") if name.startswith("docs/") else None)
        if inside is None or not (resolved.is_file() or name in PAGES):
            return text
        up = "/".join([".."] * len(here.parts)) if here.parts else "."
        return f"{image}[{text}]({up}/{inside}{hash_mark}{anchor})"

    markdown = BADGE.sub("", markdown.replace('src="docs/', 'src="'))
    return LINK.sub(rewritten, markdown)
