#!/usr/bin/env bash
# A date that stands for "never", 9999-12-31, among times in polars.
# Guess:    null under strict=False, an error under strict: nanoseconds in 64 bits end in 2262.
# Happens:  `str.to_datetime(..., time_unit="ns")` wraps around without a word: 9999-12-31 is a day of March 1816, so
#           what never ends is the first thing that ever happened. `cast` of the same moment to nanoseconds raises.
# Follows:  parse to microseconds and bound the years. dig counts what lies after 2100 among dates as a bad row
#           (datamodules/sources/times.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "polars==2.1.0"
"$work/venv/bin/python" - <<'PYTHON_CODE'
import polars

texts = polars.Series(["2262-01-01", "9999-12-31"])
strict = texts.str.to_datetime("%Y-%m-%d", time_unit="ns")
lenient = texts.str.to_datetime("%Y-%m-%d", time_unit="ns", strict=False)
print("polars", polars.__version__, "| to nanoseconds:", strict.dt.year().to_list(), "| strict=False:", lenient.dt.year().to_list())
try:
    texts.str.to_datetime("%Y-%m-%d").cast(polars.Datetime("ns"))
    raised = False
except polars.exceptions.InvalidOperationError:
    raised = True
print("cast from microseconds raises:", raised)
assert strict.dt.year().to_list() == lenient.dt.year().to_list() == [2262, 1816] and raised, "changed"
PYTHON_CODE
