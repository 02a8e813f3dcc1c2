"""The same view on IntRR: one pass of the transformer a prompt, and paths inside the Recursive-Assignment Network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.generation.decoder import Decoder, PromptState
from dig.generation.intrr import IntRR, intrr_vocabulary
from dig.generation.siblings import range_products
from dig.generation.trie import CatalogueTrie

__all__ = ["IntRRDecoder"]


@dataclass
class _State(PromptState):
    """States after prompts, which are the guidance of all paths behind them."""

    conditions: Tensor | None = None  # (batch, paths, width) what the latest step read of the codes so far

    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""
        self.conditions = None


class IntRRDecoder(Decoder):
    """Wraps an IntRR. Prompts are catalogue rows; tokens are codes, the levels' one after the other in one vocabulary.

    Args:
        model: the model.
    """

    def __init__(self, model: IntRR) -> None:
        self.model = model
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
            raise ValueError(f"a history of {longest} items is more than the {self.model.sizes.max_history} that the "
                             "model reads; shorten it (prompt.max_history)")  # fmt: skip

    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of states (…, width), over given tokens or the codes of all levels.

        Raises:
            ValueError: scores depend on the items below a code, so that there are none without a trie.
        """
        if self.model.sizes.uid_output:
            raise ValueError("this IntRR scores codes by the items that they lead to; it knows normalise=trie alone")
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

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """IntRR learns from histories of items, not from rows of tokens."""
        raise ValueError("an IntRR is trained on histories of items, not on rows of tokens")

    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Reads histories (batch, prompt) of catalogue rows, padded on either side."""
        mask = attention_mask.bool()
        hidden = self.model.last_states(torch.where(mask, input_ids, -1))
        return _State(hidden, mask, mask.sum(dim=1), None)

    def feed(self, state: PromptState, tokens: Tensor, parents: Tensor | None, depth: int) -> Tensor:
        """States (batch, paths, width) after one more code of every path; see `Decoder.feed`."""
        if not isinstance(state, _State):
            raise TypeError("a state of another model")
        before = state.conditions
        if before is not None and parents is not None:
            before = before.gather(1, parents.unsqueeze(-1).expand(-1, -1, before.shape[-1]))
        state.conditions = self.conditioned(before if depth else None, tokens, depth)
        return self.after_codes(state.conditions, state.hidden.unsqueeze(1), depth + 1)

    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them; see `Decoder.run_tree`."""
        guidance = self.model.last_states(torch.where(attention_mask.bool(), input_ids, -1))
        return guidance, self.after(guidance.unsqueeze(1), tokens)

    def after(self, guidance: Tensor, tokens: Tensor) -> Tensor:
        """States (…, steps, width) after each token of paths (…, steps) behind guidance (…, width)."""
        found, condition = [], None
        for depth, column in enumerate(tokens.unbind(dim=-1)):
            condition = self.conditioned(condition, column, depth)
            found.append(self.after_codes(condition, guidance, depth + 1))
        return torch.stack(found, dim=-2)

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
