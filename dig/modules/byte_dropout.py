"""Dropout that draws a byte for each value: on a CPU drawing, not multiplying, is what dropout costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ByteDropout", "replace_dropout"]

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
