"""The page: every number of a run is on it, what is missing is said, and text from outside stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import fields, replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.report_page import Page
from support.report_sample import RECOMMENDERS, sample

from dig.report import ReportData, render_report
from dig.report.data import Change
from dig.report.html import _shown, content_policy, json_block, vega_bundle
from dig.report.sections import SECTIONS

EVIL = "<script>alert(\"1\")</script><img src=x onerror='y'></title>\u202e\u2028\x1b[31m\x9b"
FULL = sample()
SLIM = replace(
    FULL,
    metrics={
        name: FULL.metrics[name]
        | {part: {"hr@10": 0.1, "ndcg@10": 0.05, "memorization@5": 0.5, "gini@10": 0.9} for part in ("test", "valid")}
        for name in ("sft", "grpo")
    },
    curves={stage: FULL.curves[stage][:4] for stage in ("sft", "grpo")},
)
"""Few plots, so that it is soon written, and yet something in every part."""


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(FULL))


def test_the_numbers_of_a_run_are_on_the_page(page: Page):
    low, high = FULL.metrics["grpo"]["intervals"]["test"]["ndcg@10"]
    for shown in (
        "0.0975",
        f"{low:.4f}–{high:.4f}",
        "df61591ae545",
        "python -m dig.train experiment=quickstart seed=7",
        "42",
        "8.876",
        "valid 60, test 60",
        "1 min 20 s",
        "from the cache",
        "Test, history kept",
        "Test, history masked",
        "+0.0123",
        "+0.0234",
        "97.3 %",
        "6.25",
        "gift-ready",
        "item Kettle · lift 3.5",
        "1 of 60 values not finite",
        "Step 60",
        "× 3",
        "reward 1.25 (hit 1, prefix 0.25)",
        "advantage 0.75",
        "NDCG@10 on the test",
        "20+",
        "HR@5, beneficiaries",
        "35.0 %",
        "popularity lift@10",
        "12.5000",
        "arXiv 2606.17276",
        "A hit that no baseline had",
    ):
        assert shown in page.text, shown
    assert "None" not in page.text.replace("None.", "") and "nan" not in page.text.lower().split()


def test_all_parts_are_there_in_their_order_and_the_bar_leads_to_them(page: Page):
    ids = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert ids == [section.id for section in SECTIONS]
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == [f"#{name}" for name in ids]


def test_the_best_of_a_column_is_strong():
    html = render_report(FULL)
    table = html[html.index("Test, history kept") : html.index("Test, history masked")]
    assert table.count("<strong>") == 6 and "<strong>0.1560</strong>" in table


@pytest.mark.parametrize(
    "data",
    [
        replace(SLIM, experiment=EVIL, run_id=EVIL, command=EVIL, config_yaml=EVIL, parent=EVIL),
        replace(
            SLIM, changes=[Change(EVIL, EVIL, EVIL)], statistics={EVIL: EVIL}, health={EVIL: EVIL, "usage": [EVIL]}
        ),
        replace(SLIM, stages=[{"name": EVIL, "seconds": EVIL, "cached": False}]),
        replace(
            SLIM,
            metrics={
                EVIL: {
                    "test": {EVIL: 0.5, "hr@5": 0.5},
                    "split": EVIL,
                    "slices": {"test": {EVIL: {"examples": 1, "hr@5": 0.1}}},
                }
            },
        ),
        replace(
            SLIM,
            labels={
                EVIL: [EVIL],
                "kept": [{"text": EVIL, EVIL: EVIL}],
                "note": EVIL,
                "held_out": EVIL,
                "features": [{"name": EVIL, "weight": EVIL}],
                "reliability": [{"predicted": EVIL}],
            },
        ),
        replace(SLIM, curves={EVIL: [{"step": 1, EVIL: 2.0}], "grpo": [{"step": 1, f"rollout/reward_{EVIL}": 2.0}]}),
        replace(SLIM, catalogue=FULL.catalogue.with_columns(title=pl.lit(EVIL), brand=pl.lit(EVIL))),
        replace(SLIM, interests=FULL.interests.with_columns(text=pl.lit(EVIL))),
        replace(SLIM, examples=FULL.examples.with_columns(user=pl.lit(EVIL))),
        replace(SLIM, groups=[{**FULL.groups[0], "target": {"item": EVIL, "title": EVIL, "interests": EVIL}}]),
    ],
)
def test_text_from_outside_stays_text(data: ReportData):
    """Guard 10: and nothing in it turns a line or reaches a terminal."""
    html = render_report(data)
    assert not {"\x1b", "\x9b", "\u202e"} & set(html) and "\\u001b" not in html and "\\u202e" not in html
    page = Page(html)
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds.count(None) == 2 and set(kinds) == {None, "application/json"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "alert" in page.text + str(page.data)
    assert not [attrs for tag, attrs in page.tags if tag == "img" and not attrs["src"].startswith("data:image/jpeg")]


def test_what_is_missing_is_said_in_its_place():
    page = Page(render_report(ReportData(experiment="empty", run_id="r")))
    for shown in (
        "The configuration was not recorded.",
        "No statistics of the data.",
        "No stage was recorded.",
        "No recommender of this run has been tested.",
        "This run has not both of them",
        "No recommender of this run has been validated.",
        "No training stage of this run has logged a curve.",
        "The tokenizer has not run",
        "Interests were not labelled in this run.",
        "GRPO was not part of this run.",
        "The test was not sliced.",
        "Memorization was not measured in this run.",
        "Nothing beyond accuracy was measured in this run.",
        "No recommendations were kept with their examples.",
    ):
        assert shown in page.text, shown
    assert not page.specs


@pytest.mark.parametrize(
    "name", [field.name for field in fields(ReportData) if field.name not in ("experiment", "run_id")]
)
def test_any_part_of_the_data_may_be_missing(name: str):
    default = getattr(ReportData(experiment="", run_id=""), name)
    Page(render_report(replace(SLIM, **{name: default})))


def test_a_run_of_baselines_alone_has_its_examples_and_no_codes():
    baselines = RECOMMENDERS[:3]
    data = replace(
        FULL,
        ids=None,
        health={},
        interests=None,
        labels={},
        groups=[],
        curves={},
        metrics={name: FULL.metrics[name] for name in baselines},
        recommendations=FULL.recommendations.filter(pl.col("stage").is_in(baselines)),
    )
    text = Page(render_report(data)).text
    assert "The tokenizer has not run" in text and "GRPO was not part of this run." in text
    assert "Test users for whom SASRec did something worth a look" in text


def test_partial_and_broken_numbers_are_dashes():
    metrics = {
        "popularity": {"test": {"hr@5": math.nan, "ndcg@5": None, "coverage@10": math.inf}},
        "sft": {"test": {"hr@5": 0.5}, "intervals": {"test": {"hr@5": [None, 1]}}, "slices": {"test": None}},
        "grpo": {"over_sft": {"hr@5": {"difference": 0.1}}, "test": "gone"},
    }
    data = replace(FULL, metrics=metrics, health={"usage": [0.5, None], "sizes": [8, 8, 4], "collision_rate": math.nan})
    text = Page(render_report(data)).text
    assert "SFT 0.5000 —" in text and "popularity — —" in text
    assert "50.0 %" in text and "collision rate —" in text


def test_the_policy_allows_the_scripts_and_styles_of_the_page_and_nothing_else(page: Page):
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert set(parts) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert parts["default-src"] == "'none'" and "unsafe" not in policy and "http" not in policy

    def allowed(texts: list[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    assert parts["script-src"] == allowed(page.scripts) and parts["style-src"] == allowed(page.styles)
    assert not any("style" in attrs for _, attrs in page.tags)  # the policy would not let it


def test_the_page_asks_nobody_for_anything(page: Page):
    assert all(
        value.startswith(("#", "data:"))
        for _, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "href")
    )
    assert not any("url" in str(spec) or "href" in str(spec) for spec in page.specs)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}


def test_titles_of_any_kind_can_be_written(page: Page):
    odd = ["bad \ud800 title", "x" * 10_000, "‮abc‬", "\"'&<>", "عطر وردي", "", None]
    count = len(FULL.catalogue)
    rows = [odd[row % len(odd)] for row in range(count)]
    rows = [row.encode("utf-8", "replace").decode() if row else row for row in rows]  # polars keeps no surrogates
    group = {**FULL.groups[0], "target": {"item": "i1", "title": odd[0], "interests": odd[1]}}
    data = replace(FULL, catalogue=FULL.catalogue.with_columns(title=pl.Series(rows)), groups=[group])
    html = render_report(data)
    assert b"bad ? title" in html.encode("utf-8") and "x" * 301 not in html
    assert "عطر وردي" in html and "untitled" in html


def test_pictures_lie_within_the_page_once_each_use(tmp_path):
    page = Page(render_report(sample(folder=tmp_path)))
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert max(map(len, sources)) < 4_000


def test_a_large_run_is_a_small_page(tmp_path):
    html = render_report(sample(22_363, 12_101, size=256, folder=tmp_path))
    assert len(html.encode("utf-8")) < 5_000_000


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_comes_back_and_nothing_in_it_is_markup(value):
    text = str(json_block(value))
    assert json.loads(text) == _shown(value)
    assert text.isascii() and not set("<>&") & set(text)


def test_lone_surrogates_and_line_separators_are_escaped():
    assert str(json_block("\ud800\u2028</script><!--")) == ('"\\ud800\\u2028\\u003c/script\\u003e\\u003c!--"')


def test_what_json_cannot_say_is_refused():
    with pytest.raises(ValueError):
        json_block({"x": float("nan")})


def test_the_bundle_holds_the_interpreter_and_nothing_that_ends_a_script():
    bundle = vega_bundle()
    assert "window.vegaEmbed" in bundle and "expressionInterpreter" in bundle
    assert "</script" not in bundle.lower() and "<!--" not in bundle and "\r" not in bundle
    assert len(bundle) < 1_500_000


def test_the_policy_names_hashes():
    policy = content_policy(["alert(1)"], [""])
    assert "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in policy
    assert "style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='" in policy
