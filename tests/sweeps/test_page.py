"""The page of a sweep and its plots: what they show, and that text stays text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import optuna
import polars as pl
import pytest
import vl_convert
from optuna.trial import TrialState
from support.report_page import Page
from support.sweep_files import write

from dig.report.plots import CONFIG
from dig.sweeps.page import axis_of, heat_map, history_plot, importance_plot, importances, parallel_plot, render_page
from dig.sweeps.results import TrialRow, trial_rows, write_tables
from dig.sweeps.settings import Settings, load_settings
from dig.sweeps.trials import TrialStore

EVIL = "<script>alert(1)</script>"
METRIC = "valid/ndcg@10"


def rows() -> list[TrialRow]:
    found = []
    for number, (size, levels) in enumerate([(8, 2), (8, 3), (16, 2), (16, 3)], start=1):
        value = 0.01 * size + 0.001 * levels
        found.append(
            TrialRow(
                number,
                {"rqvae.codebook_size": size, "rqvae.levels": levels},
                value,
                2.0,
                "done",
                2,
                history=[value / 2, value],
            )
        )
    found[1] = replace(found[1], state="stopped early", validations=1)
    return sorted(found, key=lambda row: -row.value)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(write(tmp_path), [f"runs_dir={tmp_path}"])


def svg(spec: dict) -> ET.Element:
    drawn = vl_convert.vegalite_to_svg(spec | {"width": 500}, vl_version="6.1", config=CONFIG)
    return ET.fromstring(drawn)  # noqa: S314 - our own


def words(spec: dict) -> list[str]:
    return ["".join(each.itertext()) for each in svg(spec).iter() if each.tag.endswith("text")]


def marks(spec: dict, role: str) -> list[ET.Element]:
    return [each for each in svg(spec).iter() if each.get("aria-roledescription") == role]


def test_parallel_coordinates_have_a_line_a_trial_through_its_values():
    axes = [axis_of(name, rows()) for name in ("rqvae.codebook_size", "rqvae.levels")]
    spec = parallel_plot(METRIC, axes, rows(), best=4).spec
    lines = marks(spec, "line mark")
    assert len(lines) == 4 and all(line.get("d").count("L") == 2 for line in lines)
    best = [line for line in lines if line.get("stroke") == "var(--s5)"]
    assert len(best) == 1
    heights = [float(point.split(",")[1]) for point in best[0].get("d").strip("M").split("L")]
    assert heights == pytest.approx([0, 0, 0], abs=0.5)  # largest size, most levels, best value: all at the top
    assert {"rqvae.codebook_size", "rqvae.levels", METRIC, "8", "16", "2", "3"} <= set(words(spec))


def test_where_less_is_better_the_least_is_strongest():
    axes = [axis_of("rqvae.levels", rows())]
    strengths = {
        row["trial"]: row["strength"]
        for row in parallel_plot(METRIC, axes, rows(), 1, maximize=False).spec["data"]["values"]
    }
    assert strengths["trial 1"] == max(strengths.values()) and strengths["trial 4"] == min(strengths.values())


def test_a_heat_map_has_the_mean_of_each_cell_and_a_star_where_all_were_stopped():
    one, other = (axis_of(name, rows()) for name in ("rqvae.codebook_size", "rqvae.levels"))
    twice = [*rows(), replace(rows()[0], number=5, value=0.2)]
    plot = heat_map(METRIC, one, other, twice, maximize=True)
    shown = words(plot.spec)
    assert {"0.0820", "0.0830*", "0.1620", f"{(0.163 + 0.2) / 2:.4f}"} <= set(shown)
    assert len(marks(plot.spec, "rect mark")) == 4 and plot.note == "* stopped early"
    strengths = {row["text"]: row["strength"] for row in plot.spec["data"]["values"]}
    assert strengths["0.0820"] == 0.05 and strengths[f"{(0.163 + 0.2) / 2:.4f}"] == 0.5


def test_many_numbers_become_a_scale_with_parts():
    found = [TrialRow(n, {"lr": 10 ** (-n / 3)}, 0.1 * n, 1.0, "done", 1) for n in range(1, 13)]
    axis = axis_of("lr", found)
    assert axis.log and axis.place(10 ** (-1 / 3)) == pytest.approx(1) and axis.place(1e-4) == pytest.approx(0)
    assert axis.place(10 ** (-6.5 / 3)) == pytest.approx(0.5)
    assert len(axis.cells) == 6 and {axis.cell(row.point["lr"]) for row in found} == set(axis.cells)
    assert marks(heat_map(METRIC, axis, axis, found, True).spec, "rect mark")


def test_curves_and_importances_are_drawn():
    assert len(marks(history_plot(METRIC, rows(), 4).spec, "line mark")) == 4
    spec = importance_plot({"rqvae.levels": 0.25, "rqvae.codebook_size": 0.75}).spec
    assert len(marks(spec, "bar")) == 2 and "rqvae.codebook_size" in words(spec)


def test_what_decides_is_the_more_important(settings: Settings):
    study = optuna.create_study(direction="maximize")
    assert importances(study) == {}
    for size in range(8):
        for noise in range(4):
            study.add_trial(
                optuna.create_trial(
                    params={"size": size, "noise": noise},
                    value=float(size),
                    distributions={
                        "size": optuna.distributions.IntDistribution(0, 7),
                        "noise": optuna.distributions.IntDistribution(0, 3),
                    },
                )
            )
    found = importances(study)
    assert found["size"] > 0.8 > found["noise"]


def test_the_page_shows_trials_and_plots_and_lets_nothing_else_run(settings: Settings):
    failed = TrialRow(9, {"rqvae.codebook_size": 8, "rqvae.levels": 2}, None, 1.0, "failed", 0, reason=EVIL)
    page = Page(render_page(settings, [*rows(), failed], {"rqvae.levels": 0.4, "rqvae.codebook_size": 0.6}))
    for shown in ("0.1630", "stopped early", "codebook_size", "failed", "9.0 s", "Importance", "Sweep of quickstart"):
        assert shown in page.text or shown in str(page.data), shown
    assert len(page.specs) == 4
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert EVIL in page.text and len(page.scripts) == 2
    assert not any("style" in attrs for _, attrs in page.tags)


def test_a_sweep_without_trials_has_a_page(settings: Settings):
    page = Page(render_page(settings, [], {}))
    assert "No trial has begun." in page.text and not page.specs


def test_names_from_a_file_are_labels_and_no_expressions(settings: Settings):
    found = [replace(row, point={**row.point, "rqvae.tokenizer": f"{EVIL}{row.number}'"}) for row in rows()]
    axes = [axis_of("rqvae.tokenizer", found), axis_of("rqvae.levels", found)]
    for spec in (parallel_plot(EVIL, axes, found, 4).spec, heat_map(EVIL, *axes, found, True).spec):
        assert svg(spec) is not None
        assert EVIL not in json.dumps([layer.get("transform") for layer in spec["layer"]])


def test_tables_hold_what_was_found(settings: Settings):
    store = TrialStore(settings)
    for value in (0.1, 0.3, None):
        claim = store.claim()
        claim.trial.report(0.05, 1)
        claim.trial.report(0.15, 2)
        store.leases.release()
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        store.finish(claim, state, value, seconds=1.5)
    claim = store.claim()
    store.leases.release()
    store.finish(claim, TrialState.FAIL, None, reason='the loss is nan, "really"', seconds=0.5)
    write_tables(settings, store.trials())
    frame = pl.read_parquet(settings.folder / "trials.parquet")
    assert frame.to_dict(as_series=False) == {
        "trial": [2, 1, 3, 4],
        "rqvae.codebook_size": [8, 8, 16, 16],
        "rqvae.levels": [3, 2, 2, 3],
        "valid/ndcg@10": [0.3, 0.1, 0.15, None],
        "validations": [2, 2, 2, 0],
        "seconds": [1.5, 1.5, 1.5, 0.5],
        "state": ["done", "done", "stopped early", "failed"],
        "reason": ["", "", "", 'the loss is nan, "really"'],
    }
    assert pl.read_csv(settings.folder / "trials.csv")["trial"].to_list() == [2, 1, 3, 4]
    assert [row.state for row in trial_rows(settings, store.trials())] == frame["state"].to_list()
