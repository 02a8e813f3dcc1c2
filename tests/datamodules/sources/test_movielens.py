"""MovieLens in both of its shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.sources import detect_source, read_source
from datamodules.sources.base import Tables
from datamodules.sources.movielens import _GENRES
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
        "ratings.dat:302: timestamp soon is not a number or date",
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


def flags(*names: str) -> str:
    return "|".join("1" if name in names else "0" for name in _GENRES)


def folder(path: Path, ratings: str = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n", encoding: str = "latin-1"):
    (path / "u.data").write_text(ratings)
    movies = [
        "242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|" + flags("Comedy"),
        "302|Misérables, Les (1995)|01-Jan-1995||http://x|" + flags("Drama", "Musical"),
        "267|unknown||||" + flags("unknown"),
    ]
    (path / "u.item").write_text("\n".join(movies) + "\n", encoding=encoding)
    (path / "u.genre").write_text("".join(f"{name}|{number}\n" for number, name in enumerate(_GENRES)) + "\n")
    return path


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("genres", [True, False])
def test_entry_21_as_published(tmp_path: Path, encoding: str, genres: bool):
    """Entry 21: u.data, u.item and u.genre; flags become genres, and accents are read in either encoding."""
    path = folder(tmp_path, encoding=encoding)
    if not genres:
        (path / "u.genre").unlink()
    tables, said = read(path)
    assert tables.interactions.rows() == [("196", "242", 881250949.0, 3.0), ("186", "302", 891717742.0, 3.0)]
    assert tables.catalogue.select("item_id", "title", "categories").rows() == [
        ("242", "Kolya (1996)", ["Comedy"]),
        ("302", "Misérables, Les (1995)", ["Musical", "Drama"][::-1]),
        ("267", "unknown", None),
    ]
    assert said == "" and detect_source(path) == "movielens"


def test_entry_21_every_line_is_accounted_for(tmp_path: Path):
    """Entry 21: lines that are not rows have their number and reason."""
    path = folder(tmp_path, "1\t242\t3\t881250949\n" * 300 + "\n1\t242\t3\n1\t242\t3\tsoon\n\t242\t3\t881250949\n")
    with (path / "u.item").open("a") as stream:
        stream.write("1|Short\n2|Odd|||x|" + flags().replace("0", "2", 1) + "\n|No id|||x|" + flags() + "\n")
    tables, said = read(path, max_bad_fraction=0.6)
    for line in (
        "u.data:302: 3 fields instead of 4",
        "u.data:303: timestamp soon is not a number or date",
        "u.data:304: user_id is empty",
        "u.item:4: 2 fields instead of 24",
        "u.item:5: a genre's flag",
        "u.item:6: the movie's id is empty",
    ):
        assert line in said
    assert len(tables.interactions) == 300 and [p.in_file for p in tables.problems] == [303, 6]


def test_entry_21_missing_movies(tmp_path: Path):
    """Entry 21: the file that is missing is named."""
    (folder(tmp_path) / "u.item").unlink()
    with pytest.raises(UserError, match=r"no file of movies; looked for u\.item"):
        read(tmp_path)
