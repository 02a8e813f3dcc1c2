"""What reward terms may know of items."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["KNOWLEDGE", "ItemKnowledge"]

KNOWLEDGE = ("codes", "quality", "interests", "vectors", "counts", "sequential")


class ItemKnowledge(nn.Module):
    """Facts about the catalogue, all in its order; what no term asks for may stay away.

    Nothing of it is trained or saved with a policy.

    Args:
        codes: (items, levels) codes without the collision suffix.
        quality: (items,) interest quality q in [0, 1].
        interests: (items, dim) vectors of the interests that are labelled positive, of length 1, 0 for an item without.
        vectors: (items, dim) vectors of the items' texts, of length 1.
        counts: (items,) how often an item occurs in the training part.
        sequential: a frozen model that gives (batch, items) log-probabilities of the next item from histories.
        item_ids: names for messages.
    """

    codes: Tensor | None
    quality: Tensor | None
    interests: Tensor | None
    vectors: Tensor | None
    counts: Tensor | None

    def __init__(
        self,
        codes: Tensor | None = None,
        quality: Tensor | None = None,
        interests: Tensor | None = None,
        vectors: Tensor | None = None,
        counts: Tensor | None = None,
        sequential: nn.Module | None = None,
        item_ids: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        facts = {"codes": codes, "quality": quality, "interests": interests, "vectors": vectors, "counts": counts}
        for name, fact in facts.items():
            self.register_buffer(name, fact, persistent=False)
        # In a list, so that it is no submodule: neither saved, nor optimised, nor wrapped by a strategy.
        self._sequential = [] if sequential is None else [sequential.eval().requires_grad_(requires_grad=False)]
        self._item_ids = item_ids

    @property
    def sequential(self) -> nn.Module | None:
        """The frozen sequential model, on the device of the rest."""
        if not self._sequential:
            return None
        facts = next(iter(self.buffers()), None)
        return self._sequential[0] if facts is None else self._sequential[0].to(facts.device)

    def has(self, name: str) -> bool:
        """Whether it is known."""
        return getattr(self, name) is not None

    def get(self, name: str) -> Tensor:
        """A fact.

        Raises:
            KeyError: it is not known.
        """
        found = getattr(self, name)
        if found is None:
            raise KeyError(f"the rewards were not told the items' {name}")
        return found

    def name_of(self, row: int) -> str:
        """An item in words."""
        if row < 0:
            return "a sequence that is no item"
        return f"item {self._item_ids[row]}" if self._item_ids is not None else f"item row {row}"
