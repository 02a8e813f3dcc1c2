"""Tables over the records of runs in Markdown, for the templates of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from dig.config import UserError, nearest
from scripts.results.records import ONE_HOP, PROTOCOLS, RunRecord, RunStore, check_comparable, thinned_curve

__all__ = ["MISSING", "heading", "markdown_table", "number", "seconds", "Row", "metrics_grid", "RunTables"]


MISSING = "–"


def number(value: float | None, signed: bool = False) -> str:
    """Four decimals below one, without the zero before the point; two above; whole numbers as they are.

    Args:
        value: None is a dash.
        signed: a difference, which has its sign and always its decimals.
    """
    if value is None:
        return MISSING
    size = abs(float(value))
    whole = size >= 100 or (size == int(size) and not signed)
    text = f"{size:,.0f}" if whole else f"{size:.2f}" if size >= 1 else f"{size:.4f}"
    sign = "" if not text.strip("0.") and not signed else "−" if value < 0 and text.strip("0.") else "+" * signed
    return sign + (text[1:] if text.startswith("0.") else text)


def seconds(value: float | None) -> str:
    """Seconds, one decimal below ten."""
    if value is None:
        return MISSING
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def heading(metric: str) -> str:
    """A metric's name as a column: HR@5, NDCG@10, coverage@10, popularity lift@10."""
    family, _, cutoff = metric.partition("@")
    shown = family.upper() if family in ("hr", "ndcg", "mrr") else family.replace("_", " ")
    return f"{shown}@{cutoff}" if cutoff else shown


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table without an end of line; the columns named by ``text`` hold words, the others are aligned to the right."""
    lines = ["| " + " | ".join(_cell(column) for column in columns) + " |"]
    lines.append("|" + "".join("---|" if at in text else "---:|" for at in range(len(columns))))
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# The table of metrics over recommenders.
#
# With several seeds a number is a mean and its standard deviation over seeds; with one, or where seeds do not differ,
# it has the 95 % interval of resampled users behind it.


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
        values = (record.value(row.recommender, protocol, self.metric, self.part) for record in row.records)
        return [value for value in values if value is not None]

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


# Tables over the records of runs, for the templates of the page.


_METRICS = ("hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr@5")
_WIDTH = 100
"""Columns of a line of the page that can be broken."""


class RunTables:
    """What a template calls; ``name`` is a record's, or the name before the seeds of several.

    Args:
        store: the records.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store

    def table(
        self,
        name: str,
        stages: Sequence[str] | None = None,
        protocol: str = "unmasked",
        metrics: Sequence[str] = _METRICS,
        one_hop: Sequence[str] = (),
    ) -> str:
        """Recommenders as rows: metrics of the test, then metrics of (non-)beneficiary users.
        Args:
            name: records.
            stages: recommenders in this order; None for all that were measured.
            protocol: ``unmasked`` or ``masked``.
            metrics: columns.
            one_hop: metrics that get a column for each of both kinds of users.
        Raises:
            UserError: a record or a recommender that is not there, or records that do not fit into one table.
        """
        _check_protocol(protocol)
        records = self.store.family(name)
        rows = [
            Row(stage, [record for record in records if protocol in record.recommenders.get(stage, {})])
            for stage in _stages(records, stages)
        ]
        grid = metrics_grid([row for row in rows if row.records], protocol, metrics, one_hop)
        return grid or f"*With the history {_told(protocol)}, this was not measured on {name}.*"

    def systems(
        self,
        rows: Mapping[str, str],
        protocol: str = "unmasked",
        metrics: Sequence[str] = _METRICS,
        one_hop: Sequence[str] = (),
    ) -> str:
        """Recommenders of several records as rows of one table.
        Args:
            rows: what is wanted, ``record/recommender``, by what the row is called.
            protocol: as of :meth:`table`.
            metrics: as of :meth:`table`.
            one_hop: as of :meth:`table`.

        Raises:
            UserError: as of :meth:`table`; also where the records have other test users.
        """
        _check_protocol(protocol)
        table_rows = []
        for called, wanted in rows.items():
            name, slash, stage = wanted.partition("/")
            if not slash:
                raise UserError(f"{wanted}: a row is RECORD/RECOMMENDER")
            records = self.store.family(name)
            _stages(records, [stage])
            table_rows.append(
                Row(stage, [each for each in records if protocol in each.recommenders.get(stage, {})], called)
            )
        check_comparable([record for row in table_rows for record in row.records])
        grid = metrics_grid([row for row in table_rows if row.records], protocol, metrics, one_hop)
        return grid or f"*With the history {_told(protocol)}, none of this was measured.*"

    def value(self, name: str, stage: str, metric: str, protocol: str = "unmasked") -> str:
        """One number for a sentence: the mean over seeds.
        Raises:
            UserError: it is not there.
        """
        _check_protocol(protocol)
        records = self.store.family(name)
        _stages(records, [stage])
        values = [value for record in records if (value := record.value(stage, protocol, metric)) is not None]
        if not values:
            raise UserError(f"no {metric} of {stage}, {protocol}, in the record {name}")
        return number(fmean(values))

    def users(self, name: str) -> str:
        """Number of test users."""
        users = self.store.family(name)[0].test[1]
        return MISSING if users is None else f"{users:,}"

    def gains(self, name: str, metrics: Sequence[str] = ("hr@10", "ndcg@5", "ndcg@10")) -> str:
        """What GRPO adds to SFT on the test, a row a seed, with 95 % of the paired resamplings of the users."""
        rows = []
        for record in self.store.family(name):
            over = record.recommenders.get("grpo", {}).get("over_sft", {})
            cells = [_difference(over.get(metric)) for metric in metrics]
            if over:
                rows.append([str(record.content.get("seed")), *cells])
        if not rows:
            return f"*GRPO was not measured in {name}.*"
        return markdown_table(["seed", *(heading(metric) for metric in metrics)], rows)

    def effort(self, name: str) -> str:
        """Seconds of training and of the evaluation, steps, and which weights were kept; means over seeds."""
        records = self.store.family(name)
        rows = []
        for stage in _stages(records, None):
            measured = [record.recommenders[stage] for record in records if stage in record.recommenders]
            trained = [each.get("training", {}) for each in measured]
            steps = _mean([each.get("steps") for each in trained])
            kept = dict.fromkeys(str(each["chosen"]) for each in trained if "chosen" in each)
            times = (_mean([each.get(key) for each in measured]) for key in ("seconds", "evaluation_seconds"))
            rows.append(
                [
                    stage,
                    *(seconds(time) for time in times),
                    MISSING if steps is None else f"{steps:,.0f}",
                    ", ".join(kept) or MISSING,
                ]
            )
        return markdown_table(["recommender", "training, s", "evaluation, s", "steps", "kept"], rows, (0, 4))

    def curve(self, name: str, stage: str, metrics: Sequence[str] = ("hr@10", "ndcg@10"), points: int = 14) -> str:
        """A trained recommender's validation, epochs as columns: whether it had more to learn when it ended.

        Args:
            name: records; of several seeds that were trained the first is shown.
            stage: the recommender; one that was not trained is said.
            metrics: rows.
            points: columns, at most.
        """
        curves = [record.recommenders.get(stage, {}).get("curve") for record in self.store.family(name)]
        shown = thinned_curve(next(filter(None, curves), []), points)
        if not shown:
            return f"*No validation of {stage} over its epochs is on record in {name}.*"
        rows = [[heading(metric), *(number(each.get(metric)) for each in shown)] for metric in metrics]
        return markdown_table(["epoch", *(f"{each['epoch']:.0f}" for each in shown)], rows)

    def runs(self, *names: str) -> str:
        """The commands that repeat the runs, with what they were run with."""
        lines = []
        for name in names:
            for record in self.store.family(name):
                content = record.content
                versions = ", ".join(f"{key} {value}" for key, value in content.get("versions", {}).items() if value)
                when, command = f"- {content.get('date')}, {versions}:", f"`{content['command']}`"
                together = len(when) + len(command) < _WIDTH
                lines.append(f"{when} {command}" if together else f"{when}\n  {command}")
        return "\n".join(lines)


def _stages(records: Sequence[RunRecord], asked: Sequence[str] | None) -> list[str]:
    measured = list(dict.fromkeys(stage for record in records for stage in record.recommenders))
    for stage in asked or ():
        if stage not in measured:
            hint = nearest(stage, measured)
            near = f"; did you mean {hint}?" if hint else f" (it has {', '.join(measured)})"
            raise UserError(f"{records[0].name} has no recommender {stage}{near}")
    return list(asked) if asked is not None else measured


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol={protocol}: did you mean {nearest(protocol, PROTOCOLS) or PROTOCOLS[0]}?")


def _told(protocol: str) -> str:
    return "left out of the ranking" if protocol == "masked" else "in the ranking"


def _difference(difference: dict[str, float] | None) -> str:
    if not difference:
        return MISSING
    ends = (
        f" ({number(difference['low'], signed=True)} to {number(difference['high'], signed=True)})"
        if "low" in difference
        else ""
    )
    return f"{number(difference['difference'], signed=True)}{ends}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
