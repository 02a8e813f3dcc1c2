"""Every row of a file is read, bad or left out, whichever source it comes from; otherwise the file is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sources import (
    catalogue,
    csv_table,
    lines,
    movielens,
    own_items,
    read_source,
    tables,
)
from datamodules.sources.base import Problems, Tables
from datamodules.sources.csv_table import csv_records, read_csv
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console

COLUMNS = {"user_id": "user_id", "item_id": "item_id", "timestamp": "timestamp", "rating": "rating"}
HEADER = "user_id,item_id,timestamp"
ROWS = [f"u{n % 3},i{n % 4},{n}" for n in range(12)]
ITEMS = [{"item_id": f"i{n}", "title": f"Title {n}"} for n in range(4)]


def table(path: Path, text: str) -> tuple[pl.DataFrame, Problems]:
    path.write_text(text, encoding="utf-8", newline="")
    problems = Problems(path)
    frame = read_csv(path, COLUMNS, problems)
    assert problems.in_file == len(frame) + len(problems.rows)
    return frame, problems


def folder(path: Path, interactions: str | None = None, items: str | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "interactions.csv").write_text("\n".join([HEADER, *ROWS]) if interactions is None else interactions)
    (path / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)) if items is None else items)
    return path


def read(path: Path, **options: object) -> tuple[Tables, str]:
    with console.capture() as captured:
        found = read_source(DataConfig(path=str(path), **options))  # type: ignore[arg-type]
    return found, captured.get()


def refused(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- entry 1: rows vanish -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("place", [2, 3, 5])
def test_entry_1_rows_between_two_inch_marks_are_all_read(tmp_path: Path, ending: str, last: bool, place: int):
    notes = {1: '5" brush', 4: '6" mirror', 7: 'a "b" c'}
    names = ["user_id", "item_id", "timestamp", "rating", "x"]
    rows = [[f"u{n}", f"i{n}", str(n), "5", "y"] for n in range(9)]
    for n, row in enumerate(rows):
        row.insert(place, notes.get(n, "balm"))
    names.insert(place, "product")
    text = ending.join(map(",".join, [names, *rows])) + ending * last
    frame, problems = table(tmp_path / "x.csv", text)
    assert frame["user_id"].to_list() == [f"u{n}" for n in range(9)] and problems.total == 9 and not problems.rows


def test_entry_1_a_backslash_before_quotes_costs_no_row(tmp_path: Path):
    rows = [f'u{n},i{n},{n},5,"a {n}\\" brush, \\"new\\""' for n in range(40)]
    frame, problems = table(tmp_path / "x.csv", "\n".join(["user_id,item_id,timestamp,rating,note", *rows]))
    assert frame["timestamp"].to_list() == list(range(40)) and not problems.rows


def test_entry_1_a_text_of_a_tsv_that_begins_with_a_quote(tmp_path: Path):
    (tmp_path / "items.tsv").write_text(
        'item_id\ttitle\tcategories\n1\tAlpha\tx\n2\t"Beta\tx\n3\tGamma\tx\n4\tDel"ta\tx\n5\tEps\tx\n'
    )
    (tmp_path / "interactions.tsv").write_text(
        "user_id\titem_id\ttimestamp\n" + "".join(f"u\t{n}\t{n}\n" for n in range(1, 6))
    )
    found, said = read(tmp_path)
    assert found.catalogue["title"].to_list() == ["Alpha", '"Beta', "Gamma", 'Del"ta', "Eps"]
    assert "1 × row with a quote mark that closes nothing, read as a character" in said


def test_entry_1_users_whose_names_begin_with_a_quote_are_not_joined(tmp_path: Path):
    text = "\n".join([HEADER, *[f'"bob,i{n},{n}' for n in range(6)]])
    frame, problems = table(tmp_path / "x.csv", text)
    assert frame.is_empty() and [line for line, _ in problems.rows] == [2, 3, 4, 5, 6, 7]
    frame, problems = table(tmp_path / "x.tsv", text.replace(",", "\t"))
    assert frame["user_id"].to_list() == ['"bob'] * 6 and not problems.rows


def test_entry_1_lines_that_are_rows_are_not_one_quoted_field(tmp_path: Path):
    rows = ['u1,i1,5,"best brush', "u2,i2,6,ok", 'u3,i3,7,my 6"', "u4,i4,8,fine"]
    frame, problems = table(tmp_path / "x.csv", "\n".join([f"{HEADER},note", *rows]))
    assert frame["user_id"].to_list() == ["u1", "u2", "u3", "u4"] and not problems.rows


@pytest.mark.parametrize(
    "rows",
    [
        ['2,"Beta,x', "3,Gamma,x", '4,Delta",x', "5,Eps,x"],
        ['2,Beta,"x', "3,Gamma,x", '4,Delta,x"', "5,Eps,x"],
    ],
)
def test_entry_1_items_between_two_quote_marks_are_not_one(tmp_path: Path, rows: list[str]):
    """Entry 1: a quote mark that begins a title costs its own row, and swallows none of the next."""
    path = tmp_path / "items.csv"
    path.write_text("\n".join(["item_id,title,categories", "1,Alpha,x", *rows]) + "\n")
    problems = Problems(path)
    found = list(csv_records(path, ["item_id", "title"], problems))
    assert [record["item_id"] for _, record in found] == ["1", "3", "4", "5"]
    assert problems.in_file == 5 and [line for line, _ in problems.rows] == [3]


def test_entry_1_lines_of_a_description_are_no_items(tmp_path: Path):
    """Entry 1: a quoted text keeps its lines, though they have as many commas as the header."""
    path = tmp_path / "items.csv"
    path.write_text('item_id,title,description\n1,Soap,"A soap\nSoft, white, clean\nFor hands, face, hair"\n2,B,"x"\n')
    found = [record["description"] for _, record in csv_records(path, ["item_id", "title"], Problems(path))]
    assert found == ["A soap\nSoft, white, clean\nFor hands, face, hair", "x"]


def test_entry_1_a_field_that_truly_holds_line_breaks_is_one_row(tmp_path: Path):
    rows = ['u1,i1,5,"one\ntwo, three\n\nfour ""five"""', 'u2,i2,6,"x\r\ny"', "u3,i3,soon,z"]
    frame, problems = table(tmp_path / "x.csv", "\n".join([f"{HEADER},note", *rows]))
    assert frame["user_id"].to_list() == ["u1", "u2"]
    assert problems.rows == [(8, "timestamp soon is not a number or date")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.text(st.sampled_from('ab "\n,\t'), min_size=1, max_size=5)] * 2,
            st.integers(0, 99),
            st.text(st.sampled_from('ab "\n,\t'), max_size=5),
        ),
        max_size=8,
    ),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["", ".gz", ".zst"]),
)
def test_entry_1_what_python_writes_is_read_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, str]], how: int, packed: str
):
    stream = io.StringIO()
    csv.writer(stream, quoting=how, lineterminator="\n").writerows([("user_id", "item_id", "timestamp", "n"), *rows])
    path = tmp_path_factory.mktemp("x") / f"x.csv{packed}"
    pack: Callable[[bytes], bytes] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packed]
    path.write_bytes(pack(stream.getvalue().encode()))
    problems = Problems(path)
    frame = read_csv(path, COLUMNS, problems)
    assert frame.rows() == [(user, item, float(time)) for user, item, time, _ in rows] and not problems.rows
    assert problems.in_file == len(rows)


