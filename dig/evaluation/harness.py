"""The one evaluation that measures every recommender: same users, same order, full ranking, both protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dig.evaluation.measures import CatalogueFacts, accuracy_measures, all_measures
from dig.evaluation.rankers import Ranker, Ranking, rank_kept, rank_unseen
from dig.generation import NotFiniteError

__all__ = ["Evaluation", "Harness", "NotANumberError", "Protocol", "evaluate", "other_protocol"]

_TOGETHER = 4096  # examples that are measured at once


@dataclass(frozen=True)
class Protocol:
    """What is ranked.

    Attributes:
        name: of the metrics, such as ``test`` and ``test_masked``.
        unseen: leave the items of the history out of the ranking.
    """

    name: str
    unseen: bool


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found under one protocol.

    Attributes:
        metrics: ``hr@5`` and so on.
        ranked: (examples, depth) item rows, best first, -1 where a ranking ends early.
        scores: (examples, depth), -inf there.
    """

    metrics: dict[str, float]
    ranked: Tensor
    scores: Tensor


class NotANumberError(ValueError):
    """A recommender gave a score that is NaN.

    Args:
        example: the number of the first example.
    """

    def __init__(self, example: int) -> None:
        super().__init__(f"example {example} has a NaN score")
        self.example = example


class _Ranked(NamedTuple):
    """A batch that waits to be measured."""

    ranked: dict[str, Tensor]
    targets: np.ndarray
    histories: list[np.ndarray]
    candidates: np.ndarray | None


class Harness(nn.Module):
    """Ranks batches of examples under one protocol or both, and keeps the measures.

    Args:
        ranker: what is measured.
        protocols: what to rank; a ranker that knows both at once is asked once.
        ks: cut-offs.
        depth: length of the rankings that are kept, at least the largest cut-off.
        facts: of the catalogue, for what is measured beyond accuracy; None measures accuracy alone.

    Raises:
        ValueError: the rankings would be too short for a cut-off.
    """

    def __init__(
        self,
        ranker: Ranker,
        protocols: Sequence[Protocol],
        ks: Sequence[int],
        depth: int,
        facts: CatalogueFacts | None = None,
    ) -> None:
        super().__init__()
        if depth < max(ks):
            raise ValueError(f"rankings of {depth} items cannot give a metric at {max(ks)}")
        self.ranker, self.protocols, self.depth = ranker, tuple(protocols), depth
        self.beyond = facts is not None
        make = (lambda: all_measures(ks, facts)) if facts is not None else (lambda: accuracy_measures(ks))
        self.measures = nn.ModuleDict({protocol.name: make() for protocol in self.protocols})
        self._waiting: list[_Ranked] = []

    def step(
        self,
        examples: np.ndarray,
        histories: Sequence[np.ndarray],
        targets: np.ndarray,
        candidates: np.ndarray | None = None,
    ) -> dict[str, Ranking]:
        """Ranks a batch, measures it, and gives the rankings by protocol, on the CPU.

        Args:
            examples: (batch,) their numbers, for messages.
            histories: (batch,) catalogue rows, oldest first.
            targets: (batch,) int64 catalogue rows.
            candidates: (batch, any) one-hop candidates, -1 where there are fewer; accuracy alone needs none.

        Raises:
            NotANumberError: a score is NaN, with the number of the example.
        """
        try:
            rankings = self._rank(histories)
        except NotFiniteError as error:
            raise NotANumberError(int(examples[error.rows[0]])) from error
        for _, scores in rankings.values():
            nan = torch.isnan(scores).any(dim=1)
            if nan.any():
                raise NotANumberError(int(examples[int(nan.nonzero()[0])]))
        ranked = {name: items for name, (items, _) in rankings.items()}
        self._waiting.append(_Ranked(ranked, np.asarray(targets), list(histories), candidates))
        if sum(len(each.targets) for each in self._waiting) >= _TOGETHER:
            self._measure()
        return rankings

    def to_device(self, device: torch.device) -> None:
        """Moves what was counted, where ranks add up on a device; the ranker stays."""
        self.measures.to(device)

    def compute(self) -> dict[str, dict[str, float]]:
        """The metrics by protocol, of all ranks where there are several."""
        self._measure()
        return {
            name: {key: float(value) for key, value in measures.compute().items()}  # type: ignore[operator]
            for name, measures in self.measures.items()
        }

    def _measure(self) -> None:
        """Updates the measures with what is waiting; few large updates cost far less than many small ones."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        asked = {"targets": torch.from_numpy(np.concatenate([each.targets for each in waiting]))}
        candidates = [each.candidates for each in waiting if each.candidates is not None]
        if self.beyond and candidates:
            bought = np.concatenate([history for each in waiting for history in each.histories])
            asked |= {"bought": torch.from_numpy(bought), "candidates": torch.from_numpy(np.concatenate(candidates))}
        for name, measures in self.measures.items():
            ranked = torch.cat([each.ranked[name] for each in waiting])
            device = next(iter(measures.values())).device  # type: ignore[operator]
            arguments = {key: value.to(device) for key, value in ({"ranked": ranked} | asked).items()}
            measures.update(**arguments)  # type: ignore[operator]

    def _rank(self, histories: Sequence[np.ndarray]) -> dict[str, Ranking]:
        if len(self.protocols) == 2 and hasattr(self.ranker, "rank_both"):
            unmasked, unseen = self.ranker.rank_both(histories, self.depth)
            rankings = {protocol.name: unseen if protocol.unseen else unmasked for protocol in self.protocols}
        else:
            rankings = {
                protocol.name: (rank_unseen if protocol.unseen else rank_kept)(self.ranker, histories, self.depth)
                for protocol in self.protocols
            }
        return {name: (ranked.cpu(), scores.float().cpu()) for name, (ranked, scores) in rankings.items()}


def other_protocol(name: str, mask_history: bool) -> Protocol:
    """The protocol that the configuration did not ask for: with histories if they are masked, without if not."""
    return Protocol(f"{name}_unmasked", unseen=False) if mask_history else Protocol(f"{name}_masked", unseen=True)


def evaluate(
    ranker: Ranker,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    ks: Sequence[int],
    depth: int | None = None,
    batch_size: int = 256,
    mask_history: bool = False,
) -> Evaluation:
    """Measures any ranker in this process, without a run: what a notebook needs.

    Args:
        ranker: what is measured.
        histories: (examples,) catalogue rows.
        targets: (examples,) catalogue rows.
        ks: cut-offs.
        depth: length of the rankings that are kept; None takes the largest cut-off.
        batch_size: examples per batch.
        mask_history: leave items of the history out.

    Raises:
        ValueError: there are no examples, a score is NaN, or the rankings are shorter than a cut-off.
    """
    if len(histories) == 0:
        raise ValueError("there are no examples to evaluate")
    harness = Harness(ranker, [Protocol("test", mask_history)], ks, max(ks) if depth is None else depth)
    rankings = []
    for start in range(0, len(histories), batch_size):
        part = slice(start, start + batch_size)
        rankings.append(harness.step(np.arange(len(histories))[part], histories[part], targets[part])["test"])
    ranked, scores = (torch.cat(each) for each in zip(*rankings, strict=True))
    return Evaluation(harness.compute()["test"], ranked, scores)
