"""A run folder proves itself: what was cut, changed, swapped, reordered or put there is named and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file
from support import tiny
from support.proven import prove

from dig.compare import main as compare
from dig.config import UserError, load_config
from dig.engine import proof
from dig.engine.artifacts import fingerprint, read_json, write_json
from dig.engine.catalogue import STAMP, Catalogue, check_catalogue, stamp_config, table_stamp
from dig.engine.pipeline import run_experiment
from dig.engine.proof import RunProof
from dig.quantization import SemanticIds
from dig.recommend import main as recommend
from dig.recommender import Recommender
from scripts.results import main as results

AGAIN = "the same dig.train command writes it again"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two baselines on shops of one size, in `runs/quickstart/one` and `two`."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder / "home"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        for name, seed in (("one", 1), ("two", 2)):
            run_experiment(
                load_config(
                    "quickstart",
                    [
                        "data.shop.users=60",
                        "data.shop.items=80",
                        f"data.shop.seed={seed}",
                        "stages=[report]",
                        f"run_id={name}",
                        f"runs_dir={folder / 'runs'}",
                        "logging.progress=false",
                    ],
                )
            )
    return folder / "runs" / "quickstart"


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy that a test may damage; nothing is remembered of other tests."""
    proof._verified.clear()
    proof._told.clear()
    shutil.copytree(runs / "one", tmp_path / "run")
    shutil.copytree(runs / "two", tmp_path / "other")
    yield tmp_path / "run"


