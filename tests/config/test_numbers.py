"""Every number of the schema has a lower and an upper bound, and its section holds it to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from dig.config import UserError, load_config
from dig.config.load import named_section
from dig.config.schema import Config, ModelConfig, TaskConfig, TasksConfig
from dig.config.sections.checks import Bounds, bounds_of

NOT_NUMBERS = {"mining.models.*.extra", "visual.config", "backbone.config", "backbone.lora.targets", "data.columns"}
"""Of any type; what they hold is judged by whom it is handed to."""
BY_HAND = {"rqvae.codebook_size", "trainer.devices"}
"""A number or a list of them: checked by their own sections."""


def numbers(section: type = Config, prefix: str = "") -> Iterator[tuple[str, type, str, Any]]:
    """Key, section, field and type of whatever of the schema can be a number."""
    hints = get_type_hints(section)
    for entry in fields(section):
        hint, key = hints[entry.name], prefix + entry.name
        if is_dataclass(hint):
            yield from numbers(hint, f"{key}.")
        elif named := named_section(hint):
            yield from numbers(named, f"{key}.*.")
        elif {int, float, Any} & {hint, *get_args(hint)}:
            yield key, section, entry.name, hint


NUMBERS = {key: rest for key, *rest in numbers()}
BOUNDED = sorted(set(NUMBERS) - NOT_NUMBERS - BY_HAND)


def build(key: str, section: type, name: str, value: object, hint: Any) -> None:
    """Makes the section with one value set, as loading does once it has merged."""
    kind = get_origin(hint)
    value = [value] if kind is list else {"mine": value} if kind is dict else value
    needed = {"model": "m"} if section is ModelConfig else {}
    made = section(**needed, **{name: value})
    if section is TaskConfig:  # it does not know its own name
        TasksConfig(**{key.split(".")[2]: made})


@pytest.mark.parametrize("key", BOUNDED)
def test_every_number_is_bounded_and_its_bounds_are_held(key: str) -> None:
    """Entry 17: `sft.weight_decay=-3`, `rqvae.commitment_weight=-1`, `sft.learning_rate=.inf` and the like are refused
    for every number of the schema, a new one included."""
    section, name, hint = NUMBERS[key]
    bounds = bounds_of(section).get(name)
    assert bounds is not None, f"{key} has no bounds: give it a type of dig.config.sections.checks"
    assert math.isfinite(bounds.low) and math.isfinite(bounds.high) and bounds.low < bounds.high
    wrong: list[object] = [-1_000_000_000, 10**18]
    if float in (hint, *get_args(hint)):
        wrong += [math.nan, math.inf, -math.inf]
    for value in wrong:
        with pytest.raises(UserError) as raised:
            build(key, section, name, value, hint)
        message = str(raised.value)
        assert raised.value.exit_code == 2 and "\n" not in message
        assert message.startswith((f"{key} ", f"{key}.mine ")), message


def test_no_bound_is_lost_in_a_sentence() -> None:
    for bounds, value, said in (
        (Bounds(0, 9, above=True), 0, "must be above 0, it is 0"),
        (Bounds(0, 9), -1, "must not be negative, it is -1"),
        (Bounds(0, 1), 1.5, "must lie between 0 and 1, it is 1.5"),
        (Bounds(0, 1, above=True), 2, "must be at most 1, it is 2"),
        (Bounds(0, 4, below=True), 4, "must be below 4, it is 4"),
        (Bounds(2, 4), 1, "must be at least 2, it is 1"),
        (Bounds(0, 1000), 2000, "must be at most 1,000, it is 2000"),
        (Bounds(0, 9), math.nan, "must be a finite number, it is nan"),
    ):
        assert bounds.problem(value) == said
    assert Bounds(0, 1).problem(0) is None and Bounds(0, 1).problem(1) is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sft.weight_decay=-3", "sft.weight_decay must not be negative, it is -3.0"),
        ("rqvae.commitment_weight=-1", "rqvae.commitment_weight must not be negative, it is -1.0"),
        ("sft.learning_rate=.inf", "sft.learning_rate=.inf: must be a finite number, it is inf"),
        ("grpo.temperature=.inf", "grpo.temperature=.inf: must be a finite number, it is inf"),
        ("seed=-1", "seed must not be negative, it is -1"),
        ("seed=4294967296", "seed must be at most 4,294,967,295, it is 4294967296"),
        ("sft.batch_size=1000000000", "sft.batch_size must be at most 1,048,576, it is 1000000000"),
        ("trainer.num_workers=100000", "trainer.num_workers must be at most 1,024, it is 100000"),
        ("slurm.nodes=1000000", "slurm.nodes must be at most 100,000, it is 1000000"),
        ("rqvae.hidden_dims=[64,0]", "rqvae.hidden_dims must be above 0, it is 0"),
        ("rqvae.codebook_size=[256,1]", "rqvae.codebook_size must hold numbers from 2 to 1,048,576, it is [256, 1]"),
        ("rqvae.codebook_size=1000000000", "rqvae.codebook_size must hold numbers from 2 to 1,048,576"),
        ("grpo.reward.extra={mine: -1}", "grpo.reward.extra.mine must not be negative, it is -1.0"),
        ("sft.tasks.semantic.share=-1", "sft.tasks.semantic.share must not be negative, it is -1.0"),
        ("sft.tasks.semantic.weight=0", "sft.tasks.semantic.weight must be above 0, it is 0; share=0 switches it off"),
    ],
)
def test_a_wrong_number_is_one_line_with_its_key(setting: str, said: str) -> None:
    """Entry 17, and its siblings."""
    with pytest.raises(UserError) as raised:
        load_config("quickstart", [setting])
    assert said in str(raised.value) and raised.value.exit_code == 2
