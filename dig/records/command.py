"""The command that repeats a run: its experiment, and what its configuration has beyond that experiment's file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dig.config import UserError, config_to_dict, list_experiments, load_config, nearest
from dig.config.schema import DataConfig

__all__ = ["repeat_command"]

_MOST = 500
"""Keys that a command repeats; each is tried by loading the configuration with it."""
_NO_RESULT = ("experiment", "runs_dir", "run_id", "logging")
"""Sections that decide where a run is written and what it says, not what it finds."""


def repeat_command(content: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A line for the shell, and the keys that it cannot hold.

    Folders below ``DIG_DATA_ROOT`` are written by that variable; of other folders the last name is kept, of addresses
    nothing, since the line is published.

    Args:
        content: a run's ``config.yaml``.

    Returns:
        The command, and keys of the run that today's configuration does not know or refuses.

    Raises:
        UserError: the experiment has no file, or its file cannot be loaded here.
    """
    experiment = _experiment(str(content.get("experiment", "custom")))
    ours, theirs = _base(experiment), dict(_leaves(_deciding(content)))
    # an empty mapping merges into anything without changing it
    differing = {
        key: value for key, value in theirs.items() if value != {} and not (key in ours and ours[key] == value)
    }
    if len(differing) > _MOST:
        raise UserError(f"the run's configuration differs in {len(differing):,} keys from its experiment {experiment}")
    left_out = _refused(experiment, differing)
    overrides = [f"{key}={_written(_public(value))}" for key, value in differing.items() if key not in left_out]
    words = ["python", "-m", "dig.train", *([f"experiment={experiment}"] if experiment else []), *overrides]
    return " ".join(_quoted(word) for word in words), left_out


def _base(experiment: str | None) -> dict[str, Any]:
    """Values of the experiment's file; without one the schema's, which are no whole configuration by themselves."""
    config = load_config(experiment, [] if experiment else ["data.source=quickstart"])
    own = {} if experiment else {"data.source": DataConfig().source}
    return dict(_leaves(_deciding(config_to_dict(config)))) | own


def _experiment(name: str) -> str | None:
    """The name that ``experiment=`` takes for what a configuration calls itself, its last part; None for no file."""
    if name == "custom":
        return None
    names = list_experiments()
    found = [known for known in names if known.rsplit("/", 1)[-1] == name]
    if not found:
        hint = nearest(name, names)
        raise UserError(
            f"experiment {name} of the run has no file under experiments/ now"
            f"{f'; the nearest is {hint}' if hint else ''}",
            exit_code=2,
        )
    return min(found, key=len)


def _deciding(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in _NO_RESULT}


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _refused(experiment: str | None, values: Mapping[str, Any]) -> list[str]:
    """Keys that today's configuration does not take, none where it takes all of them together."""
    overrides = {key: f"{key}={_written(value)}" for key, value in values.items()}
    if _loads(experiment, list(overrides.values())):
        return []
    return [key for key, override in overrides.items() if not _loads(experiment, [override])]


def _loads(experiment: str | None, overrides: list[str]) -> bool:
    try:
        load_config(experiment, overrides)
    except UserError:
        return False
    return True


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _quoted(word: str) -> str:
    """A word for the shell, quoted where needed; ``=`` alone needs no quotes, brackets do."""
    return word if word == shlex.quote(word) else f"'{word}'" if "'" not in word else shlex.quote(word)


def _public(value: Any) -> Any:
    """A value without folders and addresses of a machine."""
    if isinstance(value, str):
        return _public_text(value)
    if isinstance(value, Sequence):
        return [_public(each) for each in value]
    return value


def _public_text(text: str) -> str:
    if "://" in text:
        return "ADDRESS"
    path = Path(text).expanduser() if text.startswith(("/", "~")) else None
    if path is None or not path.is_absolute():
        return text
    root = os.environ.get("DIG_DATA_ROOT")
    if root and path.is_relative_to(Path(root).absolute()):
        below = path.relative_to(Path(root).absolute())
        return f"${{oc.env:DIG_DATA_ROOT}}/{below.as_posix()}"
    return f"FOLDER/{path.name}"
