"""The path model of IntRR: one pass of the transformer per prompt, paths inside the Recursive-Assignment Network; and
what an IntRR learns: the next item's codes, and that items keep those of their Semantic IDs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.generation.intrr import Assigned, IntRR, intrr_vocabulary
from dig.generation.path_model import PathModel, PromptState
from dig.generation.trie import CatalogueTrie

__all__ = ["IntRRPathModel", "alignment_loss", "intrr_losses", "next_code_losses", "range_products"]


@dataclass
class _State(PromptState):
    """States after prompts, which are the guidance of all paths behind them."""

    conditions: Tensor | None = None  # (batch, paths, width) what the latest step read of the codes so far

    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""
        self.conditions = None


class IntRRPathModel(PathModel):
    """Wraps an IntRR. Prompts are catalogue rows; tokens are codes, the levels' one after the other in one vocabulary.

    Args:
        model: the model.
    """

    def __init__(self, model: IntRR) -> None:
        self.model: IntRR = model
        self.firsts = intrr_vocabulary(model.sizes.codes).first_ids

    @property
    def context(self) -> int | None:
        """Items that the model can read at once."""
        return self.model.sizes.max_history

    def check(self, largest_token: int, attention_mask: Tensor, steps: int) -> None:
        """Refuses codes that the model lacks, and histories that are longer than it reads."""
        codes, longest = sum(self.model.sizes.codes), int((attention_mask > 0).sum(dim=1).max())
        if largest_token >= codes:
            raise ValueError(f"the catalogue has the token {largest_token}, the model only {codes}")
        if longest > self.model.sizes.max_history:
            raise ValueError(
                f"a history of {longest} items is more than the {self.model.sizes.max_history} that the model reads; "
                "shorten it (prompt.max_history)"
            )

    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of states (…, width), over given tokens or the codes of all levels.

        Raises:
            ValueError: scores depend on the items below a code, so that there are none without a trie.
        """
        if self.model.sizes.uid_output:
            raise ValueError("this IntRR scores codes by the items that they lead to; it knows only normalise=trie")
        assign = self.model.assign
        table = torch.cat(list(assign.codebooks))
        table = assign.scaled(table if vocabulary is None else table[vocabulary])
        return F.linear(assign.directed(hidden), table).float()

    def child_logits(self, hidden: Tensor, trie: CatalogueTrie, nodes: Tensor, children: Tensor, depth: int) -> Tensor:
        """Logits (…, children) of the next nodes, each with the term of the items below it, where the model has one."""
        if not self.model.sizes.uid_output:
            return super().child_logits(hidden, trie, nodes, children, depth)
        flat = nodes.reshape(-1)
        if self.model.remembered is None:
            table, first, count = self._part_of_table(trie, depth, flat)
        else:
            begin, table = self._table(trie, depth)
            first = trie.first_child[flat].long() - begin
            count = trie.first_child[flat + 1].long() - begin - first
            # a leaf has no children, and a path that a search has given up may stand at any node, of another depth, too
            here = (first >= 0) & (first + count <= len(table))
            first, count = first * here, count * here
        states = self.model.assign.directed(hidden)
        if depth == 0:  # all stand at the root, below which is the whole table
            return F.linear(states, table).float()
        states = states.expand(*nodes.shape, states.shape[-1]).reshape(len(flat), states.shape[-1])
        return range_products(states, table, first, count, children.shape[-1]).view(children.shape)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Reads histories (batch, prompt) of catalogue rows, padded on either side."""
        mask = attention_mask.bool()
        return _State(self.model.last_states(torch.where(mask, input_ids, -1)))

    def feed(self, state: PromptState, tokens: Tensor, parents: Tensor | None, depth: int) -> Tensor:
        """States (batch, paths, width) after one more code of every path; see `PathModel.feed`."""
        if not isinstance(state, _State):
            raise TypeError("a state of another path model")
        before = state.conditions
        if before is not None and parents is not None:
            before = before.gather(1, parents.unsqueeze(-1).expand(-1, -1, before.shape[-1]))
        state.conditions = self.conditioned(before if depth else None, tokens, depth)
        return self.after_codes(state.conditions, state.hidden.unsqueeze(1), depth + 1)

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them; see `PathModel.run_tree`."""
        guidance = self.model.last_states(torch.where(attention_mask.bool(), input_ids, -1))
        return guidance, self.after(guidance.unsqueeze(1), tokens)

    def after(self, guidance: Tensor, tokens: Tensor) -> Tensor:
        """States (…, steps, width) after each token of paths (…, steps) behind guidance (…, width)."""
        states, condition = [], None
        for depth, column in enumerate(tokens.unbind(dim=-1)):
            condition = self.conditioned(condition, column, depth)
            states.append(self.after_codes(condition, guidance, depth + 1))
        return torch.stack(states, dim=-2)

    def conditioned(self, before: Tensor | None, tokens: Tensor, depth: int) -> Tensor:
        """What the step behind tokens (…) of a depth reads of the codes so far (…, width), they included."""
        assign = self.model.assign
        return assign.conditioned(before, assign.codebooks[depth][tokens - self.firsts[depth]])

    def after_codes(self, condition: Tensor, guidance: Tensor, depth: int) -> Tensor:
        """States (…, width) from which the code of a depth from 1 on is chosen."""
        guidance = guidance.expand(*condition.shape[:-1], guidance.shape[-1])
        return self.model.assign.step(depth, condition, guidance)

    def _table(self, trie: CatalogueTrie, depth: int) -> tuple[int, Tensor]:
        """The first node below a depth, and the vectors (nodes, width) of all there, which the model keeps."""
        begin, end = 0, 1
        for _ in range(depth + 1):
            begin, end = int(trie.first_child[begin]), int(trie.first_child[end])
        device = trie.slots.device
        tables = self.model.tables
        if (trie, depth, device) not in tables:
            tables[trie, depth, device] = self._node_vectors(trie, depth, torch.arange(begin, end, device=device))
        return begin, tables[trie, depth, device]

    def _part_of_table(self, trie: CatalogueTrie, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The vectors of the children of nodes (n,) alone, the first row in them of each node, and its rows."""
        parents, inverse = nodes.unique(return_inverse=True)
        first = trie.first_child[parents].long()
        count = trie.first_child[parents + 1].long() - first
        offsets = count.cumsum(dim=0) - count
        owners = torch.repeat_interleave(count)
        children = first[owners] + torch.arange(len(owners), device=owners.device) - offsets[owners]
        return self._node_vectors(trie, depth, children), offsets[inverse], count[inverse]

    def _node_vectors(self, trie: CatalogueTrie, depth: int, nodes: Tensor) -> Tensor:
        """(nodes, width) of nodes below a depth: their code's vector, and the mean of their items' own."""
        model = self.model
        codes = trie.tokens_at(nodes, depth) - self.firsts[depth]
        begins, counts = trie.begins[nodes].long(), (trie.ends[nodes] - trie.begins[nodes]).long()
        offsets = counts.cumsum(dim=0) - counts
        owners = torch.repeat_interleave(counts)
        places = torch.arange(len(owners), device=owners.device) - offsets[owners] + begins[owners]
        means = F.embedding_bag(trie.order[places].long(), model.uids.weight, offsets, mode="mean")
        return model.assign.scaled(model.assign.codebooks[depth][codes] + F.linear(means, model.project.weight))


def intrr_losses(model: IntRR, trie: CatalogueTrie, histories: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of every target, and how far the input side is from the Semantic IDs.

    Args:
        model: the model.
        trie: the catalogue.
        histories: (batch, length) catalogue rows, -1 where there is none, before or behind the items; rows behind the
            catalogue's are tasks.
        targets: (batch, length) the row after each item, -1 where nothing is learned.

    Returns:
        (learned targets,) in the order of ``targets``, and a 0-d tensor.
    """
    states, assigned = model.states(histories)
    if assigned is None:
        raise ValueError("vectors are remembered; call train() first")
    next_items = targets[histories >= 0]
    learned = next_items >= 0
    items = histories[(histories >= 0) & (histories < len(model.codes))].unique()
    losses = next_code_losses(model, trie, states[learned], next_items[learned])
    return losses, alignment_loss(assigned, model.codes[items])


def next_code_losses(model: IntRR, trie: CatalogueTrie, guidance: Tensor, items: Tensor) -> Tensor:
    """Cross-entropy of each item's codes, summed over levels, each level told the codes before it (teacher forcing).

    Under ``softmax=trie`` a code competes with its siblings in the catalogue, so that the sum is the negative
    log-probability with which the item is found; under ``level`` with all codes of its level.

    Args:
        model: the model.
        trie: the catalogue.
        guidance: (n, width) states after histories.
        items: (n,) what came next.

    Returns:
        (n,) float32.
    """
    view = IntRRPathModel(model)
    paths = trie.paths(items)
    total = torch.zeros(len(items), device=guidance.device)
    condition = None
    for depth, nodes in enumerate(paths.unbind(dim=1)):
        parents = torch.zeros_like(nodes) if depth == 0 else paths[:, depth - 1].clamp(min=0)
        first = trie.first_child[parents].long()
        siblings = trie.first_child[parents + 1].long() - first
        all_codes = model.sizes.softmax == "level"
        # an only child is certain, so nothing of it has to be computed
        rows = ((nodes >= 0) & (all_codes | (siblings > 1))).nonzero()[:, 0]
        hidden = guidance[rows] if condition is None else view.after_codes(condition[rows], guidance[rows], depth)
        if all_codes:
            logits = model.assign.logits(depth, hidden)
            targets = trie.tokens_at(nodes[rows], depth) - view.firsts[depth]
        else:
            children, mask = trie.allowed(parents[rows[:1]] if depth == 0 else parents[rows], depth)
            children, mask = children.expand(len(rows), -1), mask.expand(len(rows), -1)  # the root's are everybody's
            logits = view.child_logits(hidden, trie, parents[rows], children, depth).masked_fill(~mask, float("-inf"))
            targets = (nodes - first)[rows]  # children follow each other
        total = total.index_add(0, rows, F.cross_entropy(logits.float(), targets, reduction="none"))
        condition = view.conditioned(condition, trie.tokens_at(nodes.clamp(min=0), depth), depth)
    return total


def alignment_loss(assigned: Assigned, codes: Tensor) -> Tensor:
    """Mean over items of the cross-entropy of their input-side assignment, summed over levels.

    Args:
        assigned: of the items.
        codes: (items, levels) their Semantic IDs, -1 for a missing suffix.
    """
    losses = [
        F.nll_loss(log_probs.float(), column, ignore_index=-1, reduction="sum")
        for log_probs, column in zip(assigned.log_probs, codes.unbind(dim=1), strict=True)
    ]
    return torch.stack(losses).sum() / max(len(codes), 1)


def range_products(states: Tensor, table: Tensor, first: Tensor, count: Tensor, width: int) -> Tensor:
    """Inner products of each state with the neighbouring rows of a table that belong to it.

    Products and gradients are sparse, so that neither the states times the table nor the rows of every state are ever
    held. They are computed in float32.

    Args:
        states: (n, width of states).
        table: (rows, width of states).
        first: (n,) the first row of each state.
        count: (n,) its rows.
        width: the most of ``count``, or more.

    Returns:
        (n, width) float32, 0 behind the rows of a state.

    Raises:
        IndexError: a state has a row that the table lacks.
    """
    if bool(((first < 0) | (first + count > len(table))).any()):
        raise IndexError("a state has rows that the table lacks")
    products: Tensor = _RangeProducts.apply(states, table, first.long(), count.long(), width)
    return products


class _RangeProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, first: Tensor, count: Tensor, width: int) -> Tensor:
        ctx.save_for_backward(states, table, first, count)  # all else is a matter of counting, and larger than these
        rows, owners, places = _places(count)
        padded = torch.zeros(len(states), width, device=states.device)
        if len(owners):
            pattern = _csr(rows, first[owners] + places, torch.zeros(len(owners), device=states.device), table)
            products = torch.sparse.sampled_addmm(pattern, states.float(), table.float().T, beta=0.0)
            padded[owners, places] = products.values()
        return padded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        states, table, first, count = ctx.saved_tensors
        rows, owners, places = _places(count)
        if not len(owners):
            return torch.zeros_like(states), torch.zeros_like(table), None, None, None
        values, columns = grads[0][owners, places].float(), first[owners] + places
        of_states = _csr(rows, columns, values, table) @ table.float()
        turned = torch.sparse_coo_tensor(
            torch.stack([columns, owners]), values, (len(table), len(states)), check_invariants=False
        )
        of_table = turned @ states.float()
        return of_states.to(states.dtype), of_table.to(table.dtype), None, None, None


def _places(count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the products of each state begin, and each product's state and place among that state's."""
    rows = torch.cat([count.new_zeros(1), count.cumsum(dim=0)])
    owners = torch.repeat_interleave(count)
    return rows, owners, torch.arange(len(owners), device=owners.device) - rows[owners]


def _consume_warning() -> None:
    """torch says once a process that sparse rows are young; what is used of them here is held to dense products."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _csr(torch.tensor([0, 1]), torch.tensor([0]), torch.zeros(1), torch.zeros(1, 1))


def _csr(rows: Tensor, columns: Tensor, values: Tensor, table: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(rows, columns, values, (len(rows) - 1, len(table)), check_invariants=False)


_consume_warning()
