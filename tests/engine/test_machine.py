"""What a configuration asks of the machine is compared with it before a process starts; no test here starts one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.sweep_files import write

from dig.config import Config, UserError, load_config
from dig.engine.machine import available_memory, check_machine, check_processes, cores, devices_here, total_memory
from dig.train import main

GIB = 2**30


def refused(config: Config, root: Path | None = None) -> str:
    with pytest.raises(UserError) as raised:
        check_machine(config) if root is None else check_processes(config, root)
    assert raised.value.exit_code == 2 and "\n" not in str(raised.value)
    return str(raised.value)


def machine(root: Path, free: int, group: dict[str, str] | None = None, line: str = "0::/job_7") -> Path:
    """A /proc and a /sys with so many bytes free, and the files of a control group."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"{line}\n")
    (root / "proc/meminfo").write_text(f"MemTotal:  {64 * GIB // 1024} kB\nMemAvailable:  {free // 1024} kB\n")
    folder = root / "sys/fs/cgroup" / line.split(":")[1] / "job_7"
    folder.mkdir(parents=True)
    for name, text in (group or {}).items():
        (folder / name).write_text(f"{text}\n")
    return root


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


def cpu(*settings: str) -> Config:
    return load_config("quickstart", ["trainer.accelerator=cpu", *settings])


def test_more_ranks_than_the_processor_can_take_are_refused_with_the_figures(two_cores: None, tmp_path: Path) -> None:
    """Entry 17: `trainer.devices=100000` on the CPU starts nothing and is one line."""
    root = machine(tmp_path, 32 * GIB)
    check_processes(cpu("trainer.devices=8"), root)
    said = refused(cpu("trainer.devices=9"), root)
    assert said == (
        "trainer.devices=9 would start 9 processes on the CPU, and this machine has 2 cores; give at most "
        "trainer.devices=8"
    )
    with pytest.raises(UserError, match=r"trainer.devices=100000 is more than the 1,024 devices that a node can have"):
        cpu("trainer.devices=100000")


def test_ranks_that_memory_cannot_hold_are_refused_with_the_figures(two_cores: None, tmp_path: Path) -> None:
    """Entry 17: 600 MiB a rank is what one takes when all is imported."""
    root = machine(tmp_path, 2 * GIB)
    check_processes(cpu("trainer.devices=3"), root)
    said = refused(cpu("trainer.devices=4"), root)
    assert "needs at least 2.5 GB of memory" in said and "2.1 GB are available" in said
    assert said.endswith("give at most trainer.devices=3")


def test_a_control_group_counts_where_it_grants_less(two_cores: None, tmp_path: Path) -> None:
    limits = {
        "memory.max": str(4 * GIB),
        "memory.current": str(3 * GIB),
        "cpu.max": "150000 100000",
        "memory.stat": f"anon 5\ninactive_file {GIB}",
    }
    two = machine(tmp_path / "2", 32 * GIB, limits)
    assert total_memory(two) == 4 * GIB
    assert available_memory(two) == 2 * GIB, "what can be dropped is free"
    assert cores(two) == 2
    limits |= {"cpu.max": "100000 100000"}
    assert cores(machine(tmp_path / "3", GIB, limits)) == 1
    one = machine(
        tmp_path / "1", 32 * GIB, {"memory.limit_in_bytes": str(GIB), "memory.usage_in_bytes": "0"}, "4:memory:/job_7"
    )
    assert (total_memory(one), available_memory(one)) == (GIB, GIB)
    free = machine(tmp_path / "4", GIB, {"memory.max": "max", "cpu.max": "max 100000"})
    assert (total_memory(free), available_memory(free), cores(free)) == (64 * GIB, GIB, 2)
    assert total_memory(tmp_path / "nothing") is None, "no /proc, as on a Mac"
    check_processes(cpu("trainer.devices=8"), tmp_path / "nothing")


@pytest.mark.parametrize("key", ["trainer.num_workers", "visual.num_workers"])
def test_worker_processes_count_for_all_ranks(key: str, two_cores: None, tmp_path: Path) -> None:
    """Entry 17, a sibling."""
    root = machine(tmp_path, 32 * GIB)
    check_processes(cpu(f"{key}=32"), root)
    assert refused(cpu(f"{key}=33"), root).endswith(f"give at most {key}=32")
    assert "would start 68 worker processes" in refused(cpu(f"{key}=17", "trainer.devices=4"), root)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("3", 3),
        ("'3'", 3),
        ("auto", "auto"),
        ("-1", "auto"),
        ("'-1'", "auto"),
        ("'0,1'", [0, 1]),
        ("0,1", [0, 1]),
        ("'1,'", [1]),
        ("[0,2]", [0, 2]),
        ("['0','2']", [0, 2]),
    ],
)
def test_devices_mean_what_lightning_means_by_them(asked: str, meant: object) -> None:
    """Entry 17: `-1` and `"0,1"` are legal; on a machine without GPUs -1 is one process, as auto is."""
    assert load_config("quickstart", [f"trainer.devices={asked}"]).trainer.devices == meant
    config = cpu(f"trainer.devices={asked}").trainer
    assert devices_here(config) == (1 if meant == "auto" else meant if isinstance(meant, int) else len(meant))  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", ["0", "-2", "[]", "''", "[0,0]", "[-1]", "many", "1.5", "true", "0-3", "null", "[a]"])
