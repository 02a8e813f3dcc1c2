"""Plots: the compiler of Vega-Lite takes every specification, and marks stand where the numbers put them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
import vl_convert
from support.report_page import Page
from support.report_sample import sample

from dig.report import render_report
from dig.report.curves import CurvePlot, Line, lines_plot
from dig.report.plots import (
    CONFIG,
    bar_plot,
    difference_plot,
    hit_rate_plot,
    read_bins,
    reliability_plot,
    slice_plot,
    whisker_plot,
)

EVIL = "<script>'\"+alert(1)+\"'</script>"


def drawn(spec: dict) -> ET.Element:
    svg = vl_convert.vegalite_to_svg(spec | {"width": 400}, vl_version="6.1", config=CONFIG)
    return ET.fromstring(svg)  # noqa: S314 - our own


def points(svg: ET.Element, role: str = "point") -> list[tuple[float, float]]:
    """Places of the symbols."""
    found = []
    for each in svg.iter():
        if each.get("aria-roledescription") == role and (move := each.get("transform")):
            x, y = re.fullmatch(r"translate\(([-\d.e]+),([-\d.e]+)\)", move).groups()
            found.append((float(x), float(y)))
    return found


def texts(svg: ET.Element) -> list[str]:
    return ["".join(each.itertext()) for each in svg.iter() if each.tag.endswith("text")]


def test_the_compiler_takes_every_plot_of_a_run():
    specs = Page(render_report(sample())).specs
    assert len(specs) > 25
    for spec in specs:
        svg = drawn(spec)
        marks = [
            each for each in svg.iter() if (each.get("aria-roledescription") or "") in ("point", "bar", "line mark")
        ]
        assert marks, spec["description"]


def test_dots_lie_in_the_order_of_their_values_and_whiskers_reach_their_bounds():
    found = {"popularity": (0.1, 0.05, 0.2), "sft": (0.3, None, None), "grpo": (0.4, 0.35, 0.45)}
    svg = drawn(whisker_plot("ndcg@10", found).spec)
    (x1, y1), (x2, y2), (x3, y3) = sorted(points(svg), key=lambda point: point[1])
    assert x3 - x1 == pytest.approx(3 * (x2 - x1) / 2, rel=1e-3) and y2 - y1 == pytest.approx(y3 - y2)
    lengths = [
        abs(float(each.get("x2")))
        for each in svg.iter()
        if (each.get("stroke") or "").startswith("var(--s") and each.get("x2")
    ]
    assert lengths == pytest.approx([0.15 * (x3 - x1) / 0.3, 0.1 * (x3 - x1) / 0.3], abs=1)


def test_a_difference_stands_beside_nothing():
    svg = drawn(difference_plot({"hr@5": (0.01, -0.01, 0.03)}).spec)
    assert "HR@5" in texts(svg) and len(points(svg)) == 1


def test_bars_are_in_proportion():
    svg = drawn(bar_plot("coverage", {"popularity": 0.2, "sft": 0.4}).spec)
    widths = []
    for each in svg.iter():
        if each.get("aria-roledescription") == "bar":
            numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", each.get("d"))]
            widths.append(max(numbers[::1]) if numbers else 0.0)
    assert widths[1] == pytest.approx(2 * widths[0], abs=4)


def test_groups_of_users_are_a_dot_and_a_ring():
    plot = hit_rate_plot("hr@5", {"sft": {"beneficiary": 0.2, "non-beneficiary": 0.1}})
    svg = drawn(plot.spec)
    fills = {each.get("fill") for each in svg.iter() if each.get("aria-roledescription") == "point"}
    assert fills == {"var(--s4)", "var(--card)"}
    assert [(entry.name, entry.mark) for entry in plot.legend] == [("beneficiary", "dot"), ("non-beneficiary", "ring")]


def test_a_line_breaks_where_a_value_is_missing():
    line = Line("", [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0), (4.0, 3.0)])
    svg = drawn(lines_plot(CurvePlot("loss", [line], log=False)).spec)
    (path,) = [each.get("d") for each in svg.iter() if each.get("aria-roledescription") == "line mark"]
    assert path.count("M") == 2


def test_a_logarithmic_axis_says_so():
    plot = lines_plot(CurvePlot("loss", [Line("", [(0.0, 0.001), (1.0, 100.0)])], log=True))
    assert plot.note == "logarithmic axis"
    assert {layer["encoding"]["y"]["scale"]["type"] for layer in plot.spec["layer"]} == {"log"}


def test_slices_tell_their_number_of_examples():
    plot = slice_plot(
        "popularity", "ndcg@10", {"cold": 12, "warm": 3_456}, {"sft": {"cold": 0.1, "warm": 0.2}}, ["sft"]
    )
    shown = texts(drawn(plot.spec))
    assert "cold12" in shown and "warm3,456" in shown


def test_points_of_reliability_lie_where_promise_and_outcome_put_them():
    bins = [{"predicted": 0.0, "observed": 0.25, "weight": 0.1}, {"predicted": 1.0, "observed": 1.0, "weight": 0.5}]
    (x1, y1), (x2, y2) = sorted(points(drawn(reliability_plot(read_bins(bins)).spec)))
    assert x2 - x1 > 300 and y1 - y2 == pytest.approx(0.75 * 260, abs=1)


def test_what_is_no_bin_is_left_out():
    good = {"predicted": 0.5, "observed": 0.5, "weight": 1}
    broken = [
        None,
        "text",
        {},
        good | {"predicted": 1.5},
        good | {"observed": float("nan")},
        good | {"weight": 0},
        good | {"weight": EVIL},
    ]
    assert read_bins(broken) == [] and read_bins([*broken, good]) == [(0.5, 0.5, 1.0)]


def test_names_from_outside_are_labels_and_no_expressions():
    for plot in (
        whisker_plot(f"hr@{EVIL}", {EVIL: (0.1, 0.05, 0.2)}),
        slice_plot(EVIL, EVIL, {EVIL: 3}, {EVIL: {EVIL: 0.1}}, [EVIL]),
        lines_plot(CurvePlot(EVIL, [Line(EVIL, [(0.0, 1.0), (1.0, 2.0)])], log=False)),
    ):
        assert drawn(plot.spec) is not None
        expressions = re.findall(r"'(?:expr|labelExpr|test|signal)': '([^']*)'", str(plot.spec))
        assert not any("alert" in each for each in expressions)


def test_plots_of_one_shape_share_nothing_but_the_shape():
    first, second = (
        lines_plot(
            CurvePlot(
                title, [Line(f"{title} {part}", [(0, start), (1, start + 1)]) for part in ("train", "valid")], log=False
            )
        )
        for title, start in (("loss", 1.0), ("HR", 2.0))
    )
    for plot, title, start in ((first, "loss", 1.0), (second, "HR", 2.0)):
        names = [f"{title} train", f"{title} valid"]
        assert plot.spec["description"] == f"{title} over steps"
        assert [row["y"] for row in plot.spec["data"]["values"]] == 2 * [start, start + 1]
        lines, dots = plot.spec["layer"]
        for scale in (lines["encoding"]["color"], lines["encoding"]["strokeDash"], dots["encoding"]["color"]):
            assert scale["scale"]["domain"] == names
        assert len([each for each in drawn(plot.spec).iter() if each.get("aria-roledescription") == "line mark"]) == 2
