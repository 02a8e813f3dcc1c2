"""Times in any spelling to seconds, in their true order: numbers of any unit, ISO 8601, Parquet's own types.

Whole numbers stay whole: where seconds as Float64 cannot tell two times apart (nanoseconds, whole numbers past 2^53),
``ticks`` holds the same times as integers, and rows are ordered by those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

__all__ = ["RawTimes", "Times", "float_step", "parse_times", "seconds", "settle_times"]

_NANO = 10**9
_EXACT = 2**53  # Float64 holds every whole number up to here
_FIRST, _LAST = 631_152_000, 4_102_444_800  # 1990 and 2100 in seconds: between them a number is taken for a date
_UNITS = (
    "seconds",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "yyyymmdd",
    "yyyymmddHHMM",
    "yyyymmddHHMMSS",
    "yyyymmddHHMMSSmmm",
)
_PER_SECOND = (1, 10**3, 10**6, 10**9)
_FRACTION_DIGITS = {4: (0, 0), 5: (4, 0), 6: (6, 0), 7: (6, 3)}  # of the spelt units: digits of the time, and after it
_NUMBER, _MOMENT = 98, 99  # a number that is none of these; a moment that was spelt out
_CALENDAR_SHARE = 0.8  # of the times that are there; the rest may be typing errors
_ZONE = 14 * 3600  # the epoch in local time is off by so much at most
# The largest times of two old formats, all nines, and the last second of the year 9999.
_SENTINELS = (2**31 - 1, 2**32 - 1, 9_999_999_999, 253_402_300_799)
_DIGITS = 26  # characters of a moment with microseconds; polars' nanoseconds run over in silence from 2262 on
_ISO = (
    r"^(\d{4})-?(\d{1,2})-?(\d{1,2})(?:(?:[Tt]|\s+)(\d{1,2})(?::?(\d{1,2})(?::?(\d{1,2})(?:[.,](\d{1,9})\d*)?)?)?)?"
    r"\s*([Zz]|UTC|utc|GMT|[+-]\d{2}(?::?\d{2})?)?$"
)
_LONG_STAMP = r"^((?:19|20)\d{6})(\d{6})(\d{6,9})$"  # yyyymmddHHMMSS and a fraction that no integer holds
_FINE = r"^(\d{9,10})\.(\d{7,9})\d*$"  # seconds with a fraction that Float64 does not hold
_FORMS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
)


@dataclass(frozen=True)
class RawTimes:
    """Times as they were written; where none of the three has a value, it is not a time.

    Attributes:
        number: (rows,) Float64, of a number.
        whole: (rows,) Int64, of a whole number that fits.
        second: (rows,) Int64, whole seconds since 1970 (UTC) of a date or moment; None if there is none.
        nano: (rows,) Int64, the nanoseconds after it.
    """

    number: pl.Series
    whole: pl.Series
    second: pl.Series | None = None
    nano: pl.Series | None = None


@dataclass(frozen=True)
class Times:
    """Times that can be compared.

    Attributes:
        timestamp: (rows,) Float64, seconds; null where it is not a time.
        ticks: (rows,) Int64, the same times as whole numbers; only where seconds do not tell them all apart.
        bad: row → why its time cannot stand beside the others.
        unit: what the numbers count, where it is not seconds and the column is one of dates.
    """

    timestamp: pl.Series
    ticks: pl.Series | None = None
    bad: dict[int, str] = field(default_factory=dict)
    unit: str | None = None


def seconds(column: pl.Expr) -> pl.Expr:
    """Text to seconds: a finite number as it is, else a date or moment in ISO 8601 (UTC); null for anything else."""
    text = column.str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    second, nano = _moment(text)
    return pl.coalesce(pl.when(number.is_finite()).then(number), second + nano / _NANO)


def parse_times(values: pl.Series) -> RawTimes:
    """Times of a text, number or time column; what is not one is null in all of its parts."""
    dtype = values.dtype
    if dtype == pl.Duration:  # counts from each user's own start, or from anything else
        return _of_moments(values.cast(pl.Duration("ns")).cast(pl.Int64), _NANO)
    if dtype in (pl.Date, pl.Datetime):
        unit = getattr(dtype, "time_unit", None) or "us"
        ticks = values.cast(pl.Datetime("us")).cast(pl.Int64) if dtype == pl.Date else values.to_physical()
        return _of_moments(ticks.cast(pl.Int64), {"ms": 10**3, "us": 10**6, "ns": _NANO}[unit])
    if dtype.is_integer():
        return RawTimes(values.cast(pl.Float64), values.cast(pl.Int64, strict=False))
    if dtype.is_float():
        number = values.cast(pl.Float64)
        return RawTimes(_finite(number), _whole_of(number))
    return _of_text(values.cast(pl.String))


def float_step(values: pl.Series) -> int:
    """How far apart two times in a column of floats must be at least to differ, where that is more than 1; else 0."""
    if not values.dtype.is_float() or not (largest := values.drop_nans().abs().max()):
        return 0
    step = np.spacing(np.float32(largest) if values.dtype == pl.Float32 else np.float64(largest))
    return int(step) if np.isfinite(step) and step > 1 else 0


def settle_times(raw: RawTimes, per_second: int = 1) -> Times:
    """Brings times to seconds, by what the column as a whole is.

    Where nine of ten are dates between 1990 and 2100, in whichever unit or spelling, all are instants: numbers are told
    apart by their size, and a time that says that there is none (0, the end of a format), one after 2100, and one in
    another unit than most are bad. Otherwise the numbers are kept as they are, divided by ``per_second``.

    Args:
        raw: as written.
        per_second: units of the numbers in a second, where they are not dates.
    """
    if raw.second is None and not raw.whole.null_count() and len(raw.whole):
        low, high = int(raw.whole.min()), int(raw.whole.max())
        scale = next((scale for scale in _PER_SECOND if _FIRST * scale <= low and high <= _LAST * scale), None)
        if scale in (1, 10**3, 10**6) and not (scale == 1 and high >= _SENTINELS[0]):
            unit = None if scale in (1, per_second) else _UNITS[_PER_SECOND.index(scale)]
            return Times(raw.whole.cast(pl.Float64) / scale, unit=unit)
        if low >= 0 and high < 19_900_101:
            return Times(raw.whole.cast(pl.Float64) / per_second)
    units = _units_of(raw)
    absent = _absent(raw)
    dated = (units != 0) & (units != _NUMBER)
    stated = int((units != 0).sum() - ((absent | (raw.number.to_numpy() < 0)) & ~dated).sum())
    if not dated.any() or dated.sum() < _CALENDAR_SHARE * stated:
        return _plain(raw, per_second)
    return _calendar(raw, units, absent)


# --- reading ----------------------------------------------------------------------------------------------


def _of_text(values: pl.Series) -> RawTimes:
    whole = values.cast(pl.Int64, strict=False)  # nearly all tables hold whole numbers, and this is fast
    if not whole.null_count():
        return RawTimes(whole.cast(pl.Float64), whole)
    text = values.str.strip_chars()
    # "1577836800.0" is what becomes of a whole number beside an empty cell.
    whole = text.str.replace(r"^([+-]?\d+)\.0*$", "$1").cast(pl.Int64, strict=False)
    long_stamp = text.str.contains(_LONG_STAMP).fill_null(value=False)
    number = _finite(text.cast(pl.Float64, strict=False)).set(long_stamp, None)
    fine = (text.str.contains(_FINE) & (number >= _FIRST) & (number <= _LAST)).fill_null(value=False)
    if fine.any() and number.filter(fine).n_unique() == text.filter(fine).n_unique():
        fine = fine & False  # Float64 tells them apart
    number = number.set(fine, None)
    if not number.null_count():
        return RawTimes(number, whole)
    second, nano = _moments(text.str.replace(_LONG_STAMP, "${1}T${2}.${3}").set(number.is_not_null(), None))
    if fine.any():
        parts = text.set(~fine, None)
        second = second.zip_with(second.is_not_null(), parts.str.extract(_FINE, 1).cast(pl.Int64))
        nano = nano.zip_with(nano.is_not_null(), parts.str.extract(_FINE, 2).str.pad_end(9, "0").cast(pl.Int64))
    return RawTimes(number, whole, second, nano)


def _moments(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """One form for the whole column is tried first, since it is fast."""
    sample = next((value for value in text.head(100) if value), "")
    longest = int(text.str.len_bytes().max() or 0)
    for form in _FORMS if longest <= _DIGITS else ():
        if pl.Series([sample]).str.to_datetime(form, strict=False, time_unit="us").null_count():
            continue
        ticks = text.str.to_datetime(form, strict=False, time_unit="us")
        if ticks.null_count() == text.null_count():
            raw = _of_moments(ticks.to_physical(), 10**6)
            if raw.second is not None and raw.nano is not None:
                return raw.second, raw.nano
    second, nano = _moment(pl.col("text"))
    frame = pl.DataFrame({"text": text}).select(second.alias("second"), nano.alias("nano"))
    return frame["second"], frame["nano"]


def _moment(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Whole seconds since 1970 and nanoseconds of ISO 8601, an offset taken off; null for anything else."""
    parts = [text.str.extract(_ISO, group) for group in range(1, 9)]
    year, month, day, hour, minute, second, fraction, zone = parts
    date = pl.concat_str(year, month.str.zfill(2), day.str.zfill(2), separator="-").str.to_date(
        "%Y-%m-%d", strict=False
    )
    clock = [part.fill_null("0").cast(pl.Int64) for part in (hour, minute, second)]
    valid = (clock[0] < 24) & (clock[1] < 60) & (clock[2] <= 60)
    digits = zone.str.replace_all(r"[+:-]", "")
    away = digits.str.head(2).cast(pl.Int64, strict=False) * 3600
    away += digits.str.slice(2).str.pad_start(2, "0").cast(pl.Int64, strict=False).fill_null(0) * 60
    away = pl.when(zone.str.starts_with("-")).then(-away).otherwise(away).fill_null(0)
    whole = date.cast(pl.Int64) * 86_400 + clock[0] * 3600 + clock[1] * 60 + clock[2] - away
    nano = fraction.fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
    return pl.when(valid).then(whole), pl.when(valid & date.is_not_null()).then(nano)