def test_what_is_no_number_of_devices_is_one_line(asked: str) -> None:
    """Entry 17: `devices=0` and the like."""
    with pytest.raises(UserError, match="is neither a number of devices above 0, nor a list") as raised:
        load_config("quickstart", [f"trainer.devices={asked}"])
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trainer.accelerator=tpuu"], "did you mean 'tpu'?"),
        (["trainer.accelerator=CPU"], "did you mean 'cpu'?"),
        (["trainer.precision=nonsense"], "trainer.precision='nonsense' is not one of 32-true, bf16-mixed"),
        (["trainer.precision=bf16mixed"], "did you mean 'bf16-mixed'?"),
    ],
)
def test_names_that_lightning_does_not_know(settings: list[str], said: str) -> None:
    """Entry 17."""
    with pytest.raises(UserError) as raised:
        load_config("quickstart", settings)
    assert said in str(raised.value) and raised.value.exit_code == 2


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trainer.accelerator=gpu"], "trainer.accelerator=gpu: no GPU is seen here"),
        (["trainer.accelerator=mps"], "no Apple GPU is seen here"),
        (["trainer.accelerator=tpu"], "no TPU is seen here"),
        (["trainer.devices=[0,1]"], "names GPUs by their indices, and there is none here"),
        (["trainer.precision=16-mixed"], "needs a GPU, and there is none; use bf16-mixed or 32-true"),
        (["trainer.strategy=deepspeed"], "needs the package deepspeed"),
        (["trainer.strategy=ddp_spawn", "trainer.devices=2"], "starts ranks itself"),
        (["trainer.strategy=single_device", "trainer.devices=2"], "lets each of several ranks train alone"),
    ],
)
def test_what_a_machine_without_gpus_cannot_do(settings: list[str], said: str, no_gpu: None) -> None:
    """Entry 17."""
    assert said in refused(load_config("quickstart", settings))


def test_hidden_gpus_are_named_as_the_reason(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry 17, a sibling: `CUDA_VISIBLE_DEVICES=""`."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES='' hides them all)" in refused(load_config("quickstart", ["trainer.accelerator=gpu"]))


@pytest.fixture
def two_old_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trainer.devices=4"], "trainer.devices=4, and 2 GPUs are seen here; give at most trainer.devices=2, or auto"),
        (["trainer.devices=[1,2]"], "names GPU 2, and 2 GPUs are seen here: their indices are 0 to 1"),
        (["trainer.precision=bf16-mixed"], "Tesla P100 knows no bfloat16; use 16-mixed or 32-true"),
    ],
)
def test_what_a_machine_with_two_old_gpus_cannot_do(settings: list[str], said: str, two_old_gpus: None) -> None:
    """Entry 17."""
    assert said in refused(load_config("quickstart", settings))
    config = load_config("quickstart", ["trainer.devices=-1"])
    check_machine(config)
    assert devices_here(config.trainer) == 2


def test_ranks_that_a_launcher_has_started_are_its_matter(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    check_machine(cpu("trainer.devices=64"))


@pytest.mark.parametrize("flag", ["--dry-run", "--print-config", None])
def test_no_rank_is_started_where_too_many_are_asked_for(
    flag: str | None,
    two_cores: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Entry 17: whichever way it is asked, and whatever would start the ranks is not reached."""

    def started(*_: object) -> int:
        raise AssertionError("ranks were started")

    monkeypatch.setattr("dig.train.run_ranks", started)
    monkeypatch.chdir(tmp_path)
    arguments = ["experiment=quickstart", "trainer.accelerator=cpu", "trainer.devices=64"]
    assert main([*arguments, *([flag] if flag else [])]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: trainer.devices=64 would start 64 processes") and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_threads_count_as_well(two_cores: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry 17, a sibling: `OMP_NUM_THREADS`."""
    root = machine(tmp_path, 32 * GIB)
    monkeypatch.setenv("OMP_NUM_THREADS", "128")
    check_processes(cpu("trainer.devices=2"), root)
    assert refused(cpu("trainer.devices=4"), root) == (
        "OMP_NUM_THREADS=128 would start 512 threads, and this machine has 2 cores; export OMP_NUM_THREADS=1"
    )


def test_workers_of_a_sweep_count_as_ranks_do(
    two_cores: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry 17, a sibling: `python -m dig.sweep … --workers 100000`."""
    from dig.sweep import main as sweep

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("dig.sweeps.worker.subprocess.Popen", started)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, parameters={"sft.learning_rate": {"values": [0.001, 0.002]}})
    assert sweep(["some.yaml", "--workers", "64"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: --workers 64 would start 64 processes on the CPU") and "\n" not in error
