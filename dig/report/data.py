"""What a report is made of: values of a finished run, any of which may be missing, and its configuration's origin."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from omegaconf import OmegaConf

from dig.config import Config, UserError, config_to_dict, list_experiments, load_config
from dig.config.load import experiments_folder

if TYPE_CHECKING:
    import polars as pl

    from dig.quantization import SemanticIds

__all__ = ["Change", "config_changes", "flow", "ReportData", "Provenance", "package_versions", "provenance"]


_OF_A_RUN = ("experiment", "run_id")  # these name a run and tell nothing of how it was made


class Change(NamedTuple):
    """A key whose value differs; values as YAML in one line, None where the key is not there."""

    key: str
    before: str | None
    after: str | None


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What turns one configuration into another, in the order of the second; lists count as one value."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        Change(key, flow(old[key]) if key in old else None, flow(new[key]) if key in new else None)
        for key in dict.fromkeys([*new, *old])
        if key not in _OF_A_RUN and (key not in old or key not in new or old[key] != new[key])
    ]


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
        .removesuffix("\n...\n")
        .strip()
    )


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, content


# What a report is made of: plain values of a finished run, none of which must be there.


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows; what is empty is said to be missing in its place."""

    experiment: str
    run_id: str
    command: str = ""
    """The command that runs it again."""
    config_yaml: str = ""
    """The configuration as it was resolved."""
    parent: str = ""
    """What the configuration is compared with, in words."""
    changes: Sequence[Change] = ()
    """Where the configuration differs from its parent."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Users, items, interactions, …"""
    stages: Sequence[Mapping[str, Any]] = ()
    """``name``, ``seconds``, ``cached`` of every stage that ran."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Content of ``metrics.json``: recommenders by name, baselines first."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of the CSV log per stage, sparse."""
    health: Mapping[str, Any] = field(default_factory=dict)
    """Of the codebooks: lists with a number per level (``usage`` as a share, ``sizes``, …) and figures."""
    ids: SemanticIds | None = None
    """The Semantic IDs of the catalogue."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """RLDI's report: figures, and lists of examples (strings or mappings), by name."""
    interests: pl.DataFrame | None = None
    """Labelled interests (:data:`~dig.interests.interest.INTEREST_SCHEMA`)."""
    groups: Sequence[Mapping[str, Any]] = ()
    """Groups of rollouts as the callback ``RolloutSamples`` writes them."""
    catalogue: pl.DataFrame | None = None
    """An item per row: ``item_id``, ``title``, and what else is known."""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """Picture files by item id."""
    recommendations: pl.DataFrame | None = None
    """``example``, ``items``, ``scores``, ``stage``; recommenders below each other, baselines first."""
    examples: pl.DataFrame | None = None
    """A row per example: ``example``, ``user``, ``target``, ``history``, and where known ``one_hop`` and slices."""


# Where a configuration comes from: the experiment that it changes, and the command that asks for it again.


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
    """The schema's defaults, which by themselves name no data and so are not a configuration that loads."""
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