def _of_moments(ticks: pl.Series, per_second: int) -> RawTimes:
    nothing = pl.Series([None], dtype=pl.Float64).new_from_index(0, len(ticks))
    return RawTimes(nothing, nothing.cast(pl.Int64), ticks // per_second, ticks % per_second * (_NANO // per_second))


def _finite(number: pl.Series) -> pl.Series:
    return number if number.is_finite().all() else number.set(~number.is_finite().fill_null(value=False), None)


def _whole_of(number: pl.Series) -> pl.Series:
    whole = (number.abs() < _EXACT) & (number % 1 == 0)
    return number.set(~whole.fill_null(value=False), None).cast(pl.Int64)


# --- units ------------------------------------------------------------------------------------------------


def _units_of(raw: RawTimes) -> np.ndarray:
    """(rows,) uint8: 0 not a time, 1 + index of a unit, ``_NUMBER``, or ``_MOMENT`` for a date that was spelt out."""
    number = raw.number.to_numpy()  # null is nan
    units = np.where(np.isnan(number), 0, _NUMBER).astype(np.uint8)
    for place, scale in enumerate(_PER_SECOND):
        units[(number >= _FIRST * scale) & (number <= _LAST * scale)] = place + 1
    whole = raw.whole.fill_null(-1).to_numpy()
    for place, (clock, fraction) in _FRACTION_DIGITS.items():
        shift = 10 ** (clock + fraction)
        rows = np.flatnonzero((whole >= 19_900_101 * shift) & (whole < 21_010_101 * shift))
        units[rows[_spelt(whole[rows], clock, fraction)[1]]] = place + 1
    if raw.second is not None:
        second = raw.second.fill_null(_LAST * 10).to_numpy()
        units[raw.second.is_not_null().to_numpy()] = _NUMBER
        units[(second >= _FIRST) & (second <= _LAST)] = _MOMENT
    return units


def _spelt(stamps: np.ndarray, clock: int, fraction: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 of whole numbers that spell a date, and which of them are valid."""
    rest = stamps // 10**fraction
    times = (rest % 10**clock) * 10 ** (6 - clock)
    dates = rest // 10**clock
    hours, minutes, last = times // 10_000, times // 100 % 100, times % 100
    years, months, days = dates // 10_000, dates // 100 % 100, dates % 100
    valid = (months >= 1) & (months <= 12) & (days >= 1) & (hours < 24) & (minutes < 60) & (last < 60)
    month_starts = ((years - 1970) * 12 + np.where(valid, months - 1, 0)).astype("datetime64[M]")
    moments = month_starts.astype("datetime64[D]") + (days - 1)
    valid &= moments.astype("datetime64[M]") == month_starts
    return moments.astype(np.int64) * 86_400 + hours * 3600 + minutes * 60 + last, valid


def _absent(raw: RawTimes) -> np.ndarray:
    """(rows,) bool: the epoch itself, in whichever zone, or the end of a format: what is written for no time at all."""
    time = raw.number.to_numpy()
    if raw.second is not None:
        time = np.where(np.isnan(time), raw.second.cast(pl.Float64).to_numpy(), time)
    epoch = (np.abs(time) <= _ZONE) & (time % 900 == 0)
    return epoch | np.isin(time, [last * scale for last in _SENTINELS for scale in _PER_SECOND])


# --- settling ---------------------------------------------------------------------------------------------


def _plain(raw: RawTimes, per_second: int) -> Times:
    """Numbers that are not dates keep their order and their size."""
    if raw.second is None or raw.nano is None:
        large = not raw.whole.null_count() and float(raw.number.abs().max() or 0) >= _EXACT
        return Times(raw.number / per_second, raw.whole if large else None)
    timestamp = pl.select(pl.coalesce(raw.number / per_second, raw.second + raw.nano / _NANO)).to_series()
    fine = bool((raw.nano % 1000 != 0).any()) and float(raw.second.abs().max() or 0) < 9e9
    ticks = raw.second * _NANO + raw.nano
    return Times(timestamp, ticks if fine and raw.number.null_count() == len(raw.number) else None)


def _calendar(raw: RawTimes, units: np.ndarray, absent: np.ndarray) -> Times:
    counts = np.bincount(units, minlength=100)[1 : len(_UNITS) + 1]
    main = int(counts.argmax()) if counts.any() else 0
    first_seen = [int(np.argmax(units == place + 1)) if count else len(units) for place, count in enumerate(counts)]
    ties = np.flatnonzero(counts == counts[main])
    main = min(ties.tolist(), key=lambda place: first_seen[place]) if counts.any() else 0
    second, nano, valid = _instants(raw, units, main)
    bad: dict[int, str] = {}
    others = int(counts[main])
    for row in np.flatnonzero((units >= 1) & (units <= len(_UNITS)) & (units != main + 1)).tolist():
        bad[row] = f"looks like {_UNITS[units[row] - 1]} where {others:,} others are {_UNITS[main]}"
    in_doubt = (units == _NUMBER) | absent
    for row, reason in _doubtful(in_doubt & (units != 0), second, valid, absent, main):
        bad.setdefault(row, reason)
    timestamp = second + nano / _NANO
    if main == 0:  # seconds with a fraction are as they were written
        number = raw.number.to_numpy()
        timestamp = np.where(np.isnan(number), timestamp, number)
    has_unit = units != 0
    good = has_unit & ~np.isin(np.arange(len(units)), list(bad)) if bad else has_unit
    fine = bool((nano[good & ((units == _MOMENT) | (units == 4))] % 1000 != 0).any())
    ticks = pl.Series(np.where(good, second, 0) * _NANO + nano) if fine else None
    seconds_ = pl.Series(timestamp).set(pl.Series(~has_unit), None)
    return Times(seconds_, ticks, bad, _UNITS[main] if main and counts.any() else None)


def _instants(raw: RawTimes, units: np.ndarray, main: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole seconds, nanoseconds and validity; a number outside the range of dates counts in the unit of most."""
    size = len(units)
    second, nano, valid = np.zeros(size, np.int64), np.zeros(size, np.int64), np.ones(size, bool)
    number, whole = raw.number.to_numpy(), raw.whole.fill_null(0).to_numpy()
    exact = raw.whole.is_not_null().to_numpy()
    numeric = ~np.isnan(number)
    if main < len(_PER_SECOND):
        scale = _PER_SECOND[main]
        rows = numeric & exact
        second[rows], nano[rows] = whole[rows] // scale, whole[rows] % scale * (_NANO // scale)
        rows = numeric & ~exact
        far = np.abs(number) < 9e9 * scale
        floats = np.where(rows & far, number, 0) / scale
        floor = np.floor(floats)
        second[rows], nano[rows] = floor[rows].astype(np.int64), np.rint((floats - floor)[rows] * 1e9).astype(np.int64)
        second[rows & ~far] = _LAST * 2
    else:
        clock, fraction = _FRACTION_DIGITS[main]
        second[numeric], valid[numeric] = _spelt(np.where(exact, whole, 0)[numeric], clock, fraction)
        nano[numeric] = whole[numeric] % 10**fraction * 10 ** (9 - fraction) if fraction else 0
        valid &= ~numeric | (units == main + 1)
    if raw.second is not None and raw.nano is not None:
        spelt = raw.second.is_not_null().to_numpy()
        second[spelt] = raw.second.fill_null(0).to_numpy()[spelt]
        nano[spelt] = raw.nano.fill_null(0).to_numpy()[spelt]
    return second, nano, valid


def _doubtful(
    rows: np.ndarray, second: np.ndarray, valid: np.ndarray, absent: np.ndarray, main: int
) -> Iterator[tuple[int, str]]:
    for row in np.flatnonzero(rows).tolist():
        if absent[row]:
            yield row, "is what is written for no time at all, and the others are dates"
        elif not valid[row]:
            yield row, f"is not a date as {_UNITS[main]}"
        elif second[row] > _LAST:
            yield row, "lies after the year 2100, and the others are dates"
