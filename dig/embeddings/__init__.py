"""From items to vectors: the text of an item, and the encoders that read it.

The names below are handed on lazily, so that planning a run (fingerprints) does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dig.embeddings.compose import compose_texts, count_empty
    from dig.embeddings.locate import encoder_fingerprint, locate_encoder
    from dig.embeddings.text import TextEncoder, load_text_encoder

__all__ = [
    "TextEncoder",
    "compose_texts",
    "count_empty",
    "encoder_fingerprint",
    "load_text_encoder",
    "locate_encoder",
]

_HOMES = {
    "TextEncoder": "dig.embeddings.text",
    "compose_texts": "dig.embeddings.compose",
    "count_empty": "dig.embeddings.compose",
    "encoder_fingerprint": "dig.embeddings.locate",
    "load_text_encoder": "dig.embeddings.text",
    "locate_encoder": "dig.embeddings.locate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