def rewrite(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    table = change(pl.read_parquet(path))
    table.write_parquet(path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "items reversed": ("items.parquet", lambda path: rewrite(path, pl.DataFrame.reverse)),
    "items cut": ("items.parquet", lambda path: rewrite(path, lambda table: table.head(79))),
    "a byte of the weights": ("checkpoints/popularity/counts.safetensors", flip),
    "a byte of the items": ("items.parquet", flip),
    "a byte of the settings": ("config.yaml", flip),
    "weights emptied": ("checkpoints/popularity/counts.safetensors", lambda path: path.write_bytes(b"")),
    "weights longer": ("checkpoints/popularity/counts.safetensors", lambda path: path.open("ab").write(b"x")),
    "weights missing": ("checkpoints/popularity/counts.safetensors", Path.unlink),
    "weights a folder": ("checkpoints/popularity/counts.safetensors", lambda path: (path.unlink(), path.mkdir())),
    "items emptied": ("items.parquet", lambda path: path.write_bytes(b"")),
    "a file beside the weights": ("checkpoints/popularity/adapter_config.json", lambda path: path.write_text("{}")),
    "interests from elsewhere": ("interests.parquet", lambda path: pl.DataFrame({"item_id": []}).write_parquet(path)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_changed_is_named_and_refused(run: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 2: every file that an answer is computed from is what the report left."""
    name, change = DAMAGE[damage]
    change(run / name)
    assert recommend([f"run={run}", "items=[I0001]", "stage=popularity"]) == 1
    said = capsys.readouterr()
    line = said.err.strip()
    assert line.startswith("error: ") and str(run / name) in line and AGAIN in line and "\n" not in line
    assert "recommendations" not in said.out


@pytest.mark.parametrize("stage", ["popularity", "item_knn"])
def test_a_model_of_another_run_is_refused(run: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 2: a model's folder that was swapped between two runs of as many items."""
    shutil.rmtree(run / "checkpoints" / stage)
    shutil.copytree(run.parent / "other" / "checkpoints" / stage, run / "checkpoints" / stage)
    assert recommend([f"run={run}", "items=[I0001]", f"stage={stage}"]) == 1
    said = capsys.readouterr().err
    assert f"checkpoints/{stage}/" in said and "it is not the file that manifest.json lists" in said


def test_only_what_is_read_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that an answer does not need neither cost time nor keep it from being given."""
    (run / "recommendations.parquet").unlink()
    flip(run / "checkpoints" / "item_knn" / "neighbours.safetensors")
    flip(run / "metrics.json")
    assert recommend([f"run={run}", "items=[I0001]", "stage=popularity", "unseen=true"]) == 0
    hashed = {path.relative_to(run).as_posix() for path, _ in proof._verified}
    assert hashed == {"config.yaml", "items.parquet", "checkpoints/popularity/counts.safetensors"}


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "recommendations.parquet", "examples.parquet"])
def test_a_comparison_refuses_what_was_changed(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 2: the numbers of a comparison come from these."""
    assert compare([str(run), "--draws=100"]) == 0
    flip(run / name)
    capsys.readouterr()
    assert compare([str(run), "--draws=100"]) == 1
    said = capsys.readouterr().err
    assert f"{name} has another content" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["examples", "recommendations", "recommendations_*masked"])
def test_a_comparison_misses_what_was_removed(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 2: runs of old versions lack a table and are compared without its slices; this one had it."""
    for path in run.glob(f"{name}.parquet"):
        path.unlink()
    assert compare([str(run), "--draws=100"]) == 1
    said = capsys.readouterr().err
    assert ".parquet is missing: it is not the file that manifest.json lists" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "versions.json"])
def test_a_record_refuses_what_was_changed(
    run: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Guard 2: records are made of run folders."""
    (tmp_path / "docs" / "results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    flip(run / name)
    assert results(["add", str(run)]) == 1
    assert f"{name} has another content" in capsys.readouterr().err


MANIFESTS = [
    ("{", "JSONDecodeError"),
    ("[1]", "holds a list"),
    ("{}", "lists no files"),
    ('{"files": {}}', "lists no files"),
    ('{"files": []}', "lists no files"),
    ('{"files": {"a": 1}}', "has no size of 'a'"),
    ("[" * 200_000, "RecursionError"),
    ('{"files": {"../a": {"size": 1, "sha256": "' + "0" * 64 + '"}}}', "not a file of the folder"),
    ('{"files": {"a": {"size": 1, "sha256": "' + "0" * 64 + '"}}}', "another content"),
]


@pytest.mark.parametrize(("content", "told"), MANIFESTS)
def test_a_manifest_that_is_none_is_a_line(
    run: Path, content: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 8: the manifest of a received run is read as everything else of it."""
    (run / "manifest.json").write_text(content)
    assert recommend([f"run={run}", "items=[I0001]"]) == 1
    said = capsys.readouterr().err
    assert told in said and "manifest.json" in said and said.count("\n") == 1


def test_a_changed_manifest_is_noticed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_json(run / "manifest.json")
    write_json(run / "manifest.json", content | {"catalogue": content["catalogue"] | {"items": 81}})
    assert recommend([f"run={run}", "items=[I0001]"]) == 1
    assert "manifest.json has another content" in capsys.readouterr().err


def test_a_run_of_before_is_opened_with_one_warning(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 2: a folder without a manifest answers as it did; a table for a program stays clean of the warning."""
    assert recommend([f"run={run}", "items=[I0001]", "json=true"]) == 0
    before = capsys.readouterr()
    assert before.err == "" or "manifest" not in before.err
    (run / "manifest.json").unlink()
    assert recommend([f"run={run}", "items=[I0001]", "json=true"]) == 0
    after = capsys.readouterr()
    assert json.loads(after.out)["recommendations"] == json.loads(before.out)["recommendations"]
    assert after.err.count("has no manifest.json") == 1
    proof._told.clear()
    assert compare([str(run), "--draws=100", "--format=csv"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("part,history,split,row,") and said.err.count("has no manifest.json") == 1


@pytest.mark.parametrize("stage", ["popularity", "item_knn"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (pl.DataFrame.reverse, "as many items, which are others or in another order"),
        (lambda table: table.head(79), "by a catalogue of 80 items than the 79"),
    ],
)
def test_a_run_of_before_still_compares_what_it_can(
    run: Path, stage: str, change: Callable[[pl.DataFrame], pl.DataFrame], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 2: without a manifest the models' own stamps say by which catalogue they count."""
    (run / "manifest.json").unlink()
    rewrite(run / "items.parquet", change)
    assert recommend([f"run={run}", "items=[I0001]", f"stage={stage}"]) == 1
    assert told in capsys.readouterr().err


def test_the_report_leaves_nothing_unlisted_but_logs(run: Path) -> None:
    listed = set(read_json(run / "manifest.json")["files"])
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    rest = {name for name in there - listed if not name.startswith("logs/")}
    assert rest <= {"manifest.json", "report.html", ".lock"} and listed <= there
    assert (
        read_json(run / "manifest.json")["catalogue"]
        == Catalogue.of(pl.read_parquet(run / "items.parquet")["item_id"])._asdict()
    )


def test_what_is_wrong_is_told_before_what_it_causes(run: Path) -> None:
    """Hashes are computed beside the reading: a reader that stumbles over damage is not what is told."""
    found = RunProof(run)
    flip(run / "metrics.json")
    with pytest.raises(UserError, match=r"metrics.json has another content"), found.checking("metrics.json"):
        raise ValueError("no such key")
    with pytest.raises(ValueError, match="no such key"), found.checking("config.yaml"):
        raise ValueError("no such key")


def test_a_damaged_artifact_under_a_run_does_not_get_into_it(run: Path) -> None:
    """A folder of a run that is a link gives way; what it points to stays."""
    from dig.stages.report import _clear

    elsewhere = run.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "letter.txt").write_text("dear reader")
    (run / "adapters").symlink_to(elsewhere)
    _clear(run / "adapters")
    assert not (run / "adapters").exists() and (elsewhere / "letter.txt").read_text() == "dear reader"


# --- the catalogue's fingerprint


def test_the_fingerprint_is_of_the_ids_in_order() -> None:
    ids = ["a", "bc", "ü", "", "1\n2"]
    assert Catalogue.of(ids) == Catalogue.of(pl.Series(ids)) and Catalogue.of(ids).items == 5
    others = [ids[::-1], ids[:-1], [*ids, "z"], ["ab", "c", "ü", "", "1\n2"], ["a", "bc", "ü", "1", "\n2"]]
    assert len({Catalogue.of(each).fingerprint for each in [ids, *others]}) == 6
    assert Catalogue.of(["\ud800"]).items == 1


def test_semantic_ids_that_were_shuffled_or_cut_are_refused(tmp_path: Path) -> None:
    """Guard 2: a policy's rows are those of this table."""
    ids = tiny.ragged_catalogue()
    path = tmp_path / "semantic_ids.parquet"
    ids.save(path)
    assert table_stamp(path) == Catalogue.of(ids.item_ids).text
    check_catalogue(tmp_path, Catalogue.of(ids.item_ids), "items.parquet")
    for change, told in (
        (lambda table: table.sample(fraction=1.0, shuffle=True, seed=1), "in another order"),
        (lambda table: table.head(20), "by a catalogue of 20 items than the 24"),
    ):
        ids.save(path)
        rewrite(path, change)
        with pytest.raises(UserError, match=told):
            check_catalogue(tmp_path, Catalogue.of(ids.item_ids), "items.parquet")
    table = pl.read_parquet(path)
    table.write_parquet(path, metadata={STAMP: Catalogue.of(ids.item_ids).text})  # by a program that keeps metadata
    with pytest.raises(UserError, match="not in the order that it was written in"):
        SemanticIds.load(path)


@pytest.mark.parametrize("name", ["counts", "items.weight", "encoder.items.weight", "codes"])
def test_weights_without_a_stamp_are_held_to_their_rows(tmp_path: Path, name: str) -> None:
    save_file({name: np.zeros((7, 2), np.float32)}, tmp_path / "model.safetensors")
    check_catalogue(tmp_path, Catalogue.of(map(str, range(7))), "items.parquet")
    with pytest.raises(UserError, match=r"by a catalogue of 7 items than the 8 of items.parquet"):
        check_catalogue(tmp_path, Catalogue.of(map(str, range(8))), "items.parquet")


def test_a_folder_of_transformers_is_stamped_in_its_settings(tmp_path: Path) -> None:
    ids = ["a", "b"]
    model = tiny.tiny_model("qwen2")
    model.save_pretrained(tmp_path)
    stamp_config(tmp_path, Catalogue.of(ids))
    check_catalogue(tmp_path, Catalogue.of(ids), "items.parquet")
    with pytest.raises(UserError, match=r"config.json counts by as many items"):
        check_catalogue(tmp_path, Catalogue.of(ids[::-1]), "items.parquet")
    again = type(model).from_pretrained(tmp_path)
    assert all(
        one.equal(two) for one, two in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_stamp_changes_no_number(run: Path) -> None:
    weights = run / "checkpoints" / "item_knn" / "neighbours.safetensors"
    before = load_file(weights)
    ids = pl.read_parquet(run / "items.parquet")["item_id"].to_list()
    answers = Recommender.from_run(run, "item_knn").recommend([ids[:3]], 5, unseen=True)
    save_file(before, weights)
    proof._verified.clear()
    plain = Recommender.from_run(prove(run), "item_knn").recommend([ids[:3]], 5, unseen=True)
    assert plain[0] == answers[0] and plain[1].equal(answers[1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"catalogue": {"items": 80, "fingerprint": "0" * 32}}, "items.parquet has 80 items that are not"),
        ({"version": 99}, "manifest.json was written by a later version of dig"),
        ({"version": "x"}, "manifest.json does not tell its version"),
    ],
)
def test_a_manifest_that_fits_itself_and_not_the_run_is_refused(
    run: Path, change: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 2: whoever reads numbers or models of a run asks the same of its manifest."""
    content = {key: value for key, value in read_json(run / "manifest.json").items() if key != "fingerprint"} | change
    write_json(run / "manifest.json", content | {"fingerprint": fingerprint(content)})
    for command, arguments in ((recommend, [f"run={run}", "items=[I0001]"]), (compare, [str(run), "--draws=100"])):
        assert command(arguments) == 1
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1
