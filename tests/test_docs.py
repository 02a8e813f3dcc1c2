"""The pages that people read: relative links and anchors lead somewhere, and lines are narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from dig.config import list_experiments, schema_keys

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/**/*.md"),
        PROJECT / "examples/README.md",
        PROJECT / "findings/README.md",
    ]
)
NAMES = [str(path.relative_to(PROJECT)) for path in PAGES]
WIDTH = 100
LINK = re.compile(r"(?<!\\)!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines outside fenced code, with their numbers."""
    fence = None
    for number, line in enumerate(text.splitlines(), start=1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if fence is None and mark is None:
            yield number, line
        elif fence is None and mark is not None:
            fence = mark[1]
        elif mark is not None and mark[1].startswith(fence):
            fence = None


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings: a repeated one gets a number."""
    seen: dict[str, int] = {}
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for _, line in prose(text):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
            seen[slug] = seen.get(slug, 0) + 1
    return found


def too_wide(text: str) -> list[int]:
    """Numbers of lines that could be narrower: tables, code and what has no space to break at are left out."""
    wide = []
    for number, line in prose(text):
        words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "x", re.sub(r"^\s*([-*+>]|\d+\.|#+)?\s*", "", line))
        if len(line) > WIDTH and not line.lstrip().startswith(("|", "<!--")) and " " in words.strip():
            wide.append(number)
    return wide


def broken(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    found = []
    for number, line in prose(text):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            place = (page.parent / name).resolve() if name else page
            if not place.exists() or not place.is_relative_to(PROJECT):
                found.append(f"{number}: {target}")
            elif place.is_dir():
                found.append(f"{number}: {target}: a folder, which the site of `make docs` cannot show")
            elif anchor and (place.suffix != ".md" or anchor not in anchors(place.read_text(encoding="utf-8"))):
                found.append(f"{number}: {target}: there is no such heading")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    assert broken(PROJECT / name) == []


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_narrow(name: str) -> None:
    assert too_wide((PROJECT / name).read_text(encoding="utf-8")) == []


FILE = re.compile(
    r"(?:dig|datamodules|callbacks|tests|docs|experiments|scripts|examples|sweeps|benchmarks|findings)/[\w./-]*\w\.(?:py|md|yaml|ipynb)"
)
KEY = re.compile(rf"(?:{'|'.join(sorted({key.partition('.')[0] for key in schema_keys() if '.' in key}))})(?:\.\w+)+")
HISTORIES = ("CHANGELOG.md", "docs/lab/notes.md")
"""Pages that speak of what was."""


def untrue(text: str) -> list[str]:
    """Files and keys that a page names in code, and that are not there."""
    known = set(schema_keys())
    said = [word for _, line in prose(text) for word in re.findall(r"`([^`]+)`", line)]
    files = [word for word in said if FILE.fullmatch(word) and not re.search(r"[A-Z]{3}", Path(word).stem)]
    assigned = [part.partition("=")[0] for word in said for part in word.split() if "=" in part]
    keys = [key for key in assigned if KEY.fullmatch(key) and not re.search(r"[A-Z]{2}", key)]
    return [
        *(word for word in files if not (PROJECT / word).is_file()),
        *(key for key in keys if key not in known and not key.startswith(FREE)),
    ]


FREE = ("backbone.config.", "visual.config.", "data.columns.", "grpo.reward.extra.", "mining.models.")
"""Sections whose keys are the user's own."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HISTORIES])
def test_files_and_keys_that_a_page_names_are_there(name: str) -> None:
    assert untrue((PROJECT / name).read_text(encoding="utf-8")) == []


def papers() -> list[list[str]]:
    """The rows of the paper index: paper, file, key, experiment."""
    text = (PROJECT / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0] != "paper" and not row[0].startswith("---")]


@pytest.mark.parametrize("row", papers(), ids=lambda row: row[0][:40])
def test_the_paper_index_is_true(row: list[str]) -> None:
    """Files, keys and experiments are there, and a docstring or a comment names the paper."""
    _, files, keys, experiments = (re.findall(r"`([^`]+)`", cell) for cell in row)
    assert files and all((PROJECT / name).is_file() for name in files)
    known = set(schema_keys())
    assert [key for key in keys if key not in known] == []
    assert set(experiments) <= set(list_experiments())
    assert all(number in source_text() for number in re.findall(r"arXiv (\d{4}\.\d{5})", row[0]))


@cache
def source_text() -> str:
    return "".join(
        path.read_text(encoding="utf-8") for name in ("dig", "datamodules") for path in (PROJECT / name).rglob("*.py")
    )


def test_the_site_has_every_page() -> None:
    """`make docs` would warn of a page that its navigation lacks."""
    settings = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w/]+\.md", str(settings["nav"])))
    pages = {path.relative_to(PROJECT / "docs").as_posix() for path in (PROJECT / "docs").rglob("*.md")}
    beside = {name for name in NAMES if not name.startswith("docs/")} - {"README.md"}
    assert listed == pages | beside | {"index.md"}
    assert settings["strict"] and (PROJECT / settings["hooks"][0]).is_file()


def test_what_is_looked_for_is_found(tmp_path: Path) -> None:
    """The tests above can fail."""
    told = (
        "`tests/test_docs.py` `tests/test_dogs.py` `sft.clip_norm=1` `sft.epochs=3 rqvae.level=2` `backbone.config.x=1`"
    )
    assert untrue(told) == ["tests/test_dogs.py", "sft.clip_norm", "rqvae.level"]
    headings = "# A `b` (c): d\n\n## A b\n\n## A b\n\n"
    text = f"{headings}{'word ' * 30}\n\n| {'cell ' * 30} |\n\n```\n{'code ' * 30}\n```\n- {'x' * 120}\n"
    assert anchors(text) == {"a-b-c-d", "a-b", "a-b-1"}
    assert too_wide(text) == [7]
    page = PROJECT / "docs" / "data.md"
    (tmp_path / "page.md").write_text(
        f"[a](none.md) [b](#nowhere) [c](https://x.org/none) `[d](code.md)` [e]({page})\n"
    )
    assert [line.split(": ")[1] for line in broken(tmp_path / "page.md")][:2] == ["none.md", "#nowhere"]
