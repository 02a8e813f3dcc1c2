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


@settings(max_examples=150)
@given(prefix_free_rows())
def test_every_node_has_the_children_of_a_dict_trie(rows: list[Row]):
    trie = CatalogueTrie(padded(rows))
    children: dict[Row, set[int]] = defaultdict(set)
    for row in rows:
        for level, token in enumerate(row):
            children[row[:level]].add(token)
    inner = set(children)
    assert len(trie.slots) == len({row[:length] for row in rows for length in range(len(row) + 1)})
    assert trie.levels == max(len(row) for row in rows) and trie.num_items == len(rows)
    for depth in range(trie.levels):
        assert trie.tokens_of_level(depth).tolist() == sorted({row[depth] for row in rows if len(row) > depth})
        assert trie.ends_at[depth + 1] == any(len(row) == depth + 1 for row in rows)
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
                assert rows[int(trie.first_items(torch.tensor(node)))] == prefix
                assert trie.is_leaf(torch.tensor(node))
                continue
            assert not trie.is_leaf(torch.tensor(node))
            below = {item for item, row in enumerate(rows) if row[:depth] == prefix}
            assert set(trie.order[trie.begins[node] : trie.ends[node]].tolist()) == below
            tokens = trie.tokens_at(torch.tensor(nodes), depth).tolist()
            assert tokens == sorted(children[prefix])
            assert trie.tokens_of_level(depth)[trie.slots_of(torch.tensor(nodes))].tolist() == tokens
            reached |= {(*prefix, token): child for token, child in zip(tokens, nodes, strict=True)}
    for item, row in enumerate(rows):
        path = [reached[row[: level + 1]] for level in range(len(row))]
        assert trie.paths(torch.tensor(item)).tolist() == path + [-1] * (trie.levels - len(row))
    assert trie.token_sequences(torch.arange(len(rows))).tolist() == padded(rows).tolist()


@settings(max_examples=100)
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


def test_tokens_are_whole_numbers():
    with pytest.raises(ValueError, match=r"token_sequences must be whole numbers, they are torch\.float32"):
        CatalogueTrie(torch.tensor([[5.0, 6.5]]))


def test_one_item_is_a_trie():
    trie = CatalogueTrie(torch.tensor([[7]]))
    assert (trie.num_items, trie.levels, trie.max_children) == (1, 1, [1])
    assert trie.find(torch.tensor([[7], [8]])).tolist() == [0, -1]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), st.integers(1, 6))
def test_duplicates_follow_the_item_that_stands_for_them(rows: list[Row], k: int):
    trie = CatalogueTrie(padded(rows), duplicates=True)
    first = {row: rows.index(row) for row in rows}
    assert trie.representatives(torch.arange(len(rows))).tolist() == [first[row] for row in rows]
    assert trie.find(padded(rows)).tolist() == trie.representatives(torch.arange(len(rows))).tolist()
    firsts = sorted(set(first.values()), reverse=True)[:k]
    paths = trie.paths(torch.tensor([firsts]))
    scores = -torch.arange(len(firsts), dtype=torch.float32)[None]
    expected = [
        (item, -rank) for rank, each in enumerate(firsts) for item, row in enumerate(rows) if first[row] == each
    ][:k]
    found, values = trie.items_at(paths[..., -1], scores, k)
    there = values[0].isfinite()
    assert found[0][there].tolist() == [item for item, _ in expected]
    assert values[0][there].tolist() == [score for _, score in expected]


@settings(max_examples=60)
@given(prefix_free_rows(), st.data())
def test_a_part_keeps_its_rows_and_parts_join_to_the_whole(rows: list[Row], data: st.DataObject):
    trie = CatalogueTrie(padded(rows))
    chosen = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1))
    rest = set(range(len(rows))) - chosen
    part = trie.subset(torch.tensor(sorted(chosen)))
    assert part.num_items == len(chosen)
    assert part.find(padded(rows)).tolist() == [item if item in chosen else -1 for item in range(len(rows))]
    if rest:
        whole = part.union(trie.subset(torch.tensor(sorted(rest))))
        assert {name: buffer.tolist() for name, buffer in whole.named_buffers()} == {
            name: buffer.tolist() for name, buffer in trie.named_buffers()
        }
    with pytest.raises(ValueError, match=f"the trie has no item {len(rows)}"):
        trie.subset(torch.tensor([len(rows)]))


def test_tries_that_disagree_about_an_item_do_not_join():
    one, other = CatalogueTrie(torch.tensor([[1, 2], [3, 4]])), CatalogueTrie(torch.tensor([[1, 2], [3, 5]]))
    with pytest.raises(ValueError, match="item 1 has another sequence"):
        one.union(other)


def test_a_state_is_loaded_by_a_trie_of_any_size():
    trie = CatalogueTrie(padded([(1, 2), (1, 3, 4), (5, 6), (7, 7)]))
    loaded = CatalogueTrie(torch.tensor([[0]]))
    loaded.load_state_dict(trie.state_dict())
    assert (loaded.levels, loaded.num_items, loaded.ends_at) == (3, 4, trie.ends_at)
    assert loaded.find(trie.token_sequences(torch.arange(4))).tolist() == [0, 1, 2, 3]


def test_a_large_catalogue_takes_few_bytes_an_item():
    numbers = torch.randperm(256**3, generator=torch.Generator().manual_seed(0))[:600_000]
    trie = CatalogueTrie(torch.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], dim=1))
    assert sum(buffer.numel() * buffer.element_size() for buffer in trie.buffers()) <= 32 * 600_000
    some = torch.randperm(600_000, generator=torch.Generator().manual_seed(1))[:1000]
    assert trie.find(trie.token_sequences(some)).tolist() == some.tolist()


def test_without_leave_duplicates_are_refused():
    with pytest.raises(ValueError, match="same tokens"):
        CatalogueTrie(padded([(0, 1), (0, 1)]))
