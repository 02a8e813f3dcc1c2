"""Prompts as versioned files: what is said around the evidence of an item, and a hash that changes with any word."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from string import Template

import yaml

from dig.config.documents import check_yaml
from dig.config.errors import UserError, nearest
from dig.engine.folding import fold

__all__ = ["Prompt", "load_prompt", "prompt_names"]

_EXAMPLE = re.compile(r'"(?:interest|caption)"\s*:\s*"([^"$]+)"')
_PARTS = ("system", "user", "repair")


@dataclass(frozen=True)
class Prompt:
    """A prompt with its name and version.

    Attributes:
        name: the file's name without its ending.
        version: a hash of its words; answers to another wording are other answers.
        system: the task.
        user: the question about an item; ``$name`` is filled in.
        repair: asks again after an answer that could not be used; ``$problem`` says why.
    """

    name: str
    version: str
    system: str
    user: str
    repair: str

    def ask(self, **values: str) -> str:
        """The user's turn; a value is put in as it is, ``$`` in it means nothing.

        Raises:
            UserError: the prompt names something that is not given.
        """
        try:
            return Template(self.user).substitute(values)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"prompt {self.name}: {error} cannot be filled in; there are {', '.join(values)} "
                "(a dollar sign is written $$)",
                exit_code=2,
            ) from None

    @cached_property
    def examples(self) -> frozenset[str]:
        """Folded interests and captions that stand in it to show the form of an answer."""
        return frozenset(map(fold, _EXAMPLE.findall(f"{self.system}\n{self.user}")))

    def ask_again(self, problem: str) -> str:
        """The turn after an unusable answer."""
        return Template(self.repair).safe_substitute(problem=problem)


def prompt_names() -> list[str]:
    """The prompts that come with the project."""
    return sorted(path.name.removesuffix(".yaml") for path in files("dig.interests").joinpath("prompts").iterdir())


def load_prompt(name: str, key: str) -> Prompt:
    """One of our prompts by name, or a file of the user's.

    Args:
        name: the name or path.
        key: the configuration key that names it, for errors.

    Raises:
        UserError: there is none, or it is no prompt.
    """
    own = name.endswith((".yaml", ".yml"))
    if not own and name not in prompt_names():
        hint = nearest(name, prompt_names())
        raise UserError(f"{key}={name}: no such prompt; did you mean {hint}? (a file of your own ends in .yaml)", 2)
    place = Path(name).expanduser() if own else files("dig.interests").joinpath("prompts", f"{name}.yaml")
    try:
        text = place.read_text(encoding="utf-8")
        check_yaml(text, f"{key}={name}", exit_code=2)
        content = yaml.safe_load(text)
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:
        raise UserError(f"{key}={name}: cannot be read ({type(error).__name__})", exit_code=2) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), str) for part in _PARTS):
        raise UserError(f"{key}={name}: a prompt holds the texts {', '.join(_PARTS)}", exit_code=2)
    parts = [content[part].strip() for part in _PARTS]
    version = hashlib.blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()
    return Prompt(place.name.rpartition(".")[0], version, *parts)
