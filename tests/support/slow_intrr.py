"""IntRR written out: one history, one item, one level at a time, for tests to compare with."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.generation import CatalogueTrie
from dig.generation.intrr import IntRR, intrr_vocabulary
from dig.quantization import SemanticIds
from support import tiny

SUFFIXED = tiny.ragged_catalogue()
DUPLICATES = SemanticIds.from_codes(SUFFIXED.item_ids, SUFFIXED.codes[:, :3], [4, 4, 4], duplicates=True)
OURS = {"residual": True, "scale": 5.0, "uid_input": True, "uid_output": True, "softmax": "trie"}
FORMS = [{}, {"condition": "sum"}, {"residual": True, "scale": 5.0}, {"uid_input": True, "softmax": "trie"}, OURS]


def trie_of(ids: SemanticIds) -> CatalogueTrie:
    return CatalogueTrie(intrr_vocabulary(ids.sizes).encode(ids.codes), duplicates=True)


def state_after(model: IntRR, history: list[int]) -> Tensor:
    """(width,) of one history alone, the transformer written out."""
    items = torch.tensor(history)
    guidance = model.project(model.uids(items))
    vectors = torch.zeros_like(guidance)
    before = None
    for level, codebook in enumerate(model.assign.codebooks):
        state = guidance if before is None else model.assign.step(level, before, guidance)
        chosen = codebook[model.assign.logits(level, state).argmax(dim=-1)]
        before = model.assign.conditioned(before, chosen)
        vectors = vectors + chosen * (model.codes[items, level] >= 0).unsqueeze(1)
    x = vectors + (guidance if model.sizes.uid_input else 0.0) + model.positions.weight[: len(items)]
    for layer in model.layers:
        q, k, v = layer.queries_keys_values(layer.attention_norm(x)).chunk(3, dim=-1)
        parts = []
        for q1, k1, v1 in zip(q.chunk(2, -1), k.chunk(2, -1), v.chunk(2, -1), strict=True):
            scores = (q1 @ k1.T / q1.shape[-1] ** 0.5).masked_fill(
                ~torch.ones(len(x), len(x)).tril().bool(), -torch.inf
            )
            parts.append(scores.softmax(dim=-1) @ v1)
        x = x + layer.output(torch.cat(parts, dim=-1))
        x = x + layer.outer(F.gelu(layer.inner(layer.feed_norm(x))))
    return model.norm(x)[-1]


def slow_log_probs(model: IntRR, history: list[int], ids: SemanticIds) -> Tensor:
    """(items, levels) log-probabilities of every item's codes: a dictionary of prefixes, one item at a time."""
    below: dict[tuple[int, ...], list[int]] = defaultdict(list)
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    rows = [[code for code in row if code >= 0] for row in ids.codes.tolist()]
    for item, row in enumerate(rows):
        for level in range(len(row)):
            children[tuple(row[:level])].add(row[level])
            below[tuple(row[: level + 1])].append(item)
    guidance, found = state_after(model, history), []
    for row in rows:
        levels, before = [], None
        for level, code in enumerate(row):
            state = guidance if before is None else model.assign.step(level, before, guidance)
            book, scores = model.assign.codebooks[level], {}
            for child in sorted(children[tuple(row[:level])]):
                vector = book[child]
                if model.sizes.uid_output:
                    own = model.uids.weight[below[(*row[:level], child)]].mean(dim=0)
                    vector = vector + model.project.weight @ own
                if model.sizes.scale is None:
                    scores[child] = state @ vector
                else:
                    scores[child] = model.sizes.scale * F.cosine_similarity(state, vector, dim=0)
            levels.append(scores[code] - torch.stack(list(scores.values())).logsumexp(dim=0))
            before = model.assign.conditioned(before, book[code])
        found.append(torch.stack(levels + [guidance.new_zeros(())] * (ids.codes.shape[1] - len(levels))))
    return torch.stack(found)
