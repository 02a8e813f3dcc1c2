"""The catalogue as a trie over vocabulary ids, in flat tensors: every path from the root to a leaf is one item.

Nodes are numbered breadth first over the sorted catalogue, so the children of a node are neighbours, the items below a
node are neighbours in the sorted order, and the whole structure is four numbers per node and two per item (the CSR idea
of STATIC, arXiv 2602.22647).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.engine.moved import renamed_arguments

__all__ = ["CatalogueTrie", "Restriction"]


@dataclass(frozen=True)
class Restriction:
    """Items by their places in the trie's sorted order, so that a node's items are counted by two binary searches.

    Attributes:
        places: (batch, n) int32, sorted in each row, with ``items`` at the end of a shorter row.
        items: number of items in the trie.
        banned: whether these items are left out; else they alone are allowed.
        among: (m,) int32, sorted places that every row of the batch may have at most, what is in stock, say; None for
            all. The banned places of a row are some of these.
    """

    places: Tensor
    items: int
    banned: bool
    among: Tensor | None = None

    def admits(self, begins: Tensor, ends: Tensor) -> Tensor:
        """Whether any item from place ``begins`` to before ``ends`` (batch, …) is allowed, (batch, …) bool."""
        batch = len(self.places)
        low, high = (torch.searchsorted(self.places, bound.reshape(batch, -1).contiguous()) for bound in (begins, ends))
        named = (high - low).view_as(begins)
        if not self.banned:
            return named > 0
        if self.among is None:
            return named < ends - begins
        below, above = (torch.searchsorted(self.among, bound.contiguous()) for bound in (begins, ends))
        return named < above - below


class CatalogueTrie(nn.Module):
    """Prefix tree of the catalogue's token sequences.

    All of it are integer buffers, 28 bytes per item where most nodes are leaves, so ``to`` and ``state_dict`` work;
    ``load_state_dict`` takes the state of a trie of any size.

    Args:
        token_sequences: (items, levels) vocabulary ids; -1 pads a missing suffix at the end of a row.
        duplicates: allow items with the same sequence; they share a leaf, and a ranking lists them one after another.
        rows: (items,) distinct catalogue rows of the sequences, for a part of a catalogue; None counts from 0.
        persistent: whether ``state_dict`` holds it; a module that builds its trie anew needs no copy in checkpoints.

    Attributes:
        slots: (nodes,) int64, all others int32: position of the token that leads to a node among those of its level; 0
            for the root, node 0.
        first_child: (nodes + 1,) the first child; the last comes before the next node's first.
        begins: (nodes,) place of the first item below a node in the sorted order.
        ends: (nodes,) the place after its last item.
        order: (items,) catalogue row at each place; duplicates by row.
        places: (catalogue rows,) place of each item, -1 where the trie lacks it.
        level_tokens: (tokens,) vocabulary ids of each level, sorted, level by level.
        shape: (3, levels) number of tokens of each level, most children of a node above it, leaves at its end.

    Raises:
        ValueError: for an empty catalogue, a gap before a suffix, two items with one sequence (unless ``duplicates``),
            or an item whose sequence begins another's.
    """

    slots: Tensor
    first_child: Tensor
    begins: Tensor
    ends: Tensor
    order: Tensor
    places: Tensor
    level_tokens: Tensor
    shape: Tensor

    @renamed_arguments(twins="duplicates")
    def __init__(
        self, token_sequences: Tensor, duplicates: bool = False, rows: Tensor | None = None, persistent: bool = True
    ) -> None:
        super().__init__()
        _check(token_sequences)
        longest = int((token_sequences >= 0).sum(dim=1).max())
        sequences = token_sequences[:, :longest].cpu()
        rows = torch.arange(len(sequences)) if rows is None else rows.cpu()
        by_row = rows.argsort(stable=True)
        order = by_row[_lexicographic_order(sequences[by_row])]  # stable, so that duplicates lie in catalogue order
        for name, value in _build(sequences[order], rows[order], duplicates).items():
            # slots index logits at every step, and a conversion there costs more than it saves here
            self.register_buffer(name, value if name == "slots" else value.to(torch.int32), persistent)
        self._read_shape()

    @property
    def num_items(self) -> int:
        """Items in the trie."""
        return len(self.order)

    @property
    def num_rows(self) -> int:
        """Catalogue rows up to the largest in the trie."""
        return len(self.places)

    @property
    def levels(self) -> int:
        """Nodes of the longest path, the suffix included."""
        return len(self.max_children)

    def allowed(self, nodes: Tensor, depth: int, restriction: Restriction | None = None) -> tuple[Tensor, Tensor]:
        """Children of nodes that lie at one depth.

        A leaf is given itself as its only child, so that finished paths stay as they are.

        Args:
            nodes: (…) node ids, (batch, …) with a restriction.
            depth: tokens already consumed, 0 at the root.
            restriction: items that each row of the batch may have; a node without one of them is masked.

        Returns:
            (…, max_children) int64 node ids, and a boolean mask of those that are children and allowed.
        """
        offsets = torch.arange(max(self.max_children[depth], 1), device=nodes.device)
        first = self.first_child[nodes]
        count = self.first_child[nodes + 1] - first
        if self.ends_at[depth]:
            first, count = torch.where(count > 0, first, nodes), count.clamp(min=1)
        mask = offsets < count.unsqueeze(-1)
        children = (first.unsqueeze(-1) + offsets).clamp_(max=len(self.slots) - 1)
        if restriction is not None:
            mask = mask & restriction.admits(self.begins[children], self.ends[children])
        return children, mask

    def is_leaf(self, nodes: Tensor) -> Tensor:
        """Which nodes (…) end an item."""
        return self.first_child[nodes] == self.first_child[nodes + 1]

    def first_items(self, leaves: Tensor) -> Tensor:
        """Catalogue rows (…) of leaves; of duplicates the first."""
        return self.order[self.begins[leaves].long()].long()

    def items_at(
        self, leaves: Tensor, scores: Tensor, count: int, restriction: Restriction | None = None
    ) -> tuple[Tensor, Tensor]:
        """Items of ranked leaves: where items share a leaf, all of them one after the other, ``count`` at most.

        Args:
            leaves: (batch, n).
            scores: (batch, n), falling.
            count: items per row.
            restriction: items that each row may have.

        Returns:
            (batch, up to ``count``) catalogue rows and their scores, -inf where there is no further item.
        """
        if not self.has_duplicates:
            return self.first_items(leaves)[:, :count], scores[:, :count]
        begins = self.begins[leaves].long()
        ends = torch.where(scores > float("-inf"), self.ends[leaves].long(), begins)  # others may be any node
        most = max(int((ends - begins).max()), 1)
        places = begins.unsqueeze(-1) + torch.arange(most, device=leaves.device)  # (batch, n, most)
        mask = places < ends.unsqueeze(-1)
        if restriction is not None:
            mask = mask & restriction.admits(places, places + 1)
        first = (~mask).flatten(1).to(torch.int8).argsort(dim=1, stable=True)[:, :count]
        items = self.order[places.clamp(max=self.num_items - 1)].long().flatten(1).gather(1, first)
        every = scores.unsqueeze(-1).masked_fill(~mask, float("-inf")).flatten(1)
        return items, every.gather(1, first)

    def representatives(self, items: Tensor) -> Tensor:
        """The item (…) that stands for each of the items (…) at its leaf: itself, where it has no duplicate."""
        paths = self.paths(items)
        leaves = paths.gather(-1, (paths >= 0).sum(dim=-1, keepdim=True) - 1).squeeze(-1)
        return self.first_items(leaves)

    def paths(self, items: Tensor) -> Tensor:
        """Nodes (…, levels) from a child of the root to the leaf of each item (…), -1 where an item has ended.

        Raises:
            ValueError: an item that the trie lacks.
        """
        place = self._places(items)
        if (place < 0).any():
            raise ValueError(f"the trie has no item {int(items[place < 0][0])}")
        nodes, levels = torch.zeros_like(place), []
        ended = torch.zeros_like(place, dtype=torch.bool)
        for _ in range(self.levels):
            ended = ended | self.is_leaf(nodes)
            nodes = torch.where(ended, nodes, self._last_child_up_to(nodes, self.begins, place))
            levels.append(torch.where(ended, -1, nodes))
        return torch.stack(levels, dim=-1)

    def token_sequences(self, items: Tensor) -> Tensor:
        """Vocabulary ids (…, levels) of items (…), -1 after the end."""
        levels = self.paths(items).unbind(dim=-1)
        return torch.stack(
            [
                torch.where(nodes >= 0, self.tokens_at(nodes.clamp(min=0), depth), -1)
                for depth, nodes in enumerate(levels)
            ],
            dim=-1,
        )

    def find(self, token_sequences: Tensor) -> Tensor:
        """Catalogue rows of the items with these sequences; of duplicates the first.

        Args:
            token_sequences: (batch, levels) vocabulary ids, -1 after the end.

        Returns:
            (batch,) int64, -1 where no item has the sequence.
        """
        sequences = token_sequences.to(self.slots.device)
        nodes = torch.zeros(len(sequences), dtype=torch.int64, device=sequences.device)
        alive = torch.ones_like(nodes, dtype=torch.bool)
        ended = torch.zeros_like(alive)
        for depth, token in enumerate(sequences.unbind(dim=1)):
            step = token >= 0
            alive &= ~(step & ended)  # nothing follows a gap
            ended |= ~step
            if depth >= self.levels:
                alive &= ~step
                continue
            tokens = self.tokens_of_level(depth)
            slot = torch.searchsorted(tokens, token.contiguous()).clamp(max=len(tokens) - 1)
            child = self._last_child_up_to(nodes, self.slots, slot)
            hit = (tokens[slot] == token) & ~self.is_leaf(nodes) & (self.slots[child] == slot)
            alive &= ~step | hit
            nodes = torch.where(step & hit, child, nodes)
        return torch.where(alive & self.is_leaf(nodes), self.first_items(nodes), -1)

    def only(self, items: Tensor) -> Restriction:
        """Restricts each row of a batch to the items (batch, n), -1 where a row has fewer."""
        return Restriction(self._sorted_places(items), self.num_items, banned=False)

    def without(self, items: Tensor, among: Tensor | None = None) -> Restriction:
        """Bans the items (batch, n) from each row of a batch, -1 where a row has fewer; a user's history, say.

        Args:
            items: what is banned.
            among: (m,) all that any row may have, what is in stock, say; None for the whole trie. It is kept once and
                not for each row.
        """
        if among is None:
            return Restriction(self._sorted_places(items), self.num_items, banned=True)
        stock = self._sorted_places(among.unsqueeze(0))[0]
        stock = stock[stock < self.num_items]
        items = items.to(self.order.device)
        banned = items.masked_fill(~torch.isin(self._places(items), stock.long()), -1)
        return Restriction(self._sorted_places(banned), self.num_items, banned=True, among=stock)

    def subset(self, items: Tensor) -> CatalogueTrie:
        """A trie of some items (n,), which keep their catalogue rows; what is in stock, say.

        Raises:
            ValueError: no items, or one that this trie lacks.
        """
        items = items.to(self.order.device).unique()
        return CatalogueTrie(self.token_sequences(items), duplicates=True, rows=items).to(self.order.device)

    def union(self, other: CatalogueTrie) -> CatalogueTrie:
        """A trie of the items of both.

        Raises:
            ValueError: an item has another sequence in the other trie.
        """
        device, levels = self.order.device, max(self.levels, other.levels)
        ours, theirs = self.order.long(), other.order.long().to(device)
        shared, new = theirs[torch.isin(theirs, ours)], theirs[~torch.isin(theirs, ours)]

        def sequences(trie: CatalogueTrie, items: Tensor) -> Tensor:
            sequences = trie.token_sequences(items.to(trie.order.device)).to(device)
            return F.pad(sequences, (0, levels - sequences.shape[1]), value=-1)

        differ = (sequences(self, shared) != sequences(other, shared)).any(dim=1)
        if differ.any():
            raise ValueError(f"item {int(shared[differ][0])} has another sequence in the other trie")
        joined = torch.cat([sequences(self, ours), sequences(other, new)])
        return CatalogueTrie(joined, duplicates=True, rows=torch.cat([ours, new])).to(device)

    def tokens_of_level(self, depth: int) -> Tensor:
        """(tokens,) int64 vocabulary ids that occur at a depth, sorted."""
        start = sum(self.level_sizes[:depth])
        return self.level_tokens[start : start + self.level_sizes[depth]].long()

    def slots_of(self, nodes: Tensor) -> Tensor:
        """Position (…) int64 of the tokens of nodes (…) among those of their level."""
        return self.slots.index_select(0, nodes.reshape(-1)).view(nodes.shape)

    def tokens_at(self, nodes: Tensor, depth: int) -> Tensor:
        """Vocabulary ids (…) int64 that lead to nodes (…) from a depth; any token for nodes that lie elsewhere."""
        tokens = self.tokens_of_level(depth)
        return tokens[self.slots_of(nodes).clamp(max=len(tokens) - 1)]

    def _read_shape(self) -> None:
        self.level_sizes, self.max_children, leaves = self.shape.tolist()
        self.ends_at = [False, *(count > 0 for count in leaves)]  # by depth: whether some item ends there
        self.has_duplicates = sum(leaves) < self.num_items
        self.largest_token = int(self.level_tokens.max())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            if f"{prefix}{name}" in state_dict:
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"], device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._read_shape()

    def _places(self, items: Tensor) -> Tensor:
        in_range = (items >= 0) & (items < self.num_rows)
        return torch.where(in_range, self.places[items.clamp(min=0, max=self.num_rows - 1)].long(), -1)

    def _sorted_places(self, items: Tensor) -> Tensor:
        places = self._places(items.to(self.order.device))
        places = torch.where(places >= 0, places, self.num_items).to(torch.int32).sort(dim=1).values
        again = F.pad(places[:, 1:] == places[:, :-1], (1, 0))  # an item that is named twice counts once
        return places.masked_fill(again, self.num_items).sort(dim=1).values

    def _last_child_up_to(self, nodes: Tensor, keys: Tensor, limit: Tensor) -> Tensor:
        """The last child (…) of nodes (…) whose key is at most the limit (…), else the first; keys rise over children.

        A leaf gives a node of no meaning.
        """
        low = self.first_child[nodes].long()
        high = self.first_child[nodes + 1].long() - 1
        for _ in range(math.ceil(math.log2(max(*self.max_children, 2)))):
            middle = (low + high + 1) // 2
            right = keys[middle.clamp(max=len(self.slots) - 1)] <= limit
            low, high = torch.where(right & (low < high), middle, low), torch.where(right, high, middle - 1)
            high = torch.maximum(low, high)
        return low.clamp(max=len(self.slots) - 1)


def _build(sequences: Tensor, rows: Tensor, duplicates: bool) -> dict[str, Tensor]:
    """The buffers, from sorted sequences (items, levels) and their catalogue rows (items,)."""
    items, levels = sequences.shape
    slots, begins, ends = [torch.tensor([0])], [torch.tensor([0])], [torch.tensor([items])]
    level_tokens: list[Tensor] = []
    parents: list[Tensor] = []
    above, leaves = torch.zeros(items, dtype=torch.int64), torch.zeros(items, dtype=torch.int64)
    opens, count = torch.zeros(items, dtype=torch.bool), 1
    opens[0] = True
    widths, lasts = [], []
    for level in range(levels):
        token = sequences[:, level]
        present = token >= 0
        # a sorted row opens a new node if it differs from the row before here or at a level above
        opens[1:] |= token[1:] != token[:-1]
        places = (opens & present).nonzero()[:, 0]
        node = count - 1 + (opens & present).cumsum(dim=0)  # means nothing where no token is
        distinct, inverse = token[places].unique(return_inverse=True)
        level_tokens.append(distinct)
        slots.append(inverse)
        begins.append(places)
        ends.append(places + torch.bincount(node[present] - count, minlength=len(places)))
        parents.append(above[places])
        widths.append(int(torch.bincount(parents[-1]).max()) if len(places) else 0)
        leaves = torch.where(present, node, leaves)
        above, count = node, count + len(places)
        lasts.append(count)
    num_children = torch.bincount(torch.cat(parents), minlength=count)
    _check_prefix_free(leaves, num_children, rows, duplicates)
    leaves_until = F.pad((num_children == 0).cumsum(dim=0), (1, 0))[torch.tensor([1, *lasts])]
    places_of_rows = torch.full((int(rows.max()) + 1,), -1)
    places_of_rows[rows] = torch.arange(items)
    return {
        "slots": torch.cat(slots),
        "first_child": F.pad(1 + num_children.cumsum(dim=0), (1, 0), value=1),
        "begins": torch.cat(begins),
        "ends": torch.cat(ends),
        "order": rows,
        "places": places_of_rows,
        "level_tokens": torch.cat(level_tokens),
        "shape": torch.tensor([[len(tokens) for tokens in level_tokens], widths, leaves_until.diff().tolist()]),
    }


def _check(token_sequences: Tensor) -> None:
    if token_sequences.ndim != 2 or token_sequences.numel() == 0:
        shape = tuple(token_sequences.shape)
        raise ValueError(f"token_sequences must be (items, levels) and not empty, it is {shape}")
    if token_sequences.is_floating_point():
        raise ValueError(f"token_sequences must be whole numbers, they are {token_sequences.dtype}")
    present = token_sequences >= 0
    if not present[:, 0].all():
        raise ValueError(f"item row {int((~present[:, 0]).nonzero()[0])} has no tokens")
    gaps = (~present[:, :-1] & present[:, 1:]).any(dim=1)
    if gaps.any():
        raise ValueError(f"item row {int(gaps.nonzero()[0])} has a token after a -1")


def _check_prefix_free(leaves: Tensor, num_children: Tensor, rows: Tensor, duplicates: bool) -> None:
    repeated = leaves[1:] == leaves[:-1]
    if repeated.any() and not duplicates:
        at = int(repeated.nonzero()[0])
        raise ValueError(f"item rows {int(rows[at])} and {int(rows[at + 1])} have the same tokens; give them a suffix")
    inner = num_children[leaves] > 0
    if inner.any():
        raise ValueError(f"the tokens of item row {int(rows[inner.nonzero()[0]])} begin those of another item")


def _lexicographic_order(rows: Tensor) -> Tensor:
    """Stable order of rows by their columns, the first column first; as few sorts as 63 bits allow."""
    order = torch.arange(len(rows))
    key, room = torch.zeros(len(rows), dtype=torch.int64), 1
    for column in reversed(range(rows.shape[1])):
        values = rows[:, column] + 1
        size = int(values.max()) + 1
        if room > 2**62 // size:
            order = order[key[order].argsort(stable=True)]
            key, room = torch.zeros_like(key), 1
        key, room = key + values * room, room * size
    return order[key[order].argsort(stable=True)]
