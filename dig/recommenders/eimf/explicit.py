"""EIMF's explicit side: customers whose interests are known in words, and the heads that behaviour meets them with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.evaluation.rankers import padded_rows
from dig.interests.explicit import ExplicitInterests
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.interest_losses import Texts, alignment_loss, semantic_loss

__all__ = ["ExplicitHeads", "KnownUsers"]


class ExplicitHeads(nn.Module):
    """From interests of behaviour to where texts lie: a linear map that aligns, a small network that predicts.

    A head whose weight is 0 is not there.

    Args:
        config: weights, width, temperature.
        dim: of the texts' vectors.
    """

    def __init__(self, config: EIMFConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        width, weights = config.hidden_size, config.explicit_losses
        self.align = nn.Linear(width, dim) if "alignment" in weights else None
        self.predict = (
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim)) if "semantic" in weights else None
        )

    def losses(self, interests: Tensor, texts: Texts) -> dict[str, Tensor]:
        """Weighted losses by name of interests (users, K, width)."""
        losses = {}
        if self.predict is not None:
            predicted = F.normalize(self.predict(interests).float(), dim=-1)
            losses["semantic"] = self.config.semantic_weight * semantic_loss(predicted, texts)
        if self.align is not None:
            aligned = F.normalize(self.align(interests).float(), dim=-1)
            loss = alignment_loss(aligned, texts, self.config.temperature)
            losses["alignment"] = self.config.alignment_weight * loss
        return losses

    def idle(self) -> Tensor:
        """0, with every weight in its graph: ranks share the gradients of all weights from the first step on."""
        return 0.0 * torch.stack([weight.sum() for weight in self.parameters()]).sum()


@dataclass(frozen=True)
class KnownUsers:
    """Customers whose interests are known in words, and what they bought.

    Attributes:
        explicit: interests in words of all customers.
        vectors: (phrases, dim) float32 of the text encoder.
        users: (known,) rows of the customers; each has an interest.
    """

    explicit: ExplicitInterests
    vectors: Tensor
    users: np.ndarray

    @property
    def histories(self) -> list[np.ndarray]:
        """(known,) catalogue rows."""
        return [self.explicit.histories[user] for user in self.users]

    def only(self, users: np.ndarray) -> KnownUsers:
        """Those with the given rows."""
        return replace(self, users=users)

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def _rows(self) -> Tensor:
        return padded_rows(self.histories)

    @cached_property
    def _texts(self) -> tuple[Tensor, Tensor]:
        texts = self.explicit.texts(self.users)
        return torch.from_numpy(texts.phrases), torch.from_numpy(texts.shares)

    @cached_property
    def _directions(self) -> Tensor:
        """Vectors without what all phrases of a shop have in common, which leaves their cosines room to differ."""
        return F.normalize(self.vectors - self.vectors.mean(dim=0), dim=-1)

    def batch(self, places: Tensor, device: torch.device) -> tuple[Tensor, Texts]:
        """Histories (batch, length) of users, given by their places, and their interests in words."""
        phrases, shares = (values[places] for values in self._texts)
        users, columns = (phrases >= 0).nonzero(as_tuple=True)
        rows = phrases[users, columns]
        texts = Texts(*(each.to(device) for each in (users, rows, self._directions[rows], shares[users, columns])))
        histories = self._rows[places]
        longest = int((histories >= 0).sum(dim=1).max())
        return histories[:, :longest].to(device), texts
