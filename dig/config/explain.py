"""What ``--help`` and ``--print-config`` show: the schema's own sentences, and the configuration as it was resolved."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

import yaml

from dig.config.arguments import Options
from dig.config.load import config_to_dict, list_experiments, named_section
from dig.config.schema import Config

__all__ = ["config_yaml", "help_text", "train_options"]

_ABOUT = """\
Runs the pipeline prepare → adapt → pictures → mine → label → embed → tokenize → sft → grpo → report; finished stages
are cached.

  experiment=NAME  an experiment or the path of a YAML file; there are: {experiments}
  key=value        changes a key, for example rqvae.codebook_size=512 or stages=[tokenize]"""
_END = """\
Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 75 told to end by a signal (what was done is kept,
and the same command resumes), 130 interrupted.

Keys and their defaults:
"""


def train_options() -> Options:
    """The options of ``dig train``."""
    about = _ABOUT.format(experiments=", ".join(list_experiments()))
    options = Options("dig train experiment=NAME [key=value …] [--dry-run | --print-config | --help]", about, _END)
    stages = (
        "prints the stages, which are cached and what each reads, and does nothing; with slurm.nodes=N it prints the "
    )
    options.switch("--dry-run", f"{stages}job script")
    options.switch("--print-config", "prints the configuration as it is resolved, and does nothing")
    return options


def help_text() -> str:
    """Usage, then every key of the schema with its default and its sentence."""
    return "\n".join([train_options().format_help(), *_section_lines(Config, "")])


def config_yaml(config: Config) -> str:
    """The configuration as YAML, in the schema's order."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def _section_lines(section: type, prefix: str) -> list[str]:
    hints = get_type_hints(section)
    sentences = _sentences(section)
    lines = []
    for entry in fields(section):
        kind = hints[entry.name]
        if isinstance(kind, type) and is_dataclass(kind):
            title = inspect.getdoc(kind) or ""
            lines += ["", f"{prefix}{entry.name}: {title.splitlines()[0]}"]
            lines += _section_lines(kind, f"{prefix}{entry.name}.")
        elif named := named_section(kind):
            lines += ["", f"{prefix}{entry.name}.NAME: {(inspect.getdoc(named) or '').splitlines()[0]}"]
            lines += [*_section_lines(named, f"{prefix}{entry.name}.NAME."), ""]
        else:
            default: Any = entry.default
            if entry.default_factory is not MISSING:
                default = entry.default_factory()
            shown = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            lines.append(f"  {prefix}{entry.name}={shown}")
            lines.append(f"      {sentences.get(entry.name, '')}")
    return lines


@cache
def _sentences(section: type) -> dict[str, str]:
    """The string that stands under each field of a schema class, and of those that it is made of."""
    sentences: dict[str, str] = {}
    for part in reversed(section.__mro__):
        if is_dataclass(part):
            sentences |= _own_sentences(part)
    return sentences


def _own_sentences(section: type) -> dict[str, str]:
    try:
        source = inspect.getsource(section)
    except (OSError, TypeError):  # made by a program, as the class with the recommenders' sections
        return {}
    (node,) = ast.parse(textwrap.dedent(source)).body
    if not isinstance(node, ast.ClassDef):
        raise TypeError(f"{section} is not a class")
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
