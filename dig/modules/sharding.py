"""Fully sharded training (FSDP2) of a language model that is called by its parts: each rank holds a share of it.

Losses here do not call a model as a whole: prompts, trees of paths and rows of the output layer are asked for one by
one. So a root around the model gathers what does not belong to a layer while a given function runs, and the layers
gather themselves. Beam search, rollouts and references run on gathered weights, without collective calls in between:
ranks may then take different numbers of steps, and a rollout does not gather the weights anew for every token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from dig.generation.tree_paths import without_adapters

__all__ = ["ShardedModel"]


class _Root(nn.Module):
    """Holds the model, and runs a function on it as a forward pass of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class ShardedModel:
    """A causal language model whose weights are shared out over the ranks of a mesh.

    Args:
        model: the model, bare or with adapters; its parameters become DTensors in place.
        mesh: one dimension, the ranks.
        keep_plain: keep an unsharded copy of the model on the CPU, for :meth:`whole`.
    """

    def __init__(self, model: nn.Module, mesh: DeviceMesh, keep_plain: bool) -> None:
        self._plain = copy.deepcopy(model).cpu() if keep_plain else None
        for layer in _layers(model):
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        self._root = _Root(model)
        fully_shard(self._root, mesh=mesh, reshard_after_forward=True)
        self._gathered = 0
        self._started = False

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a differentiable function that asks parts of the model; its loss is its result, or in a tuple of it."""
        self._start()
        return self._root(function, *arguments)

    @contextmanager
    def gathered(self) -> Generator[None]:
        """Every rank holds all weights, and no call is collective; nothing may be trained within."""
        self.gather()
        try:
            yield
        finally:
            self.scatter()

    def gather(self) -> None:
        """Begins such a time; it may be begun within itself."""
        self._start()
        self._gathered += 1
        if self._gathered == 1:
            for part in self._parts():
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()

    def scatter(self) -> None:
        """Ends it."""
        self._gathered -= 1
        if self._gathered == 0:
            for part in self._parts():
                part.reshard()
                part.set_reshard_after_forward(True, recurse=False)

    def whole(self, state: dict[str, Tensor], prefix: str) -> nn.Module:
        """The model as it was before, with the given weights.

        Args:
            state: full weights, their names behind ``prefix``; those that are not trained may be left out.
            prefix: of the model's names.

        Raises:
            RuntimeError: no plain copy was kept, or the weights are another model's.
        """
        if self._plain is None:
            raise RuntimeError("no plain copy of the model was kept on this rank")
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        trained = {name for name, parameter in self._plain.named_parameters() if parameter.requires_grad}
        missing, unexpected = self._plain.load_state_dict(own, strict=False)
        if unexpected or trained & set(missing):
            raise RuntimeError(f"the weights are another model's: {[*unexpected, *sorted(trained & set(missing))][:3]}")
        return self._plain

    def _start(self) -> None:
        """FSDP takes what runs first for the root, and a layer may come before it."""
        if not self._started:
            self._started = True
            with torch.no_grad():
                self._root(lambda: None)

    def _parts(self) -> Iterator[FSDPModule]:
        return (module for module in self._root.modules() if isinstance(module, FSDPModule))


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The transformer's layers, which are gathered one at a time."""
    causal = without_adapters(model)
    return (layer for layers in causal.base_model.children() if isinstance(layers, nn.ModuleList) for layer in layers)
