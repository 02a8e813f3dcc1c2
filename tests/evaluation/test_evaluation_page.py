"""What docs/evaluation.md shows in Python works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from support.run_folders import ITEMS, rankings, targets_of, write_run

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
_ASKING = re.compile(r"^## Asking a run$.*?(?=^## )", re.DOTALL | re.MULTILINE)  # test_small_run.py runs it
BLOCKS = re.findall(r"```python\n(.*?)```", _ASKING.sub("", PAGE.read_text(encoding="utf-8")), flags=re.DOTALL)
USERS = [f"user{number:02}" for number in range(30)]


@pytest.fixture(autouse=True)
def quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run at the path that the page names."""
    targets = targets_of(USERS)
    histories = [[ITEMS[number], target, ITEMS[number + 1]] for number, target in enumerate(targets)]
    monkeypatch.chdir(tmp_path)
    write_run(
        Path("runs/quickstart/a1"),
        USERS,
        targets,
        {"sft": rankings(targets, 0.5, 1)},
        histories=histories,
        one_hop=["beneficiary"] * 30,
        catalogue=ITEMS,
    )


def run(block: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102
    return names


def test_the_ranker_of_ones_own():
    assert len(BLOCKS) == 2
    run(BLOCKS[0])


def test_the_recommender_of_ones_own_beside_a_run(capsys: pytest.CaptureFixture[str]):
    table = run(BLOCKS[1])["table"]
    assert isinstance(table, pl.DataFrame)
    own = table.filter((pl.col("row") == "same again") & (pl.col("metric") == "hr@10") & pl.col("slice").is_null())
    assert own["value"].to_list() == [1.0]  # every target stands in its history here
    assert "same again" in capsys.readouterr().out
