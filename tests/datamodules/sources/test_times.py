"""Times of every spelling are the same instants, and no two change places on their way to the order of purchases."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.preparation import prepare
from datamodules.problems import find_problems
from datamodules.sources import read_source
from datamodules.sources.base import Tables, write_tables
from datamodules.sources.times import float_step, parse_times, seconds, settle_times
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console

START = 1_700_000_000  # 2023-11-14T22:13:20Z
USERS, LENGTH = 20, 6


def read(path: Path, **options: object) -> Tables:
    with console.capture():
        return read_source(DataConfig(path=str(path), **options))  # type: ignore[arg-type]


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value)


def log(path: Path, times: pl.Series, parquet: bool = False) -> list[str]:
    """A shuffled log of users whose items are named by their true order; returns the order of the rows' items."""
    path.mkdir()
    order = np.random.default_rng(0).permutation(USERS * LENGTH)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{row // LENGTH}" for row in range(USERS * LENGTH)],
            "item_id": [f"i{row % LENGTH}" for row in range(USERS * LENGTH)],
            "timestamp": times,
        }
    )[order.tolist()]
    if parquet:
        frame.write_parquet(path / "interactions.parquet")
    else:
        frame.write_csv(path / "interactions.csv")
    items = [json.dumps({"item_id": f"i{n}", "title": f"Title {n}"}) for n in range(LENGTH)]
    (path / "items.jsonl").write_text("\n".join(items))
    return [f"i{n}" for n in range(LENGTH)]


def purchases(path: Path) -> list[list[str]]:
    config = DataConfig(path=str(path))
    with console.capture():
        prepared = prepare(read_source(config), config)
    names = prepared.catalogue["item_id"]
    tests = prepared.sequences.held_out("test")
    assert names.gather(tests.targets).to_list() == [f"i{LENGTH - 1}"] * USERS
    return [names.gather(prepared.sequences.rows[user]).to_list() for user in range(USERS)]


STEPS = pl.Series(range(USERS * LENGTH), dtype=pl.Int64)
NANO = START * 10**9 + STEPS * 40
SPELT = (START * 1000 + STEPS).cast(pl.Datetime("ms")).dt.to_string("%Y%m%d%H%M%S%3f")
TIMES = {
    "seconds": START + STEPS,
    "milliseconds": START * 1000 + STEPS,
    "microseconds": START * 10**6 + STEPS,
    "nanoseconds": NANO,
    "nanoseconds, unsigned": NANO.cast(pl.UInt64),
    "past 2**53": 2**60 + STEPS,
    "small": STEPS,
    "fractions": START + STEPS / 1000,
    "17 digits": SPELT.cast(pl.Int64),
    "14 digits": ((START + STEPS) * 1000).cast(pl.Datetime("ms")).dt.to_string("%Y%m%d%H%M%S").cast(pl.Int64),
    "datetime, ns": NANO.cast(pl.Datetime("ns")),
    "datetime, us": (START * 10**6 + STEPS).cast(pl.Datetime("us")),
    "datetime with a zone": (START * 10**6 + STEPS).cast(pl.Datetime("us", "Europe/Berlin")),
    "date": (19_000 + STEPS).cast(pl.Int32).cast(pl.Date),
    "duration": STEPS.cast(pl.Duration("ns")),
}


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("parquet", [False, True])
def test_entry_2_every_users_order_is_the_true_one(tmp_path: Path, name: str, parquet: bool):
    times = TIMES[name]
    if name == "duration" and not parquet:
        times = times.cast(pl.Int64)
    expected = log(tmp_path / "log", times, parquet)
    assert purchases(tmp_path / "log") == [expected] * USERS
    write_tables(read(tmp_path / "log"), tmp_path / "log" / "again")
    assert purchases(tmp_path / "log" / "again") == [expected] * USERS


