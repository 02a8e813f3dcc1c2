"""How a GGUF's tokenizer splits text before it merges letters, by the name that llama.cpp keeps for it.

A GGUF says this by a name alone (``tokenizer.ggml.pre``), and what is behind a name stands in llama.cpp's code
(``llama-vocab.cpp``). A tokenizer that splits otherwise than in training still reads everything, into other tokens.
"""

from __future__ import annotations

from typing import Any

from dig.received.gguf import GgufHeader

__all__ = ["mend_splitting"]

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{{ending}}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{{ending}}"
    rf"|{{digits}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_TEKKEN = _CASED.replace("{ending}", "").replace("{digits}", r"\p{N}")
_GPT4O = _CASED.replace("{ending}", f"{_ENDINGS}?").replace("{digits}", r"\p{N}{1,3}")
_SPLITS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("gpt-2", "phi-2", "mpt", "olmo", "jais", "roberta-bpe", "jina-v1-en", "jina-v2-code", "gigachat"): (_WORDS,),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"): (r"\p{N}", _WORDS),
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "dbrx", "smaug-bpe"): (
        _LLAMA3,
    ),
    ("glm4", "chatglm-bpe"): (_LLAMA3,),
    ("qwen2", "stablelm2", "hunyuan", "deepseek-r1-qwen", "megrez", "kormo"): (_QWEN2,),
    ("tekken",): (_TEKKEN,),
    ("gpt-4o", "llama4", "kanana2"): (_GPT4O,),
}
"""Expressions by the names under which llama.cpp has them; each one cuts what those before it have left."""
_BY_NAME = {name: splits for names, splits in _SPLITS.items() for name in names}


def mend_splitting(tokenizer: Any, header: GgufHeader) -> str | None:
    """Lets a tokenizer that was read from a GGUF split words as the file names it.

    Args:
        tokenizer: of transformers, with a backend of tokenizers; it is changed.
        header: of the file.

    Returns:
        What is not known of the splitting, in words; None where it is known.
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    if header.text("tokenizer.ggml.model") != "gpt2":  # SentencePiece and others keep white space, and split nothing
        return None
    name = header.text("tokenizer.ggml.pre")
    if name not in _BY_NAME:
        named = f"{name!r} is not known" if name else "the file does not name it"
        return f"how its tokenizer splits words ({named}; tokenizer.ggml.pre)"
    steps = [Split(Regex(expression), "isolated") for expression in _BY_NAME[name]]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence([*steps, ByteLevel(add_prefix_space=False, use_regex=False)])
    return None