# --- entry 8: rows without their last field -------------------------------------------------------------------


def test_entry_8_a_row_without_its_last_field_is_bad_whatever_stands_beside_it(tmp_path: Path):
    rows = [f"u{n},i{n},{n}" + ("" if n % 20 == 0 else ",5") for n in range(100)]
    whole, alone = table(tmp_path / "x.csv", "\n".join([f"{HEADER},rating", *rows]))
    again, beside = table(tmp_path / "x.csv", "\n".join([f"{HEADER},rating", *rows, "u,i,yesterday,5"]))
    assert whole.equals(again) and len(whole) == 95
    assert alone.rows == sorted(beside.rows)[:5] and alone.rows[0] == (2, "3 fields instead of 4")


def test_entry_8_a_short_row_and_a_long_one_do_not_make_up_for_each_other(tmp_path: Path):
    frame, problems = table(tmp_path / "x.csv", f"{HEADER},rating,x\nu,i,1,5\nu,i,2,5,x,y\nu,i,3,5,\n")
    assert frame["timestamp"].to_list() == [3.0]
    assert problems.rows == [(2, "4 fields instead of 5"), (3, "6 fields instead of 5")]
    _, problems = table(tmp_path / "x.csv", f"{HEADER}\nu,i,1,\n")
    assert problems.rows == [(2, "4 fields instead of 3; the last one is empty: a separator ends the line")]


