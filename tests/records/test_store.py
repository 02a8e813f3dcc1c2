"""Records on disk: names, seeds, and what may stand together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.finished_run import write_run

from dig.config import UserError
from dig.records import RunRecord, RunStore, read_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "records")


def kept(store: RunStore, tmp_path: Path, name: str, *overrides: str, **settings) -> RunRecord:
    record = read_run(write_run(tmp_path / "runs" / name, overrides, **settings), name)
    store.save(record, replace=False)
    return record


def test_a_record_comes_back_as_it_was(store: RunStore, tmp_path: Path):
    record = kept(store, tmp_path, "shop-42")
    assert store.load("shop-42") == record
    assert store.names() == ["shop-42"]


def test_a_name_stands_for_its_seeds(store: RunStore, tmp_path: Path):
    for seed in (2333, 42):
        kept(store, tmp_path, f"shop-{seed}", f"seed={seed}", "baselines=[popularity]" if seed == 42 else "seed=2333")
    kept(store, tmp_path, "shop-wide-42", "backbone.config.num_hidden_layers=1")
    assert [record.name for record in store.family("shop")] == ["shop-42", "shop-2333"]
    assert [record.name for record in store.family("shop-42")] == ["shop-42"]


def test_a_missing_record_is_told_with_the_nearest(store: RunStore, tmp_path: Path):
    kept(store, tmp_path, "shop-42")
    with pytest.raises(
        UserError, match=r"no record shp .*did you mean shop\? \(python -m dig\.results add RUN --as shp"
    ):
        store.family("shp")
    with pytest.raises(UserError, match="no record shop-43"):
        store.load("shop-43")


@pytest.mark.parametrize("settings", [{"split": "global-time"}, {"users": 99}])
def test_other_tests_are_refused(store: RunStore, tmp_path: Path, settings: dict):
    kept(store, tmp_path, "shop-1", "seed=1")
    kept(store, tmp_path, "shop-2", "seed=2", **settings)
    with pytest.raises(UserError, match=r"shop-1 \(split leave-one-out, 100 test users\) and shop-2 \(split "):
        store.family("shop")


def test_seeds_of_another_command_are_refused(store: RunStore, tmp_path: Path):
    kept(store, tmp_path, "shop-1", "seed=1")
    kept(store, tmp_path, "shop-2", "seed=2", "sft.epochs=3")
    with pytest.raises(UserError, match=r"differ in more than the seed \(sft\.epochs=3\)"):
        store.family("shop")


def test_another_run_is_not_written_over(store: RunStore, tmp_path: Path):
    record = kept(store, tmp_path, "shop-42")
    store.save(record, replace=False)  # the same run again
    other = RunRecord("shop-42", record.content | {"command": "python -m dig.train"})
    with pytest.raises(UserError, match=r"holds another run .*experiment=quickstart.*--as shop-42 replaces it"):
        store.save(other, replace=False)
    assert store.load("shop-42") == record
    store.save(other, replace=True)
    assert store.load("shop-42") == other


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "two words"])
def test_names_stay_in_the_folder(store: RunStore, tmp_path: Path, name: str):
    record = read_run(write_run(tmp_path / "run"))
    with pytest.raises(UserError, match="letters, digits"):
        store.save(replace(record, name=name), replace=True)
    assert not store.names()


def test_damage_is_told(store: RunStore):
    store.folder.mkdir()
    for content in ("{", "[]", '{"recommenders": 3}'):
        (store.folder / "bad.json").write_text(content)
        with pytest.raises(UserError, match=r"bad\.json: is no record"):
            store.load("bad")
