"""``report.html``: one file that shows a run, without a network or a font from elsewhere.

Titles and ids of items come from outside: templates escape everything, data for scripts are JSON that cannot end its
element, and a content security policy allows the page's own scripts and styles by their hash and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dig.report.data import ReportData
from dig.report.formats import duration, interval, metric_name, number, recommender_name, shorten, slug, words
from dig.report.plots.style import CONFIG, colour_index
from dig.report.protocols import finite, interval_bounds, main_metric, values_of
from dig.report.scripts import content_policy, finalize, json_block, vega_bundle
from dig.report.sections import SECTIONS

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_report(data: ReportData) -> str:
    """The report as a page of HTML, to be written as UTF-8; a lone surrogate, which cannot be, is a question mark."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        duration=duration,
        words=words,
        metric=metric_name,
        recommender=recommender_name,
        shorten=shorten,
        slug=slug,
        json_block=json_block,
    )
    from altair.utils.schemapi import debug_mode

    # Tests hold the plots to Vega-Lite's schema; to do it again in every run takes longer than to draw.
    with debug_mode(False):
        contents = {section.id: section.content(data) for section in SECTIONS}
    style, scripts = _text("style.css"), [vega_bundle(), _text("page.js")]
    page = environment.get_template("page.html.j2").render(
        data=data,
        sections=SECTIONS,
        contents=contents,
        headline=_headline(data),
        colours={name: colour_index(name, list(data.metrics)) for name in data.metrics},
        config=CONFIG,
        policy=Markup(content_policy(scripts, [style])),  # noqa: S704 - hashes and our own words
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own file and the library
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _headline(data: ReportData) -> list[tuple[str, str, str]]:
    """The figures above all parts: their words, the number, and what else is to be said of it."""
    metric = main_metric(data.metrics)
    found = {
        name: value
        for name, values in values_of(data.metrics, "test").items()
        if (value := finite(values.get(metric))) is not None
    }
    figures = []
    if found:
        best = max(found, key=lambda name: found[name])
        bounds = interval(interval_bounds(data.metrics[best], "test", metric))
        figures.append((f"{metric_name(metric)}, {recommender_name(best)}", f"{found[best]:.4f}", bounds))
    counted = [key for key in ("users", "items", "interactions") if finite(data.statistics.get(key)) is not None]
    return [*figures, *((key, number(data.statistics[key]), "") for key in counted)]


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
