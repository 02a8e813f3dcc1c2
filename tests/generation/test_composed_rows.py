"""Composed rows: the sum that they stand for, its gradient, and the plain model that is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import tiny

from dig.config.schema import BackboneConfig
from dig.generation import CatalogueTrie, beam_search
from dig.generation.backbone import Backbone, build_backbone, load_backbone
from dig.generation.sid_rows import ComposedRows, compose_rows, fold_rows

IDS = tiny.ragged_catalogue()
SPELLED = IDS.with_item_codes(1)
CODES = IDS.codes[:, : IDS.levels]


def composed(tied: bool) -> tuple[Backbone, ComposedRows]:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(config=shape | {"tie_word_embeddings": tied}), SPELLED.sizes, 64)
    starts = [torch.randn(size, 32) for size in IDS.sizes[: IDS.levels]]
    rows = ComposedRows(starts, CODES, backbone.vocabulary.first_ids[-1])
    compose_rows(backbone.model, rows)
    return backbone, rows


@pytest.mark.parametrize("tied", [True, False])
def test_an_items_row_is_its_own_and_its_codes(tied: bool):
    backbone, rows = composed(tied)
    first = backbone.vocabulary.first_ids[-1]
    for layer in (backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()):
        own = layer.parametrizations.weight.original
        for item in range(len(IDS)):
            expected = own[first + item] + sum(rows.rows[level][code] for level, code in enumerate(CODES[item]))
            torch.testing.assert_close(layer.weight[first + item], expected)
        assert torch.equal(layer.weight[:first], own[:first]) and layer.weight.shape == own.shape


def test_a_logit_is_a_sum_of_heads_on_the_levels_and_learns_through_all_of_them():
    backbone, rows = composed(tied=True)
    hidden, item = torch.randn(32), 5
    token = backbone.vocabulary.first_ids[-1] + item
    logit = backbone.model.get_output_embeddings().weight[token] @ hidden
    heads = [rows.rows[level][code] @ hidden for level, code in enumerate(CODES[item])]
    own = backbone.model.get_input_embeddings().parametrizations.weight.original
    torch.testing.assert_close(logit, own[token] @ hidden + sum(heads))
    logit.backward()
    for level, code in enumerate(CODES[item]):
        torch.testing.assert_close(rows.rows[level].grad[code], hidden)
        assert rows.rows[level].grad.abs().sum(dim=1).count_nonzero() == 1
    torch.testing.assert_close(own.grad[token], hidden)


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_a_plain_model_that_ranks_the_same(tmp_path: Path, tied: bool):
    backbone, rows = composed(tied)
    backbone.model.eval()
    parameters = {id(parameter) for parameter in backbone.model.parameters()}
    assert {id(parameter) for parameter in rows.rows} <= parameters
    trie = CatalogueTrie(backbone.vocabulary.encode(SPELLED.codes))
    prompts, mask = torch.tensor([[1, 7, 12], [1, 8, 30]]), torch.ones(2, 3, dtype=torch.long)
    before = beam_search(backbone.model, prompts, mask, trie, 10)
    backbone.save(tmp_path)
    again = load_backbone(tmp_path, SPELLED.sizes)
    assert (again.model.get_output_embeddings().weight is again.model.get_input_embeddings().weight) == tied
    assert not any("parametrizations" in name for name in again.model.state_dict())
    for model in (backbone.model, again.model.eval()):
        after = beam_search(model, prompts, mask, trie, 10)
        assert torch.equal(after.items, before.items)
        torch.testing.assert_close(after.log_probs, before.log_probs, atol=1e-5, rtol=1e-5)
    fold_rows(backbone.model)  # once is enough
    assert torch.equal(beam_search(backbone.model, prompts, mask, trie, 10).log_probs, after.log_probs)
