"""Sections on the run: what was run, how it learned, Semantic IDs, interests, and people as examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dig.report.curves import CurvePlot, Line, curve_plots, lines_plot, log_lines, thinned
from dig.report.data import ReportData
from dig.report.formats import is_list, listed, main_cutoff, mapping, number, recommender_name, shorten, words
from dig.report.people import Chosen, choose_people
from dig.report.pictures import Thumbnails
from dig.report.plots import Plot, read_bins, reliability_plot
from dig.report.tree import code_tree

__all__ = [
    "what_was_run",
    "learning_curves",
    "of_rollouts",
    "rollouts",
    "semantic_ids",
    "interest_labels",
    "Item",
    "examples",
]


def what_was_run(data: ReportData) -> dict[str, Any]:
    """The stages with what they took in all; the rest is shown as it is given."""
    seconds = [stage.get("seconds") for stage in data.stages if not stage.get("cached")]
    return {"spent": sum(each for each in seconds if isinstance(each, (int, float))), "built": len(seconds)}


# Learning curves of all stages that left a log.


_TELLING = ("HR", "NDCG", "MRR", "codebook usage", "codebook perplexity", "codebook collision rate")
"""Titles of plots that are not folded away, beside losses."""
_OF_ROLLOUTS = ("train/kl", "train/entropy", "train/clip_ratio", "train/ratio")


def of_rollouts(stage: str, metric: str) -> bool:
    """Whether a metric tells of GRPO's rollouts, which have a part of their own."""
    return stage == "grpo" and (metric.startswith("rollout/") or metric in _OF_ROLLOUTS)


def learning_curves(data: ReportData) -> dict[str, Any]:
    """Plots by stage: those that tell how well it goes, and the others to be folded away."""
    plots_by_stage = {stage: plots for stage, rows in data.curves.items() if (plots := _plots(stage, rows))}
    return {
        "stages": {
            stage: ([plot for plot in plots if _tells(plot)], [plot for plot in plots if not _tells(plot)])
            for stage, plots in plots_by_stage.items()
        }
    }


def _tells(plot: Plot) -> bool:
    return "loss" in plot.title or plot.title in _TELLING


