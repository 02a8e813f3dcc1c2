"""Model folders of transformers that may come from anybody: what they would make is known before it is made.

Code that comes with a model is never run, and nobody is asked whether to: ``trust_remote_code=False`` is said wherever
transformers is called. A folder's ``config.json`` is held against the headers of its weights first, since the sizes in
it decide what memory is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dig.config.documents import read_json_mapping
from dig.config.errors import UserError, nearest
from dig.received.weights import TensorHeader, weights_header

__all__ = ["check_model_config", "check_model_folder", "check_model_type", "check_vocabulary", "folder_headers"]

_CONFIG, _INDEX, _WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
_ADAPTER = "adapter_config.json"
_CONFIG_BYTES, _INDEX_BYTES = 4 << 20, 32 << 20
_SPARE = 4
"""Times the numbers in its files that a model may have; what files lack in earnest is named once it is loaded."""
_BUFFERS = 2 << 30
"""Bytes of what a model computes for itself, such as masks and positions."""
_REPEATED = re.compile(r"layer|block|depth|expert|stage")
_CHOOSES = {
    "attn_implementation": ("eager", "sdpa", "flex_attention"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
    "quantization_config": (),
    "compression_config": (),
    "distributed_config": (),
    "fusion_config": (),
    "transformers_weights": (),
}
"""Keys that choose what code computes a model, or which file its weights are, with what transformers has of itself; by
any other name it would fetch code. dig writes none of them."""
_MOST = 1000
"""Largest number in a key of that kind: a model of a million layers takes hours even without memory."""


def check_model_folder(folder: Path, auto: Any, kinds: tuple[str, ...] = ()) -> Any:
    """Holds what a folder says of its model against its weights.

    Args:
        folder: with ``config.json`` and weights in safetensors.
        auto: the class of transformers that makes the model of a configuration, without memory, by ``from_config`` or
            ``_from_config``.
        kinds: the ``model_type`` that it may have; empty for any.

    Returns:
        The configuration as transformers reads it.

    Raises:
        UserError: the folder's files are missing, damaged or not what they should be; the model is of a type that
            transformers does not have; or it would have other sizes than the weights.
    """
    import torch
    from transformers import AutoConfig

    path = folder / _CONFIG
    content = check_model_config(path)
    if (folder / _ADAPTER).exists():
        raise UserError(f"{folder} holds {_ADAPTER}, whose base model lies elsewhere; a model is saved as a whole")
    if kinds and content["model_type"] not in kinds:
        raise UserError(f"{path}: it is of a {content['model_type']}, and this stage writes a {kinds[0]}")
    stored = sum(math.prod(tensor.shape) for tensor in folder_headers(folder).values())
    make = getattr(auto, "from_config", None) or auto._from_config
    try:
        settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = make(settings)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    except Exception as error:  # whatever an architecture's code says to values that it does not expect
        raise UserError(f"{path} makes no model: {_first_line(error)}") from None
    if parameters > _SPARE * stored + _MOST or buffers > _BUFFERS:
        raise UserError(
            f"{path} makes a model of {parameters:,} parameters and {buffers:,} bytes beside them, and the "
            f"weights beside it are {stored:,}; is it of another model?"
        )
    return settings


def check_model_config(path: Path) -> dict[str, Any]:
    """What a ``config.json`` holds, once it names a model of transformers, no code and no millions of layers.

    Args:
        path: the file.

    Raises:
        UserError: it is not such a file.
    """
    content = read_json_mapping(path, _CONFIG_BYTES)
    check_model_type(path, content)
    _check_counts(path, content)
    _check_choices(path, content)
    return content


def check_model_type(path: Path, content: Mapping[str, Any]) -> None:
    """Refuses a model that transformers does not have.

    Args:
        path: the ``config.json``.
        content: what it holds.

    Raises:
        UserError: its type is missing, or unknown.
    """
    from transformers import CONFIG_MAPPING

    kind = content.get("model_type")
    if not isinstance(kind, str):
        raise UserError(f"{path}: model_type is missing, so what model it is of is not known")
    if kind not in CONFIG_MAPPING:
        hint = nearest(kind, CONFIG_MAPPING)
        own = "; it names code of its own, and that is never run" if content.get("auto_map") else ""
        raise UserError(
            f"{path}: transformers has no model_type {kind[:60]!r}{own}"
            + (f"; did you mean {hint}?" if hint and not own else "")
        )


def check_vocabulary(folder: Path, model: Any, largest: int, tokenizer: Any = None) -> None:
    """Refuses a model that lacks the row of a token by which items are spelled, or of any that its tokenizer gives.

    Args:
        folder: where the model lies, for the message.
        model: of transformers.
        largest: id of the last such token.
        tokenizer: that lies beside the model, if one does.

    Raises:
        UserError: its embedding is shorter.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if largest >= rows:
        raise UserError(
            f"{folder}: the model has {rows:,} tokens, and items are spelled with token {largest:,}; "
            "it belongs to other Semantic IDs"
        )
    for token, number in ({} if tokenizer is None else tokenizer.get_vocab()).items():
        if number >= rows:
            raise UserError(
                f"{folder}: its tokenizer numbers {token[:60]!r} {number:,}, and the model has {rows:,} "
                "tokens; they are not of one run"
            )


def folder_headers(folder: Path) -> dict[str, TensorHeader]:
    """What the weights of a folder hold, by name, of all their files.

    Raises:
        UserError: one is missing or damaged, or the index names a file elsewhere.
    """
    index = folder / _INDEX
    if (folder / _WEIGHTS).exists() or not index.is_file():
        return weights_header(folder / _WEIGHTS)
    shards = read_json_mapping(index, _INDEX_BYTES).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index}: weight_map does not say which file each tensor is in")
    headers: dict[str, TensorHeader] = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{index}: {name[:80]!r} is not a file of weights beside it")
        headers |= weights_header(folder / name)
    return headers


def _check_counts(path: Path, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, dict):
            _check_counts(path, value)
        elif _REPEATED.search(key) and isinstance(value, int) and value > _MOST:
            raise UserError(f"{path}: {key} is {value:,}, more than {_MOST:,}")


def _check_choices(path: Path, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        name = key.lstrip("_").removesuffix("_internal")
        if name in _CHOOSES and value is not None and not (isinstance(value, str) and value in _CHOOSES[name]):
            raise UserError(
                f"{path}: {key} is {str(value)[:60]!r}; a received model chooses neither code nor files, "
                "so remove the key"
            )
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                _check_choices(path, each)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
