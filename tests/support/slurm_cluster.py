"""A SLURM of two nodes on one host, for tests: its own munge, controller and node daemons in a temporary folder.

``python tests/slurm/cluster.py COMMAND …`` starts it, runs the command with it and takes it down. Needs root, and
Debian's packages ``slurm-wlm`` and ``munge``. Nothing of it is left: the daemons are ended by their process ids and
/etc/hosts gets its old content back.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["Cluster", "missing_for_cluster", "running_cluster"]

NODES = ("node1", "node2")
_HOSTS = Path("/etc/hosts")
_MARK = "# the nodes of a SLURM under test"
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo")

_SLURM_CONF = """\
ClusterName=dig
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=60
KillWait=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
{nodes}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes={names} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={names} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


class Cluster:
    """A running cluster.

    Attributes:
        folder: its files.
        environment: what commands need to talk to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**_without_slurm(os.environ), "SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: str, check: bool = True) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows of a job: ``JobState``, ``Restarts``, ``ExitCode`` and so on."""
        shown = self.call("scontrol", "show", "job", "--oneliner", job)
        return dict(re.findall(r"(\w+)=(\S*)", shown))

    def state(self, job: str) -> str:
        """A job's state in one word."""
        return self.job(job)["JobState"]

    def wait(self, job: str, *states: str, seconds: float = 600) -> str:
        """Waits until a job is in one of the states; a requeued job is let start without SLURM's pause."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.job(job)
            if found["JobState"] in states:
                return found["JobState"]
            if found["JobState"] == "PENDING" and found.get("Reason") == "BeginTime":
                self.call("scontrol", "update", f"jobid={job}", "starttime=now", check=False)
            time.sleep(0.3)
        raise TimeoutError(f"job {job} is {self.state(job)} after {seconds} s, not {' or '.join(states)}")


def missing_for_cluster() -> str | None:
    """What this host lacks to run a cluster, or None."""
    absent = [name for name in _PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "a cluster of tests is started by root"


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster, taken down whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="dig-slurm-"))
    folder.chmod(0o755)  # munged looks at who may enter
    daemons: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
    hosts = _HOSTS.read_bytes()
    cluster = Cluster(folder)
    try:
        _name_nodes(hosts)
        _write_files(folder)
        start = lambda *command: daemons.append(_start(folder, cluster.environment, command))  # noqa: E731
        start(
            "munged",
            "--foreground",
            f"--socket={folder}/munge.socket",
            f"--key-file={folder}/munge.key",
            f"--pid-file={folder}/munged.pid",
            f"--seed-file={folder}/munge.seed",
        )
        _until(lambda: (folder / "munge.socket").exists(), "munged has no socket", folder)
        start("slurmctld", "-D", "-c")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        _until(
            lambda: cluster.call("sinfo", "--noheader", "--states=idle", "--format=%D", check=False).strip() == "2",
            "the nodes do not come up",
            folder,
        )
        yield cluster
    finally:
        for job in cluster.call("squeue", "--noheader", "--format=%A", check=False).split():
            cluster.call("scancel", "--signal=KILL", "--full", job, check=False)
            cluster.call("scancel", job, check=False)
        for process, log in reversed(daemons):
            _end(process)
            log.close()
        _HOSTS.write_bytes(hosts)
        shutil.rmtree(folder, ignore_errors=True)


def _write_files(folder: Path) -> None:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    (folder / "state").mkdir()
    lines = []
    for node in NODES:
        (folder / f"spool.{node}").mkdir()
        lines.append(
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={_free_port()} CPUs=2 "
            "Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN"
        )
    (folder / "slurm.conf").write_text(
        _SLURM_CONF.format(folder=folder, controller=_free_port(), nodes="\n".join(lines), names=",".join(NODES))
    )


def _name_nodes(hosts: bytes) -> None:
    if _MARK.encode() in hosts:
        raise RuntimeError(f"{_HOSTS} names the nodes of another cluster; one at a time")
    end = b"" if hosts.endswith(b"\n") or not hosts else b"\n"
    lines = "".join(f"127.0.0.1 {node} {_MARK}\n" for node in NODES)
    _HOSTS.write_bytes(hosts + end + lines.encode())


def _start(
    folder: Path, environment: dict[str, str], command: Sequence[str]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    log = (folder / f"{command[0]}.{len(list(folder.glob('*.out')))}.out").open("wb")
    program = _program(command[0]) or command[0]
    process = subprocess.Popen(
        [program, *command[1:]], env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
    )
    return process, log


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _until(ready: Callable[[], bool], otherwise: str, folder: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            logs = [*folder.glob("*.out"), *folder.glob("*.log")]
            told = "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs)
            raise RuntimeError(f"{otherwise} in {seconds} s\n{told}")
        time.sleep(0.2)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _without_slurm(environment: os._Environ[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))}


if __name__ == "__main__":
    problem = missing_for_cluster()
    if problem:
        sys.exit(problem)
    with running_cluster() as started:
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"], env=started.environment).returncode)
