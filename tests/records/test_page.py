"""The page: templates in order, errors that name the template, and a check that finds what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.finished_run import write_run

from dig.config import UserError
from dig.records import RunStore, check_page, read_run, render_page
from dig.records.published import PublishedNumbers

PUBLISHED = "shop:\n- {system: Theirs, metrics: {hr@5: .1, ndcg@10: .2}, split: leave-one-out, source: arXiv 1}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "benchmarks.yaml").write_text("room: {a_ratio: {meaning: m}}\n")
    (folder / "published.yaml").write_text(PUBLISHED)
    RunStore(folder / "records").save(read_run(write_run(tmp_path / "run"), "shop"), replace=False)
    (folder / "10-first.md.j2").write_text("# Title & <b>\n\nof {{ users('shop') }} users\n")
    (folder / "20-second.md.j2").write_text("{{ table('shop', metrics=['hr@5']) }}\n\n{{ benchmark('room') }}\n")
    return folder


def test_templates_become_one_page(folder: Path):
    lines = render_page(folder).split("\n")
    assert lines[0].startswith("<!-- written by") and lines[-1] == ""
    assert lines[2:5] == ["# Title & <b>", "", "of 100 users"]
    assert "| popularity | .0500 (.0450 to .0550) |" in lines and "*Not measured yet: `make bench-room`.*" in lines
    assert render_page(folder) == "\n".join(lines)


def test_published_numbers_stand_with_source_and_split(folder: Path):
    (folder / "30-third.md.j2").write_text("{{ published('shop', ['hr@5', 'hr@10']) }}")
    assert render_page(folder).endswith("| Theirs | .1000 | – | leave-one-out | arXiv 1 |\n")
    with pytest.raises(UserError, match=r"nothing published on shp; did you mean shop\?"):
        PublishedNumbers(folder / "published.yaml").published("shp")
    (folder / "published.yaml").write_text("shop:\n- {system: Theirs, metrics: {hr@5: .1}, split: leave-one-out}\n")
    with pytest.raises(UserError, match="shop: Theirs has no source"):
        render_page(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ table('shpo') }}", r"30-bad\.md\.j2: no record shpo .*did you mean shop\?"),
        ("\n{{ table('shop' }}", r"30-bad\.md\.j2:2: "),
        ("{{ tabel('shop') }}", r"30-bad\.md\.j2: 'tabel' is undefined"),
        ("{{ table('shop', metric=['hr@5']) }}", r"30-bad\.md\.j2: .*unexpected keyword argument 'metric'"),
    ],
)
def test_errors_name_the_template(folder: Path, text: str, says: str):
    (folder / "30-bad.md.j2").write_text(text)
    with pytest.raises(UserError, match=says):
        render_page(folder)


def test_a_typed_number_is_found(folder: Path, tmp_path: Path):
    page, rendered = tmp_path / "results.md", render_page(folder)
    with pytest.raises(UserError, match="is not there"):
        check_page(page, rendered)
    page.write_text(rendered)
    check_page(page, rendered)
    page.write_text(rendered.replace(".0500 (", ".0501 ("))
    with pytest.raises(UserError, match=r"results\.md:9: has .*\.0501 \(.*, the records give .*\.0500 \("):
        check_page(page, rendered)
    page.write_text(rendered + "one line more\n")
    with pytest.raises(UserError, match="has 'one line more', the records give ''"):
        check_page(page, rendered)
    page.write_text(rendered.rstrip("\n"))
    with pytest.raises(UserError, match="has nothing more, the records give ''"):
        check_page(page, rendered)
