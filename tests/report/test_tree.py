"""The tree to walk through: its counts, its sampling, and its size for any catalogue."""

from __future__ import annotations

import json

import pytest
import torch

from dig.quantization import SemanticIds
from dig.report.tree import code_tree


def ids_of(codes: torch.Tensor, sizes: list[int], twins: bool = False) -> SemanticIds:
    return SemanticIds.from_codes([f"i{row}" for row in range(len(codes))], codes, sizes, twins)


def test_small_branches_list_their_items_with_the_rest_of_their_codes():
    tree = code_tree(ids_of(torch.tensor([[0, 1], [0, 2], [3, 0]]), [4, 4]), {"i0": "Pan", "i2": "Cup"})
    assert [(root.code, root.items, root.titles) for root in tree.roots] == [(0, 2, ["Pan", "i1"]), (3, 1, ["Cup"])]
    assert tree.below == [{"items": [["1", "Pan"], ["2", "i1"]]}, {"items": [["0", "Cup"]]}]


def test_large_branches_branch_on_with_the_largest_first():
    codes = torch.tensor([[0, 1, row] for row in range(9)] + [[0, 2, row] for row in range(20)])
    (below,) = code_tree(ids_of(codes, [1, 4, 32]), {}).below
    assert [(code, count) for code, count, *_ in below["branches"]] == [(2, 20), (1, 9)]
    third = below["branches"][1][2]["branches"]
    assert len(third) == 9 and third[0][2] == {"items": [["", "i0"]]}


def test_items_that_share_all_codes_are_listed_up_to_a_number_and_the_rest_counted():
    (below,) = code_tree(ids_of(torch.zeros(30, 2, dtype=torch.int64), [2, 2], twins=True), {}).below
    leaf = below["branches"][0][2]
    assert len(leaf["items"]) == 8 and leaf["more"] == 22


@pytest.mark.parametrize(("items", "size", "levels"), [(12_101, 256, 3), (60_000, 64, 4), (20_000, 4096, 2)])
def test_any_catalogue_fits_and_every_item_is_shown_or_counted(items: int, size: int, levels: int):
    codes = torch.randint(size, (items, levels), generator=torch.Generator().manual_seed(0))
    titles = {
        f"i{row}": f"A title of quite some length that goes on and on and is cut, number {row}" * 3
        for row in range(items)
    }
    tree = code_tree(ids_of(codes, [size] * levels), titles)
    assert len(json.dumps(tree.below)) < 1_500_000 and len(tree.roots) <= 512

    def counted(below: dict) -> int:
        inside = sum(counted(branch[2]) for branch in below.get("branches", ()))
        return inside + len(below.get("items", ())) + below.get("more", 0)

    shown = [(root.items, below) for root, below in zip(tree.roots, tree.below, strict=True) if below]
    assert shown and all(counted(below) == count for count, below in shown)
    if not tree.left_out:
        assert sum(root.items for root in tree.roots) == items
