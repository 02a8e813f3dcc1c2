"""The reliability plot: where points lie and how large they are, and its part of the page."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from dig.report import ReportData, render_report
from dig.report.reliability import LARGEST, SIDE, reliability_points

BINS = [
    {"predicted": 0.0, "observed": 0.25, "weight": 0.1},
    {"predicted": 0.5, "observed": 0.5, "weight": 0.4},
    {"predicted": 1.0, "observed": 1.0, "weight": 0.5},
]
EVIL = "<script>alert('1')</script>"
DATA = ReportData(
    experiment="e", run_id="r", config_yaml="",
    labels={
        "interests": 12,
        "held_out": {"roc_auc": 0.875, "calibration_error": 0.0125, "interests": 7},
        "reliability": BINS,
        "features": [{"name": "in_title", "meaning": "found in the title", "weight": -1.25}],
        "examples": {"kept": [{"text": "gift-ready", "item": "Kettle", "lift": 3.5}], "rejected": []},
    },
)  # fmt: skip


def section(page: str) -> str:
    return page.split("<h2>Interest labels</h2>")[1].split("</section>")[0]


def test_points_lie_where_promise_and_outcome_put_them():
    points = reliability_points(BINS)
    assert [(float(point.x), float(point.y)) for point in points] == [(0, 0.75 * SIDE), (SIDE / 2, SIDE / 2), (SIDE, 0)]


def test_the_area_of_a_point_is_in_proportion_to_its_weight():
    radii = [float(point.radius) for point in reliability_points(BINS)]
    assert radii[2] == LARGEST
    assert radii[:2] == pytest.approx([LARGEST * math.sqrt(0.2), LARGEST * math.sqrt(0.8)], abs=0.05)
    tiny = reliability_points([*BINS, {"predicted": 0.2, "observed": 0.2, "weight": 1e-9}])[-1]
    assert float(tiny.radius) == 2.0  # still to be seen


def test_what_is_no_bin_is_left_out():
    broken = [None, "text", {}, BINS[0] | {"predicted": 1.5}, BINS[0] | {"observed": float("nan")},
              BINS[0] | {"weight": 0}, BINS[0] | {"weight": EVIL}]  # fmt: skip
    assert reliability_points(broken) == [] == reliability_points([])
    assert reliability_points([*broken, BINS[1]]) == reliability_points([BINS[1]])


def test_the_page_shows_plot_features_and_examples():
    shown = section(render_report(DATA))
    svg = ET.fromstring(shown[shown.index("<svg") : shown.index("</svg>") + len("</svg>")])  # noqa: S314 - our own
    circles = [each for each in svg.iter() if each.tag == "circle"]
    assert [(each.get("cx"), each.get("cy")) for each in circles] == [("0", "135"), ("90", "90"), ("180", "0")]
    assert circles[1][0].text == "predicted 0.500, observed 0.500, weight 40.0%"
    (diagonal,) = [each for each in svg.iter() if each.get("class") == "diagonal"]
    assert [float(diagonal.get(name)) for name in ("x1", "y1", "x2", "y2")] == [0, SIDE, SIDE, 0]
    left, top, width, height = map(float, svg.get("viewBox").split())
    for each in circles:  # no point is cut off
        x, y, r = (float(each.get(name)) for name in ("cx", "cy", "r"))
        assert left <= x - r and x + r <= left + width and top <= y - r and y + r <= top + height
    for words in ("found in the title", "-1.25", "roc auc", "0.875", "0.0125", "gift-ready", "item Kettle · lift 3.5"):
        assert words in shown, words
    for name, value in (("interests", 12), ("held out interests", 7)):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in shown
    assert "reliability 0" not in shown and "None." in shown  # nothing was rejected


def test_a_run_without_a_classifier_has_no_plot():
    shown = section(render_report(replace(DATA, labels={"classifier": "not trained: no users"})))
    assert "not trained: no users" in shown and "<svg" not in shown and "Most telling" not in shown


def test_words_from_outside_stay_words():
    labels = dict(DATA.labels) | {
        "features": [{"name": EVIL, "meaning": EVIL, "weight": EVIL}],
        "reliability": [{"predicted": EVIL, "observed": 0.5, "weight": 1}],
        "examples": {EVIL: [{"text": EVIL, "item": EVIL}]},
    }
    page = render_report(replace(DATA, labels=labels))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert render_report(replace(DATA, labels={"held_out": EVIL, "examples": EVIL, "features": EVIL, "reliability": 3}))
