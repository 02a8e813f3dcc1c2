"""The examples run as they stand, on the small shop in place of the quickstart's, and say what they should."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.workplace import SMALL, Workplace, tokenized_workplace

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Stages before the policies are done."""
    return tokenized_workplace(tmp_path_factory.mktemp("examples") / "place")


def run(workplace: Workplace, *command: str | Path) -> str:
    environment = {**os.environ, "DIG_HOME": str(workplace.home), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *command], cwd=workplace.folder, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def overrides(workplace: Workplace) -> list[str]:
    return [*SMALL[1:], f"runs_dir={workplace.folder / 'runs'}"]


def test_an_experiment_from_python(workplace: Workplace) -> None:
    output = run(workplace, EXAMPLES / "python_first.py", *overrides(workplace))
    lines = output.splitlines()
    metrics = workplace.metrics()
    for name, numbers in metrics.items():
        assert any(line.startswith(f"{name} ") and f" {numbers['test']['ndcg@10']:.4f} (95 %" in line for line in lines)
    (anna,) = (line.removeprefix("for anna: ").split(", ") for line in lines if line.startswith("for anna: "))
    assert len(set(anna)) == 5 and not {"I0001", "I0002"} & set(anna)
    assert "most often in the first place: [(" in output


def test_a_reward_of_ones_own(workplace: Workplace) -> None:
    output = run(workplace, EXAMPLES / "own_reward.py", *overrides(workplace))
    assert "hit      [[0.0, 0.0, 1.0]]" in output
    assert "bargain  [[0.0, 0.25, 0.25]]" in output
    assert "reward   [[0.0, 0.25, 1.25]]" in output
    log = next((workplace.latest / "logs" / "grpo").glob("*/metrics.csv")).read_text()
    assert "rollout/reward_bargain" in log.splitlines()[0]
    assert re.search(r"^grpo  NDCG@10 [\d.]+, popularity lift -?[\d.]+$", output, flags=re.MULTILINE)


def cells(kind: str) -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_notebook(workplace: Workplace, tmp_path: Path) -> None:
    """Newcomers 7: all its cells, one after the other, in a process of their own."""
    code = "\n\n".join(cells("code"))
    assert code.count('load_config("quickstart")') == 1
    script = tmp_path / "notebook.py"
    script.write_text(code.replace('load_config("quickstart")', f'load_config("quickstart", {overrides(workplace)!r})'))
    output = run(workplace, script)
    assert f"sft          NDCG@10 {workplace.metrics()['sft']['test']['ndcg@10']:.4f}" in output
    assert "weights, 80 items" in output and "same codes: True" in output
    assert re.search(r"^I0001: [\d]+ items → .*1 items$", output, flags=re.MULTILINE)


def test_the_notebook_is_one() -> None:
    """What Jupyter asks of a file; outputs are not kept, since those of another machine would only seem to be true."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    for cell in notebook["cells"]:
        assert set(cell) >= {"cell_type", "metadata", "source", "id"}
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_the_page_lists_them_all() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name})" in page for name in [*SCRIPTS, NOTEBOOK.name])
