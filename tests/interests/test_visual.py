"""Visual interests: vocabularies, calibration that holds, and its absence where there is nothing to learn from."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dig.config import UserError
from dig.interests import INTEREST_SCHEMA, mined_frame
from dig.interests.visual import frequent_phrases, read_vocabulary, visual_interests

PHRASES = [f"phrase {number}" for number in range(8)]


def mined(pairs: list[tuple[int, str]]) -> pl.DataFrame:
    rows = [(f"item{row}", text, "text", None, "lexical") for row, text in pairs]
    return mined_frame(rows)


def seen(items: int, noise: float) -> tuple[list[str], np.ndarray, pl.DataFrame]:
    """Pictures of one phrase each, which the item's own text says, too; every phrase has an offset of its own."""
    generator = np.random.default_rng(0)
    own = np.arange(items) % len(PHRASES)
    similarity = 0.02 * generator.normal(size=(items, len(PHRASES))) * noise + generator.normal(size=len(PHRASES))
    similarity[np.arange(items), own] += 0.05
    return [f"item{row}" for row in range(items)], similarity, mined([(row, PHRASES[own[row]]) for row in range(items)])


def test_the_phrase_that_a_picture_shows_comes_first_with_a_high_confidence():
    ids, similarity, texts = seen(160, noise=0.5)
    found = visual_interests(ids, similarity, PHRASES, texts, limit=2, min_confidence=0.5)
    assert found.interests.schema == INTEREST_SCHEMA
    first = found.interests.group_by("item_id", maintain_order=True).first()
    assert dict(first.select("item_id", "text").iter_rows()) == {f"item{row}": PHRASES[row % 8] for row in range(160)}
    assert set(found.interests["kind"]) == {"visual"} and set(found.interests["miner"]) == {"openclip"}
    assert found.report["roc_auc"] > 0.99 and found.interests["confidence"].min() >= 0.5


def test_confidence_is_calibrated():
    ids, similarity, texts = seen(800, noise=2.5)
    found = visual_interests(ids, similarity, PHRASES, texts, limit=8, min_confidence=0.0)
    assert 0.6 < found.report["roc_auc"] < 0.95
    truth = {(item, text) for item, text in texts.select("item_id", "text").iter_rows()}
    hits = np.array([(item, text) in truth for item, text in found.interests.select("item_id", "text").iter_rows()])
    promised = found.interests["confidence"].to_numpy()
    assert len(hits) == 800 * 8
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        inside = (promised >= low) & (promised < high)
        assert inside.sum() > 100
        assert hits[inside].mean() == pytest.approx(promised[inside].mean(), abs=0.05)
    assert found.report["calibration_error"] < 0.03


def test_without_texts_to_learn_from_there_is_no_confidence():
    ids, similarity, _ = seen(160, noise=0.1)
    found = visual_interests(ids, similarity, PHRASES, mined([(0, PHRASES[0])]), limit=1, min_confidence=0.5)
    assert not found.report["calibrated"] and found.report["positives"] == 1
    assert found.interests["confidence"].null_count() == len(found.interests) == 160
    assert found.interests["text"].to_list() == [PHRASES[row % 8] for row in range(160)]


def test_a_limit_of_interests():
    ids, similarity, texts = seen(160, noise=0.5)
    found = visual_interests(ids, similarity, PHRASES, texts, limit=3, min_confidence=0.0)
    assert set(found.interests.group_by("item_id").len()["len"]) == {3}
    ranked = found.interests.group_by("item_id", maintain_order=True).agg("confidence")["confidence"].to_list()
    assert all(sorted(row, reverse=True) == row for row in ranked)


def test_a_vocabulary_with_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "words.txt"
    file.write_text("# mine\nGold accents\n\nstripes  # a comment\n gold   ACCENTS \nstripes\n")
    assert read_vocabulary(file) == ["Gold accents", "stripes"]
    assert "2 of 4 phrases" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\x00"])
def test_a_vocabulary_without_a_phrase(tmp_path: Path, content: bytes):
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"visual\.vocabulary"):
        read_vocabulary(tmp_path / "words.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_vocabulary(tmp_path / "nowhere.txt")


def test_our_own_vocabulary_has_no_duplicates(capsys: pytest.CaptureFixture[str]):
    assert len(read_vocabulary(None)) > 50
    assert capsys.readouterr().out == ""


def test_frequent_phrases_are_those_of_several_items():
    texts = mined([(0, "Red"), (1, "red"), (2, "red"), (0, "blue"), (1, "blue"), (3, "rare")])
    assert frequent_phrases(texts, 5) == ["red", "blue"]
    assert frequent_phrases(texts, 1) == ["red"]
    assert frequent_phrases(texts, 0) == [] and frequent_phrases(mined([]), 5) == []
