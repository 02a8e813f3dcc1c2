"""``report.html``: one file that shows a run, without a network or a font from elsewhere.

Titles and ids of items come from outside: templates escape everything, data for scripts are JSON that cannot end its
element, and a content security policy allows the page's own scripts and styles by their hash and nothing else.

Vega evaluates the expressions of a plot by walking their syntax tree (its interpreter), so that the policy needs
no `unsafe-eval`; scripts and styles are allowed by their hash, so that text from outside can add none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dig.engine.console import visible
from dig.report.data import ReportData
from dig.report.formats import (
    duration,
    finite,
    interval,
    interval_bounds,
    main_metric,
    metric_name,
    number,
    recommender_name,
    shorten,
    slug,
    values_of,
    words,
)
from dig.report.plots import CONFIG, colour_index
from dig.report.sections import SECTIONS

__all__ = ["content_policy", "finalize", "json_block", "render_page", "render_report", "vega_bundle"]


_CLOSING = re.compile(r"<(?=/script|!--)", re.IGNORECASE)


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, which leaves ``vegaEmbed`` in the window."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    # within strings and patterns, where alone these stand, the escape means the same
    return _CLOSING.sub(r"\\x3c", bundle).replace("\r\n", "\n").replace("\r", "\n")


def json_block(value: Any) -> Markup:
    """A value as JSON for a ``<script type="application/json">``: ASCII, nothing that could end the element, and no
    control character in what a plot shows.

    Raises:
        ValueError: for NaN and infinities, which JSON has none of.
    """
    text = json.dumps(_shown(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing is left that HTML would read


def finalize(value: Any) -> Any:
    """What a template does to each value before it is escaped: text from outside loses its control characters."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_shown(key): _shown(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    return finalize(value)


def content_policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """The content security policy of a page with these scripts and style sheets, and pictures in data URIs."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_source, scripts))}",
            f"style-src {' '.join(map(_source, styles))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_TEMPLATES = Path(__file__).parent / "templates"


def render_report(data: ReportData) -> str:
    """The report as a page of HTML, to be written as UTF-8; a lone surrogate, which cannot be, is a question mark."""

    def values() -> dict[str, Any]:
        return {
            "data": data,
            "sections": SECTIONS,
            "contents": {section.id: section.content(data) for section in SECTIONS},
            "headline": _headline(data),
            "colours": {name: colour_index(name, list(data.metrics)) for name in data.metrics},
        }

    return render_page("page.html.j2", values)


def render_page(template: str, values: Callable[[], Mapping[str, Any]], folder: Path = _TEMPLATES) -> str:
    """A page of HTML that holds its style, scripts and data, under a policy that lets nothing else run.

    Args:
        template: its name.
        values: what the template is given, plots among them. Called while Altair does not hold plots to Vega-Lite's
            schema: tests do that, and to do it again in every run takes longer than to draw.
        folder: where the template lies; those of the report are beside it.

    Returns:
        The page, to be written as UTF-8; a lone surrogate, which cannot be, is a question mark.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES]),
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

    with debug_mode(False):
        shown = values()
    style, scripts = _text("style.css"), [vega_bundle(), _text("page.js")]
    page = environment.get_template(template).render(
        **shown,
        config=CONFIG,
        policy=Markup(content_policy(scripts, [style])),  # noqa: S704 - hashes and our own words
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own file and the library
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _headline(data: ReportData) -> list[tuple[str, str, str]]:
    """The figures above all parts: their words, the number, and what else is to be said of it."""
    metric = main_metric(data.metrics)
    by_recommender = {
        name: value
        for name, values in values_of(data.metrics, "test").items()
        if (value := finite(values.get(metric))) is not None
    }
    figures = []
    if by_recommender:
        best = max(by_recommender, key=lambda name: by_recommender[name])
        bounds = interval(interval_bounds(data.metrics[best], "test", metric))
        figures.append((f"{metric_name(metric)}, {recommender_name(best)}", f"{by_recommender[best]:.4f}", bounds))
    counted = [key for key in ("users", "items", "interactions") if finite(data.statistics.get(key)) is not None]
    return [*figures, *((key, number(data.statistics[key]), "") for key in counted)]


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
