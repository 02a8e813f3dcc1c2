import math

from dig.report.charts import HEIGHT, WIDTH, charts_of, line_chart


def test_points_land_on_the_corners_and_y_grows_upwards():
    chart = line_chart("train/loss", [(10, 4.0), (0, 2.0), (5, 3.0)])
    assert chart.lines == [f"0,{HEIGHT:.0f} {WIDTH / 2:.0f},{HEIGHT / 2:.0f} {WIDTH:.0f},0"]
    assert (chart.x_range, chart.y_range, chart.last, chart.note) == (("0", "10"), ("2", "4"), "4", "")


def test_nan_and_infinity_break_the_line_and_are_said():
    chart = line_chart("x", [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 1.5), (5, math.nan)])
    assert len(chart.lines) == 1
    assert chart.dots == [(f"{WIDTH:.0f}", f"{HEIGHT / 2:.0f}")]
    assert chart.note == "3 of 6 values not finite"


def test_one_point_equal_points_and_none():
    middle = (f"{WIDTH / 2:.0f}", f"{HEIGHT / 2:.0f}")
    assert line_chart("x", [(7, 0.25)]).dots == [middle]
    assert line_chart("x", [(0, 3.0), (1, 3.0)]).lines == [f"0,{middle[1]} {WIDTH:.0f},{middle[1]}"]
    assert line_chart("x", [(0, math.nan)]).note == "1 of 1 values not finite"
    assert line_chart("x", []).note == "no values"


def test_values_whose_span_overflows_stay_on_the_page():
    assert line_chart("x", [(0, -1.7e308), (1, 1.7e308)]).lines == [f"0,{HEIGHT:.0f} {WIDTH:.0f},0"]


def test_sparse_rows_give_a_chart_a_metric_losses_first():
    rows = [
        {"step": 0, "epoch": 0, "train/loss": 2.0, "valid/ndcg@10": None},
        {"step": 10, "epoch": 0, "train/loss": "1.5", "valid/ndcg@10": ""},
        {"step": 10, "epoch": 0, "valid/ndcg@10": 0.05, "never": None},
    ]
    charts = charts_of(rows)
    assert [chart.title for chart in charts] == ["train/loss", "valid/ndcg@10"]
    assert charts[0].y_range == ("1.5", "2")
    assert charts[1].x_range == ("10", "10")
    assert charts_of([]) == []


def test_a_step_that_was_repeated_after_an_interruption_counts_once():
    rows = [{"step": 0, "loss": 3.0}, {"step": 10, "loss": 9.0}, {"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}]
    chart = charts_of(rows)[0]
    assert chart.lines == ["0,0 150,60 300,120"]


def test_without_a_step_the_row_counts():
    assert charts_of([{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}])[0].x_range == ("0", "2")


def test_long_curves_are_thinned_but_keep_their_spikes():
    points = [(float(x), math.sin(x / 500)) for x in range(20_000)]
    points[12_345] = (12_345.0, 50.0)
    chart = line_chart("x", points)
    assert len(chart.lines[0].split()) <= 401
    assert chart.y_range[1] == "50"
    assert ",0" in {point[point.index(",") :] for point in chart.lines[0].split()}
