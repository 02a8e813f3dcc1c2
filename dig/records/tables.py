"""Tables over the records of runs, for the templates of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from dig.config import UserError, nearest
from dig.records.curve import thinned_curve
from dig.records.grid import Row, metrics_grid
from dig.records.markdown import MISSING, heading, markdown_table, number, seconds
from dig.records.record import PROTOCOLS, RunRecord
from dig.records.store import RunStore, check_comparable

__all__ = ["RunTables"]

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
        found = metrics_grid([row for row in rows if row.records], protocol, metrics, one_hop)
        return found or f"*With the history {_told(protocol)}, this was not measured on {name}.*"

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
        found = []
        for called, wanted in rows.items():
            name, slash, stage = wanted.partition("/")
            if not slash:
                raise UserError(f"{wanted}: a row is RECORD/RECOMMENDER")
            records = self.store.family(name)
            _stages(records, [stage])
            found.append(Row(stage, [each for each in records if protocol in each.recommenders.get(stage, {})], called))
        check_comparable([record for row in found for record in row.records])
        grid = metrics_grid([row for row in found if row.records], protocol, metrics, one_hop)
        return grid or f"*With the history {_told(protocol)}, none of this was measured.*"

    def value(self, name: str, stage: str, metric: str, protocol: str = "unmasked") -> str:
        """One number for a sentence: the mean over seeds.

        Raises:
            UserError: it is not there.
        """
        _check_protocol(protocol)
        records = self.store.family(name)
        _stages(records, [stage])
        found = [value for record in records if (value := record.value(stage, protocol, metric)) is not None]
        if not found:
            raise UserError(f"no {metric} of {stage}, {protocol}, in the record {name}")
        return number(fmean(found))

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
            found = [record.recommenders[stage] for record in records if stage in record.recommenders]
            trained = [each.get("training", {}) for each in found]
            steps = _mean([each.get("steps") for each in trained])
            kept = dict.fromkeys(str(each["chosen"]) for each in trained if "chosen" in each)
            times = (_mean([each.get(key) for each in found]) for key in ("seconds", "evaluation_seconds"))
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


def _difference(found: dict[str, float] | None) -> str:
    if not found:
        return MISSING
    ends = f" ({number(found['low'], signed=True)} to {number(found['high'], signed=True)})" if "low" in found else ""
    return f"{number(found['difference'], signed=True)}{ends}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
