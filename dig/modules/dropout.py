"""Dropout for architectures that have none of their own, which a small model on a small catalogue needs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.config import UserError
from dig.generation.tree_paths import without_adapters

__all__ = [
    "add_dropout",
    "ByteDropout",
    "replace_dropout",
]


def add_dropout(model: nn.Module, probability: float) -> int:
    """Drops from the token embeddings and from what each attention and feed-forward block adds (Vaswani et al. 2017).

    It comes on top of what the architecture has (GPT-2's, say), lives in hooks, so that neither weights nor the saved
    model know of it, and is off in evaluation.

    Args:
        model: a causal language model, bare or with adapters.
        probability: of a component being dropped; 0 changes nothing.

    Returns:
        How many places drop.

    Raises:
        UserError: if no block was found.
    """
    if not probability:
        return 0
    causal = without_adapters(model)
    blocks = [
        block
        for layers in causal.base_model.children()
        if isinstance(layers, nn.ModuleList)
        for layer in layers
        for block in layer.children()
        if _adds_to_the_stream(block)
    ]
    if not blocks:
        raise UserError(
            f"sft.dropout={probability}: {causal.config.model_type} has no attention or feed-forward blocks that dig "
            "knows to find; use sft.dropout=0",
            exit_code=2,
        )
    for place in (causal.get_input_embeddings(), *blocks):
        place.register_forward_hook(_hook(probability))
    return 1 + len(blocks)


def _adds_to_the_stream(block: nn.Module) -> bool:
    name = type(block).__name__.lower()
    return any(part in name for part in ("attention", "mlp", "feedforward", "moe", "mixer", "deltanet", "shortconv"))


def _hook(probability: float) -> Any:
    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, Tensor):
            return F.dropout(output, probability)
        return (F.dropout(output[0], probability), *output[1:])

    return drop


_STEPS = 256


class ByteDropout(nn.Module):
    """Drops values with a probability rounded to 256ths, and scales the others so that the mean stays.

    Args:
        probability: of a value being dropped.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.dropped = min(round(probability * _STEPS), _STEPS - 1)

    def forward(self, values: Tensor) -> Tensor:
        """The same shape; in evaluation the values themselves."""
        if not self.training or not self.dropped:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, self.probability)
        words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: values.numel()].view(values.shape)
        return values * (drawn >= self.dropped).to(values.dtype).mul_(_STEPS / (_STEPS - self.dropped))

    def extra_repr(self) -> str:
        """The probability."""
        return f"probability={self.probability}"


def replace_dropout(model: nn.Module) -> None:
    """Puts ByteDropout in the place of every ``nn.Dropout`` of a model; the saved model knows nothing of it."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, ByteDropout(child.p))
