"""Whole jobs on a SLURM of two nodes: killed, preempted, requeued, finished; and the commands of docs/slurm.md."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from support.slurm_cluster import Cluster, missing_for_cluster, running_cluster
from support.slurm_site import PROJECT, Site
from support.sweep_files import write

PAGE = (PROJECT / "docs" / "slurm.md").read_text(encoding="utf-8")
TWO = "trainer.accelerator=cpu"
BY_HAND = (
    f"sbatch --ntasks-per-node=1 --gpus-per-node=0 --cpus-per-task=1 scripts/slurm.sbatch experiment=quickstart {TWO}"
)
SUBMIT = "python -m dig.train experiment=quickstart slurm.nodes=2 slurm.tasks=1 slurm.cpus_per_task=1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    missing = missing_for_cluster()
    if missing:
        if os.environ.get("DIG_REQUIRE_SLURM"):
            pytest.fail(missing)
        pytest.skip(missing)
    with running_cluster() as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A job of two ranks that nothing happened to, by the script that is written by hand."""
    site = Site(cluster, tmp_path_factory.mktemp("undisturbed"))
    log = site.finish(site.submit(BY_HAND))
    assert "run: runs/quickstart/" in log
    return site


def commands() -> list[str]:
    """The page's, in order, each on one line and without its comment."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def test_killed_preempted_and_requeued_a_job_ends_as_if_nothing_had_happened(
    cluster: Cluster, undisturbed: Site, tmp_path: Path
) -> None:
    site = Site(cluster, tmp_path)
    site.take_over(undisturbed)

    # A rank dies: the whole job ends soon, and says who.
    job = site.submit(SUBMIT)
    site.until_checkpoint("sft", job)
    os.kill(site.rank_process(job, 1), signal.SIGKILL)
    assert cluster.wait(job, "FAILED", "COMPLETED", seconds=90) == "FAILED", site.log(job)
    assert "task 1: Killed" in site.log(job)

    # The page's commands from here: the same command resumes, is preempted by more urgent work, then told to save.
    built = {path: path.stat().st_mtime_ns for path in site.home.glob("artifacts/*/*/manifest.json")}
    ran = []
    for command in commands():
        line = command.replace("JOB", job)
        if line.startswith("scancel --signal=USR1"):
            site.until_checkpoint("sft", job)
            urgent = site.submit("sbatch --partition=urgent --nodes=2 --exclusive --output=/dev/null --wrap='sleep 1'")
            cluster.wait(urgent, "COMPLETED", seconds=120)
            _restarted(cluster, job, 1)
            assert "sft: resumes from the checkpoint" in site.log(job)
            site.until_checkpoint("grpo", job)
            site.shell(line)
            told = time.monotonic()
            _until(lambda job=job: int(cluster.job(job)["Restarts"]) == 2, "requeue", 30)
            assert time.monotonic() - told < 30, "checkpoint and requeue within 30 s"
        elif line.startswith("scontrol update"):
            _until(lambda job=job: cluster.job(job).get("Reason") == "BeginTime", "requeue", 90)
            site.shell(line)
            log = site.finish(job)
            assert re.search(rf"grpo: saved at step \d+ \(SIGUSR1\); job {job} goes back into the queue", log), log
            assert re.search(r"sft: saved at step \d+ \(SIGTERM\); ", log), log
            assert "grpo: resumes from the checkpoint" in log
        elif "dry-run" not in line and re.match(r"sbatch|python -m dig.train", line):
            job = site.submit(line)
            if line.startswith("sbatch"):
                assert "run: runs/quickstart/" in site.finish(job)
        elif line.startswith("tail"):
            site.until(lambda job=job: list(site.folder.glob(f"runs/slurm/*-{job}-0.log")), "log", job)
            site.shell(line)
        else:
            site.shell(line)
        ran.append(line)
    assert len(ran) == len(commands()) > 7

    assert built.items() <= {path: path.stat().st_mtime_ns for path in built}.items(), "nothing done is done again"
    assert site.metrics() == undisturbed.metrics()
    assert len(list(site.folder.glob("runs/quickstart/*/config.yaml"))) == 2, (
        "one run, and latest: the folder is stable"
    )


def _restarted(cluster: Cluster, job: str, times: int) -> None:
    cluster.wait(job, "RUNNING", seconds=120)
    assert int(cluster.job(job)["Restarts"]) == times


def _until(ready: object, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s"
        time.sleep(0.1)


def test_two_ranks_measure_whom_one_process_measures(undisturbed: Site, tmp_path: Path) -> None:
    one = Site(undisturbed.cluster, tmp_path)
    one.take_over(undisturbed)
    one.shell("python -m dig.train experiment=quickstart trainer.accelerator=cpu")

    def counts(metrics: dict):
        return {name: {part: found[part] for part in ("examples", "users", "split")} for name, found in metrics.items()}

    assert counts(one.metrics()) == counts(undisturbed.metrics())
    for name in ("popularity", "item_knn"):  # nothing that was trained on several ranks is in them
        assert one.metrics()[name] == undisturbed.metrics()[name]


def test_a_cancelled_job_saves_and_does_not_come_back(undisturbed: Site, tmp_path: Path) -> None:
    site = Site(undisturbed.cluster, tmp_path)
    site.take_over(undisturbed)
    job = site.submit(SUBMIT)
    site.until_checkpoint("sft", job)
    site.shell(f"scancel {job}")
    assert site.cluster.wait(job, "CANCELLED", seconds=60) == "CANCELLED"
    assert re.search(rf"sft: saved at step \d+ \(SIGTERM\); SLURM ends job {job}", site.log(job)), site.log(job)
    assert site.cluster.job(job)["Restarts"] == "0"


def test_the_tasks_of_an_array_share_a_sweep(undisturbed: Site, tmp_path: Path) -> None:
    site = Site(undisturbed.cluster, tmp_path)
    site.take_over(undisturbed)
    write(tmp_path, parameters={"sft.learning_rate": {"values": [0.001, 0.002, 0.003, 0.004]}})
    job = site.submit(
        "sbatch --array=1-2 --nodes=1 --ntasks=1 --job-name=sweep --output=sweep-%a-%A.log --wrap="
        "'srun python -m dig.sweep some.yaml sft.epochs=2 trainer.accelerator=cpu'"
    )
    for task in (1, 2):
        assert site.cluster.wait(f"{job}_{task}", "COMPLETED", "FAILED", seconds=300) == "COMPLETED", site.log(job)
    logs = [path.read_text() for path in sorted(tmp_path.glob(f"sweep-*-{job}.log"))]
    taken = [set(re.findall(r"trial (\d) of 4 starts", log)) for log in logs]
    assert len(taken) == 2 and taken[0] | taken[1] == {"1", "2", "3", "4"} and not taken[0] & taken[1], logs
    trials = pl.read_parquet(tmp_path / "runs/sweeps/some/latest/trials.parquet")
    assert trials["state"].to_list() == ["done"] * 4 and (tmp_path / "runs/sweeps/some/latest/sweep.html").is_file()


def _in_step(site: Site, before: str, *arguments: str) -> str:
    """Two tasks by ``srun``; what ``before`` says runs in each task first."""
    train = f"exec {sys.executable} -m dig.train experiment=quickstart {TWO} {' '.join(arguments)}"
    return site.shell(
        f"srun --job-name=dig --nodes=2 --ntasks-per-node=1 --kill-on-bad-exit=1 bash -c '{before} {train}'", fails=True
    )


def test_a_rank_that_never_starts_is_named(cluster: Cluster, tmp_path: Path) -> None:
    wait = '[ "$SLURM_PROCID" = 1 ] && exec sleep 600;'
    told = _in_step(Site(cluster, tmp_path), wait, "slurm.nodes=2", "slurm.start_timeout=5")
    assert "error: rank 1 (node2) has not started within 5 s (slurm.start_timeout), of 2 ranks" in told
    assert "Traceback" not in told


def test_a_folder_that_nodes_do_not_share_is_named(cluster: Cluster, tmp_path: Path) -> None:
    site = Site(cluster, tmp_path)
    site.home.mkdir()
    script = tmp_path / "task.sh"
    script.write_text(
        '#!/bin/bash\nif [ "$SLURM_PROCID" = 1 ] && [ -z "${APART:-}" ]; then\n'
        f'  APART=1 exec unshare --mount bash -c "mount -t tmpfs none {site.home} && exec $0"\nfi\n'
        f"exec {sys.executable} -m dig.train experiment=quickstart {TWO} slurm.nodes=2 slurm.shared_timeout=3\n"
    )
    script.chmod(0o755)
    told = site.shell(f"srun --job-name=dig --nodes=2 --ntasks-per-node=1 --kill-on-bad-exit=1 {script}", fails=True)
    assert f"error: {site.home / 'artifacts'} is not shared: node2 does not see what node1 writes there" in told


def test_another_number_of_tasks_than_configured_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    told = _in_step(Site(cluster, tmp_path), "", "trainer.devices=4")
    assert "error: SLURM started 2 tasks on 2 nodes, and trainer.num_nodes=1 × trainer.devices=4 make 4" in told
    assert "give trainer.num_nodes=2 trainer.devices=1" in told


def test_a_job_called_like_a_shell_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    site = Site(cluster, tmp_path)
    told = site.shell(
        f"srun --nodes=2 --ntasks-per-node=1 --job-name=bash {sys.executable} -m dig.train "
        f"experiment=quickstart {TWO} slurm.nodes=2",
        fails=True,
    )
    assert "srun --job-name=dig" in told


def test_a_script_without_srun_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    site = Site(cluster, tmp_path)
    job = site.submit(
        f"sbatch --nodes=2 --ntasks-per-node=1 --output=dig-%j.log --job-name=dig "
        f"--wrap='{sys.executable} -m dig.train experiment=quickstart {TWO} slurm.nodes=2'"
    )
    cluster.wait(job, "FAILED", seconds=60)
    assert "put srun before python" in site.log(job)
