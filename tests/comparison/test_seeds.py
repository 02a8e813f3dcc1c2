"""Several seeds as one row: which runs belong together, means for each user, and what the table says of the seeds."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
import yaml
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import rankings, write_run

from dig.comparison.contest import Contest, find_contests
from dig.comparison.measure import Comparison, measure
from dig.comparison.render import csv_text, latex, markdown, text
from dig.comparison.request import ComparisonRequest
from dig.comparison.runs import find_runs
from dig.config import UserError
from dig.evaluation.paired import bootstrap_interval, metric_gains, paired_difference

POPULAR = rankings(TARGETS, 0.05, seed=1)
SEEDS = (42, 43, 44)


def write(root: Path, experiment: str, run_id: str, seed: int, skill: float, **config: object) -> Path:
    """A run whose rankings follow from its seed, with popularity, which needs none."""
    stages = {"popularity": POPULAR, "sft": rankings(TARGETS, skill, seed=seed + int(1000 * skill))}
    folder = write_run(root / experiment / run_id, USERS, TARGETS, stages, seed=seed, one_hop=ONE_HOP)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | config))
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``good`` and ``plain`` have three seeds each, ``good`` also a fourth training with another rate."""
    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    write(root, "good", "zz", 43, 0.9, sft={"learning_rate": 0.1})
    for seed in (44, 42, 43):
        write(root, "good", f"g{seed}", seed, 0.5, stages=["sft", "report"] if seed == 44 else ["sft"])
        write(root, "plain", f"p{seed}", seed, 0.4)
    return root


def contest(*names: str, **asked: str) -> Contest:
    request = ComparisonRequest(names, metrics=("hr@5", "ndcg@10"), seeds="mean", **asked)  # type: ignore[arg-type]
    return find_contests(request)[0]


def comparison() -> Comparison:
    return measure(contest("good:sft", "plain:sft", against="plain/sft"), draws=300, seed=1)


def skilled(root: Path, experiment: str) -> list[np.ndarray]:
    """Ranks of each seed's run, read as one run alone."""
    found = []
    for seed in SEEDS:
        names = (
            f"{root}/{experiment}/{experiment[0]}{seed}:popularity",
            f"{root}/{experiment}/{experiment[0]}{seed}:sft",
        )
        (alone,) = find_contests(ComparisonRequest(names))
        found.append(alone.rows[1].ranks[0])
    return found


def test_a_run_brings_those_that_differ_in_the_seed_alone(runs: Path):
    assert [run.seed for run in find_runs(["good"], runs)] == [43]
    assert [run.seed for run in find_runs(["good"], runs, seeds=True)] == [43, 42, 44]
    assert [run.folder.name for run in find_runs(["runs/good/g44:sft"], runs, seeds=True)] == ["g44", "g42", "g43"]
    assert [run.folder.name for run in find_runs(["runs/good/zz"], runs, seeds=True)] == ["zz"]
    assert find_runs(["good:sft"], runs, seeds=True)[1].given == "runs/good/g42"


def test_what_has_not_been_finished_or_tested_is_not_brought(runs: Path):
    (runs / "good" / "g42" / "recommendations.parquet").unlink()
    (runs / "good" / "g44" / "metrics.json").write_text("{}")
    assert [run.seed for run in find_runs(["good:sft"], runs, seeds=True)] == [43]
    (runs / "good" / "g42" / "config.yaml").unlink()
    assert [run.seed for run in find_runs(["good"], runs, seeds=True)] == [43, 44]


def test_seeds_are_one_row_and_what_needs_none_is_one(runs: Path):
    found = contest("good", "plain")
    assert [(row.label, row.seeds) for row in found.rows] == [
        ("popularity", SEEDS),
        ("good/sft", SEEDS),
        ("plain/sft", SEEDS),
    ]
    for row, experiment in zip(found.rows[1:], ("good", "plain"), strict=True):
        assert np.array_equal(row.ranks, skilled(runs, experiment))


