"""The report in a real browser: Chromium without a window, as it is on the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.report_sample import sample

from dig.report import ReportData, render_report

EVIL = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>\"'&\u202e"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass
class Opened:
    """A page in the browser, and what it complained of."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def draw_all(self) -> None:
        """Waits until every plot that has room is drawn; the policy of the page forbids to wait within it."""
        waiting = "[...document.querySelectorAll('.vega')].filter(each => each.clientWidth && !/done|failed/.test(each.dataset.drawn))"  # noqa: E501
        for _ in range(600):
            if not self.page.evaluate(f"{waiting}.length"):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("plots were not drawn within a minute")


@pytest.fixture(scope="module")  # its event loop runs as long as it lives, and other tests start their own
def browser() -> Iterator[Any]:
    """Chromium; without one the tests are skipped, or fail where DIG_REQUIRE_BROWSER is set."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _none("playwright is not installed (it is in the extra `dev`)")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        _none(f"none of {', '.join(_NAMES)} is on this machine")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def _none(reason: str) -> None:
    if os.environ.get("DIG_REQUIRE_BROWSER"):
        pytest.fail(f"DIG_REQUIRE_BROWSER is set, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """A run in which titles, brands and interests try to be scripts."""
    found = sample(folder=tmp_path_factory.mktemp("pictures"))
    titles = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit(EVIL)).otherwise("title")
    interests = found.interests.with_columns(text=pl.col("text") + EVIL)
    metrics = {(EVIL if name == "tiger" else name): values for name, values in found.metrics.items()}
    return replace(
        found, catalogue=found.catalogue.with_columns(title=titles, brand=titles), interests=interests, metrics=metrics
    )


@pytest.fixture(scope="session")
def report(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page as a file."""
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_text(render_report(data), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Callable[..., Opened]]:
    """Opens the page; takes the width, the colour scheme and whether scripts run."""
    contexts = []

    def look(width: int = 1280, scheme: str = "light", scripts: bool = True) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("requestfailed", lambda request: found.complaints.append(request.url[:80]))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(report.as_uri())
        return found

    yield look
    for context in contexts:
        context.close()
