"""Scripts of the page, the data they read, and the policy that lets these scripts run and nothing else.

Vega evaluates the expressions of a plot by walking their syntax tree (its interpreter), so that the policy needs
no `unsafe-eval`; scripts and styles are allowed by their hash, so that text from outside can add none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from markupsafe import Markup

from dig.engine.console import visible

__all__ = ["content_policy", "finalize", "json_block", "vega_bundle"]

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
