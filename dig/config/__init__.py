"""Typed configuration: the schema, and how it is loaded, checked and explained."""

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
from dig.config.schema import BASELINES, STAGES, Config

__all__ = [
    "BASELINES",
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
