import io

from rich.console import Console

from dig.report import metrics_markdown, metrics_table
from dig.report.table import metrics_grid, split_names

METRICS = {
    "popularity": {"test": {"ndcg@10": 0.01, "hr@10": 0.02, "hr@5": 0.0123449, "ndcg@5": 0.005}, "seconds": 1.0},
    "sft": {"test": {"hr@5": 0.05, "hr@10": 0.09, "ndcg@5": 0.03, "ndcg@10": float("nan")}, "valid": {"ndcg@10": 0.05}},
    "grpo": {"test": {"hr@5": 0.05, "hr@10": 0.08, "ndcg@5": 0.04, "ndcg@10": 0.06, "novelty": 3.5}},
    "mine": {"seconds": 3.0},
}


def test_markdown_orders_columns_rounds_and_marks_the_best():
    assert metrics_markdown(METRICS, "test") == (
        "| stage | hr@5 | hr@10 | ndcg@5 | ndcg@10 |\n"
        "|---|---:|---:|---:|---:|\n"
        "| popularity | 0.0123 | 0.0200 | 0.0050 | 0.0100 |\n"
        "| sft | **0.0500** | **0.0900** | 0.0300 | — |\n"
        "| grpo | **0.0500** | 0.0800 | **0.0400** | **0.0600** |\n"
    )


def test_a_split_has_the_stages_that_measured_it_and_one_alone_is_not_the_best():
    grid = metrics_grid(METRICS, "valid")
    assert [stage for stage, _ in grid.rows] == ["sft"]
    assert not grid.rows[0][1][0].best
    assert metrics_grid(METRICS, "train").rows == []


def test_the_split_is_named_on_every_table():
    named = {stage: {**values, "split": "global-time"} for stage, values in METRICS.items()}
    assert split_names(named) == ["global-time"] and split_names(METRICS) == []
    assert metrics_markdown(named, "valid").startswith("| stage (valid · global-time) | ndcg@10 |")
    assert metrics_table(named, "test").title == "test · global-time"
    tested = {
        "sft": {"split": "leave-one-out", "mask_history": False, "test": {"hr@5": 0.1}, "test_masked": {"hr@5": 0.2}}
    }
    assert metrics_table(tested, "test").title == "test · leave-one-out · history kept"
    assert metrics_table(tested, "test_masked").title == "test · leave-one-out · history masked"
    both = {**named, "other": {"test": {"hr@5": 0.1}, "split": "leave-one-out"}}
    assert metrics_table(both, "test").title == "test · global-time · leave-one-out"  # nobody compares them by accident


def test_intervals_stand_beside_their_numbers():
    grid = metrics_grid(
        {"a": {"test": {"hr@5": 0.1, "hr@10": 0.2}, "intervals": {"test": {"hr@5": [0.05, 0.15]}}}}, "test"
    )
    assert [cell.interval for cell in grid.rows[0][1]] == ["0.0500–0.1500", ""]


def test_cutoffs_are_ordered_as_numbers():
    columns = metrics_grid({"a": {"test": {"mrr": 0, "hr@20": 0, "gini": 0, "hr@5": 0, "ndcg@5": 0}}}, "test").columns
    assert columns == ["hr@5", "hr@20", "ndcg@5", "mrr"]


def test_the_screen_shows_the_same_and_brackets_in_a_stage_stay():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(metrics_table({**METRICS, "[bold]mine": METRICS["sft"]}, "test"))
    text = console.file.getvalue()
    assert "[bold]mine" in text
    assert "\x1b[1m0.0600\x1b[0m" in text
    assert "\x1b[1m0.0100" not in text
