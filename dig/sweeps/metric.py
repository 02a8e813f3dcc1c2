"""What a sweep looks at: a metric in the log of a training stage, never of the test."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dig.config import BASELINES, RECOMMENDERS, STAGES, Config, UserError, nearest
from dig.config.documents import read_json_mapping
from dig.config.schema import BUILT_IN_STAGES
from dig.sweeps.file import MetricGoal, SweepFile, wrong

__all__ = ["FAMILIES", "Metric", "find_metric", "reported"]

FAMILIES = ("hr", "ndcg")
"""What a validation logs at each cut-off."""
_LESS_IS_BETTER = ("loss", "collision_rate", "largest_collision", "dead_codes", "reconstruction", "kl")


@dataclass(frozen=True)
class Metric:
    """A number of a stage's log.

    Attributes:
        stage: whose.
        name: as it is logged.
        maximize: whether more is better.
        target: a value that ends the sweep.
    """

    stage: str
    name: str
    maximize: bool
    target: float | None = None

    @property
    def validated(self) -> bool:
        """Whether validations tell it while training goes on."""
        return self.name.startswith("valid/")

    def better(self, one: float, other: float) -> bool:
        """Whether the first is better."""
        return one > other if self.maximize else one < other

    def reaches_target(self, value: float) -> bool:
        """Whether a sweep may end with this value."""
        return self.target is not None and not self.better(self.target, value)

    def read(self, artifact: Path) -> float:
        """The number of a finished stage: that of the weights that were kept, where the log says it; else the best
        validation; of what training itself logs, the last.

        Raises:
            UserError: the log has it nowhere.
        """
        chosen = artifact / "training.json"
        if chosen.is_file() and isinstance(value := read_json_mapping(chosen).get(self.name), (int, float)):
            return float(value)
        values = [value for _, value in _logged(artifact, self.name) if math.isfinite(value)]
        if not values:
            raise UserError(f"the log of {self.stage} has no {self.name}")
        if not self.validated:
            return values[-1]
        return max(values) if self.maximize else min(values)

    def history(self, artifact: Path) -> list[float]:
        """What each validation of a finished stage's training found; empty for what no validation tells."""
        by_step = dict(_logged(artifact, self.name)) if self.validated else {}
        return [by_step[step] for step in sorted(by_step) if step > 0]  # at 0 the weights before training compete


def find_metric(file: SweepFile, config: Config) -> Metric:
    """What the file looks for, in the log of the last stage of the configuration that writes it.

    Raises:
        UserError: with exit code 2: it is of the test, or no stage that runs reports it.
    """
    asked = file.metric or MetricGoal(f"valid/ndcg@{max(config.evaluation.ks)}", "maximize")
    stage, name = _stage_and_name(file, asked.name)
    stages = reported(config)
    having = [each for each in stages if name in stages[each] and stage in (None, each)]
    if not having:
        raise wrong(file.path, "metric.name", _unknown(asked.name, stage, name, stages))
    return Metric(having[-1], name, _maximize(file, asked, name), asked.target)


def reported(config: Config) -> dict[str, list[str]]:
    """What each stage logs that a configuration trains, in the order in which stages run.

    What a stage needs trains, too: a run of ``grpo`` has the log of ``sft``.
    """
    ks = config.evaluation.ks
    valid = [f"valid/{family}@{k}" for k in ks for family in FAMILIES]
    codebook = [
        f"codebook/{name}_{level}"
        for name in ("batch_usage", "usage", "perplexity", "dead_codes")
        for level in range(1, len(config.rqvae.sizes) + 1)
    ]
    codebook += [f"codebook/{name}" for name in ("collision_rate", "largest_collision", "reconstruction")]
    logged = {"tokenize": ["train/loss", "train/reconstruction", "train/quantizer", *codebook]}
    if config.rqvae.tokenizer != "rqvae":
        del logged["tokenize"]
    for name, spec in RECOMMENDERS.items():
        if spec.trained:
            logged[name] = ["train/loss", *(spec.logs(config) if spec.logs else ()), *valid]
    return {stage: names for stage, names in logged.items() if stage in _running(config)}


def _running(config: Config) -> set[str]:
    """The training stages of a configuration, with those that they need."""
    running = set(config.stages) - (set(BASELINES) - set(config.baselines))
    if config.stages == list(BUILT_IN_STAGES):
        running |= set(config.baselines)  # those of installed packages, too
    for name, spec in reversed(RECOMMENDERS.items()):
        running |= set(spec.needs) if name in running else set()
    return running


def _stage_and_name(file: SweepFile, asked: str) -> tuple[str | None, str]:
    parts = asked.split(".")
    split = parts[1] if len(parts) > 2 else asked.partition("/")[0]
    if split.startswith("test"):
        instead = asked.replace("test_masked", "test").replace("test", "valid", 1)
        raise wrong(
            file.path, "metric.name", f"{asked} is of the test split, by which nothing may be chosen; take {instead}"
        )
    if len(parts) > 2 and parts[1] == "valid":
        return parts[0], f"valid/{'.'.join(parts[2:])}"
    if len(parts) > 1 and parts[0] in STAGES:
        return parts[0], ".".join(parts[1:])
    return None, asked


def _unknown(asked: str, stage: str | None, name: str, stages: dict[str, list[str]]) -> str:
    if not stages:
        return f"no stage that runs reports {asked}: none of them trains"
    if stage is not None and stage not in stages:
        return f"{asked}: {stage} does not report while this runs; {', '.join(stages)} {_do(stages)}"
    known = {each for names in (stages.values() if stage is None else [stages[stage]]) for each in names}
    hint = nearest(name, sorted(known))
    return (
        f"no stage that runs reports {asked}{f'; did you mean {hint}?' if hint else ''} ({', '.join(stages)} "
        f"{_do(stages)} report)"
    )


def _do(stages: dict[str, list[str]]) -> str:
    return "does" if len(stages) == 1 else "do"


def _maximize(file: SweepFile, asked: MetricGoal, name: str) -> bool:
    """The file's goal; where it has none and W&B would minimise what should be maximised, it must say so."""
    leaf = name.rpartition("/")[2]
    more_is_better = name.startswith("valid/")
    if asked.goal is None and not any(leaf.startswith(each) for each in _LESS_IS_BETTER):
        raise wrong(file.path, "metric.goal", f"missing: without it W&B minimises {asked.name}; write goal: maximize")
    maximize = asked.goal == "maximize"
    if more_is_better and not maximize:
        raise wrong(file.path, "metric.goal", f"minimize would look for the worst {asked.name}; write goal: maximize")
    return maximize


def _logged(artifact: Path, name: str) -> Iterator[tuple[int, float]]:
    """A metric's values with their steps, those of interrupted attempts before those that went on."""
    for path in sorted((artifact / "logs").glob("*/metrics.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row.get(name):
                    yield int(row["step"]), float(row[name])
