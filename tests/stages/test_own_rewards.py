"""Reward terms of one's own are tried before anything is trained."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dig.config import Config, UserError, load_config
from dig.engine.pipeline import build_stages
from dig.rollouts import REWARD_TERMS, RewardContext, total_reward
from dig.stages import BUILT, StageContext
from dig.stages.rewards import check_own_terms, made_up_rollouts, own_terms

HEAD = """import numpy
import torch
from dig.rollouts import reward_term


"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which the catalogue of the quickstart is prepared once."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder))
        yield folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = dict(REWARD_TERMS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "own_rewards.py"
    sys.modules.pop("own_rewards", None)
    REWARD_TERMS.clear()
    REWARD_TERMS.update(before)


def configured(folder: Path, *more: str) -> Config:
    return load_config(
        "quickstart",
        [
            "grpo.reward.modules=[own_rewards]",
            "grpo.reward.extra.own=0.1",
            f"runs_dir={folder}",
            "stages=[grpo]",
            *more,
        ],
    )


def term(body: str, requires: str = "()") -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f'{HEAD}@reward_term("own", requires={requires})\ndef own(groups, known):\n{lines}\n'


@pytest.fixture(scope="module")
def context(home: Path) -> StageContext:
    """Of a run whose catalogue is prepared, and which has a term `own`; it belongs to all tests of this file."""
    config = load_config("quickstart", [f"runs_dir={home}", "stages=[prepare]"])
    made, _ = build_stages(config)
    return StageContext(configured(home), made.inputs, made.store, made.run)


WRONG = {
    "None": ("groups.hits.float()", "own is None, but the rollouts are (2, 16)"),
    "one number": ("return 0.5", "own is float, but the rollouts are (2, 16)"),
    "a number per prompt": ("return groups.hits.float().mean(1)", "own is (2,), but"),
    "a number per rollout": ("return torch.zeros(groups.items.shape[1])", "own is (16,), but"),
    "another order": ("return groups.hits.float().T", "own is (16, 2), but"),
    "a ragged list": ("return [[1.0], [1.0, 2.0]]", "own is list, but"),
    "words": ("return [['a'] * 16] * 2", "own is list, but"),
    "a NumPy array of another shape": ("return numpy.zeros(3)", "own is (3,), but"),
    "complex numbers": ("return groups.hits * 1j", "own is Tensor, but"),
    "no values": ("return torch.zeros(2, 16, device='meta')", "own is Tensor, but"),
    "nan": ("return groups.log_probs * float('nan')", "own is nan for item I"),
    "infinity": ("return groups.hits / 0.0", "own is inf for item I"),
    "an error": ("return known.get('counts')[groups.items + 10**9]", "own raises IndexError: index 10"),
    "what is not asked for": ("return known.get('vectors')[groups.rows, 0]", "name it in requires=(…) of @reward_term"),
    "an exit": ("import sys\nsys.exit(0)", "own raises SystemExit: 0"),
    "an end": ("raise StopIteration('done')", "own raises StopIteration: done"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_term_gives_is_looked_at_before_training(wrong: str, context: StageContext, own: Path):
    """Entry 20: None, lists, NumPy, another shape or number format, nan and errors are one line with the place."""
    body, message = WRONG[wrong]
    own.write_text(term(body, '("counts",)'))
    with pytest.raises(UserError) as caught:
        check_own_terms(context)
    line = str(caught.value)
    assert line.startswith("grpo.reward.extra.own: ") and message in line and "\n" not in line
    assert caught.value.exit_code == 2 and "tried before training" in line
    assert f"{own}:" in line


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("groups.rows.fill_(0)", "rollouts.rows"),
        ("groups.items[:, 0] = -1", "rollouts.items"),
        ("known.get('counts').zero_()", "context.get('counts')"),
    ],
)
def test_a_term_that_writes_into_what_it_is_given_is_refused(body: str, what: str, context: StageContext, own: Path):
    """Entry 20: the other terms of the batch would be computed from what it left."""
    own.write_text(term(f"{body}\nreturn torch.zeros(groups.items.shape)", '("counts",)'))
    with pytest.raises(UserError) as caught:
        check_own_terms(context)
    assert f"own writes into {what}, which other terms read, too" in str(caught.value)


@pytest.mark.parametrize("value", ["functools.partial(paid, 0.5)", "Paid(0.5)"])
def test_partials_and_objects_are_terms(value: str, context: StageContext, own: Path):
    """Entry 20: what can be called but is not a function; its arguments are part of the fingerprint."""
    lines = [
        "import functools",
        "def paid(what, groups, known):",
        "    return groups.hits.float() * what",
        "class Paid:",
        "    def __init__(self, what): self.what = what",
        "    def __call__(self, groups, known): return paid(self.what, groups, known)",
    ]
    hashes = []
    for number in ("0.5", "0.7"):
        own.write_text("\n".join([HEAD, *lines, f"reward_term('own')({value.replace('0.5', number)})", ""]))
        linecache.clearcache()
        sys.modules.pop("own_rewards", None)
        check_own_terms(context)
        hashes.append(own_terms(context.config)["own"])
    assert hashes[0] != hashes[1] and "unknown" not in hashes
    groups = made_up_rollouts(9, 4)
    assert torch.equal(total_reward(groups, RewardContext(), {"own": 1.0}).total, 0.7 * groups.hits.float())


@pytest.mark.parametrize(
    "body",
    [
        "return groups.hits",
        "return groups.hits.long()",
        "return groups.hits.double()",
        "return groups.hits.half().requires_grad_()",
        "return groups.hits.float().tolist()",
        "return groups.hits.numpy().astype('float64')",
        "return tuple(tuple(row) for row in groups.hits.tolist())",
    ],
)
def test_numbers_of_the_right_shape_are_converted(body: str, context: StageContext, own: Path):
    """Entry 20: lists, NumPy arrays and other number formats of the right shape are what they say."""
    own.write_text(term(body))
    check_own_terms(context)
    groups = made_up_rollouts(9, 4)
    found = total_reward(groups, RewardContext(), {"own": 0.5}).total
    assert found.dtype == torch.float32 and not found.requires_grad
    assert torch.equal(found, 0.5 * groups.hits.float()) and found.sum() >= 0.5


def test_every_term_of_the_project_passes_its_own_check(context: StageContext, own: Path, tmp_path: Path):
    """What is made up is enough for any term: the project's own are called as if they were somebody's."""
    names = [name for name, each in REWARD_TERMS.items() if each.function.__module__.startswith("dig.")]
    own.write_text(
        f"{HEAD}from dig.rollouts import REWARD_TERMS\n\n"
        + "".join(
            f'@reward_term("own_{name}", tuple(REWARD_TERMS["{name}"].requires))\ndef own_{name}(groups, known):\n'
            f'    return REWARD_TERMS["{name}"].function(groups, known)\n\n\n'
            for name in names
        )
    )
    extras = [f"grpo.reward.extra.own_{name}=1" for name in names]
    config = configured(tmp_path, "grpo.reward.extra.own=0", *extras)
    check_own_terms(StageContext(config, context.inputs, context.store, context.run))
    assert len(names) == 10


def test_what_only_a_model_could_tell_is_warned_of_and_not_refused(context: StageContext, own: Path, capsys):
    own.write_text(term("return known.get('vectors')[groups.rows] @ torch.ones(384)", '("vectors",)'))
    check_own_terms(context)
    assert "on made-up vectors, so the run continues" in " ".join(capsys.readouterr().out.split())


def test_a_run_stops_before_it_mines_or_trains(home: Path, own: Path, tmp_path: Path):
    """Entry 20: the whole pipeline, stopped behind `prepare`."""
    own.write_text(term("return None"))
    with pytest.raises(UserError, match=r"grpo\.reward\.extra\.own: the reward term own is None"):
        build_stages(configured(tmp_path))
    assert not [path for name in ("mine", "sft", "grpo") for path in (home / name).rglob("manifest*")]
    assert BUILT["grpo"].check is check_own_terms


@pytest.mark.parametrize(
    ("text", "module", "message"),
    [
        ("def broken(:\n", "own_rewards", "own_rewards cannot be imported: invalid syntax ({own}:1)"),
        ("\nimport no_such_thing\n", "own_rewards", "ModuleNotFoundError: No module named 'no_such_thing' ({own}:2)"),
        ("\n\n1 / 0\n", "own_rewards", "ZeroDivisionError: division by zero ({own}:3)"),
        ("import sys\nsys.exit(3)\n", "own_rewards", "SystemExit: 3 ({own}:2)"),
        (
            "from dig.rollouts import reward_term\n@reward_term('own', requires=('colour',))\ndef own(g, k): ...\n",
            "own_rewards",
            "requires 'colour'",
        ),
        (
            "from dig.rollouts import reward_term\n\n\n@reward_term('own', needs=('counts',))\ndef own(g, k): ...\n",
            "own_rewards",
            "needs=('counts',) is called requires=('counts',) now ({own}:4)",
        ),
        (
            "\nfrom dig.rollouts import Groups, ItemKnowledge\n",
            "own_rewards",
            "dig.rollouts.Groups is called Rollouts now ({own}:2)",
        ),
        ("", "own_reward", "No module named 'own_reward'; is the folder of its file in PYTHONPATH?"),
        ("", "own_rewards.py", "name the module as Python does, own_rewards, with"),
        ("", "rewards/own_rewards.py", "name the module as Python does, own_rewards, with"),
        ("", ".own_rewards", "cannot be imported: TypeError"),
        ("", "own_rewards", "grpo.reward.extra.own: no such term is registered"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(text, module, message, own: Path, tmp_path: Path):
    """Entry 20: a syntax error, a missing module and whatever a module raises are told with file and line."""
    own.write_text(text)
    with pytest.raises(UserError) as caught:
        BUILT["grpo"].inputs(configured(tmp_path, f"grpo.reward.modules=[{module}]"))
    assert message.format(own=own) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
