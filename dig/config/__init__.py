"""Typed configuration: the schema, and how it is loaded, checked and explained."""

from dig.config.errors import UserError, nearest
from dig.config.load import config_to_dict, list_experiments, load_config, schema_keys
from dig.config.schema import STAGES, Config

__all__ = [
    "STAGES",
    "Config",
    "UserError",
    "config_to_dict",
    "list_experiments",
    "load_config",
    "nearest",
    "schema_keys",
]
