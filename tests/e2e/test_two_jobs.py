"""Two jobs with one command at the same time: each stage is built once, and the run's folder is whole."""

from __future__ import annotations

from pathlib import Path

from support.workplace import Workplace, built_artifacts, home_with_vectors


def test_two_jobs_on_one_run_folder(tmp_path: Path):
    workplace = Workplace(tmp_path, home_with_vectors(tmp_path / "home"))
    jobs = [workplace.start("baselines=[popularity]", "sft.epochs=1", "grpo.max_steps=2") for _ in range(2)]
    outputs = [job.communicate(timeout=600)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    assert "another process is building the same artifact" in "".join(outputs)
    assert list(workplace.metrics()) == ["popularity", "sft", "grpo"]
    assert not list((workplace.home / "artifacts").glob("*/*.work"))
    before = built_artifacts(workplace)
    assert workplace.run("baselines=[popularity]", "sft.epochs=1", "grpo.max_steps=2").count(" cached ") >= 9
    assert built_artifacts(workplace) == before
