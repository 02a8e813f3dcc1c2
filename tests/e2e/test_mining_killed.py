"""Three models mine a thousand items each from a server that misbehaves, and the run is killed three times."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import yaml
from support.chat_process import ChatProcess
from support.chat_server import FAULTS
from support.preloaded import Preloaded

ITEMS, MODELS, SECRET = 1000, ("gpt", "gemini", "kimi"), "sk-never-to-be-seen-4711"
PRICE_IN, PRICE_OUT = 1.25, 10.0


def experiment(folder: Path, url: str) -> Path:
    models = {
        name: {
            "model": f"{name}-1",
            "base_url": url,
            "key": "TEST_PROVIDER_KEY",
            "price_in": PRICE_IN,
            "timeout": 1.5,
            "price_out": PRICE_OUT,
            "backoff": 0.05,
            "concurrency": 12,
        }
        for name in MODELS
    }
    content = {
        "data": {"source": "quickstart", "shop": {"items": ITEMS, "users": 200}},
        "mining": {"miners": list(MODELS), "models": models, "max_missing": 0.1, "max_cost_usd": 50.0},
        "stages": ["mine"],
        "logging": {"progress": False},
        "runs_dir": str(folder / "runs"),
    }
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(folder: Path, path: Path) -> subprocess.Popen:
    environment = {**os.environ, "DIG_HOME": str(folder / "home"), "TEST_PROVIDER_KEY": SECRET, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dig.train", f"experiment={path}"]
    return Preloaded(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def answered(folder: Path) -> int:
    store = folder / "home" / "interests" / "answers.sqlite"
    if not store.is_file():
        return 0
    try:
        with sqlite3.connect(store, timeout=10) as base:
            return base.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def kill_after(folder: Path, process: subprocess.Popen, count: int) -> None:
    deadline = time.monotonic() + 120
    while answered(folder) < count:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("killed")
    with ChatProcess(
        folder / "server", faults=FAULTS, fault_share=0.2, latency=0.01, key=SECRET, echo_key=True
    ) as server:
        path = experiment(folder, server.url)
        for count in (400, 1100, 2000):
            kill_after(folder, start(folder, path), count)
        last = start(folder, path)
        said, _ = last.communicate(timeout=300)
        assert last.returncode == 0, said
        log = server.log()
        again = start(folder, path)
        cached, _ = again.communicate(timeout=120)
        assert len(server.log()) == len(log), "a finished mining asks nobody"
    with sqlite3.connect(folder / "home" / "interests" / "answers.sqlite") as base:
        tables = {
            "answers": base.execute("SELECT * FROM answers").fetchall(),
            "failures": base.execute("SELECT * FROM failures").fetchall(),
            "requests": base.execute("SELECT * FROM requests").fetchall(),
        }
    return folder, said + cached, log, tables


def test_every_item_is_accounted_for(mined):
    folder, said, _, tables = mined
    keys = {row[0] for row in tables["answers"]} | {row[0] for row in tables["failures"]}
    assert len(tables["answers"]) + len(tables["failures"]) == len(keys) == ITEMS * len(MODELS)
    assert len(tables["failures"]) < 0.03 * len(keys), "one second chance suffices for all but what may be paid for"
    (file,) = (folder / "home" / "artifacts" / "mine").glob("*/interests.parquet")
    interests = pl.read_parquet(file)
    for number, name in enumerate(MODELS, start=1):
        failed = sum(row[1] == number for row in tables["failures"])
        assert interests.filter(pl.col("miner") == name)["item_id"].n_unique() == ITEMS - failed
        assert not failed or f"mine: {name} has no usable answer for {failed} of 1,000 items (" in said
    assert f"python -m dig.interests retry experiment={folder / 'shop.yaml'} asks for the " in said
    assert not (file.parent / "scratch").exists()


def test_spending_equals_the_servers_own_count(mined):
    _, said, log, tables = mined
    requests = {f"dig-{row[0]}": row for row in tables["requests"]}
    billed = {line["id"]: line for line in log if line["paid"]}
    assert len(billed) == sum(line["paid"] for line in log) and billed.keys() <= requests.keys()
    entered = {name: row for name, row in requests.items() if row[4] == 1}
    unknown = {name for name, row in requests.items() if row[4] == 3}
    assert not [row for row in requests.values() if row[4] == 0], "nothing is under way any more"
    for name, row in entered.items():
        line = billed[name]
        assert (row[6], row[7]) == (line["prompt_tokens"], line["completion_tokens"])
        assert row[8] == pytest.approx((row[6] * PRICE_IN + row[7] * PRICE_OUT) / 1e6)
    assert billed.keys() - entered.keys() <= unknown, "what the server bills and we do not know is told as unknown"
    lost = [line for line in log if line["id"] in unknown]
    killed = [line for line in lost if line["fault"] not in ("hang", "cut", "huge")]
    assert len(killed) <= 3 * len(MODELS) * 12, "no more than what was in flight at the kills"
    for name in billed.keys() & unknown:
        line = billed[name]
        assert (line["prompt_tokens"] * PRICE_IN + line["completion_tokens"] * PRICE_OUT) / 1e6 <= requests[name][8]
    cost = sum(row[8] for row in entered.values())
    assert f"asked: ${cost:.4f} for {len(entered):,} answers in all" in said


def test_nothing_is_paid_twice(mined):
    _, _, log, tables = mined
    of_key = {f"dig-{row[0]}": row[3] for row in tables["requests"]}
    state = {f"dig-{row[0]}": row[4] for row in tables["requests"]}
    paid = Counter()
    for line in log:
        if line["paid"] and state[line["id"]] == 1:
            paid[of_key[line["id"]]] += 1
    unusable = Counter(of_key[line["id"]] for line in log if line["paid"] and state[line["id"]] == 1 and line["fault"])
    assert all(count == 1 + unusable[key] for key, count in paid.items()), (
        "one good answer, and one second chance at most"
    )
    assert max(unusable.values()) <= 2


def test_the_key_is_nowhere(mined):
    folder, said, _, _ = mined
    assert SECRET not in said
    for root in ("home", "runs"):
        for path in (folder / root).rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
