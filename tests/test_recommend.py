"""``python -m dig.recommend``: answers of a run, for people and as JSON, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from safetensors.numpy import load_file, save_file
from support.proven import prove

from dig import load_config
from dig.config import UserError
from dig.engine.catalogue import STAMP
from dig.engine.console import console
from dig.engine.pipeline import run_experiment
from dig.interests import Interest, to_frame
from dig.recommend import main, parse_ids
from dig.recommender import Recommender


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two baselines, with two interests put beside it."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder / "home"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        config = load_config(
            "quickstart",
            [
                "data.shop.users=60",
                "data.shop.items=80",
                "stages=[report]",
                f"runs_dir={folder / 'runs'}",
                "logging.progress=false",
            ],
        )
        path = run_experiment(config).path
    items = pl.read_parquet(path / "items.parquet")["item_id"].to_list()
    told = [Interest(item, "slow [bold]mornings", "text", 0.9, "m", 1, 0.9) for item in items]
    to_frame(told).write_parquet(path / "interests.parquet")
    return prove(path)


def user_of(run: Path) -> tuple[str, list[str]]:
    row = pl.read_parquet(run / "users.parquet").row(0, named=True)
    return row["user"], row["items"]


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, "json=true"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_comes_after_all_that_is_known_of_a_user(run: Path, capsys: pytest.CaptureFixture[str]):
    user, items = user_of(run)
    found = asked(capsys, f"run={run}", f"user={user}", "k=4", "unseen=true")
    assert [entry["item"] for entry in found["history"]] == items and found["stage"] == "item_knn"
    answers = found["recommendations"]
    assert [entry["rank"] for entry in answers] == [1, 2, 3, 4]
    assert not {entry["item"] for entry in answers} & set(items)
    assert answers[0]["title"] and answers[0]["reasons"][0]["interest"] == "slow [bold]mornings"
    assert set(answers[0]["reasons"][0]["because"]) <= set(items)
    assert found["interests"] == [{"text": "slow [bold]mornings", "share": 1.0}]
    assert asked(capsys, f"run={run}", f"items=[{','.join(items)}]", "k=4", "unseen=true")["recommendations"] == answers


def test_held_out_it_answers_as_the_evaluation_did(run: Path, capsys: pytest.CaptureFixture[str]):
    user, items = user_of(run)
    found = asked(capsys, f"run={run}", f"user={user}", "held_out=true", "stage=popularity")
    assert found["target"]["item"] == items[-1] and len(found["history"]) == len(items) - 1
    kept = pl.read_parquet(run / "recommendations.parquet")
    row = kept.filter((pl.col("user") == user) & (pl.col("stage") == "popularity")).row(0, named=True)
    assert [entry["item"] for entry in found["recommendations"]] == row["items"][:10]
    assert [entry["score"] for entry in found["recommendations"]] == row["scores"][:10]


def test_the_table_is_for_people(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    user, items = user_of(run)
    monkeypatch.setattr(console, "width", 200)
    assert main([f"run={run}", f"user={user}", "held_out=true", "k=80"]) == 0
    shown = capsys.readouterr().out
    assert "← bought next" in shown and "slow [bold]mornings" in shown  # text of others is not markup
    assert main([f"run={run}", f"items={items[0]}", "k=1"]) == 0
    assert "a history of your own, 1 items" in capsys.readouterr().out


def test_without_interests_it_says_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain = tmp_path / "plain"
    shutil.copytree(run, plain)
    (plain / "interests.parquet").unlink()
    prove(plain)
    assert main([f"run={plain}", f"user={user_of(run)[0]}"]) == 0
    assert "no interests to explain by" in capsys.readouterr().out
    assert asked(capsys, f"run={plain}", f"user={user_of(run)[0]}")["interests"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["user=U1"], "run=FOLDER is missing"),
        (["run=RUN"], "name either user=ID or items="),
        (["run=RUN", "user=U1", "users=all", "out=a.csv"], "name either"),
        (["run=RUN", "item=I1", "items=[I1]"], "name either"),
        (["run=RUN", "user=U1", "user=U2"], "user= is given twice; users=FILE answers several"),
        (["run=RUN", "user="], "user= is empty"),
        (["run=RUN", "users=all"], "users= needs out=FILE"),
        (["run=RUN", "user=U1", "out=a.csv"], "out= needs users=all or users=FILE"),
        (["run=RUN", "users=all", "out=a.csv", "json=true"], "json=true shows one answer"),
        (["run=RUN", "users=all", "out=a.xlsx"], "out=a.xlsx must end in .csv or .parquet"),
        (["run=RUN", "users=nobody.txt", "out=a.csv"], "nobody.txt is not a file"),
        (["run=RUN", "items=[I0001]", "stock=nothing.csv"], "nothing.csv is not a file"),
        (["run=RUN", "items=[I0001]", "unknown=ignore"], "unknown=ignore must be refuse or drop"),
        (["run=RUN", "user=U1", "k=2.5"], "k=2.5 must be a whole number above 0"),
        (["run=RUN", "user=U1", "k=-3"], "k=-3 must be a whole number above 0"),
        (["run=RUN", "items=[I0001]", "k=10000000000"], "k=10,000,000,000 is more than the 80 items"),
        (["run=RUN", "items=[I9998,I9999]", "unknown=drop"], "has no item 'I9998', nor the other one"),
        (["run=RUN", "user=U1", "items=[I1]"], "name either"),
        (["run=RUN", "user=U1", "--jsn"], "--jsn: no such flag; did you mean --json?"),
        (["run=RUN", "--user"], "--user needs a value"),
        (["run=RUN", "user"], "user: no such key; did you mean user=?"),
        (["run=RUN", "user=U1", "json=2"], "json=2 must be true or false"),
        (["run=RUN", "usr=U1"], "did you mean user=?"),
        (["run=RUN", "user=U1", "k=0"], "k=0 must be a whole number above 0"),
        (["run=RUN", "user=U1", "unseen=maybe"], "unseen=maybe must be true or false"),
        (["run=RUN", "items=[]"], "names no item"),
        (["run=RUN", "items=[I0001]", "held_out=true"], "needs user=ID"),
        (["run=RUN", "items=[I0001,I9999]"], "the catalogue has no item 'I9999'"),
        (["run=RUN", "user=U0000"], "; did you mean U00"),
        (["run=RUN", "items=[I0001]", "stage=grpo"], "holds no trained stage grpo; it has item_knn, popularity"),
        (["run=RUN/nowhere", "items=[I0001]"], "is not a run"),
    ],
)
def test_what_it_refuses(arguments: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]):
    assert main([argument.replace("RUN", str(run)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("[A,B]", ["A", "B"]),
        ("A,B", ["A", "B"]),
        (" [ A , B b ] ", ["A", "B b"]),
        ("[A,B,]", ["A", "B"]),
        ('["A,B",C]', ["A,B", "C"]),
        ("['A,B', \"C,D\"]", ["A,B", "C,D"]),
        (
            "[0012,1e5,1_000,0x1F,yes,null,~,2024-01-01,1:30,.5]",
            ["0012", "1e5", "1_000", "0x1F", "yes", "null", "~", "2024-01-01", "1:30", ".5"],
        ),
        (
            "[5\" brush,O'Neill,#1,@x,a: b,{c},&d,*e,!f,%g,`h`,a=b,a\\b]",
            ['5" brush', "O'Neill", "#1", "@x", "a: b", "{c}", "&d", "*e", "!f", "%g", "`h`", "a=b", "a\\b"],
        ),
        ("""['it''s','"q"',"say \\"hi\\"", '[x]']""", ["it's", '"q"', 'say "hi"', "[x]"]),
        ('["a\\nb", "a\nb", " x ", "Gr\\u00fc\u00dfe"]', ["a\nb", "a\nb", " x ", "Gr\u00fc\u00dfe"]),
        ("[[x],y]", ["[x]", "y"]),
        ('[""]', [""]),
    ],
)
def test_entry_10_ids_are_texts_and_may_hold_commas(text: str, ids: list[str]):
    """Entry 10: `items=[…]` names any id there is, and none is taken for a number, a date or a word of YAML."""
    assert parse_ids(text) == ids


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[A,,B]", "a place between commas is empty"),
        ("[,A]", "a place between commas is empty"),
        ("[A,B", "the list is not closed"),
        ('["A,B]', '" opens a quote that no comma follows'),
        ("['A'B]", "' opens a quote that no comma follows"),
        ('["\\x"]', "is not a JSON string"),
        ("[]", "names no item"),
        ("", "names no item"),
        ("[ ]", "names no item"),
    ],
)
def test_entry_10_a_list_that_is_none_is_one_line(text: str, said: str):
    with pytest.raises(UserError) as caught:
        parse_ids(text)
    assert said in str(caught.value) and caught.value.exit_code == 2


ODD = ["A,1", "0012", 'say "hi"', "[x]", "a\nb", " blank ", "1e5", "null", "=x", "it's", "12"]


@pytest.fixture(scope="module")
def odd_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with ids of items and users that are hard to write."""
    path = tmp_path_factory.mktemp("odd") / "run"
    shutil.copytree(run, path)
    names = dict(zip(pl.read_parquet(path / "items.parquet")["item_id"], ODD, strict=False))
    rewrite(path / "items.parquet", pl.col("item_id").replace(names))
    rewrite(path / "users.parquet", pl.col("items").list.eval(pl.element().replace(names)))
    users = dict(zip(pl.read_parquet(path / "users.parquet")["user"], ODD, strict=False))
    rewrite(path / "users.parquet", pl.col("user").replace(users))
    (path / "interests.parquet").unlink()
    for weights in (path / "checkpoints").rglob("*.safetensors"):  # which say which ids they count by
        content = load_file(weights)
        weights.unlink()
        save_file(content, weights)
    return prove(path)