def test_another_recipe_of_the_experiment_is_another_row(runs: Path):
    found = contest("runs/good/zz:sft", "good:sft")
    assert [(row.label, row.seeds) for row in found.rows] == [
        ("good sft.learning_rate=0.1/sft", (43,)),
        ("good sft.learning_rate=not there/sft", SEEDS),
    ]
    assert contest("runs/good/zz:sft", "good:sft", against="runs/good/g44:sft").against == 1


def test_one_recipe_alone_has_nothing_to_be_compared_with(runs: Path):
    with pytest.raises(UserError, match="there is nothing to compare good:sft with: its seeds are one row"):
        contest("good:sft")


def test_users_are_resampled_with_their_mean_over_seeds(runs: Path):
    table = comparison()
    for column, metric in enumerate(("hr@5", "ndcg@10")):
        good, plain = (metric_gains(metric, np.stack(skilled(runs, name))) for name in ("good", "plain"))
        ours, theirs = (row[column] for row in table.cells)
        assert ours.value == bootstrap_interval(good.mean(axis=0), 300, seed=1)
        assert ours.gain == paired_difference(plain.mean(axis=0), good.mean(axis=0), 300, seed=1)
        assert ours.by_seed == pytest.approx([one.mean() for one in good])
        assert ours.spread == pytest.approx(stdev(one.mean() for one in good))
        by_seed = {seed: one.mean() - other.mean() for seed, one, other in zip(SEEDS, good, plain, strict=True)}
        assert ours.gain_by_seed == pytest.approx(by_seed)
        assert ours.gain is not None and ours.gain.difference == pytest.approx(fmean(by_seed.values()))
        assert ours.gain_spread == pytest.approx(stdev(by_seed.values()))
        assert theirs.gain is None and theirs.gain_by_seed == {} and theirs.gain_spread is None


def test_differences_are_by_seeds_that_both_have(runs: Path):
    for seed in (42, 44):
        (runs / "plain" / f"p{seed}" / "recommendations.parquet").unlink()
    cell = comparison().cells[0][0]
    assert set(cell.gain_by_seed) == {43} and cell.gain_spread is None and cell.spread is not None


def test_a_reference_that_needs_no_seed_is_there_for_each(runs: Path):
    table = measure(contest("good", "plain:sft", against="popularity"), draws=300, seed=1)
    popular, good, plain = (row[0] for row in table.cells)
    assert popular.spread == 0.0
    for cell in (good, plain):
        assert cell.gain_by_seed == pytest.approx(
            {seed: value - popular.value.mean for seed, value in zip(SEEDS, cell.by_seed, strict=True)}
        )


def test_every_format_tells_the_spread(runs: Path):
    table = comparison()
    good = table.cells[0][1]
    spread, gain_spread = f"sd {good.spread:.4f}", f"sd {good.gain_spread:.4f}"
    for written in (text([table]), markdown([table]), latex([table])):
        assert spread in written and gain_spread in written
        assert "Means over training seeds (42, 43, 44); sd: standard deviation over them." in written
        assert (
            "by seed: good/sft " + " ".join(f"{gain:+.4f} ({seed})" for seed, gain in good.gain_by_seed.items())
            in written
        )
    records = list(csv.DictReader(StringIO(csv_text([table]))))
    first = next(record for record in records if record["metric"] == "ndcg@10")
    assert (first["run"], first["training_seed"]) == ("g42 g43 g44", "42 43 44")
    assert float(first["sd"]) == good.spread and float(first["difference_sd"]) == good.gain_spread


def test_rows_with_other_seeds_say_so(runs: Path):
    (runs / "plain" / "p42" / "recommendations.parquet").unlink()
    assert "Means over training seeds (good/sft: 42, 43, 44; plain/sft: 43, 44)" in text([comparison()])


def test_apart_nothing_is_brought_or_said(runs: Path):
    asked = ComparisonRequest(("good:sft", "plain:sft"), metrics=("hr@5",))
    written = text([measure(find_contests(asked)[0], draws=300, seed=1)])
    assert "seeds" not in written and "sd " not in written
