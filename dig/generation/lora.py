"""Low-rank adapters around a backbone (peft), and the SID rows that are trained beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dig.config import UserError
from dig.config.schema import LoraConfig
from dig.engine.lazy import peft

__all__ = ["add_lora", "merge_lora", "save_adapter"]


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
    try:
        adapted = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=config.targets,
                trainable_token_indices=dict.fromkeys(_row_layers(model), new_rows) if new_rows else None,
                task_type="CAUSAL_LM",
            ),
        )
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
