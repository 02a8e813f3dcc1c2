"""The catalogue as a trie over vocabulary ids, in flat tensors: every path from the root to a leaf is one item.

Nodes are numbered breadth first over the sorted catalogue, so the children of a node are neighbours and the whole
structure is two numbers a node (the CSR idea of STATIC, arXiv 2602.22647).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CatalogueTrie"]


class CatalogueTrie(nn.Module):
    """Prefix tree of the catalogue's token sequences.

    Args:
        token_sequences: (items, levels) vocabulary ids; -1 pads a missing suffix at the end of a row.
        twins: allow items with the same sequence; the first stands for all of them, see :meth:`with_twins`.

    Attributes:
        tokens: (nodes,) vocabulary id that leads to a node; -1 for the root, node 0.
        first_child: (nodes,) the first child; the children follow each other.
        num_children: (nodes,) 0 for a leaf.
        node_items: (nodes,) the item's row at a leaf (of twins the first), else -1.
        leaders: (items,) the item that stands for an item at its leaf: itself, where it has no twin.
        paths: (items, levels) node after each level, -1 where the item has ended.
        vocabulary: (tokens,) sorted vocabulary ids that occur.
        slots: (nodes,) position of a node's token in ``vocabulary``.
        max_children: the largest number of children at each depth.

    Raises:
        ValueError: for an empty catalogue, a gap before a suffix, two items with one sequence (unless ``twins``), or an
            item whose sequence begins another's.
    """

    tokens: Tensor
    first_child: Tensor
    num_children: Tensor
    node_items: Tensor
    paths: Tensor
    vocabulary: Tensor
    slots: Tensor
    leaders: Tensor
    twin_rows: Tensor
    twin_starts: Tensor

    def __init__(self, token_sequences: Tensor, twins: bool = False) -> None:
        super().__init__()
        _check(token_sequences)
        items, levels = token_sequences.shape
        order = _lexicographic_order(token_sequences)
        rows = token_sequences[order]
        present = rows >= 0

        # A sorted row opens a new node at a level if it differs from the row before there or at a level above.
        differs = torch.ones_like(present)
        differs[1:] = rows[1:] != rows[:-1]
        opens = (differs.cumsum(dim=1) > 0) & present

        node_of = torch.full((items, levels), -1)  # node of each sorted row after each level
        tokens, parents = [torch.tensor([-1])], [torch.tensor([-1])]
        count = 1
        above = torch.zeros(items, dtype=torch.int64)
        for level in range(levels):
            new = opens[:, level]
            ids = count - 1 + new.cumsum(dim=0)
            node_of[:, level] = torch.where(present[:, level], ids, -1)
            tokens.append(rows[new, level])
            parents.append(above[new])
            above = ids
            count += int(new.sum())
        all_parents = torch.cat(parents)
        num_children = torch.bincount(all_parents[1:], minlength=count)
        first_child = 1 + num_children.cumsum(dim=0) - num_children

        lengths = present.sum(dim=1)
        leaves = node_of.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
        _check_prefix_free(leaves, num_children, order, twins)
        node_items = torch.full((count,), -1)
        node_items[leaves.flip(0)] = order.flip(0)  # the order is stable, so that the first of twins is written last
        leaders = torch.empty_like(order)
        leaders[order] = node_items[leaves]
        paths = torch.empty_like(node_of)
        paths[order] = node_of
        all_tokens = torch.cat(tokens)
        vocabulary = all_tokens[1:].unique()
        buffers = {
            "tokens": all_tokens,
            "first_child": first_child,
            "num_children": num_children,
            "node_items": node_items,
            "paths": paths,
            "vocabulary": vocabulary,
            "leaders": leaders,
            "twin_rows": order,  # twins lie side by side
            "twin_starts": torch.searchsorted(leaves, leaves)[order.argsort()],
            "slots": torch.searchsorted(vocabulary, all_tokens.clamp(min=int(vocabulary[0]))),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        depths = [torch.zeros(1, dtype=torch.int64)] + [node_of[opens[:, level], level] for level in range(levels)]
        self.max_children = [int(num_children[nodes].max()) if len(nodes) else 0 for nodes in depths[:levels]]

    @property
    def num_items(self) -> int:
        """Items in the catalogue."""
        return self.paths.shape[0]

    @property
    def levels(self) -> int:
        """The longest path, the suffix included."""
        return self.paths.shape[1]

    def allowed(self, nodes: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Children of nodes that lie at one depth.

        A leaf is given itself as its only child, so that finished paths stay as they are.

        Args:
            nodes: (…) node ids.
            depth: tokens already consumed, 0 at the root.

        Returns:
            (…, max_children) node ids, and a boolean mask of those that exist.
        """
        width = max(self.max_children[depth], 1)
        offsets = torch.arange(width, device=nodes.device)
        count = self.num_children[nodes].unsqueeze(-1)
        children = self.first_child[nodes].unsqueeze(-1) + offsets
        leaf = count == 0
        mask = torch.where(leaf, offsets == 0, offsets < count)
        children = torch.where(leaf, nodes.unsqueeze(-1), children)
        return torch.where(mask, children, 0), mask

    def with_twins(self, items: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Lets every twin follow the item that stands for it, in catalogue order and with its score, and cuts the end.

        Args:
            items: (batch, k) item rows, -1 at the end of a short ranking.
            scores: (batch, k).

        Returns:
            The same shapes; without twins the same values.
        """
        if not self.has_twins:
            return items, scores
        batch, k = items.shape
        counts = torch.where(items >= 0, self._twin_counts[items.clamp_min(0)], 1)  # (batch, k)
        before = counts.cumsum(dim=1) - counts
        places = torch.arange(k, device=items.device).expand(batch, k).contiguous()
        source = torch.searchsorted(before.contiguous(), places, right=True) - 1  # the entry that fills each place
        leader = items.gather(1, source)
        at = self.twin_starts[leader.clamp_min(0)] + places - before.gather(1, source)
        return torch.where(leader >= 0, self.twin_rows[at.clamp_max(self.num_items - 1)], -1), scores.gather(1, source)

    @property
    def has_twins(self) -> bool:
        """Whether any two items share a sequence."""
        return bool((self._twin_counts > 1).any())

    @property
    def _twin_counts(self) -> Tensor:
        """(items,) how many items share an item's leaf."""
        return torch.bincount(self.leaders, minlength=self.num_items)[self.leaders]

    def find(self, token_sequences: Tensor) -> Tensor:
        """Rows of the items with these sequences.

        Args:
            token_sequences: (batch, levels) vocabulary ids, -1 after the end.

        Returns:
            (batch,) item rows, -1 where no item has the sequence.
        """
        nodes = torch.zeros(len(token_sequences), dtype=torch.int64, device=token_sequences.device)
        alive = torch.ones_like(nodes, dtype=torch.bool)
        for level in range(token_sequences.shape[1]):
            token = token_sequences[:, level]
            step = token >= 0
            if level:
                alive &= ~step | (token_sequences[:, level - 1] >= 0)  # nothing follows a gap
            if level >= self.levels:
                alive &= ~step
                continue
            children, mask = self.allowed(nodes, level)
            hits = mask & (self.tokens[children] == token.unsqueeze(1)) & (self.num_children[nodes] > 0).unsqueeze(1)
            child = (children * hits).sum(dim=1)
            alive &= ~step | hits.any(dim=1)
            nodes = torch.where(step & hits.any(dim=1), child, nodes)
        return torch.where(alive, self.node_items[nodes], -1)


def _check(token_sequences: Tensor) -> None:
    if token_sequences.ndim != 2 or token_sequences.numel() == 0:
        shape = tuple(token_sequences.shape)
        raise ValueError(f"token_sequences must be (items, levels) and not empty, it is {shape}")
    present = token_sequences >= 0
    if not present[:, 0].all():
        raise ValueError(f"item row {int((~present[:, 0]).nonzero()[0])} has no tokens")
    gaps = (~present[:, :-1] & present[:, 1:]).any(dim=1)
    if gaps.any():
        raise ValueError(f"item row {int(gaps.nonzero()[0])} has a token after a -1")


def _check_prefix_free(leaves: Tensor, num_children: Tensor, order: Tensor, twins: bool) -> None:
    repeated = leaves[1:] == leaves[:-1]
    if repeated.any() and not twins:
        at = int(repeated.nonzero()[0])
        raise ValueError(
            f"item rows {int(order[at])} and {int(order[at + 1])} have the same tokens; give them a suffix"
        )
    inner = num_children[leaves] > 0
    if inner.any():
        raise ValueError(f"the tokens of item row {int(order[inner.nonzero()[0]])} begin those of another item")


def _lexicographic_order(rows: Tensor) -> Tensor:
    """Stable order of rows by their columns, the first column first."""
    order = torch.arange(len(rows))
    for column in reversed(range(rows.shape[1])):
        order = order[rows[order, column].argsort(stable=True)]
    return order
