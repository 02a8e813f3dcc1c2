"""Names that become folders: one folder below their root, or a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.finished_run import measured, write_run

from dig.comparison.contest import _share_files
from dig.comparison.rankings import Ranking
from dig.comparison.runs import ComparedRun
from dig.config import UserError, load_config
from dig.engine.artifacts import write_json
from dig.engine.pipeline import _run_folder
from dig.sweeps.file import read_sweep
from dig.train import main
from scripts.results.records import read_run

BAD = [
    "../../..",
    "..",
    ".",
    "/srv/x",
    "a/b",
    "a/",
    "../x",
    ".hidden",
    "",
    "  ",
    " x",
    "a\nb",
    "a\tb",
    "a\x00b",
    "a\x1b[2Jb",
    "a\u202eb",
    "x" * 201,
    "ü" * 101,
]
GOOD = ["mine", "2026-11-30", "a b", "lr=1e-3;x", "ünï", "x" * 200, "-x", "~", "$HOME", "a..b"]


@pytest.mark.parametrize("key", ["run_id", "experiment", "slurm.job_name"])
@pytest.mark.parametrize("name", BAD)
def test_a_name_that_leads_elsewhere_is_refused(key: str, name: str) -> None:
    """Guard 9: no name of a configuration leaves the folder that it is a name in."""
    with pytest.raises(UserError) as caught:
        load_config(None, [f"{key}={json.dumps(name)}"])
    said = str(caught.value)
    assert caught.value.exit_code == 2 and said.startswith(f"{key}=") and said.isprintable() and len(said) < 400


@pytest.mark.parametrize("name", GOOD)
def test_any_other_name_is_a_folder_of_its_root(name: str, tmp_path: Path) -> None:
    names = [f"run_id={json.dumps(name)}", f"experiment={json.dumps(name)}"]
    config = load_config(None, [*names, f"runs_dir={tmp_path}", "data.source=quickstart"])
    folder = _run_folder(config)
    folder.mkdir(parents=True)
    assert folder.resolve().relative_to(tmp_path.resolve()).parts == (name, name)


def test_a_received_configuration_cannot_name_another_folder_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 9: it is the file's key as well as the command line's."""
    received = tmp_path / "config.yaml"
    received.write_text("run_id: ../../..\n")
    assert main([f"experiment={received}", "--print-config"]) == 2
    said = capsys.readouterr()
    assert said.err == "error: run_id='../../..' must be the name of one folder, without a /\n" and said.out == ""
    assert main([f"experiment={received}", "run_id=latest", "--print-config"]) == 2
    assert "link to the last run" in capsys.readouterr().err


def test_a_sweep_lies_in_its_own_folder(tmp_path: Path) -> None:
    for name in ("../../..", "/srv/x", "n" * 5000, "..", "\N{MATHEMATICAL BOLD SMALL A}" * 300):
        path = tmp_path / "sweep.yaml"
        text = {
            "program": "dig.train",
            "method": "grid",
            "name": name,
            "metric": {"name": "valid/ndcg@10"},
            "parameters": {"seed": {"values": [1]}},
        }
        path.write_text(json.dumps(text, ensure_ascii=False))
        found = read_sweep(path).name
        assert "/" not in found and found not in ("", ".", "..") and len(found.encode()) <= 240


@pytest.mark.parametrize("name", ["../../..", "/etc", "a/b", ".."])
def test_a_recommender_of_a_received_run_names_none_of_our_folders(name: str, tmp_path: Path) -> None:
    """Guard 9: names in metrics and rankings become paths below the run's checkpoints and logs."""
    run = write_run(tmp_path / "runs" / "one")
    write_json(run / "metrics.json", {name: measured(0.1)})
    with pytest.raises(UserError, match="a recommender's name"):
        read_run(run)

    def ranking() -> Ranking:
        found = object.__new__(Ranking)
        object.__setattr__(found, "run", ComparedRun("one", run, (), "x", 1, None, (5,), {}))
        object.__setattr__(found, "stage", name)
        return found

    assert not _share_files(ranking(), ranking())
