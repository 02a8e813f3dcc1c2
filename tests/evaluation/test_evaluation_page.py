"""What docs/evaluation.md shows in Python works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_ranker_of_ones_own():
    before = PAGE.read_text(encoding="utf-8").split("## Asking a run")[0]  # what follows asks a run: test_small_run.py
    blocks = re.findall(r"```python\n(.*?)```", before, flags=re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {"__name__": "page"})  # noqa: S102
