"""The flat trie against a dict of prefixes, for random prefix-free catalogues with ragged suffixes."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.generation import CatalogueTrie

Row = tuple[int, ...]


@st.composite
def prefix_free_rows(draw: st.DrawFn) -> list[Row]:
    drawn = draw(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple), min_size=1, max_size=40))
    kept: list[Row] = []
    for row in drawn:
        if all(row[: len(other)] != other and other[: len(row)] != row for other in kept):
            kept.append(row)
    return draw(st.permutations(kept))


def padded(rows: list[Row], levels: int | None = None) -> torch.Tensor:
    levels = levels or max(len(row) for row in rows)
    return torch.tensor([[*row, *[-1] * (levels - len(row))] for row in rows])


@settings(max_examples=150, deadline=None)
@given(prefix_free_rows())
def test_every_node_has_the_children_of_a_dict_trie(rows: list[Row]):
    trie = CatalogueTrie(padded(rows))
    children: dict[Row, set[int]] = defaultdict(set)
    for row in rows:
        for level, token in enumerate(row):
            children[row[:level]].add(token)
    inner = set(children)
    assert len(trie.tokens) == len({row[:length] for row in rows for length in range(len(row) + 1)})
    assert trie.levels == max(len(row) for row in rows) and trie.num_items == len(rows)
    assert trie.vocabulary.tolist() == sorted({token for row in rows for token in row})
    for depth in range(trie.levels):
        sizes = [len(tokens) for prefix, tokens in children.items() if len(prefix) == depth]
        assert trie.max_children[depth] == max(sizes, default=0)

    reached = {(): 0}
    for depth in range(trie.levels):
        for prefix, node in [pair for pair in reached.items() if len(pair[0]) == depth]:
            found, mask = trie.allowed(torch.tensor([node]), depth)
            assert found.shape == mask.shape == (1, max(trie.max_children[depth], 1))
            nodes = found[mask].tolist()
            if prefix not in inner:
                assert nodes == [node]  # a leaf stays where it is
                assert rows[int(trie.node_items[node])] == prefix
                continue
            assert trie.node_items[node] == -1
            tokens = trie.tokens[nodes].tolist()
            assert tokens == sorted(children[prefix])
            assert trie.vocabulary[trie.slots[nodes]].tolist() == tokens
            reached |= {(*prefix, token): child for token, child in zip(tokens, nodes, strict=True)}
    for item, row in enumerate(rows):
        path = [reached[row[: level + 1]] for level in range(len(row))]
        assert trie.paths[item].tolist() == path + [-1] * (trie.levels - len(row))


@settings(max_examples=100, deadline=None)
@given(prefix_free_rows(), st.lists(st.lists(st.integers(-1, 6), min_size=5, max_size=5), min_size=1, max_size=30))
def test_find_knows_exactly_the_items(rows: list[Row], queries: list[list[int]]):
    trie = CatalogueTrie(padded(rows))
    assert trie.find(padded(rows)).tolist() == list(range(len(rows)))
    wider = padded(rows, trie.levels + 1)  # a column more than the catalogue has
    assert trie.find(wider).tolist() == list(range(len(rows)))
    table = {tuple(row): item for item, row in enumerate(padded(rows, 5).tolist())}
    assert trie.find(torch.tensor(queries)).tolist() == [table.get(tuple(query), -1) for query in queries]


def test_find_refuses_beginnings_extensions_and_gaps():
    trie = CatalogueTrie(torch.tensor([[1, 2, 3], [1, 2, 5], [1, 4, -1], [7, 4, -1]]))
    queries = torch.tensor([[1, 2, -1], [1, 4, 3], [1, -1, 4], [7, -1, 4], [-1, -1, -1], [1, 4, -1]])
    assert trie.find(queries).tolist() == [-1, -1, -1, -1, -1, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [3, 4], [1, 2]], "item rows 0 and 2 have the same tokens"),
        ([[3, 4], [1, 2], [1, -1]], "item row 2 begin those of another"),
        ([[1, 2, 3], [1, -1, 3]], "item row 1 has a token after a -1"),
        ([[1, 2], [-1, -1]], "item row 1 has no tokens"),
    ],
)
def test_impossible_catalogues_are_refused_by_row(rows: list[list[int]], message: str):
    with pytest.raises(ValueError, match=message):
        CatalogueTrie(torch.tensor(rows))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (4,)])
def test_an_empty_or_flat_catalogue_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="not empty"):
        CatalogueTrie(torch.zeros(shape, dtype=torch.int64))


def test_one_item_is_a_trie():
    trie = CatalogueTrie(torch.tensor([[7]]))
    assert (trie.num_items, trie.levels, trie.max_children) == (1, 1, [1])
    assert trie.find(torch.tensor([[7], [8]])).tolist() == [0, -1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), st.integers(1, 6))
def test_twins_follow_the_item_that_stands_for_them(rows: list[Row], k: int):
    trie = CatalogueTrie(padded(rows), twins=True)
    first = {row: rows.index(row) for row in rows}
    assert trie.leaders.tolist() == [first[row] for row in rows]
    assert trie.find(padded(rows)).tolist() == trie.leaders.tolist()
    leaders = sorted(set(first.values()), reverse=True)[:k]
    items = torch.tensor([leaders + [-1] * (k - len(leaders))])
    scores = -torch.arange(k, dtype=torch.float32)[None]
    expected = [(item, -rank) for rank, leader in enumerate(leaders)
                for item, row in enumerate(rows) if first[row] == leader][:k]  # fmt: skip
    found, values = trie.with_twins(items, scores)
    assert found[0].tolist() == [item for item, _ in expected] + [-1] * (k - len(expected))
    assert values[0, : len(expected)].tolist() == [score for _, score in expected]
    assert found.shape == values.shape == (1, k)


def test_without_leave_twins_are_refused():
    with pytest.raises(ValueError, match="same tokens"):
        CatalogueTrie(padded([(0, 1), (0, 1)]))