def _plots(stage: str, rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    lines = {name: points for name, points in log_lines(rows).items() if not of_rollouts(stage, name)}
    return [lines_plot(plot) for plot in curve_plots(lines)]


# GRPO: what its rollouts earned and whether they still teach, and groups of them as titles.


_TERM = "rollout/reward_"
_MEANS = {
    "rollout reward": "mean reward of a rollout, all terms together",
    "KL": "how far the policy has moved from its reference",
    "entropy": "how undecided the policy is, in nats",
    "rollout frac reward zero std": "groups whose rollouts all earned the same, which teach nothing",
    "rollout groups with hit": "groups in which the target was rolled out",
    "rollout unique fraction": "different items of a group, as a share",
    "rollout hits": "rollouts that are the target",
    "rollout nll": "negative log-likelihood of the policy's own rollouts, in nats",
    "clip ratio": "tokens whose ratio was cut off",
    "ratio": "new over old probability of what was rolled out",
}


def rollouts(data: ReportData) -> dict[str, Any]:
    """Plots of the log and the groups that were told."""
    lines = log_lines(data.curves.get("grpo", ()))
    return {
        "plots": _rollout_plots(lines),
        "groups": data.groups,
        "thumbnail": Thumbnails(data.pictures, most=120),
        "trained": "grpo" in data.curves or "grpo" in data.metrics,
    }


def _rollout_plots(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Plot]:
    """The reward and its terms, then how far and how sure the policy is, then what its groups still teach."""
    others = _others(lines)
    first = [plot for plot in others if plot.title == "reward"]
    return [*first, *_by_term(lines), *(plot for plot in others if plot not in first)]


def _by_term(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Plot]:
    terms = {name.removeprefix(_TERM): points for name, points in lines.items() if name.startswith(_TERM)}
    if not terms:
        return []
    drawn = [Line(words(name), thinned(points)) for name, points in terms.items()]
    return [lines_plot(CurvePlot("reward by term", drawn, log=False, note="weighted, as they add up to the reward"))]


def _others(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Plot]:
    rest = {name: points for name, points in lines.items() if of_rollouts("grpo", name) and not name.startswith(_TERM)}
    plots = []
    for plot in curve_plots(rest):
        note = " · ".join(filter(None, (_MEANS.get(plot.title, ""), plot.note)))
        plots.append(lines_plot(CurvePlot(plot.title.removeprefix("rollout "), plot.lines, plot.log, note)))
    return plots


# Semantic IDs: health of the codebooks, the picture of the tree, and the tree to walk through.


_OF_LEVELS = ("sizes", "usage", "perplexity", "dead_codes", "purity", "neighbour_lift")


def semantic_ids(data: ReportData) -> dict[str, Any]:
    """A row a codebook level, the other figures, and the tree in both forms."""
    health = data.health
    columns = {key: health[key] for key in _OF_LEVELS if is_list(health.get(key))}
    count = max((len(column) for column in columns.values()), default=0)
    return {
        "levels": [
            {key: column[level] for key, column in columns.items() if level < len(column)} for level in range(count)
        ],
        "facts": {key: value for key, value in health.items() if not is_list(value)},
        "picture": _picture(data),
        "tree": code_tree(data.ids, _titles(data)) if data.ids is not None and data.ids.item_ids else None,
    }


def _picture(data: ReportData) -> Markup:
    if data.ids is None or not data.ids.item_ids:
        return Markup()
    from dig.report.code_tree import code_tree_svg

    return Markup(code_tree_svg(data.ids.codes, data.ids.sizes))  # noqa: S704 - numbers alone


def _titles(data: ReportData) -> dict[str, str]:
    if data.catalogue is None:
        return {}
    return dict(zip(data.catalogue["item_id"], data.catalogue["title"].fill_null(""), strict=True))


# Interests and labels: what RLDI measured of itself, and examples of what it kept and rejected.


_TELLING_KEYS = 12
"""Features of the interest classifier that are shown."""
_SHOWN_APART = ("held_out", "examples", "reliability", "features")


def interest_labels(data: ReportData) -> dict[str, Any]:
    """RLDI's report in parts: figures, the reliability plot, features, lists of examples."""
    labels = data.labels
    rest = {key: value for key, value in labels.items() if key not in _SHOWN_APART}
    lists = {**rest, **mapping(labels.get("examples"))}
    held_out = {
        f"held_out_{key}" if key in rest else key: value for key, value in mapping(labels.get("held_out")).items()
    }
    features = [mapping(each) for each in listed(labels.get("features"))]
    bins = read_bins(listed(labels.get("reliability")))
    return {
        "figures": {key: value for key, value in (rest | held_out).items() if not is_list(value)},
        "reliability": reliability_plot(bins) if bins else None,
        "features": [each for each in features if each][:_TELLING_KEYS],
        "lists": {key: [_example(each) for each in value] for key, value in lists.items() if is_list(value)},
    }


def _example(value: Any) -> tuple[str, str]:
    """The text of a labelled interest, and what else is known of it."""
    example = mapping(value)
    if not example:
        return number(value), ""
    rest = {key: each for key, each in example.items() if key != "text"}
    return str(example.get("text", "")), " · ".join(f"{words(str(key))} {number(each)}" for key, each in rest.items())


# Examples: people, what they were after, what was recommended, and why it is worth a look.


_HISTORY = 10
_TITLE = 160


@dataclass(frozen=True)
class Item:
    """An item as it is shown."""

    id: str
    title: str
    brand: str
    picture: str
    """A data URI, empty where there is no picture."""


def examples(data: ReportData) -> dict[str, Any]:
    """The chosen people with their items looked up."""
    cutoff = main_cutoff(data.metrics)
    shown = _Shown(data)
    chosen = _chosen(data, cutoff)
    return {
        "cutoff": cutoff,
        "people": [_card(each, shown) for each in chosen],
        "recommender": recommender_name(list(chosen[0].person.places)[-1]) if chosen else "",
    }


def _chosen(data: ReportData, cutoff: int) -> list[Chosen]:
    if data.recommendations is None or data.examples is None or "example" not in data.recommendations.columns:
        return []
    profiles = None
    if data.interests is not None and not data.interests.is_empty():
        from dig.interests.profiles import InterestProfiles

        profiles = InterestProfiles(data.interests)
    return choose_people(data.recommendations, data.examples, cutoff, data.ids, profiles)


class _Shown:
    """Looks items up for the page."""

    def __init__(self, data: ReportData) -> None:
        catalogue = data.catalogue
        self.rows = {}
        if catalogue is not None:
            brands = catalogue["brand"].to_list() if "brand" in catalogue.columns else [None] * len(catalogue)
            self.rows = dict(
                zip(catalogue["item_id"].to_list(), zip(catalogue["title"].to_list(), brands, strict=True), strict=True)
            )
        self.thumbnail = Thumbnails(data.pictures)

    def __call__(self, item: str) -> Item:
        title, brand = self.rows.get(item, (None, None))
        return Item(item, shorten(title or "untitled", _TITLE), shorten(brand or "", 60), self.thumbnail(item))


def _card(chosen: Chosen, shown: _Shown) -> dict[str, Any]:
    person = chosen.person
    skipped = max(0, len(person.history) - _HISTORY)
    return {
        "title": chosen.title,
        "why": chosen.why,
        "hit": chosen.hit,
        "user": shorten(person.user, 60),
        "skipped": skipped,
        "history": [shown(item) for item in person.history[skipped:]],
        "target": shown(person.target),
        "sid": person.sid,
        "shared": person.shared,
        "interests": person.interests,
        "recommended": [(shown(each.item), each) for each in person.recommendations],
        "places": person.places,
    }
