"""TIGER: the tokens by hand, exact rankings, nothing of the history where that is asked, bad settings in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny

from datamodules.item_sequences import HistoryTokens
from dig.config import UserError, load_config
from dig.quantization import SemanticIds
from dig.recommenders.tiger import TigerConfig
from dig.recommenders.tiger.model import PAD, Tiger, build_t5, load_t5, sid_vocabulary

IDS = tiny.ragged_catalogue()
CONFIG = TigerConfig(layers=2, d_model=32, d_ff=64, heads=2, d_kv=8)
HISTORIES = [np.array(row, dtype=np.int64) for row in ([0, 1, 2, 3, 4, 5], [7], [8, 9, 8], [23, 22])]


def tiger(ids: SemanticIds = IDS, num_beams: int = 24, **named: Any) -> Tiger:
    torch.manual_seed(0)
    model = build_t5(ids.sizes, CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn_like(parameter)  # keeps scores apart
    tokens = HistoryTokens(sid_vocabulary(ids.sizes).encode(ids.codes), max_history=4, pad_id=PAD)
    return Tiger(model, tokens, num_beams, device="cpu", **named)


def brute_force(ranker: Tiger, history: np.ndarray) -> torch.Tensor:
    """(items,) log-probabilities, every item behind its own copy of the history."""
    table = ranker.tokens.item_tokens
    read = torch.tensor([token for item in history[-4:] for token in table[item].tolist() if token >= 0])
    with torch.no_grad():
        return tiny.replicated_log_probs(ranker.model, read, table).sum(dim=1)


def test_every_code_of_every_level_has_a_token_behind_the_two_special_ones():
    vocabulary = sid_vocabulary([3, 2, 4])
    assert vocabulary.first_ids == (2, 5, 7)
    codes = torch.tensor([[0, 0, 0], [2, 1, 3], [1, 0, -1]])
    assert vocabulary.encode(codes).tolist() == [[2, 5, 7], [4, 6, 10], [3, 5, -1]]
    config = build_t5([3, 2, 4], CONFIG).config
    assert config.vocab_size == 11
    assert (config.pad_token_id, config.decoder_start_token_id) == (PAD, 1)


def test_the_model_has_the_sizes_asked_for():
    settings = TigerConfig(layers=3, d_model=24, d_ff=40, heads=5, d_kv=6, dropout=0.3)
    config = build_t5([4, 4], settings).config
    found = (config.num_layers, config.num_decoder_layers, config.d_model, config.d_ff, config.num_heads, config.d_kv)
    assert found == (3, 3, 24, 40, 5, 6)
    assert config.dropout_rate == 0.3 and config.dense_act_fn == "relu"


def test_ranks_by_the_probability_of_each_item():
    ranker = tiger()
    items, scores = ranker.rank(HISTORIES, 24)
    for row, history in enumerate(HISTORIES):
        expected, order = brute_force(ranker, history).sort(descending=True)
        assert items[row].tolist() == order.tolist()
        torch.testing.assert_close(scores[row], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(len(HISTORIES)))


def test_a_history_alone_is_ranked_as_in_a_batch():
    together = tiger().rank(HISTORIES, 10)
    apart = [tiger().rank([history], 10) for history in HISTORIES]
    batches = tiger(batch_size=2).rank(HISTORIES, 10)
    for found in ((torch.cat([items for items, _ in apart]), torch.cat([scores for _, scores in apart])), batches):
        assert torch.equal(found[0], together[0])
        torch.testing.assert_close(found[1], together[1], atol=1e-5, rtol=1e-5)


def test_a_longer_history_loses_its_old_end():
    first, second = (tiger().rank([np.array([*old, 2, 3, 4, 5])], 5)[1] for old in ([], [0, 1, 9]))
    torch.testing.assert_close(first, second)


def test_without_the_history_the_others_keep_their_order():
    ranker = tiger()
    kept, _ = ranker.rank(HISTORIES, 24)
    items, scores = ranker.rank_unseen(HISTORIES, 24)
    for row, history in enumerate(HISTORIES):
        bought = set(history.tolist())
        named = [item for item in items[row].tolist() if item >= 0]
        assert set(named) == set(range(24)) - bought  # all of the history is banned, what the model no longer reads too
        assert (items[row, len(named) :] == -1).all() and (scores[row, len(named) :] == float("-inf")).all()
        assert torch.isclose(scores[row, : len(named)].exp().sum(), torch.ones(()), atol=1e-4)
    assert (kept[0] != items[0]).any()


def test_more_items_than_beams_widen_the_search_and_more_than_the_catalogue_end_it():
    items, scores = tiger(num_beams=3).rank(HISTORIES, 30)
    wide, _ = tiger(num_beams=24).rank(HISTORIES, 24)
    assert torch.equal(items[:, :24], wide)
    assert (items[:, 24:] == -1).all() and (scores[:, 24:] == float("-inf")).all()


def test_items_that_share_their_codes_are_all_named():
    codes = torch.tensor([[0, 1], [0, 1], [2, 3], [1, 1]])
    ids = SemanticIds.from_codes(["a", "b", "c", "d"], codes, [4, 4], duplicates=True)
    items, scores = tiger(ids, num_beams=4).rank([np.array([2])], 4)
    assert sorted(items[0].tolist()) == [0, 1, 2, 3]
    places = [items[0].tolist().index(duplicate) for duplicate in (0, 1)]
    assert places[1] == places[0] + 1 and scores[0, places[0]] == scores[0, places[1]]


def test_a_saved_model_ranks_the_same(tmp_path: Path):
    ranker = tiger()
    ranker.model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    again = Tiger(load_t5(tmp_path), ranker.tokens, 24, device="cpu")
    for found, expected in zip(again.rank(HISTORIES, 24), ranker.rank(HISTORIES, 24), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tiger.layers=0", "tiger.layers must be above 0, it is 0"),
        ("tiger.heads=-1", "tiger.heads must be above 0, it is -1"),
        ("tiger.dropout=1", "tiger.dropout must be at least 0 and below 1, it is 1.0"),
        ("tiger.dropout=1.5", "tiger.dropout must be at least 0 and below 1, it is 1.5"),
        ("tiger.label_smoothing=-0.1", "tiger.label_smoothing must lie between 0 and 1, it is -0.1"),
        ("tiger.warmup_steps=-1", "tiger.warmup_steps must not be negative, it is -1"),
        ("tiger.weight_decay=-1", "tiger.weight_decay must not be negative, it is -1.0"),
        ("tiger.beams=20", "tiger.beams"),
        ("tigr.layers=2", "did you mean tiger"),
    ],
)
def test_bad_settings_get_one_line(override: str, expected: str):
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [override])
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
