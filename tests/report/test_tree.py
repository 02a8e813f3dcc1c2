"""The picture of the codes: well formed, to scale, and without anything that came from an item."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import torch

from dig.quantization import SemanticIds
from dig.report.code_tree import code_tree_svg
from dig.report.tree import code_tree

SVG = "{http://www.w3.org/2000/svg}"
CODES = torch.tensor([[0, 1], [0, 1], [0, 0], [1, 1], [3, 0], [3, 0], [3, 1], [3, 1]])


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


def test_boxes_are_branches_to_scale():
    root = parsed(code_tree_svg(CODES, [4, 2]))
    rows: dict[str, list[float]] = {}
    for box in root.iter(f"{SVG}rect"):
        rows.setdefault(box.get("y"), []).append(float(box.get("width")))
    first, second = (rows[key] for key in sorted(rows, key=float))
    assert first == pytest.approx([270, 90, 360])  # three, one and four of eight items on 720 units
    assert second == pytest.approx([90, 180, 90, 180, 180])


def test_the_words_count_used_codes():
    words = " ".join(text.text for text in parsed(code_tree_svg(CODES, [4, 2])).iter(f"{SVG}text"))
    assert "level 1: 3 of 4 codes in use, at most 4 items per code" in words
    assert "level 2: 2 of 2 codes in use" in words
    assert "code tree of 8 items" in words


def test_bars_fall_from_the_most_used_code_and_a_line_shows_the_even_share():
    root = parsed(code_tree_svg(CODES, [4, 2]))
    points = [tuple(map(float, point.split(","))) for point in next(root.iter(f"{SVG}polygon")).get("points").split()]
    heights = [points[0][1] - y for _, y in points[1:-1:2]]
    assert heights == pytest.approx([70, 52.5, 17.5, 0], abs=0.02)  # 4, 3, 1 and 0 items
    even = points[0][1] - float(next(root.iter(f"{SVG}line")).get("y1"))
    assert even == pytest.approx(35, abs=0.02)


def test_a_large_catalogue_stays_small_on_disk():
    codes = torch.randint(256, (50_000, 3), generator=torch.Generator().manual_seed(0))
    assert len(code_tree_svg(codes, [256] * 3)) < 1_500_000


def test_suffixes_are_drawn_as_a_level():
    codes = torch.tensor([[0, -1], [1, 0], [1, 1]])
    assert len(list(parsed(code_tree_svg(codes, [2, 2])).iter(f"{SVG}rect"))) == 5


def ids_of(codes: torch.Tensor, sizes: list[int], duplicates: bool = False) -> SemanticIds:
    return SemanticIds.from_codes([f"i{row}" for row in range(len(codes))], codes, sizes, duplicates)


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
    (below,) = code_tree(ids_of(torch.zeros(30, 2, dtype=torch.int64), [2, 2], duplicates=True), {}).below
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
