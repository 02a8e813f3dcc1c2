"""Who gets which trial: never two the same, also after a kill, on two machines, and with a damaged journal."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy import stats
from support.sweep_files import write

from dig.sweeps.settings import Settings, load_settings
from dig.sweeps.space import Space, read_parameters
from dig.sweeps.trials import STALE, Leases, TrialStore, sampler_for

MIXED = {
    "sft.learning_rate": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.1},
    "sft.dropout": {"min": 0.0, "max": 0.5},
    "sft.epochs": {"min": 1, "max": 9},
    "rqvae.codebook_size": {"values": [8, [8, 4], [16, 4]]},
    "grpo.kl_weight": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
}


def sweep(folder: Path, limit: int | None = None, **changes: Any) -> Settings:
    return load_settings(write(folder, **changes), [f"runs_dir={folder}"], limit)


def drawn(settings: Settings, count: int) -> list[dict[str, Any]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, points = optuna.create_study(), []
    for number in range(count):
        study.sampler = sampler_for(settings, number)
        points.append(settings.space.draw(study.ask()))
    return points


def test_every_distribution_is_drawn_as_it_says(tmp_path: Path):
    points = drawn(sweep(tmp_path, method="random", run_cap=400, parameters=MIXED), 400)
    rates = np.log([point["sft.learning_rate"] for point in points])
    low, high = math.log(0.0001), math.log(0.1)
    assert stats.kstest(rates, "uniform", (low, high - low)).pvalue > 0.01
    assert stats.kstest([point["sft.dropout"] for point in points], "uniform", (0, 0.5)).pvalue > 0.01
    epochs = [point["sft.epochs"] for point in points]
    assert set(epochs) == set(range(1, 10)) and all(isinstance(each, int) for each in epochs)
    assert stats.chisquare(np.bincount(epochs, minlength=10)[1:]).pvalue > 0.01
    sizes = [json.dumps(point["rqvae.codebook_size"]) for point in points]
    assert {sizes.count(each) > 90 for each in ("8", "[8, 4]", "[16, 4]")} == {True}
    assert {point["grpo.kl_weight"] for point in points} == {0, 0.25, 0.5, 0.75, 1}


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_draws_follow_from_the_seed(tmp_path: Path, method: str):
    changes = {"method": method, "run_cap": 8, "parameters": MIXED}
    first = drawn(sweep(tmp_path, **changes), 8)
    assert first == drawn(sweep(tmp_path, **changes), 8)
    other = load_settings(write(tmp_path, **changes), [f"runs_dir={tmp_path}", "seed=1"])
    assert first != drawn(other, 8)
    assert len({point["sft.dropout"] for point in first}) == 8


def test_bayes_learns_where_values_are_good(tmp_path: Path):
    settings = sweep(tmp_path, method="bayes", run_cap=60, parameters={"sft.dropout": {"min": 0.0, "max": 1.0}})
    store = TrialStore(settings)
    tried = []
    while (claim := store.claim()) is not None:
        tried.append(claim.point["sft.dropout"])
        store.leases.release()
        store.finish(claim, TrialState.COMPLETE, -((tried[-1] - 0.8) ** 2))
    distance = np.abs(np.array(tried) - 0.8)
    assert len(tried) == 60 and distance[30:].mean() < distance[:10].mean() / 2


def test_values_that_python_takes_for_equal_are_told_apart():
    (parameter,) = read_parameters(Path("f"), {"p": {"values": [True, 1, "1", None]}})
    space = Space.of([parameter])
    coordinates = [space.coordinates(point)["p"] for point in space.grid()]
    assert len(set(coordinates)) == 4
    study = optuna.create_study()
    study.enqueue_trial({"p": coordinates[1]})
    value = space.draw(study.ask())["p"]
    assert value == 1 and not isinstance(value, bool)


def test_a_grid_is_handed_out_once_to_two_workers_and_ends(tmp_path: Path):
    settings = sweep(tmp_path)
    stores = [TrialStore(settings), TrialStore(settings)]
    found: list[tuple[int, str]] = []

    def take(store: TrialStore) -> None:
        while (claim := store.claim()) is not None:
            found.append((claim.trial.number, json.dumps(claim.point)))
            store.finish(claim, TrialState.COMPLETE, 0.1)
            store.leases.release()

    threads = [threading.Thread(target=take, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in found) == [0, 1, 2, 3]
    assert sorted(point for _, point in found) == sorted(map(json.dumps, settings.space.grid()))
    assert TrialStore(settings).claim() is None  # nor are they run again by the same command


def test_run_cap_bounds_a_grid_and_may_be_raised(tmp_path: Path):
    for limit, more in ((1, 1), (3, 2)):
        store, count = TrialStore(sweep(tmp_path, limit)), 0
        while (claim := store.claim()) is not None:
            store.leases.release()
            store.finish(claim, TrialState.COMPLETE, 0.1)
            count += 1
        assert count == more


def test_a_trial_whose_worker_was_killed_is_taken_up_again(tmp_path: Path):
    path = write(tmp_path)
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dig.sweeps.settings import load_settings\n"
        "from dig.sweeps.trials import TrialStore\n"
        f"store = TrialStore(load_settings(Path({str(path)!r}), ['runs_dir={tmp_path}']))\n"
        "claim = store.claim()\nclaim.trial.report(0.25, 1)\nprint(claim.point, flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    first = process.stdout.readline().strip()
    store = TrialStore(sweep(tmp_path))
    other = store.claim()
    assert str(other.point) != first and not other.taken_up  # it lives, so it is left alone
    store.finish(other, TrialState.COMPLETE, 0.1)
    store.leases.release()
    assert [trial.number for trial, _ in store.held()] == [0]
    process.kill()
    process.wait()
    claim = store.claim()
    assert claim.taken_up and str(claim.point) == first and claim.trial.number == 0
    assert store.study.trials[0].intermediate_values == {1: 0.25}


def test_a_worker_on_another_machine_counts_as_long_as_it_shows_signs_of_life(tmp_path: Path):
    leases = Leases(tmp_path)
    leases.hold(3)
    path = tmp_path / "trial-0004.json"
    elsewhere = {**json.loads(path.read_text()), "host": "node7", "where": "node7 pid:[1]", "pid": 1}
    leases.release()
    assert leases.holder(3) is None
    path.write_text(json.dumps(elsewhere))
    holder = leases.holder(3)
    assert holder.host == "node7" and holder.age < 60
    now = path.stat().st_mtime
    os.utime(path, (now - STALE - 5, now - STALE - 5))
    assert leases.holder(3) is None
    os.utime(path, (now + 3600, now + 3600))  # its clock is ahead
    assert leases.holder(3).age == 0.0
    path.write_text("half a li")
    assert leases.holder(3) is None


def test_a_number_that_another_process_got_since_is_not_mistaken(tmp_path: Path):
    leases = Leases(tmp_path)
    leases.hold(0)
    path = tmp_path / "trial-0001.json"
    assert leases.holder(0).age is None
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "12"}))
    assert leases.holder(0) is None
    leases.release()


def test_failed_trials_run_again_when_asked_and_only_once(tmp_path: Path):
    settings = sweep(tmp_path)
    store = TrialStore(settings)
    claim = store.claim()
    store.leases.release()
    store.finish(claim, TrialState.FAIL, None, reason="nan")
    assert store.retry_failed() == 1 and store.retry_failed() == 0
    again = store.claim()
    assert again.point == claim.point and again.trial.number == 1
    store.leases.release()
    store.finish(again, TrialState.COMPLETE, 0.5)
    points = []
    while (claim := store.claim()) is not None:
        points.append(claim.point)
        store.leases.release()
        store.finish(claim, TrialState.COMPLETE, 0.5)
    assert points == settings.space.grid()[1:]
    assert [trial.state for trial in store.trials()] == [TrialState.COMPLETE] * 4


def test_a_target_ends_the_sweep(tmp_path: Path):
    store = TrialStore(sweep(tmp_path, metric={"name": "valid/ndcg@10", "goal": "maximize", "target": 0.3}))
    for value in (0.2, 0.3):
        claim = store.claim()
        store.leases.release()
        store.finish(claim, TrialState.COMPLETE, value)
    assert store.claim() is None


def test_a_journal_that_a_full_disk_cut_off_goes_on(tmp_path: Path):
    settings = sweep(tmp_path)
    store = TrialStore(settings)
    store.finish(store.claim(), TrialState.COMPLETE, 0.1)
    store.leases.release()
    journal = settings.folder / "journal.log"
    with journal.open("ab") as stream:
        stream.write(b'{"op_code": 6, "worker')
    store = TrialStore(settings)
    assert store.claim().trial.number == 1
    store.leases.release()
    assert all(json.loads(line) for line in journal.read_text().splitlines())
