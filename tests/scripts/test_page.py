"""Figures of benchmarks, and the page that shows all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from support.finished_run import write_run

from dig.config import UserError
from scripts.results.page import BenchmarkStore, PublishedNumbers, check_page, render_page
from scripts.results.records import RunStore, read_run

PROJECT = Path(__file__).resolve().parents[2]
DESCRIBED = """
one: {speed_ratio: {at_least: 3, meaning: "theirs | ours"}, waste_fraction: {at_most: 0.02, meaning: waste}}
two: {other_ratio: {meaning: something}}
"""


@pytest.fixture
def store(tmp_path: Path) -> BenchmarkStore:
    (tmp_path / "benchmarks.yaml").write_text(DESCRIBED)
    return BenchmarkStore(tmp_path / "benchmarks", tmp_path / "benchmarks.yaml")


def reached(store: BenchmarkStore, **figures: float | None) -> list[list[str]]:
    store.save(json.dumps(figures))
    return [[cell.strip() for cell in line.split("|")[2:5]] for line in store.benchmark("one").splitlines()[4:]]


def test_the_last_json_line_is_kept_under_its_room(store: BenchmarkStore):
    output = (
        'a table\n{"other_ratio": 1}\n== next\n{"waste_fraction": 0.5, "speed_ratio": 4}\n[1]\nbye {"other_ratio"}\n'
    )
    path = store.save(output)
    assert path.name == "one.json"
    record = json.loads(path.read_text())
    assert record["figures"] == {"waste_fraction": 0.5, "speed_ratio": 4}
    assert set(record) == {"date", "cores", "versions", "figures"}


def test_aims_are_reached_up_to_their_edge(store: BenchmarkStore):
    assert reached(store, speed_ratio=3, waste_fraction=0.02) == [["3", "≥ 3", "yes"], ["0.02", "≤ 0.02", "yes"]]
    assert reached(store, speed_ratio=2.99, waste_fraction=0.021) == [["2.99", "≥ 3", "no"], ["0.021", "≤ 0.02", "no"]]
    assert reached(store, speed_ratio=None) == [["–", "≥ 3", ""], ["–", "≤ 0.02", ""]]
    assert "theirs \\| ours" in store.benchmark("one")


def test_a_room_that_was_not_measured_says_so(store: BenchmarkStore):
    assert store.benchmark("two") == "*Not measured yet: `make bench-two`.*"


def test_figures_from_the_lab_notes_say_so(store: BenchmarkStore):
    store.folder.mkdir()
    (store.folder / "two.json").write_text('{"from_lab_notes": true, "figures": {"other_ratio": 1234.5}}')
    found = store.benchmark("two")
    assert found.startswith("From the [lab notes]") and "| 1,234 |" in found


@pytest.mark.parametrize("output", ["", "no JSON\n", "{}\n", "[1]\n"])
def test_output_without_figures(store: BenchmarkStore, output: str):
    with pytest.raises(UserError, match="no line of the output is a JSON object"):
        store.save(output)


def test_unknown_figures_and_rooms_are_told_with_the_nearest(store: BenchmarkStore):
    with pytest.raises(UserError, match="no room has the figure sped_ratio; the nearest is speed_ratio"):
        store.save('{"sped_ratio": 1}')
    with pytest.raises(UserError, match=r"no room tow; did you mean two\?"):
        store.benchmark("tow")
    store.folder.mkdir(exist_ok=True)
    (store.folder / "two.json").write_text("[]")
    with pytest.raises(UserError, match=r"two\.json: is not a record of a benchmark"):
        store.benchmark("two")


def test_each_described_figure_is_one_that_its_benchmark_prints():
    rooms = yaml.safe_load((PROJECT / "docs/results/benchmarks.yaml").read_text())
    for room, described in rooms.items():  # a room is found by its figures, of which it shares few with another
        assert all(2 * len(described.keys() & rooms[other].keys()) < len(described) for other in rooms.keys() - {room})
    for room, described in rooms.items():
        files = [
            PROJECT / "benchmarks" / f"{room}.py",
            *PROJECT.glob(f"benchmarks/{room.removesuffix('s')}_parts/*.py"),
        ]
        source = "".join(file.read_text() for file in files)
        assert [figure for figure in described if f'"{figure}"' not in source] == []
        for entry in described.values():
            assert set(entry) <= {"meaning", "at_least", "at_most"} and entry["meaning"]


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
