"""Typed configuration: the schema, and how it is loaded, checked and explained."""

from dig.config.errors import UserError, nearest, nearest_ids
from dig.config.load import config_to_dict, key_type, list_experiments, load_config, refuse_secrets, schema_keys
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
    "nearest",
    "nearest_ids",
    "refuse_secrets",
    "schema_keys",
]
