"""Typed configuration: the schema, and how it is loaded, checked and explained.

The names here are loaded when they are first used, so that a recommender's settings, which the schema reads, can use
what lies beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.config.errors import UserError, nearest, nearest_ids, unknown_flag
    from dig.config.load import (
        config_to_dict,
        key_type,
        list_experiments,
        load_config,
        load_run_config,
        provided,
        refuse_secrets,
        schema_keys,
    )
    from dig.config.schema import BASELINES, RECOMMENDERS, STAGES, Config

__all__ = [
    "BASELINES",
    "RECOMMENDERS",
    "STAGES",
    "Config",
    "UserError",
    "config_to_dict",
    "key_type",
    "list_experiments",
    "load_config",
    "load_run_config",
    "nearest",
    "nearest_ids",
    "provided",
    "refuse_secrets",
    "schema_keys",
    "unknown_flag",
]

__getattr__ = lazy_names(
    __name__,
    {
        "UserError": "errors",
        "nearest": "errors",
        "nearest_ids": "errors",
        "unknown_flag": "errors",
        "config_to_dict": "load",
        "key_type": "load",
        "list_experiments": "load",
        "load_config": "load",
        "load_run_config": "load",
        "provided": "load",
        "refuse_secrets": "load",
        "schema_keys": "load",
        "BASELINES": "schema",
        "RECOMMENDERS": "schema",
        "STAGES": "schema",
        "Config": "schema",
    },
)
