"""The table of metrics over recommenders.

With several seeds a number is a mean and its standard deviation over seeds; with one, or where seeds do not differ, it
has the 95 % interval of resampled users behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from dig.records.markdown import MISSING, heading, markdown_table, number
from dig.records.record import ONE_HOP, RunRecord

__all__ = ["Row", "metrics_grid"]

_HIGHER_IS_BETTER = ("hr", "ndcg", "mrr")


@dataclass(frozen=True)
class Row:
    """A row before it is drawn.

    Attributes:
        recommender: as its records name it.
        records: those that have it, a seed each.
        name: the first cell; None takes the recommender's.
    """

    recommender: str
    records: Sequence[RunRecord]
    name: str | None = None


@dataclass(frozen=True)
class _Column:
    metric: str
    part: str | None = None

    @property
    def title(self) -> str:
        return f"{heading(self.metric)}, {self.part}" if self.part else heading(self.metric)

    def values(self, row: Row, protocol: str) -> list[float]:
        """What the seeds have."""
        found = (record.value(row.recommender, protocol, self.metric, self.part) for record in row.records)
        return [value for value in found if value is not None]

    def text(self, row: Row, protocol: str) -> str:
        """Mean and spread over seeds; the interval of one run where there is no spread."""
        values = self.values(row, protocol)
        if not values:
            return MISSING
        spread = stdev(values) if len(values) > 1 else 0.0
        if spread > 0:
            return f"{number(fmean(values))} ± {number(spread)}"
        ends = None if self.part else row.records[0].interval(row.recommender, protocol, self.metric)
        return number(values[0]) if ends is None else f"{number(values[0])} ({number(ends[0])} to {number(ends[1])})"

    def best(self, rows: Sequence[Row], protocol: str) -> str | None:
        """The highest number as it is shown, where higher is better and at least two rows have one."""
        means = [fmean(values) for row in rows if (values := self.values(row, protocol))]
        return number(max(means)) if self.metric.partition("@")[0] in _HIGHER_IS_BETTER and len(means) > 1 else None


def metrics_grid(rows: Sequence[Row], protocol: str, metrics: Sequence[str], one_hop: Sequence[str]) -> str:
    """A Markdown table, the best of a column in bold; empty where no row has any of the numbers.

    Args:
        rows: recommenders.
        protocol: one of ``PROTOCOLS``.
        metrics: columns.
        one_hop: metrics with a column for each of ``ONE_HOP``.
    """
    columns = [_Column(metric) for metric in metrics] + [
        _Column(metric, part) for metric in one_hop for part in ONE_HOP
    ]
    if not any(column.values(row, protocol) for row in rows for column in columns):
        return ""
    best = [column.best(rows, protocol) for column in columns]
    several = any(len(row.records) > 1 for row in rows)
    lines = []
    for row in rows:
        cells = [column.text(row, protocol) for column in columns]
        bold = [
            f"**{text}**" if highest and text.split(" ")[0] == highest else text
            for text, highest in zip(cells, best, strict=True)
        ]
        lines.append([row.name or row.recommender, *([str(len(row.records))] if several else []), *bold])
    return markdown_table(
        ["recommender", *(["seeds"] if several else []), *(column.title for column in columns)], lines
    )
