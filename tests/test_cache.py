"""`python -m dig.cache`: what it lists, what it removes only when it is told to, and its lines for wrong arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dig.cache import main
from dig.engine.artifacts import ArtifactStore

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    store, run = ArtifactStore(), tmp_path / "runs/shop/abc"
    run.mkdir(parents=True)
    store.note_use("sft", KEY, run)
    store.get("sft", KEY, lambda work: (work / "weights").write_bytes(b"x" * 2_000_000), {})
    return tmp_path


def test_it_lists_size_age_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """newcomers 10: nothing listed DIG_HOME."""
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert "sft" in told and KEY in told and "2.0 MB" in told and "shop/abc" in told and "0.0" in told


def test_it_removes_what_no_run_uses_and_only_with_yes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """newcomers 10: nothing pruned DIG_HOME."""
    assert main(["prune", "--yes"]) == 0
    assert "0 removed" in capsys.readouterr().out
    (home / "runs/shop/abc").rmdir()
    folder = home / "home/artifacts/sft" / KEY
    for arguments in (
        ["prune"],
        ["prune", "--yes", "--dry-run"],
        ["prune", "--older-than=1", "--yes"],
        ["prune", "--keep", "1", "--yes"],
    ):
        assert main(arguments) == 0
        assert folder.is_dir(), arguments
    assert "--yes does it" in capsys.readouterr().out
    assert main(["prune", "--yes"]) == 0
    assert "1 removed, 0.0 GB freed" in capsys.readouterr().out and not folder.exists()


def test_json_is_one_object_and_nothing_else(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (entry,) = content["artifacts"]
    assert (entry["stage"], entry["fingerprint"], entry["runs"], entry["state"]) == ("sft", KEY, ["shop/abc"], "used")
    assert entry["bytes"] >= 2_000_000 and content["freed"] == entry["freed"] and entry["days"] == 0.0
    (home / "runs/shop/abc").rmdir()
    assert main(["prune", "--json"]) == 0
    assert [each["state"] for each in json.loads(capsys.readouterr().out)["artifacts"]] == ["none"]
    assert main(["prune", "--json", "--yes"]) == 0
    output = capsys.readouterr()
    assert len(json.loads(output.out)["artifacts"]) == 1 and "1 removed" in output.err
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"artifacts": [], "freed": 0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lsit"], "did you mean list?"),
        (["prune", "--olderthan", "3"], "did you mean --older-than?"),
        (["prune", "--older-than", "long"], "--older-than long must be a number of at least 0"),
        (["prune", "--older-than", "nan"], "must be a number"),
        (["prune", "--keep=-1"], "--keep -1 must be a whole number of at least 0"),
        (["prune", "--keep", "1.5"], "must be a whole number"),
        (["prune", "--yes=1"], "--yes takes no value; it stands alone"),
        (["prune", "--keep"], "--keep needs a value"),
        (["prune", "beauty"], "beauty: prune takes only options"),
        (["list", "--yes"], "--yes is for prune; list has no such flag"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and said in error and "\n" not in error


def test_a_folder_without_artifacts_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIG_HOME", "elsewhere")
    assert main(["prune", "--yes"]) == 1
    assert "is not a folder of artifacts" in capsys.readouterr().err
    assert main(["--help"]) == 0
