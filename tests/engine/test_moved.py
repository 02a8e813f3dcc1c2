"""Old import paths are answered by the new ones, in one line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import import_module

import pytest
import torch

from dig.engine.moved import MOVED, renamed_arguments
from dig.generation.trie import CatalogueTrie
from dig.quantization.semantic_ids import SemanticIds


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_names_a_module_that_is_there(old: str):
    parent = old.rpartition(".")[0]
    said = parent if parent in MOVED else old  # Python asks for the package first
    with pytest.raises(ModuleNotFoundError) as caught:
        import_module(old)
    line = str(caught.value)
    assert line.startswith(f"the module {said} is called {MOVED[said]} now") and caught.value.name == said
    assert MOVED[old] in line and "\n" not in line
    assert importlib.util.find_spec(MOVED[old]) is not None


def test_an_old_package_says_where_each_of_its_modules_is():
    with pytest.raises(ModuleNotFoundError) as caught:
        import_module("dig.baselines.sasrec")
    line = str(caught.value)
    assert line.startswith("the module dig.baselines is called dig.recommenders now; its eimf dig.recommenders.eimf")
    assert ", its sasrec dig.recommenders.sasrec.model" in line
    with pytest.raises(ModuleNotFoundError, match=r"called dig\.engine\.console now$"):
        import_module("dig.console")


@pytest.mark.parametrize(
    ("module", "earlier", "today"),
    [
        ("dig.rollouts", "Groups", "Rollouts"),
        ("dig.rollouts.rewards", "Groups", "dig.rollouts.Rollouts"),
        ("dig.rollouts.rewards", "ItemKnowledge", "RewardContext"),
        ("dig.interests", "without_twins", "without_duplicates"),
        ("dig.interests.interest", "without_twins", "without_duplicates"),
    ],
)
def test_an_old_name_of_a_module_that_stayed_is_answered_by_the_new_one(module: str, earlier: str, today: str):
    with pytest.raises(ImportError, match=rf"{earlier} is called {today} now$"):
        exec(f"from {module} import {earlier}")  # noqa: S102 - as a program writes it
    with pytest.raises(ImportError, match="cannot import name 'never'"):
        exec(f"from {module} import never")  # noqa: S102 - as a program writes it


def test_a_program_that_imports_an_old_name_ends_with_that_line():
    code = "from dig.console import say"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("the module dig.console is called dig.engine.console now")


def test_what_never_was_is_as_unknown_as_before():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'dig\.nothing'"):
        import_module("dig.nothing")
    assert importlib.util.find_spec("dig.nothing") is None


def test_an_old_argument_is_answered_by_the_new_name():
    codes = torch.tensor([[0, 1], [0, 1]])
    for call, name in (
        (lambda: CatalogueTrie(codes, twins=True), "CatalogueTrie"),
        (lambda: SemanticIds(["a", "b"], codes, [2, 2], 2, twins=True), "SemanticIds"),
        (lambda: SemanticIds.from_codes(["a", "b"], codes, [2, 2], twins=True), "SemanticIds.from_codes"),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value) == f"{name}: the argument twins is called duplicates now"
    assert SemanticIds.from_codes(["a", "b"], codes, [2, 2], duplicates=True).duplicates


def test_todays_arguments_and_unknown_ones_are_passed_on():
    @renamed_arguments(old="new")
    def double(new: int) -> int:
        """Twice."""
        return 2 * new

    assert double(3) == double(new=3) == 6 and double.__doc__ == "Twice."
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        double(other=3)  # type: ignore[call-arg]
