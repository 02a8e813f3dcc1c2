"""Readers of files that may come from anybody: bounded, typed, one line for what is wrong, and nothing of it is run."""

from dig.config.documents import check_yaml, parse_json, read_json_lines, read_json_mapping, read_yaml_mapping

__all__ = ["check_yaml", "parse_json", "read_json_lines", "read_json_mapping", "read_yaml_mapping"]