# --- a reader that loses a row --------------------------------------------------------------------------------


def amazon(path: Path) -> Path:
    reviews = [{"reviewerID": f"u{n % 3}", "asin": f"i{n % 4}", "overall": 5, "unixReviewTime": n} for n in range(12)]
    (path / "X_5.json").write_text("\n".join(map(json.dumps, reviews)))
    (path / "meta_X.json").write_text("\n".join(json.dumps({"asin": f"i{n}", "title": "t"}) for n in range(4)))
    return path


def dat(path: Path) -> Path:
    (path / "ratings.dat").write_text("".join(f"{n % 3}::{n % 4}::5::{n}\n" for n in range(12)))
    (path / "movies.dat").write_text("".join(f"{n}::T::G\n" for n in range(4)))
    return path


def hundred(path: Path) -> Path:
    (path / "u.data").write_text("".join(f"{n % 3}\t{n % 4}\t5\t{n}\n" for n in range(12)))
    (path / "u.item").write_text("".join(f"{n}|T||||{'|'.join('0' * 19)}\n" for n in range(4)))
    return path


def parquet(path: Path) -> Path:
    folder(path)
    pl.read_csv(path / "interactions.csv").write_parquet(path / "interactions.parquet")
    pl.DataFrame(ITEMS).write_parquet(path / "items.parquet")
    (path / "interactions.csv").unlink()
    (path / "items.jsonl").unlink()
    return path


def item_table(path: Path) -> Path:
    folder(path)
    (path / "items.jsonl").unlink()
    (path / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},Title {n}\n" for n in range(4)))
    return path


def one_less(owner: Any, name: str) -> tuple[Any, str, Any]:
    """A function whose rows lose the last one."""
    true = getattr(owner, name)

    def lossy(*arguments: Any, **options: Any) -> Any:
        result = true(*arguments, **options)
        if isinstance(result, (pl.DataFrame, list)):
            return result[:-1]
        if isinstance(result, tuple):  # of a frame and what belongs to it
            return (result[0][:-1], *result[1:])
        return iter(list(result)[:-1])

    return owner, name, lossy


@pytest.mark.parametrize(
    ("make", "source", "lossy", "file"),
    [
        (folder, "tables", lambda: one_less(csv_table, "check_values"), "interactions.csv"),
        (folder, "tables", lambda: one_less(own_items, "json_lines"), "items.jsonl"),
        (item_table, "tables", lambda: one_less(own_items, "csv_records"), "items.csv"),
        (parquet, "tables", lambda: one_less(tables, "check_values"), "interactions.parquet"),
        (parquet, "tables", lambda: one_less(tables.pl, "read_parquet"), "interactions.parquet"),
        (amazon, "amazon2018", lambda: one_less(lines, "_settled"), "X_5.json"),
        (amazon, "amazon2018", lambda: one_less(catalogue, "_parse_block"), "meta_X.json"),
        (dat, "movielens", lambda: one_less(csv_table, "check_values"), "ratings.dat"),
        (dat, "movielens", lambda: one_less(movielens, "_dat_movies"), "movies.dat"),
        (hundred, "movielens", lambda: one_less(csv_table, "check_values"), "u.data"),
        (hundred, "movielens", lambda: one_less(movielens, "_movies"), "u.item"),
    ],
)
def test_a_reader_that_loses_a_row_is_caught(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    source: str,
    lossy: Callable[[], tuple[Any, str, Any]],
    file: str,
):
    path = make(tmp_path)
    read(path, source=source, unknown_items="keep")
    monkeypatch.setattr(*lossy())
    text = refused(path, source=source, unknown_items="keep")
    assert file in text and "not all accounted for" in text


