"""The page of a sweep in a browser: drawn whole, without a complaint or a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser.conftest import Opened
from support.sweep_files import write

from dig.sweeps.page import render_page
from dig.sweeps.results import TrialRow
from dig.sweeps.settings import load_settings

EVIL = "<img src=x onerror='window.ran = 1'>"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    settings = load_settings(write(tmp_path), [f"runs_dir={tmp_path}"])
    rows = []
    for number in range(1, 13):
        point = {"rqvae.codebook_size": 8 * (1 + number % 4), "rqvae.levels": 2 + number % 3}
        value = 0.02 * (number % 4) + 0.005 * (number % 3)
        rows.append(TrialRow(number, point, value, 3.0, "done", 3, history=[value / 3, value / 2, value]))
    rows.append(TrialRow(13, rows[0].point, 0.001, 1.0, "stopped early", 1, history=[0.001]))
    rows.append(TrialRow(14, rows[0].point, None, 1.0, "failed", 0, reason=EVIL))
    path = tmp_path / "sweep.html"
    path.write_text(render_page(settings, rows, {"rqvae.codebook_size": 0.9, "rqvae.levels": 0.1}), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_all_plots_are_drawn_and_text_stays_text(browser: Any, page: Path, width: int, scheme: str):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    look = Opened(context.new_page())
    look.page.on("console", lambda message: look.complaints.append(message.text))
    look.page.on("pageerror", lambda error: look.complaints.append(str(error)))
    look.page.on("request", lambda request: look.requests.append(request.url))
    look.page.goto(page.as_uri())
    look.draw_all()
    drawn = look.page.evaluate(
        "[...document.querySelectorAll('figure.plot')].map(each => each.querySelectorAll('svg .role-mark path').length)"
    )
    assert len(drawn) == 4 and min(drawn) >= 1
    assert look.complaints == [] and len(look.requests) == 1
    assert look.page.evaluate("window.ran") is None and EVIL in look.page.inner_text("#trials")
    assert look.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()