@pytest.mark.parametrize(
    ("other", "looks"),
    [
        (str(START * 1000), "looks like milliseconds where 300 others are seconds"),
        (str(START * 10**6), "looks like microseconds where 300 others are seconds"),
        ("20231115112104", "looks like yyyymmddHHMMSS where 300 others are seconds"),
        ("0", "is what is written for no time at all, and the others are dates"),
        ("3600", "is what is written for no time at all, and the others are dates"),
        ("2147483647", "is what is written for no time at all, and the others are dates"),
        ("1970-01-01T00:00:00Z", "is what is written for no time at all, and the others are dates"),
        ("9999-12-31", "lies after the year 2100, and the others are dates"),
        ("5000000000", "lies after the year 2100, and the others are dates"),
        ("-1", "is negative"),
    ],
)
def test_entry_2_a_time_that_cannot_stand_beside_the_others_is_a_bad_row(tmp_path: Path, other: str, looks: str):
    expected = log(tmp_path / "log", START + STEPS)
    path = tmp_path / "log" / "interactions.csv"
    good = path.read_text() + "".join(f"v{n},i0,{START + n}\n" for n in range(300 - len(STEPS)))
    path.write_text(f"{good}u0,i3,{other}\n")
    config = DataConfig(path=str(tmp_path / "log"))
    with console.capture() as captured:
        prepared = prepare(read_source(config), config)
    assert f"interactions.csv:302: timestamp {other} {looks}; the row is left out" in captured.get()
    names = prepared.catalogue["item_id"]
    assert (
        names.gather(prepared.sequences.rows[prepared.sequences.user_ids.to_list().index("u0")]).to_list() == expected
    )
    assert any(problem.kind == "error" and looks in problem.text for problem in find_problems(config))


def test_entry_2_half_in_seconds_and_half_in_milliseconds_is_refused(tmp_path: Path):
    times = (START + STEPS).zip_with(STEPS % 2 == 0, START * 1000 + STEPS)
    log(tmp_path / "log", times)
    text = refused(tmp_path / "log")
    assert "60 of 120 rows (50.0%) cannot be read" in text and "where 60 others are" in text and "line" in text


def test_entry_2_times_that_count_from_each_users_start_may_be_0(tmp_path: Path):
    expected = log(tmp_path / "log", STEPS % LENGTH * 86_400 * 30)
    assert purchases(tmp_path / "log") == [expected] * USERS


FORMS = {
    "2023-11-16T01:06:27.078Z": 1700096787.078,
    "2023-11-16T03:50:13.123456": 1700106613.123456,
    "2023-11-16 18:50:49+00:00": 1700160649,
    "2023-11-16T05:19:29+02:00": 1700104769,
    "2023-11-16T05:19:29+0200": 1700104769,
    "2023-11-16T05:19:29-05:30": 1700131769,
    "2023-11-16 03:28": 1700105280,
    "2023-11-16 03:28:00 UTC": 1700105280,
    "2023-11-16t03:28:00z": 1700105280,
    "2023-11-16T03:28:00,5Z": 1700105280.5,
    "20231116T032800Z": 1700105280,
    " 2023-11-16 ": 1700092800,
    "2023-11-16 03:28:00.000000 +0000": 1700105280,
    "1700105280": 1700105280,
}


def test_entry_3_iso_8601_in_every_form_is_the_same_instant():
    found = pl.DataFrame({"t": list(FORMS)}).select(seconds(pl.col("t"))).to_series().to_list()
    assert found == list(FORMS.values())
    mixed = settle_times(parse_times(pl.Series(list(FORMS))))
    assert mixed.timestamp.to_list() == pytest.approx(list(FORMS.values()), abs=1e-6) and not mixed.bad


@pytest.mark.parametrize("form", FORMS)
def test_entry_3_a_column_of_one_form(form: str):
    assert settle_times(parse_times(pl.Series([form] * 3))).timestamp.to_list() == pytest.approx([FORMS[form]] * 3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.datetimes(datetime.datetime(1990, 1, 2), datetime.datetime(2099, 1, 1)), min_size=2, max_size=9),
    st.integers(-14, 14),
    st.booleans(),
)
def test_entry_3_instants_are_compared_and_not_texts(moments: list[datetime.datetime], hours: int, nano: bool):
    zones = [datetime.timezone(datetime.timedelta(hours=hours * (n % 2))) for n in range(len(moments))]
    aware = [moment.replace(tzinfo=zone) for moment, zone in zip(moments, zones, strict=True)]
    texts = [moment.isoformat("T", "microseconds").replace("+", "001+" if nano else "+", 1) for moment in aware]
    times = settle_times(parse_times(pl.Series(texts)))
    assert times.timestamp.to_list() == pytest.approx([moment.timestamp() for moment in aware], abs=1e-6)
    order = times.timestamp if times.ticks is None else times.ticks
    true = sorted(range(len(aware)), key=lambda n: (aware[n], n))
    if not nano or hours >= 0:  # a negative offset keeps its text without nanoseconds
        assert order.arg_sort().to_list() == true