@pytest.mark.parametrize("rows", [1, 2])
def test_a_parser_that_loses_rows_hands_over_to_the_careful_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
):
    true, json_true = pl.read_csv, pl.read_ndjson
    monkeypatch.setattr(pl, "read_csv", lambda *a, **k: true(*a, **k)[:-rows])
    monkeypatch.setattr(pl, "read_ndjson", lambda *a, **k: json_true(*a, **k)[:-rows])
    assert len(read(folder(tmp_path / "a"))[0].interactions) == 12
    (tmp_path / "b").mkdir()
    assert len(read(amazon(tmp_path / "b"), source="amazon2018")[0].interactions) == 12


def test_a_source_that_counts_nothing_is_a_defect(tmp_path: Path):
    with pytest.raises(RuntimeError, match="has not said how many rows"):
        Problems(tmp_path).settle(1.0)


# --- entry 6: ratings -----------------------------------------------------------------------------------------


def test_entry_6_a_decimal_comma_is_a_rating(tmp_path: Path):
    rows = [f'{row},"{4 + n % 2},5"' for n, row in enumerate(ROWS)]
    found, said = read(folder(tmp_path, "\n".join([f"{HEADER},rating", *rows])), min_rating=5)
    assert found.interactions["rating"].to_list() == [5.5] * 6 and "12 × rating with a decimal comma" in said


def test_entry_6_a_rating_that_is_a_word_is_a_bad_row(tmp_path: Path):
    rows = [*[f"{row},5" for row in ROWS * 10], "u0,i0,1,good"]
    found, said = read(folder(tmp_path, "\n".join([f"{HEADER},rating", *rows])))
    assert "interactions.csv:122: rating 'good' is not a number" in said and found.bad_rows == 1


@pytest.mark.parametrize("absent", ["n/a", "NA", "NaN", "null", "-", "\\N"])
def test_entry_6_a_rating_that_says_that_there_is_none_is_counted(tmp_path: Path, absent: str):
    rows = [f"{row},{absent if n < 3 else 4}" for n, row in enumerate(ROWS)]
    found, said = read(folder(tmp_path, "\n".join([f"{HEADER},rating", *rows])))
    assert found.interactions["rating"].to_list() == [None] * 3 + [4.0] * 9
    assert "3 × rating that says that there is none" in said


def test_entry_6_ratings_of_parquet(tmp_path: Path):
    path = parquet(tmp_path)
    frame = pl.read_parquet(path / "interactions.parquet")
    frame.with_columns(rating=pl.Series([float("nan"), *[4.0] * 11])).write_parquet(path / "interactions.parquet")
    assert read(path, min_rating=1)[0].interactions["rating"].to_list() == [4.0] * 11
    frame.with_columns(rating=pl.lit("gut")).write_parquet(path / "interactions.parquet")
    assert "rating 'gut' is not a number" in refused(path)


# --- entries 7 and 10: other forms of a file -------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_entry_7_movies_dat_in_either_encoding(tmp_path: Path, encoding: str):
    dat(tmp_path)
    titles = ["Misérables, Les (1995)", "Å (Ångström)", "Plain", "Ü"]
    text = "".join(f"{n}::{title}::Drama\n" for n, title in enumerate(titles))
    (tmp_path / "movies.dat").write_bytes(text.encode(encoding))
    assert read(tmp_path, source="movielens")[0].catalogue["title"].to_list() == titles


