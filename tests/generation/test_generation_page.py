"""The how-to page's example runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "generation.md"


def test_the_example_runs_in_fifteen_lines():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 15
    names: dict = {}
    exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert names["best"].items.shape == (2, 3)
    assert 0 not in names["unseen"].items[0].tolist() and 1 not in names["unseen"].items[0].tolist()
    assert names["model"].get_input_embeddings().weight.grad is not None
