"""The Semantic ID table: the suffix rule, look-up, and what is read from disk."""

from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.config.errors import UserError
from dig.quantization import SemanticIds, group_rows


def names(count: int) -> list[str]:
    return [f"item{row}" for row in range(count)]


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[torch.Tensor, list[int]]:
    """Codes with many collisions, and sizes that differ."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*[st.integers(0, size - 1) for size in sizes]), min_size=1, max_size=30))
    return torch.tensor(rows), sizes


def sequences(ids: SemanticIds) -> list[tuple[int, ...]]:
    return [tuple(code for code in row if code >= 0) for row in ids.codes.tolist()]


@settings(deadline=None, max_examples=60)
@given(catalogues())
def test_suffix_rule(catalogue: tuple[torch.Tensor, list[int]]):
    codes, sizes = catalogue
    ids = SemanticIds.from_codes(names(len(codes)), codes, sizes)
    content = [tuple(row) for row in codes.tolist()]
    counts, seen = Counter(content), Counter()
    for sequence, prefix in zip(sequences(ids), content, strict=True):
        if counts[prefix] == 1:
            assert sequence == prefix
        else:
            assert sequence == (*prefix, seen[prefix])  # 0, 1, … in catalogue order
            seen[prefix] += 1
    assert ids.levels == len(sizes)
    assert ids.sizes == (sizes if max(counts.values()) == 1 else [*sizes, max(counts.values())])
    assert ids.codes.shape == (len(codes), len(ids.sizes))
    assert ids.collision_rate == pytest.approx(sum(n for n in counts.values() if n > 1) / len(codes))


@settings(deadline=None, max_examples=60)
@given(catalogues())
def test_sequences_are_unique_and_prefix_free(catalogue: tuple[torch.Tensor, list[int]]):
    found = sequences(SemanticIds.from_codes(names(len(catalogue[0])), *catalogue))
    for row, sequence in enumerate(found):
        for other in found[:row] + found[row + 1 :]:
            assert other[: len(sequence)] != sequence


@settings(deadline=None, max_examples=60)
@given(catalogues(), st.data())
def test_find_is_brute_force(catalogue: tuple[torch.Tensor, list[int]], data: st.DataObject):
    ids = SemanticIds.from_codes(names(len(catalogue[0])), *catalogue)
    width = data.draw(st.sampled_from([ids.levels, ids.levels + 1]))
    anything = st.tuples(*[st.integers(-2, 5)] * width)
    known = [tuple(row + [-1] * (width - len(row)))[:width] for row in ids.codes.tolist()]
    queries = known + data.draw(st.lists(anything, max_size=20))
    rows = {sequence + (-1,) * (ids.levels + 1 - len(sequence)): row for row, sequence in enumerate(sequences(ids))}
    expected = [rows.get(query + (-1,) * (ids.levels + 1 - width), -1) for query in queries]
    assert ids.find(torch.tensor(queries)).tolist() == expected


def test_find_gives_every_item_itself():
    ids = SemanticIds.from_codes(names(500), torch.randint(0, 7, (500, 3)), [7, 7, 7])
    assert len(ids.sizes) == 4
    assert torch.equal(ids.find(ids.codes), torch.arange(500))


def test_codes_outside_the_sizes_are_no_neighbours_item():
    ids = SemanticIds.from_codes(names(6), torch.cartesian_prod(torch.arange(2), torch.arange(3)), [2, 3])
    outside = torch.tensor([[0, 4], [0, 5], [0, 6], [1, -3], [-1, 4], [2, 0]])
    assert ids.find(outside).tolist() == [-1] * 6


def test_find_of_nothing_and_of_a_wrong_width():
    ids = SemanticIds.from_codes(names(2), torch.tensor([[0, 1], [1, 0]]), [2, 2])
    assert ids.find(torch.zeros(0, 2, dtype=torch.int64)).tolist() == []
    for width in (1, 4):
        with pytest.raises(ValueError, match="codes must be"):
            ids.find(torch.zeros(3, width, dtype=torch.int64))


def test_many_wide_levels_do_not_overflow():
    codes = torch.randint(0, 2**16, (1000, 8), generator=torch.Generator().manual_seed(0))
    codes[1, :7] = codes[0, :7]
    ids = SemanticIds.from_codes(names(1000), codes, [2**16] * 8)
    assert torch.equal(ids.find(codes), torch.arange(1000))
    assert ids.find(codes.flip(1)[:5]).tolist() == [-1] * 5


def test_group_rows():
    codes = torch.tensor([[3, 1], [0, 1], [3, 1], [3, -1], [0, 1]])
    groups = group_rows(codes).tolist()
    assert groups[0] == groups[2] and groups[1] == groups[4] and len(set(groups)) == 3
    assert sorted(set(groups)) == [0, 1, 2]
    assert group_rows(torch.zeros(0, 3, dtype=torch.int64)).tolist() == []


def test_equality():
    def made(**change: object) -> SemanticIds:
        values = {"item_ids": ["a", "b"], "codes": torch.tensor([[0, 1], [1, 0]]), "sizes": [2, 2], "levels": 2}
        return SemanticIds(**(values | change))  # type: ignore[arg-type]

    assert made() == made()
    assert made() != made(item_ids=["b", "a"])
    assert made() != made(codes=torch.tensor([[0, 1], [1, 1]]))
    assert made() != made(sizes=[2, 3])
    assert made() != "made"
    assert len(made()) == 2


@pytest.mark.parametrize("collide", [True, False])
def test_save_and_load_round_trip(tmp_path: Path, collide: bool):
    codes = torch.tensor([[0, 1], [1, 0], [0, 1] if collide else [0, 0], [1, 1]])
    ids = SemanticIds.from_codes(["a", "b", "ç", "d"], codes, [2, 3])
    ids.save(tmp_path / "ids.parquet")
    assert SemanticIds.load(tmp_path / "ids.parquet") == ids
    assert pl.read_parquet(tmp_path / "ids.parquet")["codes"].to_list() == [list(s) for s in sequences(ids)]


def frame(**change: object) -> pl.DataFrame:
    columns = {"item_id": ["a", "b", "c"], "codes": [[0, 1, 0], [0, 1, 1], [1, 0]]}
    columns |= {"sizes": [[2, 2, 2]] * 3, "levels": [2, 2, 2], "twins": [False] * 3}
    return pl.DataFrame(columns | change, strict=False)


def test_the_undamaged_frame_loads(tmp_path: Path):
    frame().write_parquet(tmp_path / "ids.parquet")
    assert SemanticIds.load(tmp_path / "ids.parquet").codes.tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, -1]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item_id": ["a", "b", "a"]}, "an item id repeats"),
        ({"item_id": ["a", None, "c"]}, "a value is missing"),
        ({"codes": [[0, 1, 0], [0, 1, 0], [1, 0]]}, "the same codes"),
        ({"codes": [[0, 1], [0, 1, 1], [1, 0]]}, "beginning of another"),
        ({"codes": [[0, 1, 0], [0, 1, 2], [1, 0]]}, "item 'b' has codes"),
        ({"codes": [[0, 1, 0], [0, 1, 1], [1, -1]]}, "item 'c' has codes"),
        ({"codes": [[0, 1, 0], [0, 1, 1], [1]]}, "2 to 3 codes each"),
        ({"codes": [[0, 1, 0], [0, 1, 1], [1, 0, 0, 0]]}, "2 to 3 codes each"),
        ({"codes": [[0, 1, 0], [0, None, 1], [1, 0]]}, "a value is missing"),
        ({"codes": ["x", "y", "z"]}, "no readable table"),
        ({"levels": [2, 2, 1]}, "the same in every row"),
        ({"levels": [1, 1, 1]}, "do not fit"),
    ],
)
def test_a_damaged_table_is_refused_by_name(tmp_path: Path, change: dict[str, object], reason: str):
    frame(**change).write_parquet(tmp_path / "ids.parquet")
    with pytest.raises(UserError, match=reason) as error:
        SemanticIds.load(tmp_path / "ids.parquet")
    assert "ids.parquet" in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "ids.parquet"
    with pytest.raises(UserError, match=r"ids\.parquet"):
        SemanticIds.load(path)
    frame().drop("levels").write_parquet(path)
    with pytest.raises(UserError, match=r"ids\.parquet"):
        SemanticIds.load(path)
    frame().clear().write_parquet(path)
    with pytest.raises(UserError, match="no item"):
        SemanticIds.load(path)
    frame().write_parquet(path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"ids\.parquet"):
        SemanticIds.load(path)


def test_a_table_that_keeps_collisions(tmp_path: Path):
    codes = torch.tensor([[0, 1], [2, 0], [0, 1], [0, 1]])
    ids = SemanticIds.from_codes(names(4), codes, [3, 2], duplicates=True)
    assert torch.equal(ids.codes, codes) and ids.sizes == [3, 2]
    assert ids.find(codes).tolist() == [0, 1, 0, 0], "of duplicates the first"
    ids.save(tmp_path / "ids.parquet")
    assert SemanticIds.load(tmp_path / "ids.parquet") == ids
    with pytest.raises(ValueError, match="same codes"):
        SemanticIds(names(4), codes, [3, 2], 2)
