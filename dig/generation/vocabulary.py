"""The tokens that spell Semantic IDs, one for every code of every level, and the tokenizers that hold them.

transformers 5 chooses a tokenizer's class by the model's type where it mistrusts the folder (``qwen2``, ``qwen3_5``),
and such a class rebuilds the tokenizer: it keeps the vocabulary, and exchanges what splits words. A vocabulary of whole
words is then lost. So what AutoTokenizer reads is compared with ``tokenizer.json``, when a backbone is loaded and when
one is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.pre_tokenizers import Split, WhitespaceSplit
from torch import Tensor

from dig.config import UserError
from dig.engine.lazy import transformers
from dig.pretrained import read_as_written

if TYPE_CHECKING:
    from dig.config.schema import ItemsConfig
    from dig.quantization import SemanticIds

__all__ = [
    "TASK_TOKENS",
    "SidVocabulary",
    "sid_token",
    "spelled_ids",
    "SPECIALS",
    "prove_tokenizer",
    "read_tokenizer",
    "save_tokenizer",
    "scratch_tokenizer",
    "scratch_words",
]


TASK_TOKENS = {"collaborative": "<collaborative>", "semantic": "<semantic>"}
"""What a prompt of a task begins with where the backbone knows no words."""


def sid_token(level: int, code: int) -> str:
    """The token of a code: ``<a_12>`` is code 12 of the first level."""
    return f"<{chr(ord('a') + level)}_{code}>"


@dataclass(frozen=True)
class SidVocabulary:
    """Where the SID tokens lie in a tokenizer's vocabulary.

    Attributes:
        sizes: codes per level, the suffix level included if there is one.
        first_ids: vocabulary id of each level's code 0; the codes of a level follow each other.
    """

    sizes: tuple[int, ...]
    first_ids: tuple[int, ...]

    @staticmethod
    def tokens(sizes: list[int]) -> list[str]:
        """All SID tokens, level by level."""
        return [sid_token(level, code) for level, size in enumerate(sizes) for code in range(size)]

    @classmethod
    def add_to(cls, tokenizer: Any, sizes: list[int]) -> SidVocabulary:
        """Adds the SID tokens to a tokenizer that lacks them.

        Raises:
            UserError: if the tokenizer has tokens of these names already.
        """
        names = cls.tokens(sizes)
        vocabulary = tokenizer.get_vocab()
        taken = [name for name in names if name in vocabulary]
        if taken:
            raise UserError(f"the backbone's tokenizer has a token {taken[0]} already; dig needs it for Semantic IDs")
        # as they are: a normaliser that puts a mark before words would else hide a token that follows another at once
        tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])
        added = cls.of(tokenizer, sizes)
        added._require_whole(tokenizer)
        return added

    def _require_whole(self, tokenizer: Any) -> None:
        """Refuses a tokenizer that reads a SID token otherwise than as itself, before anything is trained with it."""
        names, ids = self.tokens(list(self.sizes)), self.ids.tolist()
        spelled = set(ids)
        for text, expected in [*((name, [each]) for name, each in zip(names, ids, strict=True)), *_joined(names, ids)]:
            read = tokenizer(text, add_special_tokens=False)["input_ids"]
            if [token for token in read if token in spelled] != expected:
                raise UserError(
                    f"the backbone's tokenizer ({type(tokenizer).__name__}) splits SID tokens: it reads {text!r} as "
                    f"{tokenizer.convert_ids_to_tokens(read)}; take a model with another tokenizer"
                )

    @classmethod
    def of(cls, tokenizer: Any, sizes: list[int]) -> SidVocabulary:
        """Finds the SID tokens in a tokenizer that has them.

        Raises:
            UserError: if one is missing or a level's tokens do not follow each other.
        """
        vocabulary = tokenizer.get_vocab()
        first_ids = []
        for level, size in enumerate(sizes):
            ids = [vocabulary.get(sid_token(level, code)) for code in range(size)]
            if ids[0] is None or ids != list(range(ids[0], ids[0] + size)):
                raise UserError(
                    f"the tokenizer does not hold the {size} SID tokens of level {level + 1} in order; "
                    "it belongs to other Semantic IDs"
                )
            first_ids.append(ids[0])
        return cls(tuple(sizes), tuple(first_ids))

    @property
    def ids(self) -> Tensor:
        """(tokens,) all SID token ids, level by level."""
        return torch.cat(
            [torch.arange(first, first + size) for first, size in zip(self.first_ids, self.sizes, strict=True)]
        )

    def encode(self, codes: Tensor) -> Tensor:
        """Vocabulary ids (items, levels) of codes (items, levels); -1 stays -1."""
        offsets = torch.tensor(self.first_ids[: codes.shape[1]])
        return torch.where(codes >= 0, codes + offsets, -1)


def _joined(names: list[str], ids: list[int]) -> list[tuple[str, list[int]]]:
    """Some tokens in a row as histories and sentences have them, and their ids."""
    some = [0, len(names) // 2, len(names) - 1]
    words, expected = [names[each] for each in some], [ids[each] for each in some]
    return [(joint.join(words), expected) for joint in ("", " ", ", ", "\n")] + [(f"is: {words[0]}", expected[:1])]


def spelled_ids(ids: SemanticIds, items: ItemsConfig) -> SemanticIds:
    """The table that prompts, trie and exported model go by.

    Where an item has a token of its own it is the last one, so that a small model can learn each item's company by
    itself, while the codes before it lead the search and share what similar items have in common.
    """
    if not items.own_token:
        return ids
    return ids.with_item_codes(ids.levels if items.codes is None else min(items.codes, ids.levels))


SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
_FILE = "tokenizer.json"
_SENTENCE = "A customer bought 12 items, and  reads: it's Ärger! The next one\n"


def scratch_words(sizes: Sequence[int]) -> list[str]:
    """The vocabulary of a backbone from scratch, in the order of its ids."""
    return [*SPECIALS, *TASK_TOKENS.values(), *SidVocabulary.tokens(list(sizes))]


def scratch_tokenizer(sizes: Sequence[int]) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that knows SID tokens only, with spaces between them or without."""
    names = scratch_words(sizes)
    words = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = PreTokenizers([WhitespaceSplit(), Split(Regex("<[^<>]+>"), "isolated")])
    special = {f"{name.strip('<>')}_token": name for name in SPECIALS}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)


