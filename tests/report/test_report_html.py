from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dig.report import ReportData, ReportExample, render_report

EVIL = "<script>alert(\"1\")</script>' onload='x"
VOID = {"meta", "link", "br", "img", "hr", "input"}
EXAMPLE = ReportExample(
    user="u1",
    history=[(f"h{index}", f"History item {index}") for index in range(12)],
    target=("t1", None),
    interests=["gift-ready"],
    recommendations=[("r1", "First", "<a_1><b_2>", -0.25, False), ("t1", "Target", "<a_3><b_4>", -1.5, True)],
)
FULL = ReportData(
    experiment="quickstart",
    run_id="2026-abc",
    config_yaml="seed: 42\nname: <b>",
    statistics={"users": 22363, "mean length": 8.876},
    metrics={
        "popularity": {"test": {"hr@5": 0.01, "ndcg@10": 0.02}, "seconds": 1.0, "split": "leave-one-out"},
        "sft": {
            "test": {"hr@5": 0.0678, "ndcg@10": 0.0456},
            "valid": {"ndcg@10": 0.0511},
            "seconds": 60.0,
            "split": "leave-one-out",
            "slices": {"test": {"target: cold": {"examples": 138, "ndcg@10": 0.0007}}},
        },
    },
    stages=[{"name": "prepare", "seconds": 0.0, "cached": True}, {"name": "sft", "seconds": 80.4, "cached": False}],
    health={
        "usage": [0.973, 1.0],
        "perplexity": [201.25, 240.0],
        "sizes": [256, 256],
        "collision_rate": 0.0125,
        "largest_collision": 3,
    },
    labels={"auc": 0.8123, "kept": [{"text": "travel-sized", "item": "B1", "score": 0.9}], "rejected": []},
    curves={
        "sft": [{"step": 0, "train/loss": 3.0}, {"step": 10, "train/loss": float("nan")}, {"step": 20, "train/loss": 1}]
    },
    examples=[EXAMPLE],
)


class Page(HTMLParser):
    """Tags in balance, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_numbers_of_a_run_are_on_the_page():
    page = Page(render_report(FULL))
    for shown in (
        "22,363", "8.876", "0.0678", "97.3 %", "201.2", "0.0125", "0.8123", "travel-sized", "item B1 · score 0.9",
        "1 of 3 values not finite", "1 min 20 s", "cached", "gift-ready", "<a_3><b_4>", "✓ hit", "name: <b>",
        "2 earlier items not shown", "History item 11", "valid · leave-one-out", "0.0511", "target: cold", "138",
    ):  # fmt: skip
        assert shown in page.text, shown
    assert "History item 1 " not in page.text
    assert "None" not in page.text.replace("None.", "")
    assert [dict(attrs)["style"] for _, attrs in page.tags if "style" in attrs] == ["width:97.3%", "width:100.0%"]


def test_the_best_of_a_column_is_strong():
    assert render_report(FULL).count("<strong>") == 2
    assert "<strong>0.0456</strong>" in render_report(FULL)


@pytest.mark.parametrize(
    "data",
    [
        replace(FULL, examples=[replace(EXAMPLE, history=[(EVIL, EVIL)])]),
        replace(FULL, examples=[replace(EXAMPLE, user=EVIL, target=(EVIL, EVIL), interests=[EVIL])]),
        replace(FULL, examples=[replace(EXAMPLE, recommendations=[(EVIL, EVIL, EVIL, 1.0, True)])]),
        replace(FULL, labels={EVIL: [EVIL], "kept": [{"text": EVIL, EVIL: EVIL}], "note": EVIL}),
        replace(FULL, metrics={EVIL: {"test": {EVIL: 0.5}, "split": EVIL}}),
        replace(FULL, curves={EVIL: [{"step": 1, EVIL: 2.0}]}),
        replace(FULL, experiment=EVIL, run_id=EVIL, config_yaml=EVIL, statistics={EVIL: 1}, health={EVIL: EVIL}),
    ],
)
def test_text_from_outside_stays_text(data):
    page = Page(render_report(data))
    assert EVIL in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_what_is_missing_is_said_in_its_place():
    page = Page(render_report(ReportData(experiment="empty", run_id="r", config_yaml="")))
    for shown in (
        "No stage of this run has been evaluated on the test split.",
        "No statistics of the data.",
        "No training stage of this run has logged a curve.",
        "The tokenizer has not run",
        "Interests were not labelled in this run.",
        "No recommendations were kept.",
        "No stage was recorded.",
    ):
        assert shown in page.text


def test_partial_content_is_no_error():
    health = {"usage": [0.5, None], "sizes": [8, 8, 4], "collision_rate": float("nan")}
    example = ReportExample(user="u", history=[], target=("t", None), interests=[], recommendations=[])
    data = replace(FULL, health=health, examples=[example], stages=[{"name": "sft", "seconds": None, "cached": False}])
    text = Page(render_report(data)).text
    assert "50.0 %" in text
    assert "untitled t" in text
    assert "Nothing." in text
    assert "collision rate —" in text


def test_the_page_asks_nobody_for_anything():
    page = render_report(FULL)
    assert page.startswith("<!DOCTYPE html>")
    assert "http://" not in page
    assert "https://" not in page
    assert not any(name in ("src", "href") for _, attrs in Page(page).tags for name in attrs)
    assert "default-src 'none'" in page


def test_a_lone_surrogate_in_a_title_can_be_written():
    data = replace(FULL, examples=[replace(EXAMPLE, target=("t", "bad \ud800 title"))])
    assert b"bad ? title" in render_report(data).encode("utf-8")


def told(title: str, interests: str | None) -> dict:
    item = {"item": "i1", "title": title, "interests": interests}
    rollout = {
        **item,
        "times": 3,
        "hit": True,
        "reward": 1.25,
        "advantage": 0.75,
        "terms": {"hit": 1.0, "prefix": 0.25},
    }
    return {"step": 7, "history": [item], "target": item, "rollouts": [rollout]}


def test_groups_of_rollouts_are_told_and_their_words_stay_text():
    page = render_report(replace(FULL, groups=[told(EVIL, "quiet evenings"), told("Pan", None)]))
    text = Page(page).text
    for words in (
        "Rollouts",
        "Step 7",
        "× 3",
        "✓ hit",
        "reward 1.25",
        "prefix 0.25",
        "advantage 0.75",
        "quiet evenings",
    ):
        assert words in text, words
    assert EVIL in text and not [
        tag for tag, attributes in Page(page).tags if tag == "script" or "onload" in attributes
    ]
    assert "Rollouts" not in Page(render_report(FULL)).text
