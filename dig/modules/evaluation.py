"""EvaluationModule: the harness as a LightningModule, so that ``Trainer.test`` spreads users over devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning
import numpy as np
import torch
from torch import Tensor

from dig.evaluation.harness import Evaluation, Harness, NotANumberError

if TYPE_CHECKING:
    from datamodules.examples import ExampleBatch

__all__ = ["EvaluationModule"]

_FINE = torch.iinfo(torch.int64).max


class EvaluationModule(lightning.LightningModule):
    """Ranks every example on one rank; :meth:`collect` adds up metrics and gathers rankings.

    Args:
        harness: ranker and measures.
        examples: how many examples there are on all ranks.
    """

    def __init__(self, harness: Harness, examples: int) -> None:
        super().__init__()
        self.harness = harness
        self.examples = examples
        self._broken = _FINE
        self._forget()

    def transfer_batch_to_device(self, batch: ExampleBatch, device: torch.device, dataloader_idx: int) -> ExampleBatch:
        """Histories stay where they are; rankers move what they need."""
        return batch

    def on_test_start(self) -> None:
        """Begins anew, with the ranker on this rank's device."""
        self._forget()
        move = getattr(self.harness.ranker, "to", None)
        if move is not None:
            move(self.device)

    def test_step(self, batch: ExampleBatch) -> None:
        """Ranks and measures; nothing any more after a score that is not a number, which :meth:`collect` tells."""
        if self._broken != _FINE:
            return
        try:
            rankings = self.harness.step(batch.examples, batch.histories, batch.targets, batch.candidates)
        except NotANumberError as error:  # the other ranks continue, and all meet in collect
            self._broken = error.example
            return
        self._rows.append(batch.examples)
        for name, ranking in rankings.items():
            self._rankings[name].append(ranking)

    def collect(self) -> dict[str, Evaluation]:
        """What was found, by protocol: the same on every rank as one process would have found.

        To be called on all ranks after ``Trainer.test``, and not by one of its hooks: on a rank that got no example
        Lightning calls none.

        Raises:
            NotANumberError: on all ranks, a score of any of them is NaN.
        """
        device = self.trainer.strategy.root_device  # the strategy has moved this module away from it by now
        broken = self._everywhere(torch.tensor(self._broken, device=device)).min().item()
        if broken != _FINE:
            raise NotANumberError(int(broken))
        self.harness.to_device(device)
        rows = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *self._rows]))
        metrics, evaluations, depth = self.harness.compute(), {}, self.harness.depth
        for name, parts in self._rankings.items():
            ranked = torch.cat([torch.empty(0, depth, dtype=torch.int64), *(ranked for ranked, _ in parts)])
            scores = torch.cat([torch.empty(0, depth), *(scores for _, scores in parts)])
            evaluations[name] = Evaluation(metrics[name], self._gather(rows, ranked), self._gather(rows, scores))
        return evaluations

    def _forget(self) -> None:
        self._broken = _FINE
        self._rows: list[np.ndarray] = []
        self._rankings: dict[str, list[tuple[Tensor, Tensor]]] = {
            protocol.name: [] for protocol in self.harness.protocols
        }

    def _everywhere(self, values: Tensor) -> Tensor:
        """(ranks, …) the values of all ranks; of one alone as they are."""
        return torch.as_tensor(self.all_gather(values)) if self.trainer.world_size > 1 else values

    def _gather(self, rows: Tensor, values: Tensor) -> Tensor:
        """All ranks' rows at their places."""
        parts = [(rows, values)]
        if self.trainer.world_size > 1:
            most = -(-self.examples // self.trainer.world_size)  # ranks may differ by one
            padded = values.new_zeros(most, *values.shape[1:])
            padded[: len(values)] = values
            numbers = rows.new_full((most,), -1)
            numbers[: len(rows)] = rows
            device = self.trainer.strategy.root_device
            gathered = [self._everywhere(each.to(device)).cpu() for each in (numbers, padded)]
            parts = list(zip(*gathered, strict=True))
        placed = values.new_zeros(self.examples, *values.shape[1:])
        for numbers, each in parts:
            placed[numbers[numbers >= 0]] = each[numbers >= 0]
        return placed
