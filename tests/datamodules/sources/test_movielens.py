"""MovieLens in both of its shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.sources import read_source
from datamodules.sources.base import Tables
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console


def read(path: Path, **settings: object) -> tuple[Tables, str]:
    with console.capture() as captured:
        tables = read_source(DataConfig(source="movielens", path=str(path), **settings))  # type: ignore[arg-type]
    return tables, captured.get()


def dat(
    folder: Path, ratings: str, movies: bytes = b"1::Toy Story (1995)::Animation|Comedy\n2::L\xe9on (1994)::Crime\n"
):
    (folder / "ratings.dat").write_text(ratings)
    (folder / "movies.dat").write_bytes(movies)
    return folder


def comma(folder: Path, ratings: str = "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n2,1,4,9\n"):
    (folder / "ratings.csv").write_text(ratings)
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,"American, The (2010)",(no genres listed)\n'
    )
    return folder


def test_double_colons(tmp_path: Path):
    tables, said = read(dat(tmp_path, "1::2::5::978300760\r\n1::1::3::978302109\r\n"))
    assert tables.interactions.rows() == [("1", "2", 978300760.0, 5.0), ("1", "1", 978302109.0, 3.0)] and said == ""
    assert tables.catalogue.select("item_id", "title", "categories").rows() == [
        ("1", "Toy Story (1995)", ["Animation", "Comedy"]),
        ("2", "Léon (1994)", ["Crime"]),
    ]


def test_commas(tmp_path: Path):
    tables, said = read(comma(tmp_path))
    assert tables.interactions.rows() == [("1", "2", 1112486027.0, 3.5), ("2", "1", 9.0, 4.0)] and said == ""
    assert tables.catalogue.select("title", "categories").rows() == [
        ("Toy Story (1995)", ["Animation", "Comedy"]),
        ("American, The (2010)", None),
    ]


def test_a_title_may_hold_the_separator(tmp_path: Path):
    tables, _ = read(dat(tmp_path, "1::1::5::9\n", b"1::Alien :: Director's Cut::Horror\n"))
    assert tables.catalogue.row(0)[1] == "Alien :: Director's Cut"


def test_bad_lines(tmp_path: Path):
    good = "1::1::5::9\n" * 300
    tables, said = read(
        dat(tmp_path, f"{good}1::1::5\n1::1::5::soon\n::1::5::9\n", b"1::T::G\nbroken\n"), max_bad_fraction=0.5
    )
    for line in (
        "ratings.dat:301: 3 fields instead of 4",
        "ratings.dat:302: timestamp soon is no number or date",
        "ratings.dat:303: user_id is empty",
        "movies.dat:2: no movie::title::genres",
    ):
        assert line in said
    assert tables.bad_rows == 4 and len(tables.interactions) == 300


def test_a_movie_twice_is_one_item(tmp_path: Path):
    tables, said = read(dat(tmp_path, "1::1::5::9\n", b"1::T::G\n1::U::G\n"))
    assert tables.catalogue["title"].to_list() == ["T"] and "1 × a movie repeated, the first record is kept" in said


def test_missing_and_empty(tmp_path: Path):
    with pytest.raises(UserError, match=r"no file of ratings; looked for ratings\.csv"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"ratings\.dat: the file is empty"):
        read(dat(tmp_path, ""))
    (tmp_path / "ratings.dat").unlink()
    with pytest.raises(UserError, match=r"column 'userId' is missing; did you mean 'userid'"):
        read(comma(tmp_path, "userid,movieId,rating,timestamp\n1,2,3,4\n"))
