"""The harness of ``make test-faults`` itself: each verdict can be given, so that no figure is right by chance."""

import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from faults import command_lines, commands, mutations
from faults.commands import battery
from faults.mutated_runs import asked, verdicts, worst
from faults.page import page_text
from faults.verdicts import (
    ACCEPTED,
    BAD,
    BEFORE,
    CRASHED,
    DIFFERENT,
    EQUAL,
    HUNG,
    LOST,
    MESSY,
    REFUSED,
    SAID,
    STOPPED,
    TRACEBACK,
    Ending,
    Figures,
    stop_verdict,
    verdict,
)
from faults.workshop import STAGES, Shop
from safetensors.numpy import save_file

RIGHT = Ending(("dig.recommend", "run=run"), 0, "A\n", "", 1.0, ["A"])
_TRACE = 'Traceback (most recent call last):\n  File "/x/dig/answers.py", line 7, in answer\nKeyError: 3\n'
_ANSWERS = """
import os, sys, time
def main(arguments):
    (what,) = arguments
    if what == "raise":
        raise KeyError(what)
    if what == "hang":
        time.sleep(60)
    if what == "die":
        os._exit(9)
    if what == "refuse":
        print("error: no such item", file=sys.stderr)
        return 2
    print(what)
    return 0
"""


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (RIGHT, EQUAL),
        (replace(RIGHT, answer=["B"]), DIFFERENT),
        (replace(RIGHT, answer=None), DIFFERENT),
        (replace(RIGHT, answer=["B"], output="warning: items.parquet is not the one of this run\n"), SAID),
        (replace(RIGHT, code=1, errors="error: items.parquet is cut\n"), REFUSED),
        (replace(RIGHT, code=2, errors="error: --go: no such flag\nusage: python -m dig.data\n"), REFUSED),
        (replace(RIGHT, code=1, errors="error: it is cut\nand more\n"), MESSY),
        (replace(RIGHT, code=1, errors="error: one\nerror: two\n"), MESSY),
        (replace(RIGHT, code=1, errors=""), MESSY),
        (replace(RIGHT, code=1, errors=_TRACE), TRACEBACK),
        (replace(RIGHT, errors=_TRACE), TRACEBACK),
        (replace(RIGHT, code=-11), CRASHED),
        (replace(RIGHT, code=None), HUNG),
    ],
)
def test_a_verdict_says_what_it_is(ending: Ending, expected: str):
    assert verdict(ending, RIGHT) == expected


def test_a_warning_that_the_undisturbed_run_has_too_tells_of_nothing():
    """Otherwise every difference of a run that warns anyway would count as one that was told."""
    warned = replace(RIGHT, output="warning: old run\n")
    assert verdict(replace(warned, answer=["B"]), warned) == DIFFERENT


def test_a_warning_is_for_all_that_a_process_answers_after_it():
    """A process says once that a run has no manifest; what it answered before is not told by that."""
    usual = {RIGHT.command: RIGHT}
    other = replace(RIGHT, answer=["B"])
    warned = replace(RIGHT, output="warning: the run has no manifest\n")
    assert verdicts([other, warned, other], usual) == [DIFFERENT, EQUAL, SAID]


