"""What a finished stage and a finished run send: values, plots, tables and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.config import Config
from dig.engine.artifacts import read_json
from dig.engine.console import spreadsheet_cell
from dig.tracking.connection import Connection
from dig.tracking.lineage import Result, declare, results_of_run
from dig.tracking.tables import Rows, metric_rows, recommendation_rows, slice_rows, summary_values

if TYPE_CHECKING:
    from wandb import Table
    from wandb.sdk.wandb_run import Run

__all__ = ["log_report", "log_stage"]

_FACTS = {"tokenize": "health.json", "label": "report.json"}


def log_stage(connection: Connection, stage: str, folder: Path, shared: bool) -> None:
    """Values and plots that a stage left in its artifact's folder.

    Args:
        connection: the open run.
        stage: the stage.
        folder: its artifact's.
        shared: whether other stages log to the same run, so that names need the stage's before them.
    """
    before = f"{stage}/" if shared else ""
    facts = {name: folder / name for name in ("training.json", _FACTS.get(stage, "")) if (folder / name).is_file()}
    for path in facts.values():
        connection.attempt(path.name, _summary(path, before))
    plot = folder / "codes.svg"
    if plot.is_file():
        connection.attempt("the plot of codes", _page(f"{before}codes", plot))


def log_report(
    connection: Connection, config: Config, run: Path, metrics: Mapping[str, Any], used: Iterable[Result]
) -> None:
    """The results of a run.

    Args:
        connection: the open run.
        config: the experiment.
        run: its folder, as `report` filled it.
        metrics: what `metrics.json` holds.
        used: the results of stages that it stands on.
    """
    wandb_config = config.logging.wandb
    connection.attempt("the summary", lambda each: each.summary.update(summary_values(metrics)))
    tables: dict[str, Callable[[], Rows]] = {
        "results/metrics": lambda: metric_rows(metrics),
        "results/slices": lambda: slice_rows(metrics),
        "results/recommendations": lambda: recommendation_rows(run, wandb_config.samples),
    }
    for name, make in tables.items():
        connection.attempt(f"the table {name}", _table(name, make))
    if wandb_config.artifacts:
        if (run / "report.html").is_file():
            connection.attempt("the report", _page("results/report", run / "report.html"))
        for result in used:
            connection.attempt(f"the artifact {result.name}", _declaration(result, run, True))
        connection.attempt("the results", _declaration(results_of_run(config.experiment, run), run, False))


def _summary(path: Path, before: str) -> Callable[[Run], None]:
    def send(run: Run) -> None:
        content = read_json(path)
        run.summary.update({f"{before}{path.stem}/{name}": value for name, value in _flat(content).items()})

    return send


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Numbers and words of nested content by name; of a list its entries by number."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, list):
            value = {str(at): each for at, each in enumerate(value, start=1)} if len(value) <= 16 else {}
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}/")
        elif isinstance(value, (int, float, str)):
            found[f"{before}{name}"] = value
    return found


def _page(name: str, path: Path) -> Callable[[Run], None]:
    def send(run: Run) -> None:
        import wandb

        text = path.read_text(encoding="utf-8")
        run.log({name: wandb.Html(text, inject=False, data_is_not_path=True)})

    return send


def _table(name: str, make: Callable[[], Rows]) -> Callable[[Run], None]:
    def send(run: Run) -> None:
        import wandb

        found = make()
        if found.rows:
            rows = [[spreadsheet_cell(value) for value in row] for row in found.rows]  # W&B exports tables as CSV
            table: Table = wandb.Table(columns=found.columns, data=rows)
            run.log({name: table})

    return send


def _declaration(result: Result, run: Path, used: bool) -> Callable[[Run], None]:
    return lambda each: declare(each, result, run, used)
