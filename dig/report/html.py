"""``report.html``: one file that shows a run, without a network, a script or a font from elsewhere.

Titles and ids of items come from outside, so the template escapes everything; a content security policy forbids
scripts and requests on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from dig.report.charts import HEIGHT, WIDTH, charts_of
from dig.report.code_tree import code_tree_svg
from dig.report.reliability import LARGEST, SIDE, reliability_points
from dig.report.table import metrics_grid, slices_grid, split_names

__all__ = ["ReportData", "ReportExample", "render_report"]

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class ReportExample:
    """A person: what they bought, what comes next, and what was recommended."""

    user: str
    history: Sequence[tuple[str, str | None]]
    """Item id and title, the oldest first."""
    target: tuple[str, str | None]
    """The held-out item."""
    interests: Sequence[str]
    """Interests that explain the recommendations."""
    recommendations: Sequence[tuple[str, str | None, str, float, bool]]
    """Item id, title, Semantic ID, score, and whether it is the target; the best first."""


_TELLING = 12
"""Features of the interest classifier that are shown."""
_OF_LEVELS = ("sizes", "usage", "perplexity", "dead_codes", "purity", "neighbour_lift")


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows; an empty field is said to be missing in its place."""

    experiment: str
    run_id: str
    config_yaml: str
    statistics: Mapping[str, int | float] = field(default_factory=dict)
    """Users, items, interactions, ..."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Content of ``metrics.json``."""
    stages: Sequence[Mapping[str, Any]] = field(default_factory=list)
    """``name``, ``seconds``, ``cached`` of every stage that ran."""
    health: Mapping[str, Any] = field(default_factory=dict)
    """Of the codebooks: a list with a number a level of ``usage`` (a share), ``perplexity``, ``sizes`` and others;
    ``collision_rate``, ``largest_collision``."""
    codes: tuple[Tensor, Sequence[int]] | None = None
    """Semantic IDs (items, levels) and the number of codes a level, for the picture of the code tree."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """RLDI's report: numbers, and lists of examples (strings or mappings), by name."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of the CSV log a stage, sparse."""
    examples: Sequence[ReportExample] = field(default_factory=list)
    groups: Sequence[Mapping[str, Any]] = field(default_factory=list)
    """Groups of rollouts as the callback ``GroupStories`` writes them."""


def render_report(data: ReportData) -> str:
    """The report as a page of HTML, to be written as UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, duration=_duration, words=_words)
    grids = {part: grid for part in ("test", "valid") if (grid := metrics_grid(data.metrics, part)).rows}
    metric = grids["test"].columns[-1] if "test" in grids and grids["test"].columns else ""
    page = environment.get_template(_TEMPLATE).render(
        data=data,
        grids=grids,
        split=", ".join(split_names(data.metrics)),
        metric=metric,
        slices=slices_grid(data.metrics, "test", metric),
        levels=_levels(data.health),
        code_tree=Markup(code_tree_svg(*data.codes)) if data.codes else "",  # noqa: S704 - numbers alone
        facts={key: value for key, value in data.health.items() if not _is_list(value)},
        labels=_labels(data.labels),
        side=SIDE,
        rim=LARGEST + 1,
        charts={stage: charts for stage, rows in data.curves.items() if (charts := charts_of(rows))},
        width=WIDTH,
        height=HEIGHT,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate in a title cannot be written


def _levels(health: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a codebook level of what is known about it."""
    columns = {key: health[key] for key in _OF_LEVELS if _is_list(health.get(key))}
    count = max((len(column) for column in columns.values()), default=0)
    return [{key: column[level] for key, column in columns.items() if level < len(column)} for level in range(count)]


def _labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """RLDI's report in the parts that its section shows: figures, points of the plot, features, lists of examples."""
    shown_apart = ("held_out", "examples", "reliability", "features")
    rest = {key: value for key, value in labels.items() if key not in shown_apart}
    lists = {**rest, **_mapping(labels.get("examples"))}
    held_out = {
        f"held_out_{key}" if key in rest else key: value for key, value in _mapping(labels.get("held_out")).items()
    }
    features = [_mapping(each) for each in _listed(labels.get("features"))]
    return {
        "figures": {key: value for key, value in (rest | held_out).items() if not _is_list(value)},
        "points": reliability_points(_listed(labels.get("reliability"))),
        "features": [each for each in features if each][:_TELLING],
        "lists": {key: [_example(each) for each in value] for key, value in lists.items() if _is_list(value)},
    }


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else []


def _example(value: Any) -> tuple[str, str]:
    """The text of a labelled interest, and what else is known of it."""
    if not isinstance(value, Mapping):
        return _number(value), ""
    rest = {key: each for key, each in value.items() if key != "text"}
    return str(value.get("text", "")), " · ".join(f"{_words(key)} {_number(each)}" for key, each in rest.items())


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _number(value: Any) -> str:
    """Whole numbers with separators, others with four significant digits, everything else as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))} {_number(each)}" for key, each in value.items())
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _duration(seconds: float | None) -> str:
    """Seconds in the units that people read: 0.4 s, 1 min 20 s, 2 h 5 min."""
    if seconds is None or not math.isfinite(seconds):
        return "—"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _words(key: str) -> str:
    """A key as people write it."""
    return key.replace("_", " ")
