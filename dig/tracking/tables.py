"""Tables of a finished run: sample recommendations in words, metrics with their intervals, slices.

All texts of items come from outside. They are cut, freed of control characters, and logged as plain strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from dig.engine.console import printable

__all__ = ["Rows", "metric_rows", "recommendation_rows", "slice_rows", "summary_values"]

_TITLE = 80  # characters of a title
_HISTORY = 10  # latest items of a history
_TOP = 10  # recommended items
_PROTOCOLS = ("valid", "test", "test_masked", "test_unmasked")


class Rows(NamedTuple):
    """A table."""

    columns: list[str]
    rows: list[list[Any]]


def summary_values(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float | str | bool]:
    """`metrics.json` without its slices and intervals, as flat names: `sft/test/ndcg@10`."""
    found: dict[str, float | str | bool] = {}
    for stage, content in metrics.items():
        kept = {key: value for key, value in content.items() if key not in ("slices", "intervals")}
        found |= dict(_leaves(kept, f"{stage}/"))
    return found


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> Rows:
    """A row a metric, with the 95 % interval over users where there is one."""
    rows = []
    for stage, content in metrics.items():
        for protocol in _PROTOCOLS:
            intervals = content.get("intervals", {}).get(protocol, {})
            for name, value in content.get(protocol, {}).items():
                low, high = intervals.get(name, (None, None))
                rows.append([stage, protocol, name, value, low, high])
    return Rows(["stage", "protocol", "metric", "value", "low", "high"], rows)


def slice_rows(metrics: Mapping[str, Mapping[str, Any]]) -> Rows:
    """A row a metric of a slice of the tests."""
    rows = [
        [stage, protocol, name, metric, value]
        for stage, content in metrics.items()
        for protocol, slices in content.get("slices", {}).items()
        for name, found in slices.items()
        for metric, value in found.items()
    ]
    return Rows(["stage", "protocol", "slice", "metric", "value"], rows)


def recommendation_rows(run: Path, samples: int) -> Rows:
    """What a sample of tests was answered, a row a test and recommender: titles of the history, the target and the top
    items with their scores. Tests go by their number in `examples.parquet`; ids of users stay out.

    Args:
        run: the run's folder.
        samples: how many tests, taken at equal distances.
    """
    columns = ["example", "stage", "history", "target", "place of the target", "top items"]
    answers = pl.read_parquet(
        run / "recommendations.parquet", columns=["example", "items", "scores", "target", "stage"], glob=False
    )
    numbers = answers["example"].unique().sort()
    if samples == 0 or numbers.is_empty():
        return Rows(columns, [])
    chosen = numbers.gather_every(max(1, -(-len(numbers) // samples)))
    histories = dict(
        pl.read_parquet(run / "examples.parquet", columns=["example", "history"], glob=False)
        .filter(pl.col("example").is_in(chosen.implode()))
        .iter_rows()
    )
    told = answers.filter(pl.col("example").is_in(chosen.implode())).sort("example", maintain_order=True)
    titles = _Titles(run)
    rows = []
    for example, items, scores, target, stage in told.iter_rows():
        place = items.index(target) + 1 if target in items else None
        top = zip(items[:_TOP], scores[:_TOP], strict=True)
        history = histories.get(example) or []
        rows.append(
            [
                example,
                stage,
                " → ".join(titles[item] for item in history[-_HISTORY:]),
                titles[target],
                place,
                "\n".join(f"{at}. {titles[item]} ({score:.4g})" for at, (item, score) in enumerate(top, start=1)),
            ]
        )
    return Rows(columns, rows)


class _Titles:
    """An item's title, or its id where it has none."""

    def __init__(self, run: Path) -> None:
        frame = pl.read_parquet(run / "items.parquet", columns=["item_id", "title"], glob=False)
        self._titles: dict[str, str | None] = dict(frame.iter_rows())

    def __getitem__(self, item: str) -> str:
        return printable(self._titles.get(item) or item, _TITLE)


def _leaves(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float | str | bool]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float, str)):
            yield f"{prefix}{key}", value
