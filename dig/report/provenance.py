"""Where a configuration comes from: the experiment that it changes, and the command that asks for it again."""

from __future__ import annotations

import shlex
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf

from dig.config import Config, UserError, config_to_dict, list_experiments, load_config
from dig.config.load import experiments_folder
from dig.report.config_diff import Change, config_changes

__all__ = ["Provenance", "package_versions", "provenance"]

_DEFAULTS = "the schema's defaults"


class Provenance(NamedTuple):
    """What a configuration is compared with, in words; where it differs; the command, empty where no file tells it."""

    parent: str
    changes: list[Change]
    command: str


def provenance(config: Config) -> Provenance:
    """Compares with the experiment that this one extends, else with the schema's defaults.

    What differs from the experiment's own file was asked for on the command line, and is part of the command.
    """
    own = config_to_dict(config)
    name = next((name for name in list_experiments() if name.rpartition("/")[2] == config.experiment), None)
    command, above = "", None
    if name is not None:
        with suppress(UserError):  # a file that no longer loads tells nothing
            command = _command(name, own)
            above = _extended(name)
            if above is not None:
                return Provenance(f"the experiment {above}, which it extends", _changes(above, own), command)
    return Provenance(_DEFAULTS, config_changes(_defaults(), own), command)


def _changes(experiment: str, own: dict[str, Any]) -> list[Change]:
    return config_changes(config_to_dict(load_config(experiment)), own)


def _defaults() -> dict[str, Any]:
    """The schema's defaults, which by themselves name no data and so are no configuration that loads."""
    content = OmegaConf.to_container(OmegaConf.structured(Config))
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _command(name: str, own: dict[str, Any]) -> str:
    asked = [shlex.quote(f"{change.key}={change.after}") for change in _changes(name, own) if change.after is not None]
    return " ".join(["python -m dig.train", f"experiment={name}", *asked])


def _extended(name: str) -> str | None:
    """The experiment that another extends, as its file names it."""
    for folder in (Path("experiments"), experiments_folder()):
        path = folder / f"{name}.yaml"
        if path.is_file():
            above = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("extends")
            if above is None:
                return None
            beside = f"{name.rpartition('/')[0]}/{above}".removeprefix("/")
            return beside if beside in list_experiments() else str(above)
    return None


def package_versions() -> dict[str, str]:
    """Versions of dig and torch that are installed here."""
    return {package: metadata.version(package) for package in ("dig", "torch")}
