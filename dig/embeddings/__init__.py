"""From items to vectors: the text of an item, and the encoders that read it.

The names below are handed on lazily, so that planning a run (fingerprints) does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dig.engine.lazy import lazy_names

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

__getattr__ = lazy_names(
    __name__,
    {
        "TextEncoder": "text",
        "compose_texts": "compose",
        "count_empty": "compose",
        "encoder_fingerprint": "locate",
        "load_text_encoder": "text",
        "locate_encoder": "locate",
    },
)
