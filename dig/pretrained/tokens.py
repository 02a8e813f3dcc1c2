"""Tokens that mean something to a model, text of items that must not hold any, and tokenizers read as written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["breaking", "meaningful_tokens", "read_as_written"]

_CONFIG = "tokenizer_config.json"


def meaningful_tokens(tokenizer: Any, template: Any = None, others: Iterable[Any] = ()) -> list[str]:
    """What a text must not spell: it would end a turn, begin a file, or stand for a picture that is not there.

    ``all_special_tokens`` has only those that a tokenizer has a name for; the other special ones are among its added
    tokens, beside ordinary words, which count where the chat template writes them.

    Args:
        tokenizer: of transformers.
        template: a chat template; None takes the tokenizer's own.
        others: further tokens; None and "" among them are left out.

    Returns:
        The tokens, the longest first.
    """
    written = str(template or getattr(tokenizer, "chat_template", None) or "")
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    tokens = {str(token) for token in added if token.special or str(token) in written}
    tokens |= {str(token) for token in (*tokenizer.all_special_tokens, *others) if token}
    return sorted((token for token in tokens if token.strip()), key=lambda token: (-len(token), token))


def breaking(tokens: Iterable[str], broken: Callable[[str], str] = lambda token: " ") -> Callable[[str], str]:
    """A function that rewrites a text until it spells none of the tokens.

    Args:
        tokens: the longest first.
        broken: what stands in place of one; a space where that spells one again.
    """
    pattern = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

    def plain(text: str) -> str:
        text = pattern.sub(lambda match: broken(match[0]), text)
        while pattern.search(text):
            text = pattern.sub(" ", text)
        return text

    return plain


def read_as_written(folder: Path) -> None:
    """Lets AutoTokenizer read a folder's ``tokenizer.json`` as it is, instead of by the type of the model beside it.

    With an entry for code of the folder's own, of which there is none, transformers takes the class that is written
    beside it.
    """
    path = folder / _CONFIG
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"auto_map": {"AutoTokenizer": [None, None]}, "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