def test_entry_7_one_line_in_latin_1_leaves_the_others_utf_8(tmp_path: Path):
    """Entry 7: each line of movies.dat is read in its own encoding; what Windows writes for quotes is not a control."""
    dat(tmp_path)
    lines = [("Misérables", "utf-8"), ("Amélie", "latin-1"), ("Sophie’s Choice", "cp1252"), ("Plain", "ascii")]
    content = b"".join(f"{n}::{title}::Drama\n".encode(encoding) for n, (title, encoding) in enumerate(lines))
    (tmp_path / "movies.dat").write_bytes(content)
    assert read(tmp_path, source="movielens")[0].catalogue["title"].to_list() == [title for title, _ in lines]


TEXT = "\n".join([HEADER, *ROWS]) + "\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (TEXT.encode("utf-16"), "this is UTF-16, not UTF-8; set data.encoding=utf-16"),
        (TEXT.encode("utf-16-le"), "this is UTF-16-LE, not UTF-8; set data.encoding=utf-16-le"),
        (TEXT.encode("utf-16-be"), "this is UTF-16-BE, not UTF-8; set data.encoding=utf-16-be"),
        (f"sep=,\n{TEXT}".encode(), "interactions.csv:1: the first line is a spreadsheet's 'sep=,', not the header"),
        (TEXT.replace(",", ";").encode(), "fields are separated by semicolons, not commas; save it with commas"),
        (TEXT.replace(",", "\t").encode(), "fields are separated by tabs, not commas; name it .tsv"),
        ("\n".join(ROWS).encode(), "there is no header, the first line is a row (u0,i0,0)"),
        (TEXT.replace("\n", "\r").encode(), "lines end with bare carriage returns"),
        (f"\n{TEXT}".encode(), "the first line is empty; it must be the header"),
        (f"{HEADER},user_id\nu,i,1,u\n".encode(), "column 'user_id' stands there twice"),
        (gzip.compress(TEXT.encode(), mtime=0), "this is gzipped data; let its name end in .gz"),
        (zstandard.compress(TEXT.encode()), "this is zstd data; let its name end in .zst"),
        (b"PK\x03\x04\x14\x00\x06\x00", "this is a ZIP archive or a spreadsheet (.xlsx), not text"),
        (b"PAR1\x15\x04\x15\x00PAR1", "this is Parquet; let its name end in .parquet"),
        (b"<!DOCTYPE html>\n<html></html>\n", "this is a web page, not data"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "this is a pointer of Git LFS"),
    ],
)
def test_entry_10_another_form_is_named_in_one_line(tmp_path: Path, content: bytes, says: str):
    path = folder(tmp_path)
    (path / "interactions.csv").write_bytes(content)
    assert says in refused(path)


def test_entry_10_a_name_that_promises_a_compression(tmp_path: Path):
    path = folder(tmp_path)
    (path / "interactions.csv").rename(path / "interactions.csv.gz")
    assert "not compressed as its name says; then take .gz off its name" in refused(path)


def test_entry_10_a_header_that_begins_like_a_binary_file_is_text(tmp_path: Path):
    path = folder(tmp_path, interactions="PAR1,user_id,item_id,timestamp\nx,u,A,1\n")
    assert len(read(path, unknown_items="keep")[0].interactions) == 1


def test_entry_10_items_without_a_header(tmp_path: Path):
    path = folder(tmp_path)
    (path / "items.jsonl").unlink()
    (path / "items.csv").write_text("i0,Thing number 0,A\ni1,Thing number 1,B\n")
    assert "items.csv:1: there is no header, the first line is a row (i0,Thing number 0,A)" in refused(path)
    (path / "items.csv").write_text("sku1,name,kind\ni0,Thing number 0,A\n")
    assert "column 'item_id' is missing" in refused(path)


@pytest.mark.parametrize("indent", [None, 1])
def test_entry_10_one_json_list_is_not_json_lines(tmp_path: Path, indent: int | None):
    said = refused(folder(tmp_path, items=json.dumps(ITEMS, indent=indent)))
    assert "items.jsonl: " in said and "write each on a line of its own" in said


