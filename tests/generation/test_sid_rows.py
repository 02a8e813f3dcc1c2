"""Where SID rows start: near tokens start near, in a fresh model and among words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support import tiny

from dig.config.schema import BackboneConfig, LoraConfig
from dig.generation.backbone import ItemTitles, build_backbone
from dig.generation.sid_rows import level_vectors

SIZES = [16, 12, 30]
GENERATOR = torch.Generator().manual_seed(1)
CODEBOOKS = [torch.randn(16, 24, generator=GENERATOR), 0.3 * torch.randn(12, 24, generator=GENERATOR)]
CODES = torch.stack([torch.arange(30) % 16, torch.arange(30) % 12], dim=1)
VECTORS = level_vectors(CODEBOOKS, CODES, 2, item_token=True)


def similarity(rows: torch.Tensor) -> torch.Tensor:
    rows = rows - rows.mean(dim=0)
    return F.cosine_similarity(rows.unsqueeze(0), rows.unsqueeze(1), dim=-1)


def agreement(rows: torch.Tensor, vectors: torch.Tensor) -> float:
    """Correlation of what is near in the rows with what is near in the vectors."""
    pairs = torch.triu_indices(len(rows), len(rows), 1)
    found = [similarity(each)[pairs[0], pairs[1]] for each in (rows, vectors)]
    return float(torch.corrcoef(torch.stack(found))[0, 1])


@pytest.mark.parametrize("tied", [True, False])
def test_a_code_starts_at_the_mean_of_its_items_titles(tmp_path: Path, tied: bool):
    """Written out by hand; what a title cannot tell stays among the words, and nothing else moves."""
    folder = tiny.pretrained_folder(tmp_path / "pretrained", tied=tied)
    titles = ["A customer bought", "these items, items,", None, "A user", "<a_1> customer"]
    codes = torch.tensor([[0, 0], [0, 1], [1, 1], [2, 1], [2, 2]])
    config = BackboneConfig(pretrained=str(folder), lora=LoraConfig(enabled=False))
    plain = build_backbone(config, [4, 3, 2], 16)
    started = build_backbone(config, [4, 3, 2], 16, titles=ItemTitles(titles, codes))
    words = plain.tokenizer.get_vocab()
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (getattr(backbone.model, table)().weight.detach() for backbone in (plain, started))
        text = {
            0: (before[words["A"]] + before[words["customer"]] + before[words["bought"]]) / 3,
            1: (before[words["these"]] + 2 * before[words["items,"]]) / 3,
            3: (before[words["A"]] + before[words["user"]]) / 2,
            4: before[words["customer"]],  # a Semantic ID in a title is not a word of it
        }
        expected = {
            "<a_0>": (text[0] + text[1]) / 2,
            "<a_2>": (text[3] + text[4]) / 2,
            "<b_0>": text[0],
            "<b_1>": (text[1] + text[3]) / 2,
            "<b_2>": text[4],
        }
        for token, row in expected.items():
            torch.testing.assert_close(after[words[token]], row)
        others = [number for token, number in words.items() if token not in expected]
        assert torch.equal(before[others], after[others])  # <a_1> has an item without a title, <a_3> none


def test_adapters_train_rows_that_start_at_texts(tmp_path: Path):
    folder = tiny.pretrained_folder(tmp_path / "pretrained")
    titles = ItemTitles(["A customer", "bought these"], torch.tensor([[0], [1]]))
    backbone = build_backbone(BackboneConfig(pretrained=str(folder)), [2], 16, titles=titles)
    words = backbone.tokenizer.get_vocab()
    table = backbone.model.get_input_embeddings()
    row = table(torch.tensor([words["<a_1>"]]))[0]
    torch.testing.assert_close(row, table(torch.tensor([words["bought"], words["these"]])).mean(dim=0))


def test_an_item_starts_at_the_sum_of_its_codes():
    assert [len(level) for level in VECTORS] == SIZES
    for item, (first, second) in enumerate(CODES.tolist()):
        torch.testing.assert_close(VECTORS[2][item], CODEBOOKS[0][first] + CODEBOOKS[1][second])
    assert len(level_vectors(CODEBOOKS, CODES, 2, item_token=False)) == 2
    alone = level_vectors(CODEBOOKS, CODES, 0, item_token=True)
    assert len(alone) == 1 and torch.equal(alone[0], VECTORS[2])


@pytest.mark.parametrize("tied", [True, False])
def test_a_fresh_model_starts_where_the_tokenizer_puts_its_tokens(tied: bool):
    shape = {
        "hidden_size": 256,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "tie_word_embeddings": tied,
    }
    torch.manual_seed(0)
    plain = build_backbone(BackboneConfig(config=shape), SIZES, 16)
    torch.manual_seed(0)
    started = build_backbone(BackboneConfig(config=shape), SIZES, 16, VECTORS)
    ids, begin = plain.vocabulary.ids, 0
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (getattr(backbone.model, table)().weight.detach() for backbone in (plain, started))
        others = torch.ones(len(before), dtype=torch.bool)
        others[ids] = False
        assert torch.equal(before[others], after[others])
        assert after[ids].std().item() == pytest.approx(0.02, rel=0.1)
        begin = 0
        for size, vectors in zip(SIZES, VECTORS, strict=True):
            rows = ids[begin : begin + size]
            assert agreement(after[rows], vectors) > 0.9 > 0.5 > abs(agreement(before[rows], vectors))
            begin += size
    again = build_backbone(BackboneConfig(config=shape), SIZES, 16, VECTORS)
    rows = again.model.get_input_embeddings().weight[ids]
    assert torch.equal(rows, started.model.get_input_embeddings().weight[ids])  # on every rank


def test_among_words_they_stay_near_the_mean_and_a_suffix_is_random(tmp_path: Path):
    tiny.pretrained_folder(tmp_path, "qwen2", rows=400)
    config = BackboneConfig(pretrained=str(tmp_path), lora=LoraConfig(enabled=False))
    plain = build_backbone(config, [16, 12, 4], 16)
    started = build_backbone(config, [16, 12, 4], 16, CODEBOOKS)
    rows = [
        backbone.model.get_input_embeddings().weight[backbone.vocabulary.ids].detach() for backbone in (plain, started)
    ]
    words = plain.model.get_input_embeddings().weight[: len(tiny.WORDS)]
    for found in rows:
        distance = (found - words.mean(dim=0)) / words.std()
        assert 0.08 < distance.std().item() < 0.13
    assert torch.equal(rows[0][28:], rows[1][28:])
    assert agreement(rows[1][:16], CODEBOOKS[0]) > agreement(rows[0][:16], CODEBOOKS[0]) + 0.4
