"""The first steps of a pretrained backbone: the rows of its new tokens learn alone, so that it does not unlearn."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

__all__ = ["keep_new_rows_alone"]


def keep_new_rows_alone(model: nn.Module, new_rows: Tensor) -> None:
    """Takes away the gradients of everything but the new rows, between backward and the optimiser's step.

    A weight without a gradient is left alone by AdamW, weight decay and moments included. In the embedding, where old
    and new rows share a weight, the old rows' gradients become 0; the embedding has no weight decay for a pretrained
    backbone, so they stay where they are.

    Args:
        model: a causal language model; with adapters, the new rows are parameters of their own.
        new_rows: (tokens,) ids of the new tokens.
    """
    if isinstance(model, PeftModel):
        for name, parameter in model.named_parameters():
            if "trainable_tokens" not in name:
                parameter.grad = None
        return
    causal: Any = model
    tables = {id(layer.weight) for layer in (causal.get_input_embeddings(), causal.get_output_embeddings()) if layer}
    for parameter in model.parameters():
        if id(parameter) not in tables:
            parameter.grad = None
        elif parameter.grad is not None:
            kept = torch.zeros(len(parameter), dtype=torch.bool, device=parameter.device)
            kept[new_rows.to(parameter.device)] = True
            parameter.grad[~kept] = 0.0
