"""Ids of W&B runs: kept over interruptions, never shared by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.tracking.identity import kept_id, safe_name


def test_an_id_is_kept_and_another_folder_has_another(tmp_path: Path) -> None:
    first = kept_id(tmp_path / "a" / "id", "sft")
    assert first.startswith("sft-") and len(first) <= 64
    assert kept_id(tmp_path / "a" / "id", "sft") == first
    assert kept_id(tmp_path / "b" / "id", "sft") != first


@pytest.mark.parametrize("content", ["", "two words", "a/b", "x" * 65, "ä"])
def test_what_is_no_id_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "id").write_text(content, encoding="utf-8")
    made = kept_id(tmp_path / "id", "sft")
    assert made.startswith("sft-") and (tmp_path / "id").read_text().strip() == made


def test_names_of_artifacts() -> None:
    assert safe_name("my shop/2024: all") == "my-shop-2024-all"
    assert safe_name("quickstart-semantic-ids") == "quickstart-semantic-ids"
    assert safe_name("…") == "run"
