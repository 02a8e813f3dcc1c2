"""The table for many customers: the same answers as one by one, whole or not there, and read back as it was written."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
import torch
from scipy import sparse

from dig.config import UserError
from dig.recommender import export as exporting
from dig.recommender.export import check_out, export
from dig.recommender.recommender import Question, Recommender
from dig.recommender.tables import read_ids
from dig.recommenders.item_knn import ItemKNN

ITEMS = 9
IDS = ["I,1", '5" brush', "=SUM(A1)", "0012", "a\nb", " x", "-7", "I8", "I9"]
TITLES = pl.Series(["=cmd()", "+1", "-1", "@x", "plain", None, 'with "quotes", and commas', "\ttab", "two\nlines"])


def recommender() -> Recommender:
    table = torch.rand(ITEMS, ITEMS, generator=torch.Generator().manual_seed(0)).numpy()
    return Recommender(ItemKNN(sparse.csr_matrix(table), torch.arange(ITEMS).numpy(), 0.9), IDS)


def users(count: int = 25) -> pl.DataFrame:
    generator = torch.Generator().manual_seed(1)
    lists = [
        [IDS[int(row)] for row in torch.randint(0, ITEMS, (1 + user % 5,), generator=generator)]
        for user in range(count)
    ]
    return pl.DataFrame({"user": [f"u,{user}\n" for user in range(count)], "items": lists})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_entry_21_the_table_has_what_each_would_be_answered(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In batches and parts of any size, with ids that hold commas, quotes and line ends."""
    monkeypatch.setattr(exporting, "_BATCH", 4)
    monkeypatch.setattr(exporting, "_PART", 30)
    asked, out = users(), tmp_path / f"answers{suffix}"
    found = recommender()
    question = Question(5, True, torch.tensor([0, 1, 2, 3, 4, 7]))
    rows, short = export(found, asked, TITLES, out, question)
    stock = [IDS[row] for row in question.among]
    items, scores = found.recommend(asked["items"], 5, True, stock=stock)
    expected = [
        (user, rank, item, scores[place, rank - 1].item())
        for place, user in enumerate(asked["user"])
        for rank, item in enumerate(items[place], start=1)
    ]
    assert rows == len(expected) and short == sum(len(each) < 5 for each in items) > 0
    assert list(tmp_path.iterdir()) == [out]  # nothing temporary is left
    if suffix == ".parquet":
        table = pl.read_parquet(out)
        assert dict(table.schema) == exporting.COLUMNS
        assert [row[:3] for row in table.iter_rows()] == [row[:3] for row in expected]
        assert table["score"].to_list() == [row[3] for row in expected]
        assert table["title"].to_list() == [TITLES[IDS.index(row[2])] for row in expected]
        return
    with out.open(newline="", encoding="utf-8") as stream:
        header, *read = csv.reader(stream)
    assert header == list(exporting.COLUMNS)
    assert [(row[0], int(row[1]), row[2]) for row in read] == [row[:3] for row in expected]
    torch.testing.assert_close(
        torch.tensor([float(row[3]) for row in read]), torch.tensor([row[3] for row in expected])
    )
    assert pl.read_csv(out, infer_schema=False)["item_id"].to_list() == [row[2] for row in expected]


def test_titles_are_no_formulas_and_ids_stay_ids(tmp_path: Path):
    out = tmp_path / "answers.csv"
    export(recommender(), users(1), TITLES, out, Question(ITEMS, False, None))
    with out.open(newline="", encoding="utf-8") as stream:
        rows = {row["item_id"]: row["title"] for row in csv.DictReader(stream)}
    guarded = ["'=cmd()", "'+1", "'-1", "'@x", "plain", "", 'with "quotes", and commas', "'\ttab", "two\nlines"]
    assert rows == dict(zip(IDS, guarded, strict=True))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_fails_half_way_leaves_the_table_that_was_there(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "_BATCH", 4)
    out = tmp_path / f"answers{suffix}"
    out.write_text("yesterday's")
    found = recommender()
    answer, calls = found.answer, []

    def fails(rows, question):
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(rows, question)

    monkeypatch.setattr(found, "answer", fails)
    with pytest.raises(KeyboardInterrupt):
        export(found, users(), TITLES, out, Question(3, False, None))
    assert out.read_text() == "yesterday's" and list(tmp_path.iterdir()) == [out]
    monkeypatch.setattr(found, "answer", answer)
    export(found, users(), TITLES, out, Question(3, False, None))
    assert list(tmp_path.iterdir()) == [out] and out.read_bytes()[:4] in (b"user", b"PAR1")


