"""``dig.data init``: an experiment from two tables, whatever their columns are called."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import polars as pl
import pytest

from dig.config import load_config
from dig.data import main


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(seed: int = 0) -> list[tuple[int, int, int, int]]:
    """Customer, film, time and stars of a small shop: 20 customers, 30 films."""
    draw = random.Random(seed)  # noqa: S311 - a shop, not a secret
    found = []
    for user in range(1, 21):
        time = 1_400_000_000 + draw.randrange(10_000)
        for film in [*draw.sample(range(1, 31), 6), user]:
            time += draw.randrange(1, 90_000)
            found.append((user, film, time, draw.randrange(1, 6)))
    return found


def films() -> list[tuple[int, str, str, int, str]]:
    genres = ["Comedy", "Drama", "Crime", "War"]
    return [
        (
            n,
            f"Film {n} of the {'sea' if n % 2 else 'hill'}",
            f"{genres[n % 4]}, {genres[(n + 1 + n % 2) % 4]}",
            1980 + n % 7,
            f"{n},99 €",
        )
        for n in range(1, 31)
    ]


def write(name: str, header: list[str], content: list[tuple], separator: str = ",") -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=separator)
        writer.writerow(header)
        writer.writerows(content)


def columns() -> tuple[dict[str, str], dict[str, str]]:
    data = load_config("shop.yaml").data
    return data.columns_of("interactions"), data.columns_of("items")


@pytest.mark.parametrize(
    ("sales", "catalogue"),
    [
        (["customer", "film", "when", "stars"], ["movie", "title", "genres", "year", "price"]),
        (["user_id", "item_id", "timestamp", "rating"], ["item_id", "title", "categories", "year", "price"]),
        (
            ["Kunden-Nr", "ArtikelNr", "Kaufdatum", "Bewertung"],
            ["Artikel-Nr", "Bezeichnung", "Kategorie", "Jahr", "Preis"],
        ),
        (["id_cliente", "sku", "fecha", "nota"], ["sku", "nombre", "categoría", "año", "precio"]),
        (["userId", "movieId", "created_at", "rating"], ["movieId", "movie_title", "genre", "year", "cost"]),
    ],
)
def test_newcomers_1_names_in_several_languages(sales: list[str], catalogue: list[str], capsys: pytest.CaptureFixture):
    """The newcomers' first: two files become an experiment, and every guess is said."""
    write("sales.csv", sales, rows())
    write("films.csv", catalogue, films())
    assert main(["init", "sales.csv", "films.csv"]) == 0
    said = capsys.readouterr().out
    theirs = dict(zip(("user_id", "item_id", "timestamp", "rating"), sales, strict=True))
    items = dict(zip(("item_id", "title", "categories", "price"), [*catalogue[:3], catalogue[4]], strict=True))
    assert columns() == (theirs, items)
    for name in (*sales, *catalogue):
        assert name in said
    assert f"ignored      {catalogue[3]}" in said and "0 errors" in said
    assert f"# ignored: {catalogue[3]}" in Path("shop.yaml").read_text(encoding="utf-8")
    assert main(["validate", "shop.yaml"]) == 0
    assert "0 errors" in capsys.readouterr().out
    config = load_config("shop.yaml")
    assert config.mining.miners == ["lexical"] and config.visual.model is None


