"""Records of killed processes: what is whole is kept to the byte, what is cut goes, and `wandb sync` sees the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.wandb_records import Recorded, records
from wandb.proto import wandb_internal_pb2 as pb

from dig.engine.console import console
from dig.tracking.records import last_step, mend_records, rows_since, whole_records

_WRITER = """
import os, sys
os.environ["WANDB_ERROR_REPORTING"] = "false"
import wandb
settings = wandb.Settings(console="off", silent=True, symlink=False, x_disable_machine_info=True)
run = wandb.init(mode="offline", id="one", project="p", dir=sys.argv[1], settings=settings)
for step in range(int(sys.argv[2])):
    run.log({"loss": step, "text": "x" * 300})
    if step == 200:
        print("far enough", flush=True)
run.finish()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Records over several blocks of the format."""
    folder = tmp_path_factory.mktemp("written")
    subprocess.run([sys.executable, "-c", _WRITER, str(folder), "300"], check=True)
    [path] = folder.glob("wandb/offline-run-*/run-one.wandb")
    assert path.stat().st_size > 3 * 32768
    return path.read_bytes()


def place(folder: Path, content: bytes) -> Path:
    path = folder / "offline-run-20260101_000000-one" / "run-one.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_whole_records_are_left_as_they_are(tmp_path: Path, written: bytes) -> None:
    path = place(tmp_path, written)
    found = whole_records(path)
    assert found is not None and found[-1].end == len(written)
    assert [pb.Record.FromString(each.content) for each in found] == list(records(path))
    mend_records(tmp_path, "one")
    assert path.read_bytes() == written


def test_at_whatever_byte_a_file_is_cut_its_whole_records_stay(tmp_path: Path, written: bytes) -> None:
    ends = [each.end for each in whole_records(place(tmp_path, written)) or []]
    around = [32768 + shift for shift in range(-12, 13)] + [ends[-2] + shift for shift in range(-1, 9)]
    for cut in [*around, *range(40_000, len(written), 1777)]:
        for tail in (b"", bytes(50)):  # a file system may leave zeros
            path = place(tmp_path, written[:cut] + tail)
            mend_records(tmp_path, "one")
            kept = [end for end in ends if end <= cut]
            assert path.stat().st_size == kept[-1], cut
            assert len(list(records(path))) == len(kept)


def test_a_block_that_the_killed_process_still_writes_is_not_in_the_mended_file(tmp_path: Path, written: bytes) -> None:
    path = place(tmp_path, written[:30_000])
    with path.open("r+b") as still_writing:
        mend_records(tmp_path, "one")
        still_writing.seek(32768)
        still_writing.write(written[32768:65536])
    kept = [each.end for each in whole_records(path) or []]
    assert path.stat().st_size == kept[-1] < 30_000 and len(list(records(path))) == len(kept)


@pytest.mark.parametrize("cut", [0, 3, 7, 9, 30])
def test_a_file_that_names_no_run_is_set_aside(tmp_path: Path, written: bytes, cut: int) -> None:
    path = place(tmp_path, written[:cut])
    mend_records(tmp_path, "one")
    assert not path.exists() and path.with_name("run-one.wandb.empty").stat().st_size == cut


def test_damage_before_the_end_is_said_and_nothing_is_cut(tmp_path: Path, written: bytes) -> None:
    damaged = bytearray(written)
    damaged[50_000] ^= 1
    path = place(tmp_path, bytes(damaged))
    with console.capture() as said:
        mend_records(tmp_path, "one")
    assert "damaged" in said.get() and path.read_bytes() == bytes(damaged)


def test_other_runs_are_not_touched(tmp_path: Path, written: bytes) -> None:
    path = place(tmp_path, written[:-3])
    mend_records(tmp_path, "another")
    assert path.read_bytes() == written[:-3]


def test_a_process_group_killed_while_it_writes(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path), "100000000"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    os.killpg(writer.pid, signal.SIGKILL)
    writer.wait()
    time.sleep(0.5)  # W&B's own process was in the group
    [path] = tmp_path.glob("wandb/offline-run-*/run-one.wandb")
    mend_records(tmp_path / "wandb", "one")
    found = Recorded(path)
    assert found.exit_code is None
    losses = [row["loss"] for row in found.history]
    assert losses == list(range(len(losses)))


def test_what_records_do_not_know_comes_from_our_own_log(tmp_path: Path, written: bytes) -> None:
    path = place(tmp_path, written)
    assert last_step(tmp_path, "one", "loss") == 299
    assert last_step(tmp_path, "another", "loss") == last_step(tmp_path, "one", "none") == -1
    path.write_bytes(written[: len(written) // 2])
    known = last_step(tmp_path, "one", "loss")
    assert 100 < known < 200
    for attempt, losses in (("000", range(known + 3)), ("001", range(known + 2, 300))):
        log = tmp_path / "logs" / attempt / "metrics.csv"
        log.parent.mkdir(parents=True)
        lines = [f"0,{loss}.5,{loss}," for loss in losses]
        log.write_text("\n".join(["epoch,loss,step,valid/ndcg@10", *lines, "1,3"]))
    rows = list(rows_since(tmp_path / "logs", known))
    assert [step for step, _ in rows] == [*range(known, known + 3), *range(known + 2, 300)]
    assert rows[0][1] == {"epoch": 0.0, "loss": known + 0.5}
