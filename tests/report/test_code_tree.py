"""The picture of the codes: well formed, to scale, and without anything that came from an item."""

from xml.etree import ElementTree

import pytest
import torch

from dig.report.code_tree import code_tree_svg

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
    assert "level 1: 3 of 4 codes in use, at most 4 items a code" in words
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