def test_entry_10_json_lines_in_another_form(tmp_path: Path):
    path = folder(tmp_path, items="\r".join(map(json.dumps, ITEMS)))
    assert "items.jsonl: lines end with bare carriage returns" in refused(path)
    (path / "items.jsonl").write_bytes("\n".join(map(json.dumps, ITEMS)).encode("utf-16"))
    assert "items.jsonl: this is UTF-16, not UTF-8; set data.encoding=utf-16" in refused(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "gb18030", "utf-8-sig"])
def test_entry_10_data_encoding_reads_it(tmp_path: Path, encoding: str):
    text = TEXT.replace("u0", "Zo\u00e9" if encoding == "cp1252" else "\u4f60\u00e9")
    path = folder(tmp_path)
    (path / "interactions.csv").write_bytes(text.encode(encoding))
    items = "\n".join(json.dumps(item | {"title": "Caf\u00e9"}, ensure_ascii=False) for item in ITEMS)
    (path / "items.jsonl").write_bytes(items.encode(encoding))
    found, _ = read(path, encoding=encoding)
    assert len(found.interactions) == 12 and found.catalogue["title"].to_list() == ["Caf\u00e9"] * 4
    with pytest.raises(UserError, match=r"data\.encoding='nonsense' is not an encoding"):
        DataConfig(encoding="nonsense")


def test_entry_10_a_catalogue_in_latin_1_names_the_key(tmp_path: Path):
    path = folder(tmp_path)
    items = "\n".join(json.dumps({"item_id": f"i{n}", "title": f"Th\u00e9 {n}"}, ensure_ascii=False) for n in range(30))
    (path / "items.jsonl").write_bytes(items.encode("latin-1"))
    assert "30 of 30 rows have bytes that are not UTF-8" in refused(path) and "data.encoding=cp1252" in refused(path)
    assert read(path, encoding="latin-1")[0].catalogue["title"][7] == "Th\u00e9 7"


def test_entry_10_a_field_may_be_longer_than_131072_characters(tmp_path: Path):
    (tmp_path / "items.csv").write_text(f'item_id,title\na,"{"x, " * 100_000}"\nb,"5"" y"\n')
    problems = Problems(tmp_path / "items.csv")
    assert [len(row["title"]) for _, row in csv_records(problems.path, ["item_id"], problems)] == [300_000, 4]


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ("{}.0", "{}", "ids differ by a trailing '.0': the interactions have '7.0', the items '7'"),
        ("{}", "00{}", "ids differ by leading zeros: the interactions have '7', the items '007'"),
        (" {}", "{}", "ids differ by blanks: the interactions have ' 7', the items '7'"),
        ("A{}", "a{}", "ids differ by upper and lower case: the interactions have 'A7', the items 'a7'"),
    ],
)
def test_entry_10_ids_that_nearly_agree(tmp_path: Path, ours: str, theirs: str, says: str):
    rows = [f"u{n % 3},{ours.format(n % 4 + 7)},{n}" for n in range(12)]
    items = [{"item_id": theirs.format(n + 7), "title": "t"} for n in range(4)]
    path = folder(tmp_path, "\n".join([HEADER, *rows]), "\n".join(map(json.dumps, items)))
    assert says in refused(path)


def test_blanks_and_breaks_in_a_header(tmp_path: Path):
    frame, _ = table(tmp_path / "x.csv", ' user_id,item_id ,timestamp,"a\nnote"\nu,i,5,x\n')
    assert frame.rows() == [("u", "i", 5.0)]
    frame, problems = table(tmp_path / "x.csv", '"user_id",item_id,timestamp,"a\nnote"\nu,i,5,x\nu,i,soon,y\n')
    assert frame.rows() == [("u", "i", 5.0)] and problems.rows == [(4, "timestamp soon is not a number or date")]


def test_a_null_byte_is_a_bad_row(tmp_path: Path):
    frame, problems = table(tmp_path / "x.csv", f"{TEXT}u\0,i,5\n")
    assert len(frame) == 12 and problems.rows == [(14, "holds a null byte")]
