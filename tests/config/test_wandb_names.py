"""Names that W&B would refuse stage by stage are refused once, at load, by W&B's own rule."""

from __future__ import annotations

import string

import pytest
import wandb
from wandb.errors import UsageError

from dig.config import UserError, load_config
from dig.config.schema import WandbConfig


def taken_by_wandb(project: str) -> bool:
    try:
        wandb.Settings(project=project)
    except UsageError:
        return False
    return True


def taken(**names: str) -> bool:
    try:
        WandbConfig(**names)
    except UserError as error:
        assert error.exit_code == 2 and str(error).startswith("logging.wandb.")
        return False
    return True


def test_projects_are_taken_by_the_rule_of_the_installed_wandb():
    """Entry 20: every printable character, and the longest name, as W&B's own settings judge them."""
    for char in set(string.printable) - set(string.whitespace) | {" ", "é", "項"}:
        assert taken(project=f"a{char}b") == taken_by_wandb(f"a{char}b"), char
    for size in (1, 128, 129):
        assert taken(project="x" * size) == taken_by_wandb("x" * size) == (size <= 128)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("project=team/shop", "write logging.wandb.entity=team logging.wandb.project=shop"),
        ("project=a/b/c", "and there is '/'"),
        ("project=' '", "names of 1 to 128 characters, this one has 0"),
        ("entity=team/shop", "logging.wandb.entity='team/shop'"),
        (f"group={'x' * 129}", "logging.wandb.group: W&B takes names of 1 to 128 characters, this one has 129"),
        ("tags=[ok,'']", "W&B takes tags of 1 to 64 characters, not ''"),
    ],
)
def test_what_is_refused_says_what_to_write(override: str, message: str):
    """Entry 20: `logging.wandb.project=a/b` and its siblings."""
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [f"logging.wandb.{override}"])
    assert message in str(caught.value) and caught.value.exit_code == 2
