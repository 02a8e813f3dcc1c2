#!/usr/bin/env bash
# Items as dicts, as json.loads gives them, where the first with a "brand" comes late.
# Guess:    a table of dicts has every key, null where a record lacks it; that is what pandas does.
# Happens:  datasets.Dataset.from_list and pyarrow's Table.from_pylist take the keys of the *first* record, polars those
#           of the first 100: a column that begins later is gone, without a warning. Polars' readers of JSON lines do the
#           same from the file, while datasets' and pyarrow's readers keep it.
# Follows:  say the schema. dig's catalogue has a fixed one (datamodules/sources/base.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "polars==2.1.0" "pyarrow==26.0.1" "pandas==3.1.1" "datasets==5.2.0"
"$work/venv/bin/python" - <<'PYTHON_CODE'
import json
import tempfile
from pathlib import Path

import datasets
import pandas
import polars
import pyarrow
import pyarrow.json

datasets.disable_progress_bars()
folder = Path(tempfile.mkdtemp())
lost = {}
for before in (1, 150):
    records = [{"item_id": f"i{n}", "title": "lip balm"} for n in range(before)]
    records.append({"item_id": "last", "title": "lip balm", "brand": "Acme"})
    file = folder / f"{before}.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = {
        "pandas.DataFrame": pandas.DataFrame(records).columns,
        "polars.DataFrame": polars.DataFrame(records).columns,
        "polars.read_ndjson": polars.read_ndjson(file).columns,
        "pyarrow.Table.from_pylist": pyarrow.Table.from_pylist(records).column_names,
        "pyarrow.json.read_json": pyarrow.json.read_json(file).column_names,
        "datasets.Dataset.from_list": datasets.Dataset.from_list(records).column_names,
        "datasets.Dataset.from_json": datasets.Dataset.from_json(str(file), cache_dir=str(folder / "c")).column_names,
    }
    lost[before] = sorted(name for name, names in columns.items() if "brand" not in names)
    print(f"brand begins at record {before + 1}; lost by:", ", ".join(lost[before]))
early = ["datasets.Dataset.from_list", "pyarrow.Table.from_pylist"]
assert lost == {1: early, 150: [early[0], "polars.DataFrame", "polars.read_ndjson", early[1]]}, "changed"
PYTHON_CODE