def read_tokenizer(name: str | Path) -> tuple[Any, str | None]:
    """The tokenizer of a folder or a hub's repository, as its ``tokenizer.json`` is written.

    Args:
        name: folder or hub id.

    Returns:
        The tokenizer, and the class that AutoTokenizer would have put in its place and that reads words otherwise; None
        where it reads them alike, or there is no such file.

    Raises:
        OSError: it cannot be had; also ValueError and KeyError, as transformers has them.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        path = transformers.utils.cached_file(str(name), _FILE, _raise_exceptions_for_missing_entries=False)
        if path is None or _reads_alike(tokenizer, Tokenizer.from_file(str(path))):
            return tokenizer, None
        return transformers.PreTrainedTokenizerFast.from_pretrained(name, trust_remote_code=False), type(
            tokenizer
        ).__name__
    except (OSError, ValueError, KeyError):
        raise
    except BaseException as error:  # the library says everything by Exception itself, or by what Rust panics with
        if not isinstance(error, Exception) and "Panic" not in type(error).__name__:
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"its tokenizer is damaged ({reason})") from error


def save_tokenizer(tokenizer: Any, folder: Path, vocabulary: SidVocabulary) -> None:
    """Writes a tokenizer beside its model's ``config.json``, so that AutoTokenizer reads it as it is.

    Raises:
        UserError: AutoTokenizer reads SID tokens otherwise.
    """
    tokenizer.save_pretrained(folder)
    if _unlike(tokenizer, folder, vocabulary) is not None:
        read_as_written(folder)
    prove_tokenizer(tokenizer, folder, vocabulary)


def prove_tokenizer(tokenizer: Any, folder: Path, vocabulary: SidVocabulary) -> None:
    """Compares what AutoTokenizer reads in an exported folder with the tokenizer that was trained with.

    Raises:
        UserError: they differ, with the text and what became of it.
    """
    wrong = _unlike(tokenizer, folder, vocabulary)
    if wrong is not None:
        raise UserError(f"{folder}: {wrong}; what was trained would not be what plain transformers reads there")


def _unlike(tokenizer: Any, folder: Path, vocabulary: SidVocabulary) -> str | None:
    """What AutoTokenizer reads otherwise, in a line."""
    auto = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    names, ids = SidVocabulary.tokens(list(vocabulary.sizes)), vocabulary.ids.tolist()
    for name, expected, actual in zip(names, ids, auto(names, add_special_tokens=False)["input_ids"], strict=True):
        if expected not in actual or auto.convert_tokens_to_ids(name) != expected:
            return f"AutoTokenizer ({type(auto).__name__}) reads the token {name} as {actual}, not {[expected]}"
    ends = [name for name in (tokenizer.bos_token, tokenizer.eos_token) if name]
    some = [names[0], names[-1], names[len(names) // 2]]
    for text in (
        "".join(some),
        " ".join([*ends[:1], *some, *ends[-1:]]),
        _SENTENCE + f"{some[0]}{some[1]}, {some[2]}.",
    ):
        expected, actual = (reader(text, add_special_tokens=False)["input_ids"] for reader in (tokenizer, auto))
        if actual != expected:
            return f"AutoTokenizer ({type(auto).__name__}) reads {text!r} as {actual}, not {expected}"
    spelled = [ids[0], ids[-1]]
    text = auto.decode(spelled, skip_special_tokens=True)
    again = [token for token in auto(text, add_special_tokens=False)["input_ids"] if token in set(ids)]
    return None if again == spelled else f"AutoTokenizer ({type(auto).__name__}) spells {spelled} as {text!r}"


def _reads_alike(tokenizer: Any, written: Tokenizer) -> bool:
    """Whether a tokenizer splits words, and joins them, as the file does."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return True  # a class without a file of this kind behind it
    if type(backend.model) is not type(written.model):
        return False
    return all(
        backend.encode(text, add_special_tokens=False).ids == written.encode(text, add_special_tokens=False).ids
        for text in (_SENTENCE, _SENTENCE.upper(), "<a_0><b_0> <a_0>")
    )