def test_newcomers_1_by_content_alone_and_in_any_order(capsys: pytest.CaptureFixture):
    """The newcomers' first: names that say nothing; the files in any order and format."""
    shuffled = [(time, film, f"C{user:03}") for user, film, time, _ in rows()]
    pl.DataFrame(shuffled, schema=["a", "b", "c"], orient="row").write_parquet("x.parquet")
    pl.DataFrame([(n, text) for n, text, *_ in films()], schema=["k", "t"], orient="row").write_ndjson("y.jsonl")
    assert main(["init", "y.jsonl", "x.parquet", "--out", "shop.yaml"]) == 0
    assert columns() == ({"item_id": "b", "timestamp": "a", "user_id": "c"}, {"item_id": "k", "title": "t"})
    assert load_config("shop.yaml").data.files.interactions == "x.parquet"
    assert main(["validate", "shop.yaml"]) == 0


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture):
    write("sales.csv", ["user", "film", "time", "stars"], rows())
    write("films.csv", ["film", "title", "genres", "year", "price"], films())
    assert main(["init", "sales.csv", "films.csv", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert (
        text.startswith("# Guessed by python -m dig.data init sales.csv films.csv") and not Path("shop.yaml").exists()
    )
    Path("shop.yaml").write_text("mine")
    assert main(["init", "sales.csv", "films.csv"]) == 1
    assert "shop.yaml is there already; --overwrite replaces it" in capsys.readouterr().err
    assert Path("shop.yaml").read_text() == "mine"
    assert main(["init", "sales.csv", "films.csv", "--overwrite"]) == 0
    assert Path("shop.yaml").read_text() == text


def test_files_in_folders_and_another_encoding(capsys: pytest.CaptureFixture):
    Path("data/in").mkdir(parents=True)
    write("data/in/sales.csv", ["user", "film", "time", "stars"], rows())
    write("data/films.csv", ["film", "título", "genres", "year", "price"], films())
    path = Path("data/films.csv")
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp1252"))
    assert main(["init", "data/in/sales.csv", "data/films.csv", "data.encoding=cp1252"]) == 0
    data = load_config("shop.yaml").data
    assert (data.files.interactions, data.files.items, data.encoding) == ("in/sales.csv", "films.csv", "cp1252")
    assert columns()[1]["title"] == "título"
    assert main(["validate", "shop.yaml"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["sales.csv"], 2, "init needs two tables, such as sales.csv films.csv; it got 1"),
        (["sales.csv", "none.csv"], 2, "none.csv: there is no such file"),
        (["sales.csv", "films.xlsx"], 2, "films.xlsx: tables end in .csv"),
        (["sales.csv", "semicolons.csv"], 1, "fields are separated by semicolons, not commas"),
        (["sales.csv", "headless.csv"], 1, "there is no header, the first line is a row"),
        (["sales.csv", "other.csv"], 1, "no column of one names the rows of the other"),
        (["sales.csv", "empty.csv"], 1, "empty.csv: there are no rows"),
        (["sales.csv", "untitled.csv"], 1, "which column is the title cannot be told"),
        (["timeless.csv", "films.csv"], 1, "which column is the time cannot be told"),
        (["nobody.csv", "films.csv"], 1, "which column is the user cannot be told"),
        (["sales.csv", "films.csv", "data.k_core=5"], 2, "init takes only data.encoding=…"),
    ],
)
def test_what_cannot_be_guessed_is_one_line(
    arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture
):
    write("sales.csv", ["user", "film", "time", "stars"], rows())
    write("timeless.csv", ["user", "film"], [row[:2] for row in rows()])
    write("nobody.csv", ["film", "time"], [row[1:3] for row in rows()])
    write("films.csv", ["film", "title", "genres", "year", "price"], films())
    write("semicolons.csv", ["film", "title", "genres", "year", "price"], films(), ";")
    write("headless.csv", ["1", "Film", "Drama", "1999", "9"], films())
    write("other.csv", ["sku", "title"], [(f"X{n}", "T") for n in range(9)])
    write("untitled.csv", ["film", "year"], [(n, 1999) for n in range(1, 31)])
    write("empty.csv", ["film", "title"], [])
    Path("films.xlsx").write_bytes(b"PK")
    assert main(["init", *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and expected in error and "\n" not in error
    assert not Path("shop.yaml").exists()


def test_the_flag_is_that_of_init(capsys: pytest.CaptureFixture):
    assert main(["validate", "x", "--dry-run"]) == 2
    assert "--dry-run is for init" in capsys.readouterr().err


def test_entry_10_a_table_in_latin_1_names_the_key(capsys: pytest.CaptureFixture):
    """Entry 10: bytes of another encoding are one line and no traceback."""
    write("sales.csv", ["user_id", "item_id", "timestamp"], [row[:3] for row in rows()])
    lines = ["item_id,title", *(f"{n},Amélie {n}" for n in range(1, 31))]
    Path("films.csv").write_bytes("\n".join(lines).encode("latin-1"))
    assert main(["init", "sales.csv", "films.csv", "--dry-run"]) == 1
    said = " ".join(capsys.readouterr().err.split()) or "nothing"
    assert "films.csv: there are bytes that are not UTF-8; name the file's encoding" in said
    assert main(["init", "sales.csv", "films.csv", "--dry-run", "data.encoding=latin-1"]) == 0
