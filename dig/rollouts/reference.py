"""The policy that rollouts must not drift away from, without a second model in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dig.config.schema import REFERENCES
from dig.engine.lazy import peft

__all__ = ["AdapterOff", "HeldWeights", "Reference", "reference_policy"]


class Reference(Protocol):
    """A policy to compare with."""

    def active(self, model: nn.Module) -> Any:
        """Within this context the model is the reference."""

    def follow(self, model: nn.Module) -> None:
        """Called after every optimiser step."""


class AdapterOff:
    """The model without its adapter: no copy of any weight."""

    @contextmanager
    def active(self, model: peft.PeftModel) -> Iterator[None]:
        """The adapter is off."""
        with model.disable_adapter():
            yield

    def follow(self, model: nn.Module) -> None:
        """It never moves."""


class HeldWeights:
    """Copies of the weights that are trained, put into the model's place while they are asked.

    What is not trained is shared, so under LoRA this is as small as the adapter.

    Args:
        model: the policy as it is now.
        decay: moves the copies towards the policy: copy ← decay · copy + (1 - decay) · policy after every step; None
            leaves them where they are.
    """

    def __init__(self, model: nn.Module, decay: float | None = None) -> None:
        self.decay = decay
        self.weights = [parameter.detach().clone() for parameter in _trained(model)]

    @contextmanager
    def active(self, model: nn.Module) -> Iterator[None]:
        """The copies are in place; nothing that needs gradients may run."""
        trained = _trained(model)
        own = [parameter.data for parameter in trained]
        self.weights = [held.to(like.device, like.dtype) for held, like in zip(self.weights, own, strict=True)]
        try:
            for parameter, held in zip(trained, self.weights, strict=True):
                parameter.data = held
            yield
        finally:
            for parameter, like in zip(trained, own, strict=True):
                parameter.data = like

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Moves the copies, if they move."""
        if self.decay is not None:
            for held, parameter in zip(self.weights, _trained(model), strict=True):
                held.lerp_(parameter.data.to(held.device, held.dtype), 1.0 - self.decay)

    def state(self) -> list[Tensor]:
        """The copies, for a checkpoint."""
        return self.weights

    def restore(self, state: list[Tensor]) -> None:
        """Takes over the copies of a checkpoint."""
        self.weights = list(state)


def reference_policy(kind: str, model: nn.Module, decay: float) -> AdapterOff | HeldWeights:
    """The reference of a kind: ``adapter`` off, ``frozen`` copy, ``ema``, or ``auto``: the cheapest that never moves.

    Args:
        kind: one of ``REFERENCES``.
        model: the policy before training.
        decay: of ``ema``.

    Raises:
        ValueError: an unknown kind, or no adapter to switch off.
    """
    if kind not in REFERENCES:
        raise ValueError(f"the references are {', '.join(REFERENCES)}, not {kind!r}")
    if kind == "ema":
        return HeldWeights(model, decay)
    if isinstance(model, peft.PeftModel) and kind != "frozen":
        return AdapterOff()
    if kind == "adapter":
        raise ValueError("the model has no adapter to switch off")
    return HeldWeights(model)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
