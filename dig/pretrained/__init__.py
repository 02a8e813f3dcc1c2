"""Pretrained language models by name: packages, GGUF files, folders and the hub, as folders that transformers loads.

:func:`resolve_model` is what everybody asks who loads a model that a configuration names. Neither torch nor
transformers is imported before a file has to be turned into a folder.
"""

from dig.pretrained.memory import check_memory, stored_bytes
from dig.pretrained.names import (
    PACKAGED,
    PackagedModel,
    check_model,
    gguf_header,
    model_identity,
    resolve_model,
)
from dig.pretrained.tokens import breaking, meaningful_tokens, read_as_written

__all__ = [
    "PACKAGED",
    "PackagedModel",
    "breaking",
    "check_memory",
    "check_model",
    "gguf_header",
    "meaningful_tokens",
    "read_as_written",
    "model_identity",
    "resolve_model",
    "stored_bytes",
]
