"""Imports that happen on first use: what each command loads, and that every lazy name is where it is said to be."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dig.engine.lazy import lazy_names, scipy

TRAINING = [
    "lightning",
    "torchmetrics",
    "torchvision",
    "peft",
    "accelerate",
    "sklearn",
    "scipy",
    "pandas",
    "wandb",
    "altair",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.tensor",
]
"""What answering and planning do without."""
PACKAGES = [
    "callbacks",
    "datamodules",
    "dig",
    "dig.config",
    "dig.embeddings",
    "dig.evaluation",
    "dig.interests",
    "dig.modules",
    "dig.recommender",
    "dig.recommenders",
    "dig.recommenders.eimf",
    "dig.recommenders.intrr",
    "dig.recommenders.sasrec",
    "dig.recommenders.tiger",
    "dig.rollouts",
    "dig.tracking",
]


def loaded(code: str, *names: str) -> list[str]:
    """Which of the modules a program in a process of its own has imported at its end."""
    told = f"import sys\n{code}\nprint([name for name in {names!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stderr.splitlines()[-1])


def test_the_recommender_is_imported_without_what_training_needs() -> None:
    assert loaded("import dig; dig.Recommender", *TRAINING, "transformers") == []


def test_the_configuration_knows_every_recommender_and_imports_none() -> None:
    """Their settings are its sections; models and the libraries below them are imported when they are used."""
    heavy = ("torch", "numpy", "polars", "rich", "transformers", "dig.recommenders.sasrec.model", *TRAINING)
    assert loaded("from dig.config import load_config; load_config('quickstart').sasrec", *heavy) == []


def test_what_answers_by_a_baseline_is_imported_without_what_training_needs() -> None:
    code = "from dig.config import RECOMMENDERS as specs; from dig.config.recommenders import resolve\n"
    code += "resolve(specs['item_knn'], 'model')\n"
    code += "for name in ('sasrec', 'eimf', 'intrr'): resolve(specs[name], 'loader')"
    assert loaded(code, *TRAINING) == []


def test_what_answers_by_a_policy_is_imported_without_what_training_needs() -> None:
    """transformers itself imports torchvision and torch._dynamo, where they are, when a model is made."""
    assert loaded("import dig.answers, dig.recommender.policy", *TRAINING) == []


def test_a_run_that_finds_its_artifacts_imports_nothing_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    small = ["data.shop.users=60", "data.shop.items=80", "logging.progress=false", f"runs_dir={tmp_path / 'runs'}"]
    code = f"from dig.train import main; assert main(['experiment=quickstart', 'stages=[popularity]', *{small}]) == 0"
    assert "lightning" in loaded(code, "lightning")  # it asks Lightning whether the trainer can be had
    assert loaded(code, *TRAINING) == []


def test_what_lightning_refuses_is_told_while_there_is_something_to_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where an artifact that was there turns out to be damaged; a run without anything to build has no Trainer."""
    from dig.train import main

    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    small = [
        "experiment=quickstart",
        "data.shop.users=60",
        "data.shop.items=80",
        "stages=[prepare]",
        "logging.progress=false",
        f"runs_dir={tmp_path / 'runs'}",
        "trainer.accelerator=cpu",
    ]
    refused = [*small, "trainer.strategy=fsdp_cpu_offload"]
    assert main(refused) == 2 and "Lightning refuses" in capsys.readouterr().err
    assert main(small) == 0
    assert main(refused) == 0
    table = next((tmp_path / "home" / "artifacts" / "prepare").glob("*/items.parquet"))
    table.chmod(0o644)
    table.write_bytes(table.read_bytes()[:-1])
    capsys.readouterr()
    assert main(refused) == 2 and "Lightning refuses" in capsys.readouterr().err


def test_lightning_is_as_quiet_where_asking_it_is_its_first_use() -> None:
    """Its import sets the levels of its loggers, which would undo what was set before."""
    code = "from dig.config import load_config; from dig.engine.strategy import check_trainer as check\n"
    code += "check(load_config('quickstart', ['trainer.accelerator=cpu']).trainer)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_lazy_name_is_where_it_is_said_to_be(package: str) -> None:
    """The table of homes and the imports that type checkers read are the same, and each name is there."""
    module = import_module(package)
    load = getattr(module, "_lazy_name", module.__getattr__)  # some ask it, but for names of before
    homes = inspect.getclosurevars(load).nonlocals["homes"]
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    written = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert written == {name: home if home.startswith("dig.") else f"{package}.{home}" for name, home in homes.items()}
    assert set(homes) <= set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018 - looked up, as a caller would


def test_a_lazy_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    package = import_module("dig.recommender")
    monkeypatch.delitem(vars(package), "read_ids", raising=False)
    found = lazy_names("dig.recommender", {"read_ids": "tables"})("read_ids")
    assert vars(package)["read_ids"] is found


def test_a_lazy_library_gives_submodules_that_it_does_not_import_itself() -> None:
    assert scipy.optimize.linear_sum_assignment.__name__ == "linear_sum_assignment"
    code = "from dig.engine.lazy import sklearn; print(sklearn.linear_model.LogisticRegression)"
    assert loaded("from dig.engine.lazy import lightning, peft, scipy, sklearn, transformers", *TRAINING) == []
    assert loaded(code, "sklearn.linear_model") == ["sklearn.linear_model"]
    with pytest.raises(ModuleNotFoundError, match=r"scipy\.nothing"):
        scipy.nothing  # noqa: B018 - looked up, as a caller would
