"""Learning curves: which lines share a plot, what is thinned, and when a logarithmic axis helps."""

from __future__ import annotations

import math

from dig.report.curves import curve_plots, log_lines, thinned


def test_sparse_rows_give_a_line_a_metric():
    rows = [
        {"step": 0, "epoch": 0, "train/loss": 2.0, "valid/ndcg@10": None},
        {"step": 10, "epoch": 0, "train/loss": "1.5", "valid/ndcg@10": ""},
        {"step": 10, "epoch": 0, "valid/ndcg@10": 0.05, "never": None},
    ]
    assert log_lines(rows) == {"train/loss": [(0.0, 2.0), (10.0, 1.5)], "valid/ndcg@10": [(10.0, 0.05)]}
    assert log_lines([]) == {}


def test_a_step_that_was_repeated_after_an_interruption_counts_once():
    rows = [{"step": 0, "loss": 3.0}, {"step": 10, "loss": 9.0}, {"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}]
    assert log_lines(rows)["loss"] == [(0.0, 3.0), (10.0, 2.0), (20.0, 1.0)]


def test_without_a_step_the_epoch_counts_and_without_both_the_row():
    assert log_lines([{"epoch": 2, "loss": 1.0}])["loss"] == [(2.0, 1.0)]
    assert [x for x, _ in log_lines([{"loss": 1.0}, {"loss": 2.0}])["loss"]] == [0.0, 1.0]


def test_views_of_one_thing_share_a_plot_and_losses_come_first():
    names = [
        "valid/hr@10",
        "valid/hr@5",
        "train/loss",
        "valid/loss",
        "codebook/usage_2",
        "codebook/usage_1",
        "codebook/usage_10",
        "lr-AdamW/pg1",
        "lr-AdamW/pg2",
        "train/kl",
    ]
    plots = {plot.title: [line.name for line in plot.lines] for plot in curve_plots({name: [(0, 1)] for name in names})}
    assert plots == {
        "loss": ["train", "valid"],
        "HR": ["@5", "@10"],
        "KL": [""],
        "codebook usage": ["level 1", "level 2", "level 10"],
        "learning rate": ["group 1", "group 2"],
    }
    assert next(iter(plots)) == "loss"


def test_a_logarithmic_axis_needs_positive_values_that_span_much():
    def log(*values: float) -> bool:
        return curve_plots({"x": list(enumerate(values))})[0].log

    assert log(0.001, 1.0) and not log(0.5, 1.0) and not log(0.0, 1.0) and not log(-1.0, 100.0) and not log(math.nan)


def test_values_that_are_not_finite_are_counted_and_break_the_line():
    (plot,) = curve_plots({"x": [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]})
    assert plot.note == "2 of 4 values not finite"
    assert plot.lines[0].points == [(0, 1.0), (1, None), (2, None), (3, 2.0)]


def test_long_curves_are_thinned_but_keep_their_spikes_and_breaks():
    points = [(float(x), math.sin(x / 500)) for x in range(20_000)]
    points[12_345] = (12_345.0, 50.0)
    points[777] = (777.0, math.nan)
    kept = thinned(points)
    assert len(kept) <= 241 and (12_345.0, 50.0) in kept and (777.0, None) in kept
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