def rewrite(path: Path, column: pl.Expr) -> None:
    table = pl.read_parquet(path).with_columns(column)
    path.unlink()  # a hard link to an artifact's file, perhaps
    table.write_parquet(path)
    prove(path.parent)


def test_entry_10_hard_ids_are_named_by_every_key(
    odd_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Commas, quotes, brackets, line ends, blanks, and what looks like a number or a word of YAML."""
    one_by_one = asked(capsys, f"run={odd_run}", *(f"item={name}" for name in ODD))
    assert [entry["item"] for entry in one_by_one["history"]] == ODD
    listed = asked(capsys, f"run={odd_run}", f"items={json.dumps(ODD)}")
    assert listed["history"] == one_by_one["history"] and listed["recommendations"] == one_by_one["recommendations"]
    users = pl.read_parquet(odd_run / "users.parquet")
    for name in ODD[:6]:
        found = asked(capsys, f"run={odd_run}", f"user={name}", "k=2")
        known = users.filter(pl.col("user") == name)["items"][0].to_list()
        assert found["user"] == name and [entry["item"] for entry in found["history"]] == known
    monkeypatch.setattr(console, "width", 200)
    assert main([f"run={odd_run}", "user=a\nb", "k=80", "unseen=false"]) == 0
    assert "a b" in capsys.readouterr().out
    for argument in ("user=a\nc", "item=a\nc", "items=[012]", "user=012"):
        assert main([f"run={odd_run}", argument]) == 2
        error = capsys.readouterr().err
        assert "; did you mean " in error and error.count("\n") == 1
    assert main([f"run={odd_run}", "users=all", f"out={tmp_path / 'all.csv'}", "k=3"]) == 0
    assert "ids begin like a formula" in capsys.readouterr().out
    written = pl.read_csv(tmp_path / "all.csv", infer_schema=False)
    assert written["user_id"].unique(maintain_order=True).to_list() == users["user"].to_list()


def history_of(found: dict) -> set[str]:
    return {entry["item"] for entry in found["history"]}


def answers_of(found: dict) -> list[str]:
    return [entry["item"] for entry in found["recommendations"]]


def test_where_nobody_buys_twice_the_history_is_left_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The first recommendation was what the customer has; the data decide, a word from the user goes before them."""
    user, items = user_of(run)
    for named in (f"user={user}", f"items=[{','.join(items)}]"):
        found = asked(capsys, f"run={run}", named, "k=80")
        assert found["unseen"] is True and not history_of(found) & set(answers_of(found))
        assert asked(capsys, f"run={run}", named, "k=80", "unseen=auto") == found
        assert answers_of(asked(capsys, f"run={run}", named, "k=80", "unseen=true")) == answers_of(found)
        kept = asked(capsys, f"run={run}", named, "k=80", "unseen=false")
        assert kept["unseen"] is False and history_of(kept) < set(answers_of(kept)) and len(answers_of(kept)) == 80
    assert main([f"run={run}", f"user={user}"]) == 0
    assert "0.0% of the purchases repeat an item, so what a customer has bought is left out" in capsys.readouterr().out
    recommender = Recommender.from_run(run)
    assert recommender.leaves_out_history and not set(recommender.recommend([items], 80)[0][0]) & set(items)
    assert capsys.readouterr().out.count("left out; unseen=false") == 1
    recommender.recommend([items], 5)
    assert "unseen=false" not in capsys.readouterr().out  # once
    assert set(items) < set(recommender.recommend([items], 80, False)[0][0])

    again = tmp_path / "again"
    shutil.copytree(run, again)
    rewrite(again / "users.parquet", pl.concat_list("items", pl.col("items").list.head(1)).alias("items"))
    found = asked(capsys, f"run={again}", f"user={user}", "k=80")
    assert found["unseen"] is False and history_of(found) < set(answers_of(found))
    assert Recommender.from_run(again).repeat_share == pytest.approx(60 / (591 + 60), abs=0.02)
    (again / "users.parquet").unlink()
    assert main([f"run={again}", f"items=[{items[0]}]"]) == 1
    assert "say unseen=true or unseen=false" in capsys.readouterr().err
    assert main([f"run={again}", f"items=[{items[0]}]", "unseen=true"]) == 0


@pytest.mark.parametrize("mask", [True, False])
def test_held_out_answers_follow_the_evaluation_and_not_the_data(
    mask: bool, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What the evaluation measured is what is shown; that nobody buys twice changes no measured ranking."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = (copy / "config.yaml").read_text()
    assert "mask_history: false" in config
    (copy / "config.yaml").unlink()
    (copy / "config.yaml").write_text(config.replace("mask_history: false", f"mask_history: {str(mask).lower()}"))
    prove(copy)
    user, _ = user_of(run)
    found = asked(capsys, f"run={copy}", f"user={user}", "held_out=true", "stage=item_knn")
    kept = pl.read_parquet(run / f"recommendations{'_masked' if mask else ''}.parquet")
    row = kept.filter((pl.col("user") == user) & (pl.col("stage") == "item_knn")).row(0, named=True)
    assert found["unseen"] is mask and answers_of(found) == row["items"][:10]


def test_unknown_items_are_dropped_on_request(run: Path, capsys: pytest.CaptureFixture[str]):
    _, items = user_of(run)
    assert main([f"run={run}", f"items=[I9999,{items[0]}]"]) == 2
    assert "the catalogue has no item 'I9999'" in (error := capsys.readouterr().err) and "unknown=drop" in error
    assert main([f"run={run}", f"items=[I9999,{items[0]}]", "unknown=drop", "json=true"]) == 0
    shown = capsys.readouterr()
    assert [entry["item"] for entry in json.loads(shown.out)["history"]] == [items[0]]  # and nothing but JSON
    assert "1 of the 2 items in the history are not in the catalogue and left out; the first: 'I9999'" in shown.err


def test_entry_21_nothing_but_the_stock_is_recommended(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Entry 21: a list of what is in stock, from the command line, for one customer and for all."""
    user, items = user_of(run)
    everything = answers_of(asked(capsys, f"run={run}", f"user={user}", "k=80", "unseen=false"))
    stock = [*everything[3:40:4], items[0]]
    (tmp_path / "stock.csv").write_text("item_id,left\n" + "".join(f"{item},1\n" for item in [*stock, "I9999"]))
    ranked = [item for item in everything if item in stock]
    named = (f"run={run}", f"user={user}", f"stock={tmp_path / 'stock.csv'}")
    assert answers_of(asked(capsys, *named, "k=5", "unseen=false")) == ranked[:5]
    assert main([*named, "k=80", "unseen=true", "json=true"]) == 0
    shown = capsys.readouterr()
    assert answers_of(json.loads(shown.out)) == [item for item in ranked if item not in items]
    assert "1 of the 12 items in stock are not in the catalogue and left out; the first: 'I9999'" in shown.err
    assert "1 of 1 customers get fewer than k=80 answers: there are 11 items in stock" in shown.err
    out = tmp_path / "all.parquet"
    assert main([f"run={run}", "users=all", f"out={out}", f"stock={tmp_path / 'stock.csv'}", "unseen=false"]) == 0
    table = pl.read_parquet(out)
    assert table.filter(pl.col("user_id") == user)["item_id"].to_list() == ranked[:10]
    assert set(table["item_id"]) <= set(stock) and table["user_id"].n_unique() == 60


def test_entry_21_a_table_for_all_users_or_some(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Entry 21 (and newcomers 4): after all that is known of them, unlike recommendations.parquet."""
    users = pl.read_parquet(run / "users.parquet")
    out = tmp_path / "all.csv"
    assert main([f"run={run}", "users=all", f"out={out}", "k=4"]) == 0
    said = capsys.readouterr().out
    assert "60 users, all that is known of them, tests included" in said and "240 recommendations:" in said
    table = pl.read_csv(out, schema_overrides={"score": pl.Float32})
    assert table["user_id"].unique(maintain_order=True).to_list() == users["user"].to_list()
    titles = dict(pl.read_parquet(run / "items.parquet").select("item_id", "title").iter_rows())
    for user in users["user"][:3]:
        rows = table.filter(pl.col("user_id") == user)
        single = asked(capsys, f"run={run}", f"user={user}", "k=4")["recommendations"]
        assert [(row["rank"], row["item_id"], row["title"]) for row in rows.iter_rows(named=True)] == [
            (entry["rank"], entry["item"], titles[entry["item"]]) for entry in single
        ]
        assert rows["score"].to_list() == pytest.approx([entry["score"] for entry in single])

    some = [users["user"][5], users["user"][2], users["user"][5]]
    (tmp_path / "some.txt").write_text("\n".join([*some, "U9999"]))
    named = (f"run={run}", f"users={tmp_path / 'some.txt'}", f"out={tmp_path / 'some.parquet'}", "stage=popularity")
    assert main([*named]) == 2
    assert "the data have not 1 of the 3 users in" in (error := capsys.readouterr().err) and "'U9999'" in error
    assert not (tmp_path / "some.parquet").exists()
    assert main([*named, "unknown=drop", "held_out=true", "k=10"]) == 0
    assert "2 users, up to their test items" in capsys.readouterr().out
    table = pl.read_parquet(tmp_path / "some.parquet")
    assert table["user_id"].unique(maintain_order=True).to_list() == some[:2]
    kept = pl.read_parquet(run / "recommendations.parquet").filter(pl.col("stage") == "popularity")
    for user in some[:2]:
        ranked = kept.filter(pl.col("user") == user)["items"][0].to_list()
        assert table.filter(pl.col("user_id") == user)["item_id"].to_list() == ranked[:10]


def test_users_without_a_history_are_counted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy, out = tmp_path / "run", tmp_path / "all.csv"
    shutil.copytree(run, copy)
    users = pl.read_parquet(copy / "users.parquet")
    without = pl.col("user").is_in(users["user"][:2].implode())
    empty = pl.when(without).then(pl.lit([], users.schema["items"]))
    rewrite(copy / "users.parquet", empty.otherwise(pl.col("items")).alias("items"))
    assert main([f"run={copy}", "users=all", f"out={out}", "k=1"]) == 0
    assert "2 of 60 users are left out, who have not a history" in capsys.readouterr().out
    assert len(pl.read_csv(out)) == 58


def test_a_baseline_answers_without_the_imports_of_a_language_model(run: Path):
    """A call took eight seconds, nearly all of them imports that its answer has no use for."""
    heavy = ["lightning", "torchmetrics", "transformers", "peft", "sklearn", "torchvision", "wandb", "altair"]
    code = (
        "import sys; from dig.recommend import main; "
        f"assert main(['run={run}', 'items=[I0001]', 'stage=item_knn', 'json=true']) == 0; "
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_costs_no_torch():
    code = "import sys; from dig.recommend import main; main(['--help']); sys.exit('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "held_out" in shown.stdout


@pytest.mark.parametrize("name", ["users", "items", "interests"])
def test_a_damaged_table_is_said_in_a_line(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / f"{name}.parquet"
    content = path.read_bytes()
    path.unlink()  # a hard link to an artifact's file, perhaps
    path.write_bytes(content[: len(content) // 2])
    assert main([f"run={copy}", f"user={user_of(run)[0]}"]) == 1
    assert f"{name}.parquet has {len(content) // 2} bytes instead of {len(content)}" in capsys.readouterr().err
    (copy / "manifest.json").unlink()  # a run of before
    assert main([f"run={copy}", f"user={user_of(run)[0]}"]) == 1
    assert f"{name}.parquet cannot be read" in capsys.readouterr().err


def _table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        changed = change(pl.read_parquet(folder / name))
        (folder / name).unlink()
        changed.write_parquet(folder / name)

    return damage


def _content(name: str, content: bytes | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return damage


def _stamped(stamp: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        counts = load_file(folder / _COUNTS)
        (folder / _COUNTS).unlink()
        save_file(counts, folder / _COUNTS, {STAMP: stamp})

    return damage


_COUNTS = "checkpoints/popularity/counts.safetensors"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_content(_COUNTS, None), "counts.safetensors cannot be read: it is missing"),
        (_content(_COUNTS, b""), "counts.safetensors cannot be read: it is empty"),
        (_content(_COUNTS, b"\xff" * 40), "its header would be longer than the file"),
        (_content("config.yaml", b"data: [1]"), "config.yaml: Merge error: list is not"),
        (_content("config.yaml", b"a: &a [*a]"), "the alias *a stands for nothing before it"),
        (_content("users.parquet", b"PAR1"), "users.parquet cannot be read"),
        (_table("users.parquet", lambda frame: frame.drop("items")), "it has no column items"),
        (
            _table("users.parquet", lambda frame: frame.with_columns(user=pl.int_range(pl.len()))),
            "its column user holds whole numbers and not texts",
        ),
        (
            _table("items.parquet", lambda frame: frame.with_columns(item_id=pl.int_range(pl.len()))),
            "its column item_id holds whole numbers and not texts",
        ),
        (
            _table("items.parquet", lambda frame: frame.with_columns(item_id=pl.lit(None, dtype=pl.String))),
            "row 1 has no item_id",
        ),
        (
            _table("users.parquet", lambda frame: frame.with_columns(items=pl.lit(None, dtype=pl.List(pl.String)))),
            "row 1 has no items",
        ),
        (
            _table("users.parquet", lambda frame: frame.with_columns(items=pl.lit([None], dtype=pl.List(pl.String)))),
            "a row lacks a value within its items",
        ),
        (
            _table("interests.parquet", lambda frame: frame.with_columns(score=pl.lit(float("nan")))),
            "row 1 has a score that is not between 0 and 1",
        ),
        (
            _table("interests.parquet", lambda frame: frame.with_columns(confidence=pl.lit(float("inf")))),
            "row 1 has a confidence that is not between 0 and 1",
        ),
        (_stamped("9" * 5000 + " x"), "counts by another catalogue"),
        (_content("config.yaml", b"extends: /etc/hostname"), "config.yaml: extends: the configuration of a run is"),
        (_content("config.yaml", b"seed: 1\ndata: {path: '${oc.env:DIG_HOME}'}"), "data.path: the configuration of a"),
        (_table("items.parquet", lambda frame: frame.drop("title")), "it has no column title"),
        (_table("items.parquet", lambda frame: frame.head(40)), "by a catalogue of 80 items than the 40 of items"),
        (_table("items.parquet", lambda frame: pl.concat([frame, frame])), "catalogue of 80 items than the 160 of"),
        (_table("interests.parquet", lambda frame: frame.drop("label")), "it has no column label"),
        (
            _table("interests.parquet", lambda frame: frame.with_columns(label=pl.lit("good"))),
            "its column label holds texts and not whole numbers",
        ),
    ],
)
def test_a_received_run_that_is_damaged_is_one_line(
    run: Path, tmp_path: Path, damage: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
):
    """Guard 8: weights, configuration and tables of a run that somebody else wrote."""
    folder = tmp_path / "received"
    shutil.copytree(run, folder)
    damage(folder)
    for expected in ("manifest.json", said):  # of a stranger's run the manifest says nothing, or lists what is there
        assert main([f"run={folder}", f"user={user_of(run)[0]}", "stage=popularity", "k=3"]) in (1, 2)
        *warnings, message = capsys.readouterr().err.splitlines()
        assert message.startswith("error: ") and expected in message
        assert len(warnings) == ((folder / "manifest.json").is_file() is False)
        (folder / "manifest.json").unlink(missing_ok=True)
