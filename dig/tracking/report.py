"""What a finished stage and a finished run send: values, plots, tables, files, and the artifacts they are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from dig.config import Config
from dig.engine.artifacts import hash_file, link_or_copy, read_json
from dig.engine.console import printable, spreadsheet_cell
from dig.engine.own_files import temporary_beside
from dig.tracking.connection import Connection, safe_name

if TYPE_CHECKING:
    from wandb import Artifact, Table
    from wandb.sdk.wandb_run import Run

__all__ = [
    "Result",
    "declaration",
    "declare",
    "results_of_run",
    "result_of_stage",
    "Rows",
    "metric_rows",
    "recommendation_rows",
    "slice_rows",
    "summary_values",
    "log_report",
    "log_stage",
]


_STAGES = {"label": ("interests", "interests.parquet"), "tokenize": ("semantic-ids", "semantic_ids.parquet")}
_RUN = (
    "metrics.json",
    "recommendations.parquet",
    "recommendations_masked.parquet",
    "recommendations_unmasked.parquet",
    "config.yaml",
    "versions.json",
    "report.html",
)


@dataclass(frozen=True)
class Result:
    """Files that become a W&B artifact.

    Attributes:
        kind: the artifact's type.
        name: of the artifact, whose versions differ by content.
        files: by their name in the artifact.
        metadata: shown beside it.
    """

    kind: str
    name: str
    files: Mapping[str, Path]
    metadata: Mapping[str, Any]


def result_of_stage(experiment: str, stage: str, folder: Path, log_model: bool) -> Result | None:
    """What a finished stage leaves for W&B; None for most stages."""
    metadata = {"experiment": experiment, "stage": stage, "fingerprint": folder.name}
    if stage in _STAGES:
        kind, name = _STAGES[stage]
        return Result(kind, safe_name(f"{experiment}-{kind}"), {name: folder / name}, metadata)
    model = folder / "model"
    if not (log_model and model.is_dir() and (folder / "training.json").is_file()):
        return None
    files = {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()}
    return Result("model", safe_name(f"{experiment}-{stage}"), files, metadata) if files else None


def results_of_run(experiment: str, run: Path) -> Result:
    """Metrics and recommendations of a run, and the page that shows them."""
    files = {name: run / name for name in _RUN if (run / name).is_file()}
    return Result("results", safe_name(f"{experiment}-results"), files, {"experiment": experiment, "run": run.name})


def declare(run: Run, result: Result, folder: Path, used: bool) -> None:
    """Says that a W&B run made a result, or was made from it.

    Args:
        run: the W&B run.
        result: the files.
        folder: of the experiment's run; the files are linked under its `wandb` folder, where they stay as they are
            until they are sent, whatever becomes of the cache and of later runs.
        used: whether the run read it. W&B finds a version of the same content again and makes no second one, so a
            result that was made elsewhere, or earlier, can be used without asking for it by name.
    """
    artifact = _artifact(result, folder)
    if not used:
        run.log_artifact(artifact, aliases=["latest", *_aliases(result)])
        return
    # `use_artifact` refuses to work offline and waits for the server online. This is what it does with an artifact
    # that is not sent yet, less the waiting; the use is in the records and is entered when they are synced.
    run._log_artifact(artifact, aliases=_aliases(result), is_user_created=True, use_after_commit=True)


def _artifact(result: Result, folder: Path) -> Artifact:
    import wandb

    artifact = wandb.Artifact(result.name, type=result.kind, metadata=dict(result.metadata))
    for name, path in result.files.items():
        artifact.add_file(str(_kept(path, folder)), name=name, policy="immutable", skip_cache=True)
    return artifact


def _aliases(result: Result) -> list[str]:
    return [str(result.metadata[key]) for key in ("fingerprint", "run") if key in result.metadata]


def _kept(path: Path, folder: Path) -> Path:
    """The file under a name made of its content, linked where the file system allows it, else copied."""
    copy = folder / "wandb" / "data" / "files" / f"{hash_file(path)[:32]}{path.suffix}"
    if not copy.is_file():
        temporary = temporary_beside(copy)
        link_or_copy(path, temporary)
        temporary.replace(copy)
    return copy


# Tables of a finished run: sample recommendations in words, metrics with their intervals, slices.
#
# All texts of items come from outside. They are cut, freed of control characters, and logged as plain strings.


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
    values: dict[str, float | str | bool] = {}
    for stage, content in metrics.items():
        values_shown = {key: value for key, value in content.items() if key not in ("slices", "intervals")}
        values |= dict(_leaves(values_shown, f"{stage}/"))
    return values


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> Rows:
    """A row per metric, with the 95 % interval over users where there is one."""
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
        for name, metrics_of_slice in slices.items()
        for metric, value in metrics_of_slice.items()
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
    chosen_answers = answers.filter(pl.col("example").is_in(chosen.implode())).sort("example", maintain_order=True)
    titles = _Titles(run)
    rows = []
    for example, items, scores, target, stage in chosen_answers.iter_rows():
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


# What a finished stage and a finished run send: values, plots, tables and files.


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
            connection.attempt(f"the artifact {result.name}", declaration(result, run, True))
        connection.attempt("the results", declaration(results_of_run(config.experiment, run), run, False))


def _summary(path: Path, before: str) -> Callable[[Run], None]:
    def send(run: Run) -> None:
        content = read_json(path)
        run.summary.update({f"{before}{path.stem}/{name}": value for name, value in _flat(content).items()})

    return send


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Numbers and words of nested content by name; of a list its entries by number."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, list):
            value = {str(at): each for at, each in enumerate(value, start=1)} if len(value) <= 16 else {}
        if isinstance(value, Mapping):
            values |= _flat(value, f"{before}{name}/")
        elif isinstance(value, (int, float, str)):
            values[f"{before}{name}"] = value
    return values


def _page(name: str, path: Path) -> Callable[[Run], None]:
    def send(run: Run) -> None:
        import wandb

        text = path.read_text(encoding="utf-8")
        run.log({name: wandb.Html(text, inject=False, data_is_not_path=True)})

    return send


def _table(name: str, make: Callable[[], Rows]) -> Callable[[Run], None]:
    def send(run: Run) -> None:
        import wandb

        rows_of_table = make()
        if rows_of_table.rows:
            rows = [
                [spreadsheet_cell(value) for value in row] for row in rows_of_table.rows
            ]  # W&B exports tables as CSV
            table: Table = wandb.Table(columns=rows_of_table.columns, data=rows)
            run.log({name: table})

    return send


def declaration(result: Result, run: Path, used: bool) -> Callable[[Run], None]:
    """:func:`declare` for a run that is yet to be named."""
    return lambda each: declare(each, result, run, used)
