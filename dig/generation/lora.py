"""Low-rank adapters around a backbone (peft), the SID rows that are trained beside them, and what they stand on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dig.config import UserError
from dig.config.schema import LoraConfig
from dig.engine.lazy import peft

__all__ = ["FrozenBase", "add_lora", "base_digest", "frozen_base", "frozen_names", "merge_lora", "save_adapter"]

_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Keys of a configuration that tell where a model came from, and not what it computes."""


@dataclass(frozen=True)
class FrozenBase:
    """A model that adapters stand on and that is not trained, so that a checkpoint need not hold it.

    Attributes:
        source: the name, folder or file that it was loaded from.
        digest: SHA-256 of its weights and its configuration, wherever it lies.
        new_rows: embedding rows that are trained beside the adapters, which are not part of it.
    """

    source: str
    digest: str
    new_rows: tuple[int, ...] = ()


def frozen_base(model: nn.Module, source: str, new_rows: Sequence[int] = ()) -> FrozenBase:
    """What the adapters around a model stand on.

    Args:
        model: as :func:`add_lora` gives it.
        source: where its frozen weights were loaded from.
        new_rows: as of :func:`add_lora`.
    """
    return FrozenBase(source, base_digest(model, model.state_dict(), new_rows), tuple(new_rows))


def frozen_names(model: nn.Module) -> list[str]:
    """Names of the weights in a model's state that are not trained, both names of a weight that two layers share."""
    state = model.state_dict(keep_vars=True)
    return [name for name, value in state.items() if isinstance(value, nn.Parameter) and not value.requires_grad]


def base_digest(model: Any, state: Mapping[str, Tensor], new_rows: Sequence[int]) -> str:
    """SHA-256 of the weights that are not trained, without the rows that are, and of the model's configuration.

    Args:
        model: with adapters.
        state: its weights by name, from the model or from a checkpoint of it.
        new_rows: embedding rows that are trained beside the adapters.
    """
    settings = {key: value for key, value in model.config.to_dict().items() if key not in _NOT_OF_THE_MODEL}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = {id(_base_layer(layer).weight) for layer in layers if layer is not None}
    rows = torch.tensor(new_rows, dtype=torch.int64)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            continue
        value = state[name].detach().cpu()
        if len(rows) and id(parameter) in tables:
            kept = torch.ones(len(value), dtype=torch.bool)
            kept[rows] = False
            value = value[kept]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def add_lora(model: nn.Module, config: LoraConfig, new_rows: list[int] | None = None) -> peft.PeftModel:
    """Puts adapters around a model.

    Args:
        model: a causal language model.
        config: rank, scale, dropout and the modules that get an adapter.
        new_rows: embedding rows (the SID tokens) that are trained themselves, by peft's ``trainable_token_indices``;
            where the output layer has weights of its own, its rows are trained, too.

    Raises:
        UserError: if no module has a name among ``backbone.lora.targets``.
    """
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets,
        trainable_token_indices=dict.fromkeys(_row_layers(model), new_rows) if new_rows else None,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # peft's own constructor asks transformers 5 by the name that it had before, and gets the same answer
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            adapted = peft.get_peft_model(model, settings)
    except ValueError as error:
        names = sorted({name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if _adaptable(layer)})
        raise UserError(
            f"backbone.lora.targets={config.targets}: {str(error).splitlines()[0]} The model has: {', '.join(names)}"
        ) from None
    for layer in adapted.modules():
        if (
            isinstance(layer, peft.tuners.trainable_tokens.TrainableTokensLayer)
            and getattr(layer.base_layer, "bias", None) is not None
        ):
            layer.register_forward_hook(_with_bias)
    return adapted


def merge_lora(model: nn.Module) -> Any:
    """The model with its adapters folded into the weights; a model without adapters as it is."""
    return model.merge_and_unload() if isinstance(model, peft.PeftModel) else model


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Writes the adapters and the trained SID rows alone (safetensors), as peft loads them; no model, no file."""
    if isinstance(model, peft.PeftModel):
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)


def _base_layer(layer: Any) -> Any:
    """The layer of the model itself under what peft puts around it."""
    layer = getattr(layer, "token_adapter", layer)
    return getattr(layer, "base_layer", layer)


def _row_layers(model: Any) -> list[str]:
    """Names of the layers with a row for each token: the embedding, and the output layer unless they share weights."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    tied = output is None or output.weight is embedding.weight
    return [name for name, layer in model.named_modules() if layer is embedding or (layer is output and not tied)]


def _with_bias(layer: peft.tuners.trainable_tokens.TrainableTokensLayer, _: Any, output: Tensor) -> Tensor:
    """Adds the bias of an output layer, which peft leaves out where rows of it are trained."""
    as_base = layer.disable_adapters or layer.merged or not layer.active_adapters
    return output if as_base else output + layer.base_layer.bias


def _adaptable(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"