@pytest.mark.parametrize(
    "text", ["2023-13-01", "2023-02-30", "2023-11-16T24:01", "2023-11-16T03:61", "now", "nan", "", "0x10"]
)
def test_what_is_not_a_time(text: str):
    assert settle_times(parse_times(pl.Series([text, "2023-11-16"]))).timestamp[0] is None


def test_entry_3_numbers_that_spell_a_date_are_not_milliseconds(tmp_path: Path):
    stamps = [f"202311{day:02d}112104" for day in range(1, 21)]
    found = settle_times(parse_times(pl.Series(stamps)))
    true = [datetime.datetime(2023, 11, day, 11, 21, 4, tzinfo=datetime.UTC).timestamp() for day in range(1, 21)]
    assert found.timestamp.to_list() == true and found.unit == "yyyymmddHHMMSS"
    assert settle_times(parse_times(pl.Series([*stamps, "20231301112104"]))).bad == {
        20: "is not a date as yyyymmddHHMMSS"
    }


def test_a_time_of_day_is_not_a_time(tmp_path: Path):
    log(tmp_path / "log", STEPS.cast(pl.Time), parquet=True)
    assert "column 'timestamp' holds times of day without a date" in refused(tmp_path / "log")


def test_entry_2_nanoseconds_in_json_lines(tmp_path: Path):
    order = np.random.default_rng(0).permutation(12).tolist()
    lines = [
        json.dumps({"reviewerID": "u", "asin": f"i{n}", "overall": 5, "unixReviewTime": START * 10**9 + 40 * n})
        for n in order
    ]
    (tmp_path / "X_5.json").write_text("\n".join(lines))
    (tmp_path / "meta_X.json").write_text("\n".join(json.dumps({"asin": f"i{n}", "title": "t"}) for n in range(12)))
    config = DataConfig(path=str(tmp_path), source="amazon2018")
    with console.capture():
        prepared = prepare(read_source(config), config)
    assert prepared.sequences.rows[0].tolist() == list(range(12))


def test_entry_2_fractions_of_seconds_are_not_rounded_before_the_order_is_known(tmp_path: Path):
    """Entry 2: ``date +%s.%N`` and decimals of a database tell nanoseconds apart, which Float64 does not."""
    late = [f"1600000000.{n:09d}" for n in (43, 42, 41)]
    for times in (pl.Series(late), pl.Series(late).cast(pl.Decimal(30, 9))):
        settled = settle_times(parse_times(times))
        assert settled.ticks is not None and not settled.bad
        assert settled.ticks.to_list() == [1_600_000_000_000_000_000 + n for n in (43, 42, 41)]
    mixed = settle_times(parse_times(pl.Series(["1600000000", "1600000000.5", *late, "x"])))
    assert mixed.timestamp.to_list() == [1.6e9, 1.6e9 + 0.5, 1.6e9, 1.6e9, 1.6e9, None]
    assert mixed.ticks is not None and mixed.ticks[4] - mixed.ticks[0] == 41
    assert settle_times(parse_times(pl.Series(["1600000000.1234567", "1600000000.5"]))).ticks is None


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (pl.Series([1.6e9, 1.6e9 + 1], dtype=pl.Float32), 128),
        (pl.Series([1.6e18, 1.6e18 + 40]), 256),
        (pl.Series([1.6e9, 1.6e9 + 1]), 0),
        (pl.Series([1.0, 2.0], dtype=pl.Float32), 0),
        (pl.Series([None, float("nan"), float("inf")], dtype=pl.Float64), 0),
        (pl.Series([1_600_000_000_000_000_040]), 0),
    ],
)
def test_entry_2_floats_that_do_not_tell_times_apart(times: pl.Series, step: int):
    """Entry 2: what was lost when a table was written cannot be brought back, and is said."""
    assert float_step(times) == step


def test_entry_2_floats_that_do_not_tell_times_apart_are_said(tmp_path: Path):
    times = pl.Series([1.6e9, 1.6e9 + 1, 1.6e9 + 2], dtype=pl.Float32)
    frame = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "timestamp": times})
    frame.write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B\nc,C\n")
    texts = [problem.text for problem in find_problems(DataConfig(path=str(tmp_path)))]
    assert any("a float that tells numbers 128 apart at best" in text for text in texts)


@pytest.mark.parametrize("name", ["timestamp", "rating"])
def test_entry_2_a_column_of_lists_is_refused(tmp_path: Path, name: str):
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1], "rating": [5]})
    frame.with_columns(pl.Series(name, [[1]])).write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    assert f"column '{name}' holds list values, not numbers or text" in refused(tmp_path)
