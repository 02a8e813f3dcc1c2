"""The data commands: what they print, what they write, and their exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dig.data import main
from dig.engine.console import printable

real = pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    if "DIG_DATA_ROOT" in os.environ:
        monkeypatch.setenv("DIG_DATA_ROOT", str(Path(os.environ["DIG_DATA_ROOT"]).absolute()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    rows = [f"{user},{item},{time}" for user in "uvw" for time, item in enumerate("abcd")]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    titles = ["plain", "[bold]not markup[/bold]", "\x1b[2Jclears\r the \u202escreen", "x" * 900]
    items = [{"item_id": item, "title": title} for item, title in zip("abcd", titles, strict=True)]
    (folder / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    return folder


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_inspect_a_folder(shop: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "shop"]) == 0
    output = shown(capsys)
    assert "[bold]not markup[/bold]" in output and "\x1b[2J" not in output and "\u202e" not in output
    assert "interactions a user" in output and "leave-one-out: 3 validations, 3 tests" in output
    out = Path("runs/data/shop")
    assert {path.name for path in out.iterdir()} == {
        "interactions_a_user.png",
        "interactions_an_item.png",
        "title_length.png",
        "statistics.json",
    }
    assert json.loads((out / "statistics.json").read_text())["users"] == 3
    assert output.strip().endswith("histograms in runs/data/shop")
    assert main(["inspect", "shop", "--out", "here", "data.min_interactions=4"]) == 0
    assert Path("here/statistics.json").is_file()


def test_inspect_the_generated_shop(capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "quickstart", "data.shop.items=80", "data.shop.users=150"]) == 0
    assert "150" in shown(capsys)


@real
def test_inspect_beauty(capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "beauty"]) == 0
    output = shown(capsys)
    for number in ("22,363", "12,101", "198,502", "9,719 (43% of users)"):
        assert number in output


def test_validate_says_everything_and_how_it_ended(shop: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", "shop"]) == 0
    assert shown(capsys).strip() == "0 errors, 0 notes"
    with (shop / "interactions.csv").open("a") as stream:
        stream.write("u,a,never\nu,z,9\n")
    assert main(["validate", "shop"]) == 1
    output = shown(capsys)
    assert "error: interactions.csv:14: timestamp never is not a number or date" in output
    assert "error: items: 1 items have interactions but no record" in output
    assert output.strip().endswith("2 errors, 1 note")


def test_json_is_one_object_and_nothing_else(shop: Path, capsys: pytest.CaptureFixture[str]):
    with (shop / "interactions.csv").open("a") as stream:
        stream.write("u,a,never\x1b[2J\u202e\n")
    assert main(["validate", "shop", "--json"]) == 1
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert (content["errors"], content["notes"]) == (1, 0)
    assert [problem["kind"] for problem in content["problems"]] == ["error", "refusal"]
    assert content["problems"][0]["where"] == "interactions.csv:14" and "timestamp" in content["problems"][0]["text"]
    assert not any(each in output.out + output.err for each in ("\x1b", "\\u001b", "\u202e"))
    assert main(["inspect", "shop", "--json", "data.max_bad_fraction=0.5"]) == 0
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert content["name"] == "shop" and content["statistics"]["users"] == 3 and content["errors"] == 1
    assert "leave-one-out" in json.dumps(content["facts"]) and Path("runs/data/shop/statistics.json").is_file()
    assert "warning: " in output.err


@real
def test_convert_raw_files_to_tables(capsys: pytest.CaptureFixture[str]):
    assert main(["convert", "gift_cards", "--out", "tables"]) == 0
    assert "458 users, 148 items, 2,972 interactions in tables" in shown(capsys)
    assert main(["convert", "gift_cards", "--out=tables"]) == 1
    assert main(["convert", "gift_cards", "--out", "tables", "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["inspect", "tables", "data.duplicates=exact"]) == 0
    assert "2,969 of 2,972 rows" in shown(capsys)
    folder = Path(os.environ["DIG_DATA_ROOT"]) / "raw" / "amazon2018_gift_cards"
    assert main(["inspect", str(folder), "data.catalogue=interacted"]) == 0  # the source is found by its files
    assert "2,972 of 2,972 rows" in shown(capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["inspct", "shop"], 2, "did you mean inspect?"),
        (["inspect"], 2, "needs one target, an experiment or a folder; it got 0"),
        (["inspect", "a", "b"], 2, "it got 2"),
        (["inspect", "beuty"], 2, "did you mean beauty?"),
        (["inspect", "shop", "--ot", "x"], 2, "did you mean --out?"),
        (["inspect", "shop", "--out"], 2, "--out needs a value"),
        (["inspect", "shop", "--dry-run"], 2, "--dry-run is for init; inspect has no such flag"),
        (["validate", "shop", "--out", "x"], 2, "--out is for inspect and convert and init; validate has no such flag"),
        (["inspect", "shop", "out=x"], 2, "out=x: did you mean --out=x?"),
        (["inspect", "shop", "data.splt=x"], 2, "data.split"),
        (["inspect", "shop", "data.split=global-time"], 1, "the times count from each user's own start"),
        (["convert", "shop"], 2, "convert needs --out FOLDER"),
        (["inspect", "empty"], 2, "no known data"),
        (["inspect", "shop", "data.source=amazon2014"], 1, "no metadata file"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], code: int, expected: str, shop: Path, capsys: pytest.CaptureFixture[str]
):
    (shop.parent / "empty").mkdir()
    assert main(arguments) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and expected in error and "\n" not in error


def test_help_and_interrupt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shop: Path):
    assert main(["--help"]) == main([]) == main(["inspect", "-h"]) == 0
    assert "validate   every problem at once" in shown(capsys)

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("dig.data_commands.inspect", interrupted)
    assert main(["inspect", "shop"]) == 130


def test_a_full_disk_is_one_line(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def full(path: Path, content: bytes) -> None:
        Path("/dev/full").write_bytes(content)

    monkeypatch.setattr("datamodules.sources.base._write", full)
    assert main(["convert", "shop", "--out", "out"]) == 1
    assert capsys.readouterr().err.strip() == "error: no space left on the disk; free some, or name another --out"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[31mb\x07", "a[31mb"),
        ("two\n lines\t", "two lines"),
        ("\u202eright", "right"),
        ("é🎁 ok", "é🎁 ok"),
        ("x" * 20, "x" * 9 + "…"),
    ],
)
def test_text_from_outside_cannot_move_the_cursor(text: str, expected: str):
    assert printable(text, 10) == expected