def test_where_it_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "folder.csv").mkdir()
    for name, said in (("a.txt", "must end in .csv or .parquet"), ("a", "must end in"), ("folder.csv", "is a folder")):
        with pytest.raises(UserError, match=said):
            check_out(tmp_path / name)
    (tmp_path / "file").write_text("")
    for name in ("file/a.csv", "file/a.parquet"):
        with pytest.raises(UserError, match=r"out=.* cannot be written: "):
            export(recommender(), users(), TITLES, tmp_path / name, Question(3, False, None))


def written(path: Path, content: str | pl.DataFrame) -> Path:
    if isinstance(content, str):
        path.write_bytes(content.encode())
    else:
        content.write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("a.txt", "A,1\r\n\r\n0012\r\n x\r\n", ["A,1", "0012", " x"]),
        ("a", "\ufeffA\nB", ["A", "B"]),
        ("a.list", "A\rB\r", ["A", "B"]),
        ("a.csv", 'item_id,qty\n"A,1",3\n0012,0\n5" brush,1\n', ["A,1", "0012", '5" brush']),
        ("a.csv", "qty,item_id\n1,1e5\n2,null\n3,007\n", ["1e5", "null", "007"]),
        ("a.tsv", "item_id\tqty\nA,1\t3\n", ["A,1"]),
        ("a.parquet", pl.DataFrame({"item_id": ["A", None, "0012"], "qty": [1, 2, 3]}), ["A", None, "0012"]),
        ("a.parquet", pl.DataFrame({"item_id": [12, 7]}), [12, 7]),
        ("a.parquet", pl.DataFrame({"item_id": pl.Series(["A", "B"], dtype=pl.Categorical)}), ["A", "B"]),
    ],
)
def test_entry_21_lists_of_ids_are_read_as_they_stand(
    name: str, content: str | pl.DataFrame, ids: list, tmp_path: Path
):
    assert read_ids(written(tmp_path / name, content), "item_id") == ids


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_entry_21_a_quantity_that_is_not_read_is_said(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Entry 21: an item with a quantity of 0 would be recommended without a word."""
    table = pl.DataFrame({"item_id": ["A", "B"], "qty": [3, 0]})
    content = table.write_csv() if suffix == ".csv" else table
    assert read_ids(written(tmp_path / f"stock{suffix}", content), "item_id") == ["A", "B"]
    told = " ".join("".join(capsys.readouterr()).split())
    assert "only item_id is read, so every row counts, whatever it says in qty" in told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "item,qty\nA,1\n", "column 'item_id' is missing; did you mean 'item'?"),
        ("a.csv", "A\nB\n", "column 'item_id' is missing"),
        ("a.parquet", pl.DataFrame({"sku": ["A"]}), "column 'item_id' is missing; it has: sku"),
        ("a.parquet", "not parquet", "cannot be read as Parquet"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "item_id\n", "lists no ids"),
        ("a.txt", "\n \n", "lists no ids"),
        ("a.csv", "item_id,qty\nA,1\nB,1,2\n", "line 3"),
    ],
)
def test_entry_21_what_is_no_list_of_ids_is_one_line(name: str, content: str | pl.DataFrame, said: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        read_ids(written(tmp_path / name, content), "item_id")
    assert said in str(caught.value) and "\n" not in str(caught.value) and "data.columns" not in str(caught.value)
    with pytest.raises(UserError, match="is not a file"):
        read_ids(tmp_path / "nowhere.csv", "item_id")


def test_a_list_in_another_encoding_names_the_line(tmp_path: Path):
    path = tmp_path / "stock.txt"
    path.write_bytes("A\nGrüße\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        read_ids(path, "item_id")
