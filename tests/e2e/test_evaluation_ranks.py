"""Whole runs on one, two and three processes: the same metrics to the last digit, the same rankings."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal
from support.workplace import Workplace

FILES = (
    "recommendations.parquet",
    "recommendations_masked.parquet",
    "recommendations_valid.parquet",
    "examples.parquet",
    "examples_valid.parquet",
    "items.parquet",
    "users.parquet",
)


def test_runs_on_several_processes_find_what_one_finds(tmp_path: Path):
    runs = []
    for processes in (1, 2, 3):
        workplace = Workplace(tmp_path / str(processes))
        workplace.folder.mkdir()
        strategy = "ddp" if processes > 1 else "auto"
        output = workplace.run(
            "stages=[report]", "trainer.accelerator=cpu", f"trainer.devices={processes}", f"trainer.strategy={strategy}"
        )
        assert output.count("history masked") == 1  # one process speaks
        runs.append(workplace)
    one, *others = runs
    assert one.metrics()["item_knn"]["test"]["hr@10"] > 0
    for other in others:
        assert other.metrics() == one.metrics()
        for file in FILES:
            assert_frame_equal(pl.read_parquet(other.latest / file), pl.read_parquet(one.latest / file))
