"""Old keys: who types one is told the new one, and a run of before is read in today's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dig.config import UserError, config_to_dict, load_config, load_run_config, schema_keys
from dig.config.renamed import RENAMED, modernised, name_today

WRITTEN = ("prompt.item_token", "backbone.sid_rows", "sft.item_tokens")


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("key", [*RENAMED, *WRITTEN])
def test_an_old_key_is_answered_by_a_line_with_the_new_one(tmp_path: Path, key: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "quickstart", **nested(key, 1)}))
    for experiment, overrides in (("quickstart", [f"{key}=1"]), (str(path), [])):
        with pytest.raises(UserError) as caught:
            load_config(experiment, overrides)
        line = str(caught.value)
        assert caught.value.exit_code == 2 and "\n" not in line
        assert line.endswith(f"{key}: this key is {name_today(key)} now" if not overrides else f"{name_today(key)} now")


@pytest.mark.parametrize(
    ("argument", "right"),
    [
        ("sft.Clip_Norm=1", "sft.gradient_clip_val"),
        ("TRAINER.WORKERS=1", "trainer.num_workers"),
        ("sft.clip_nrom=1", "sft.gradient_clip_val"),
        ("sft={clip_norms: 1}", "sft.gradient_clip_val"),
        ("sft.Gradient_Clip_Val=1", "sft.gradient_clip_val"),
        ("prompt.item_tokens=true", name_today("prompt.item_token")),
    ],
)
def test_who_misspells_an_old_key_is_told_the_new_one(argument: str, right: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [argument])
    assert str(caught.value).endswith(f": unknown key; did you mean {right}?")


def test_new_names_are_keys_and_old_ones_are_not() -> None:
    keys = set(schema_keys())
    assert set(RENAMED.values()) <= keys and not keys & {*RENAMED, *WRITTEN}


@pytest.mark.parametrize(
    ("old", "pretrained", "representation", "start"),
    [
        ({}, None, "sid", "random"),
        ({"backbone.sid_rows": "codebook"}, None, "sid", "codebook"),
        ({"prompt.item_token": True}, None, "token", "random"),
        ({"prompt.item_token": True, "backbone.sid_rows": "codebook"}, None, "token", "codebook"),
        ({"prompt.item_token": True, "backbone.sid_rows": "composed"}, None, "composed", "random"),
        ({"prompt.item_token": True, "backbone.sid_rows": "composed"}, "some/model", "sid", "codebook"),
        ({"prompt.item_token": True}, "some/model", "sid", "random"),
        ({"prompt.item_token": True, "sft.item_tokens": "one"}, None, "one", "random"),
    ],
)
def test_a_run_of_before_says_how_its_items_were_written(
    tmp_path: Path, old: dict[str, Any], pretrained: str | None, representation: str, start: str
) -> None:
    written = {"prompt.item_token": False, "backbone.sid_rows": "random", "sft.item_tokens": "codes", **old}
    content = as_before(config_to_dict(load_config("quickstart", ["backbone.config={}"])), written)
    content["backbone"]["pretrained"] = pretrained
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    config = load_run_config(tmp_path)
    assert (config.items.representation, config.items.start, config.items.codes) == (representation, start, 2)
    assert config.trainer.num_workers == 3 and config.sft.gradient_clip_val == 0.25


def as_before(content: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with the keys that it had."""
    del content["items"]
    for before, after in RENAMED.items():
        section, name = content, after.split(".")
        for part in name[:-1]:
            section = section.get(part, {})
        value = section.pop(name[-1], None)
        merge(
            content, nested(before, {"prompt.codes": 2, "trainer.workers": 3, "sft.clip_norm": 0.25}.get(before, value))
        )
    for key, value in written.items():
        merge(content, nested(key, value))
    return content


def merge(content: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            merge(content[key], value)
        else:
            content[key] = value


def test_the_configuration_of_today_stays_as_it_is() -> None:
    content = config_to_dict(load_config("quickstart"))
    assert modernised(content) == content


def test_a_run_s_own_file_is_an_experiment_and_an_experiment_called_so_is_not_a_run(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("extends: quickstart\nsft: {clip_norm: 0.5}\n")
    with pytest.raises(UserError, match=r"sft\.clip_norm: this key is sft\.gradient_clip_val now"):
        load_config(path)
    (tmp_path / "metrics.json").write_text("{}")
    assert load_config(path).sft.gradient_clip_val == 0.5


@pytest.mark.parametrize("section", [[1], "text", 3, None])
def test_a_run_whose_backbone_is_not_a_section_is_refused_in_a_line(tmp_path: Path, section: Any) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"prompt": {"item_token": True}, "backbone": section}))
    assert modernised({"prompt": {"item_token": True}, "backbone": section})["items"] == {"representation": "token"}
    with pytest.raises(UserError) as caught:
        load_run_config(tmp_path)
    assert "\n" not in str(caught.value)
