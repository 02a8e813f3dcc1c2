"""relations: what the artifact holds and from what, what it costs the others nothing, and bad input in a line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from datamodules.relations import (
    collaborative_neighbours,
    fill_from_similar,
    other_items_rows,
    semantic_neighbours,
)
from datamodules.splits import Sequences
from dig import load_config, run_experiment
from dig.config import UserError
from dig.engine.pipeline import stage_keys
from dig.stages.relations import STAGE, _vectors

SMALL = [
    "data.shop.items=80",
    "data.shop.users=60",
    "visual.model=null",
    "mining.miners=[lexical]",
    "logging.progress=false",
]
BOTH = ["sft.tasks.collaborative.share=1", "sft.tasks.semantic.share=1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def built(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def build(*settings: str) -> SimpleNamespace:
        monkeypatch.setenv("DIG_HOME", str(home))
        arguments = [*SMALL, *BOTH, "stages=[relations]", f"runs_dir={tmp_path}", *settings]
        folders = run_experiment(load_config("quickstart", arguments)).artifacts
        sequences = Sequences.load(folders["prepare"] / "sequences")
        embedded = folders.get("embed")
        embedded = folders.get("embed")
        return SimpleNamespace(
            folders=folders,
            folder=folders["relations"],
            sequences=sequences,
            train=sequences.train,
            vectors=load_file(embedded / "embeddings.safetensors")["embeddings"] if embedded else None,
            tables={
                name: table.numpy() for name, table in load_file(folders["relations"] / "relations.safetensors").items()
            },
            facts=json.loads((folders["relations"] / "relations.json").read_text()),
            says=STAGE.summary(folders["relations"]),
        )

    return build


def test_the_tables_are_counted_and_compared_as_configured(built):
    found = built("relations.window=3", "relations.kept=12")
    similar = semantic_neighbours(found.vectors, 12)
    own = collaborative_neighbours(found.train, 80, 3, 12)
    np.testing.assert_array_equal(found.tables["semantic"], similar)
    np.testing.assert_array_equal(found.tables["collaborative"], fill_from_similar(own, similar))
    assert found.tables["semantic"].dtype == np.int32
    assert found.facts["collaborative"]["own"] == pytest.approx((own >= 0).sum() / 80)
    assert "collaborative (cooccurrence): " in found.says and "of its own; semantic (cosine): 12.0" in found.says


def test_it_records_what_it_saw(built):
    found = built()
    seen = pl.read_parquet(found.folder / "items_seen.parquet")
    ids = pl.read_parquet(found.folders["prepare"] / "items.parquet")["item_id"]
    lists = dict(zip(seen["user_id"], seen["items_seen"], strict=True))
    for user, history in zip(found.sequences.user_ids, found.train, strict=True):
        assert lists[user].to_list() == ids.gather(history.astype(np.int64)).to_list()


def test_without_filling_an_item_has_its_own_alone(built):
    found = built("relations.fill=false")
    np.testing.assert_array_equal(found.tables["collaborative"], collaborative_neighbours(found.train, 80))


def test_cells_say_how_much_they_find(built):
    found = built("relations.search=cells", "relations.probes=3")
    exact = semantic_neighbours(found.vectors, 5)
    slow = np.mean(
        [
            len(set(row[:5]) & set(true)) / 5
            for row, true in zip(found.tables["semantic"].tolist(), exact.tolist(), strict=True)
        ]
    )
    assert found.facts["search"] == {"how": "cells", "probes": 3, "recall": pytest.approx(slow, abs=1e-4)}
    assert slow > 0.3 and f"finds {slow:.1%} of the five nearest" in found.says


def test_random_relations_need_no_vectors_and_see_nobody(built):
    settings = ("relations.collaborative=random", "relations.semantic=random")
    found, again, other = built(*settings), built(*settings), built(*settings, "seed=7")
    real = built()
    assert "embed" not in found.folders
    assert pl.read_parquet(found.folder / "items_seen.parquet").is_empty()
    for name, table in found.tables.items():
        assert table.shape == real.tables[name].shape and (table >= 0).all()
        assert (table != np.arange(80)[:, None]).all() and all(len(set(row)) == 10 for row in table.tolist())
        np.testing.assert_array_equal(table, again.tables[name])
        assert (table != other.tables[name]).any() and (table != real.tables[name]).any()
    assert (found.tables["collaborative"] != found.tables["semantic"]).any()
    assert "collaborative (random): 10.0 neighbours per item; semantic (random): 10.0 neighbours per item" in found.says


def test_shuffled_relations_are_those_of_other_items(built):
    found, real = built("relations.collaborative=shuffled", "relations.semantic=shuffled"), built()
    np.testing.assert_array_equal(found.tables["collaborative"], other_items_rows(real.tables["collaborative"], 42))
    np.testing.assert_array_equal(found.tables["semantic"], other_items_rows(real.tables["semantic"], 43))


def keys(*settings: str) -> dict[str, str]:
    return stage_keys(load_config("quickstart", [*SMALL, *settings]))


def test_runs_without_relations_know_nothing_of_them():
    assert "relations" not in keys()
    assert keys("relations.window=3", "relations.fill=false") == keys()


def test_what_changes_the_artifact():
    first = keys(*BOTH)
    changed = lambda *settings: [name for name, key in keys(*BOTH, *settings).items() if key != first.get(name)]  # noqa: E731
    assert changed("relations.window=3") == changed("relations.kept=7") == ["relations", "sft", "grpo"]
    assert changed("embedding.interests=none")[:2] == ["embed", "relations"]
    assert changed("data.shop.seed=9")[0] == "prepare" and "relations" in changed("data.shop.seed=9")
    assert "relations" in changed("relations.semantic=random")
    random = ("relations.collaborative=random", "relations.semantic=random")
    assert keys(*BOTH, *random)["relations"] != keys(*BOTH, *random, "seed=7")["relations"]
    assert keys(*BOTH, *random)["relations"] == keys(*BOTH, *random, "embedding.interests=none")["relations"]
    assert changed("sft.epochs=3") == ["sft", "grpo"]


def test_relations_that_saw_a_held_out_item_are_refused(built, monkeypatch: pytest.MonkeyPatch):
    """Whoever counted whole sequences is caught by what the artifact says."""
    from dig.stages import relations

    monkeypatch.setattr(relations, "leading_items", lambda sequences, seen: sequences.rows)
    monkeypatch.setattr(Sequences, "train", property(lambda sequences: sequences.rows))
    found = built("relations.window=4")
    monkeypatch.undo()
    assert len(pl.read_parquet(found.folder / "items_seen.parquet")["items_seen"].explode()) == len(
        found.sequences.items
    )
    with pytest.raises(UserError, match="sft: the relations between items saw held-out items: the test items of 60"):
        built("relations.window=4", "stages=[sft]", "rqvae.codebook_size=8", "rqvae.epochs=2")


def context(folder: Path, vectors: torch.Tensor, *settings: str) -> SimpleNamespace:
    save_file({"embeddings": vectors}, folder / "embeddings.safetensors")
    pl.DataFrame({"item_id": [f"i{row}" for row in range(len(vectors))]}).write_parquet(folder / "items.parquet")
    config = load_config("quickstart", [*SMALL, *settings])
    return SimpleNamespace(config=config, file=lambda stage, name: folder / name)


def test_vectors_that_tell_nothing_apart_are_refused_in_a_line(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        _vectors(context(tmp_path, torch.ones(9, 4), *BOTH))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("relations: all 9 items have the same text vector")
    assert str(caught.value).endswith("do without: sft.tasks.semantic.share=0 relations.fill=false")
    with pytest.raises(UserError, match=r"do without: relations.fill=false$"):
        _vectors(context(tmp_path, torch.ones(9, 4), BOTH[0]))
    with pytest.raises(UserError, match=r"do without: sft.tasks.semantic.share=0$"):
        _vectors(context(tmp_path, torch.ones(9, 4), BOTH[1]))


def test_a_vector_that_is_no_number_names_its_item(tmp_path: Path):
    vectors = torch.randn(9, 4)
    vectors[3, 1] = torch.nan
    with pytest.raises(UserError, match="the vector of item i3 holds what is not a number"):
        _vectors(context(tmp_path, vectors, *BOTH))


def test_what_is_told_needs_no_vectors(tmp_path: Path):
    """The keys that the line names do what it says."""
    for wanted, without in (
        (BOTH, ["sft.tasks.semantic.share=0", "relations.fill=false"]),
        ([BOTH[0]], ["relations.fill=false"]),
    ):
        config = load_config("quickstart", [*SMALL, *wanted, *without])
        assert config.relation_tasks == {"collaborative"} and STAGE.inputs(config) == ("prepare",)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("relations.window=0", "relations.window must be above 0, it is 0"),
        ("relations.kept=4", "relations.kept must be 5 or above, which is what the tasks name; it is 4"),
        ("relations.probes=-1", "relations.probes must be above 0, it is -1"),
        (
            "relations.collaborative=cosine",
            "relations.collaborative='cosine' is not one of cooccurrence, random, shuffled",
        ),
        ("relations.semantic=cooccurrence", "relations.semantic='cooccurrence' is not one of cosine, random, shuffled"),
        ("relations.search=faiss", "relations.search='faiss' is not one of auto, exact, cells"),
        ("relations.windw=3", "did you mean relations.window?"),
        ("stages=[relations]", "no task reads any; set sft.tasks.collaborative.share=1"),
        ("stages=[relation]", "did you mean 'relations'?"),
    ],
)
def test_wrong_settings_get_one_line(override: str, expected: str):
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [override])
    assert expected in str(caught.value) and "\n" not in str(caught.value) and caught.value.exit_code == 2