def test_no_question_overwrites_the_answer_to_another(tmp_path: Path):
    pl.DataFrame({"item_id": ["a", "b"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"user": ["u", "v", "w"]}).write_parquet(tmp_path / "users.parquet")
    shop = Shop(tmp_path, tmp_path / "small.yaml", tmp_path, {})
    commands = {command for stage in STAGES for command in asked(shop, stage, tmp_path)}
    outs = [word for command in commands for word in command if word.startswith("out=")]
    assert len(set(outs)) == len(outs) == len(STAGES)


def test_a_stop_has_its_code_and_its_time():
    stopped = replace(RIGHT, code=75, seconds=2.0)
    assert stop_verdict(stopped, (75,), 10.0) == STOPPED
    assert stop_verdict(replace(stopped, seconds=11.0), (75,), 10.0) == HUNG
    assert stop_verdict(replace(stopped, code=1), (75,), 10.0) == CRASHED
    assert stop_verdict(replace(stopped, errors=_TRACE), (75,), 10.0) == TRACEBACK
    python = f"Fatal Python error: init_import_site: Failed to import the site module\n{_TRACE}"
    assert stop_verdict(replace(stopped, errors=python, code=1), (75,), 10.0) == BEFORE not in BAD
    assert stop_verdict(replace(stopped, errors=_TRACE + python), (75,), 10.0) == TRACEBACK


def test_a_folder_counts_by_the_worst_and_every_bad_verdict_fails_a_part():
    assert worst([EQUAL, REFUSED, SAID]) == SAID and worst([EQUAL, DIFFERENT, REFUSED]) == DIFFERENT
    figures = Figures("runs", "damaged runs")
    for what in (EQUAL, REFUSED, SAID, STOPPED, "killed"):
        figures.count("tables", what, RIGHT)
    assert not figures.bad
    for count, what in enumerate((DIFFERENT, TRACEBACK, HUNG, CRASHED, MESSY, LOST, ACCEPTED), 1):
        figures.count("tables", what, replace(RIGHT, errors=_TRACE))
        assert what in BAD and len(figures.bad) == count and "(dig/answers.py:7)" in figures.bad[-1]
    assert figures.row("tables").times == 12


def test_a_battery_tells_answers_tracebacks_ends_and_hangs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Real processes; the one thing that is not as in the figures is that no interpreter was preloaded."""
    monkeypatch.setattr(commands, "Preloaded", subprocess.Popen)
    (tmp_path / "answers.py").write_text(_ANSWERS)

    def asked(*words: str, limit: float = 20.0) -> list[Ending]:
        return battery([("answers", word) for word in words], tmp_path, tmp_path, limit)

    kettle, refused, raised, mug = asked("kettle", "refuse", "raise", "mug")
    right = replace(kettle, answer=kettle.output)
    assert verdict(replace(kettle, answer=kettle.output), right) == EQUAL
    assert verdict(replace(mug, answer=mug.output), right) == DIFFERENT
    assert (verdict(refused, right), refused.code) == (REFUSED, 2)
    assert verdict(raised, right) == TRACEBACK
    died = asked("kettle", "die", "mug")
    assert [each.code for each in died] == [0, 9] and verdict(died[1], right) == CRASHED
    hung = asked("kettle", "hang", limit=1.5)
    assert verdict(hung[-1], right) == HUNG and hung[-1].command == ("answers", "hang")


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.parquet", "a.safetensors"])
def test_every_mutation_changes_the_file_that_it_says_it_changed(name: str, tmp_path: Path):
    path, other = tmp_path / name, tmp_path / "other" / name
    other.parent.mkdir()
    for mutation in {*mutations.mutations_for(path), *mutations.BYTES}:
        changed = 0
        for seed in range(8):
            _write(path, first=0)
            _write(other, first=5)
            before = path.read_bytes()
            assert mutation(path, other, random.Random(seed))  # noqa: S311 - no secret
            changed += not path.is_file() or path.read_bytes() != before
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
        assert changed >= 4, mutation


def test_the_same_seed_draws_the_same():
    one, two, other = (command_lines.command_lines(random.Random(seed), 100) for seed in (0, 0, 1))  # noqa: S311 - no secret
    assert one == two != other and len({line[0] for line in one}) == 8


def test_the_page_holds_what_was_measured():
    figures = Figures("runs", "damaged runs", seconds=3.0)
    figures.count("tables", DIFFERENT, replace(RIGHT, output="<b>|"), "3 (cut)")
    origin = {"seed": 0, "small": True, "date": "2026-11-30", "commit": "abc", "machine": "Linux", "versions": "Python"}
    content = json.loads(json.dumps({"runs": {"origin": origin, **figures.to_dict()}}))
    text = page_text(content)
    assert "Part `runs`, a quick look, 3 s, seed 0; 2026-11-30" in text
    assert "| tables | 1 | SILENTLY DIFFERENT 1 | 0 1 | 1.0 s | nothing |" in text
    assert "- SILENTLY DIFFERENT: tables 3 (cut)" in text and "<b>" not in text
    assert Figures.from_dict({key: content["runs"][key] for key in content["runs"] if key != "origin"}) == figures


def _write(path: Path, first: int) -> None:
    if path.suffix == ".parquet":
        ids = [f"I{row}" for row in range(first, first + 6)]
        pl.DataFrame({"item_id": ids, "title": [each * 2 for each in ids], "count": range(6)}).write_parquet(path)
    elif path.suffix == ".safetensors":
        save_file({"w": np.full((2, 3), float(first)), "v": np.full((2, 3), first + 1.0)}, path)
    else:
        path.write_text(json.dumps({"seed": first, "ks": [5, 10], "data": {"path": "x", "ee": None}}))
