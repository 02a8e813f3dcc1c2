"""The command line: exit codes, one line for what is wrong, and what builds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.train import main


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["experiment=quickstart", "rqvae.codebok_size=1"], 2, "rqvae.codebook_size"),
        (["experiment=quickstart", "--dryrun"], 2, "--dry-run"),
        (["experiment=quickstart", "data.source=tables", "data.path=nowhere"], 1, "nowhere"),
        (["experiment=quickstart", "mining.miners=[imported]", "mining.imports=[none.jsonl]"], 1, "none.jsonl"),
        (["experiment=quickstart", "embedding.text_encoder=./none"], 1, "./none"),
    ],
)
def test_wrong_input_is_one_line_on_stderr(
    arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([*arguments, "logging.progress=false"]) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    assert expected in error


def test_help_and_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "rqvae.codebook_size=256" in capsys.readouterr().out
    assert main(["experiment=quickstart", "seed=5", "--print-config"]) == 0
    assert "seed: 5\n" in capsys.readouterr().out


def test_dry_run_builds_nothing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment=quickstart", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert output.count("to do") == 11
    assert not list(workplace.iterdir())


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dig.engine.pipeline.run_experiment", interrupted)
    assert main(["experiment=quickstart"]) == 130
    assert "resumes from here" in capsys.readouterr().err


def test_a_full_disk_outside_an_artifact_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(config: object) -> None:
        with Path("/dev/full").open("w") as stream:
            stream.write("x")

    monkeypatch.setattr("dig.engine.pipeline.run_experiment", full)
    assert main(["experiment=quickstart"]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: no space left on the disk") and "\n" not in error


def test_stages_that_are_switched_off_are_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is run, and `latest` stays where it was."""
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    words = ["experiment=quickstart", "stages=[adapt]", "visual.model=null", "mining.miners=[lexical]"]
    assert main([*words, f"runs_dir={tmp_path / 'runs'}"]) == 2
    assert "stages=[adapt]: the configuration switches these off" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/**/latest"))
