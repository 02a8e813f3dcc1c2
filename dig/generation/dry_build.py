"""A backbone as its configuration alone tells it: built without memory, asked once, counted.

Before anything is computed this finds a configuration that transformers refuses, one that it takes and that breaks in
the first step, and a model that no memory here holds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException as DataDependent
from torch._subclasses.fake_tensor import DynamicOutputShapeException as DynamicShape
from torch._subclasses.fake_tensor import FakeTensorMode, UnsupportedFakeTensorException

from dig.config import UserError
from dig.config.schema import BackboneConfig
from dig.engine.lazy import transformers
from dig.generation.backbone import scratch_model
from dig.generation.vocabulary import scratch_words
from dig.pretrained import gguf_header

__all__ = ["count_parameters"]

_LENGTH = 5
"""Tokens that the model is asked about."""


def count_parameters(config: BackboneConfig, sizes: list[int], max_tokens: int) -> int | None:
    """Parameters of the backbone that would be built; None for a pretrained one that is not on this machine.

    Args:
        config: the backbone's.
        sizes: codes per level.
        max_tokens: longest prompt and answer.

    Raises:
        UserError: with exit code 2, if it cannot be built or breaks when it is asked.
    """
    if config.pretrained:
        return _of_pretrained(config.pretrained)
    try:
        with _without_memory():
            model = scratch_model(config, len(scratch_words(sizes)), max_tokens).eval()
            tokens = torch.zeros((1, min(_LENGTH, max_tokens)), dtype=torch.long)
            with suppress(DataDependent, DynamicShape, UnsupportedFakeTensorException):  # nothing wrong is known then
                model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
        if getattr(model.config, "num_hidden_layers", 1) == 0:
            raise ValueError("num_hidden_layers=0 leaves nothing that could read a history")
    except UserError:
        raise
    except Exception as error:  # transformers' and torch's, of any kind
        raise UserError(_told(config.config, error), exit_code=2) from None
    return _parameters(model)


def _of_pretrained(name: str) -> int | None:
    header = gguf_header(name, f"backbone.pretrained={name}")
    if header is not None:
        return header.parameters
    try:
        settings = transformers.AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        with _without_memory():
            return _parameters(transformers.AutoModelForCausalLM.from_config(settings, trust_remote_code=False))
    except Exception:  # whoever loads it has the right line for it
        return None


@contextmanager
def _without_memory() -> Iterator[None]:
    """Tensors have shapes and no content; what torch and transformers say to that is not for the user."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _told(keys: dict[str, Any], error: Exception) -> str:
    """The reason in a line, with the keys that it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = lines[-1].removeprefix("ValueError: ").removeprefix("TypeError: ")
    model_type = keys.get("model_type", "qwen2")
    sizes = [key for key in keys if key != "model_type"]
    named = [key for key in sizes if key in reason or key.replace("_", " ") in reason] or sizes
    hidden, heads = keys.get("hidden_size", 128), keys.get("num_attention_heads")
    if isinstance(heads, int) and isinstance(hidden, int) and (heads < 1 or hidden % heads) and "head_dim" not in keys:
        named = [key for key in ("hidden_size", "num_attention_heads") if key in keys]
        reason = f"hidden_size={hidden} cannot be cut into num_attention_heads={heads} ({reason})"
    shown = ", ".join(f"backbone.config.{key}={keys[key]}" for key in named)
    return f"{shown or 'backbone.config'}: no {model_type} that runs can be made of it: {reason}"
