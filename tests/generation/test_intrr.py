"""IntRR: beams and exact ranking against brute force, suffixes and duplicates, padding, memory, saved files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import tiny
from support.slow_intrr import DUPLICATES, FORMS, OURS, SUFFIXED, slow_log_probs, trie_of
from torch import Tensor

from dig.config import UserError
from dig.engine.catalogue import Catalogue, stamp_config
from dig.generation import CatalogueTrie, beam_search, sample_groups, score, score_catalogue
from dig.generation.backbone import IntRRBackbone, load_backbone
from dig.generation.factory import PathModelError, causal_paths
from dig.generation.intrr import intrr_vocabulary
from dig.generation.intrr_paths import IntRRPathModel
from dig.quantization import SemanticIds

HISTORIES = [[3, 1, 4], [7], [2, 2, 23, 0, 5, 11, 9, 8]]


def prompts(side: str = "right") -> tuple[Tensor, Tensor]:
    return tiny.padded([torch.tensor(history) for history in HISTORIES], side)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ids", [SUFFIXED, DUPLICATES], ids=["suffix", "duplicates"])
@torch.no_grad()
def test_every_item_has_its_exact_log_probability(form: dict, ids: SemanticIds):
    model, trie = tiny.tiny_intrr(ids, **form), trie_of(ids)
    exact = torch.stack([slow_log_probs(model, history, ids).sum(dim=1) for history in HISTORIES])
    for side in ("left", "right"):
        for chunk in (1, 5, 100):
            found = score_catalogue(model, *prompts(side), trie, chunk=chunk)
            torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-4)
    leaves = exact if not ids.duplicates else exact[:, trie.representatives(torch.arange(len(ids))).unique()]
    torch.testing.assert_close(leaves.exp().sum(dim=1), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ids", [SUFFIXED, DUPLICATES], ids=["suffix", "duplicates"])
@torch.no_grad()
def test_beams_for_all_items_are_brute_force_over_all_items(form: dict, ids: SemanticIds):
    model, trie = tiny.tiny_intrr(ids, **form), trie_of(ids)
    exact = torch.stack([slow_log_probs(model, history, ids).sum(dim=1) for history in HISTORIES])
    found = beam_search(model, *prompts(), trie, len(ids))
    assert all(set(row.tolist()) == set(range(len(ids))) for row in found.items)
    torch.testing.assert_close(found.log_probs, exact.gather(1, found.items), atol=1e-4, rtol=1e-4)
    assert (found.log_probs.diff(dim=1) <= 0).all()
    few = beam_search(model, *prompts(), trie, 6)
    torch.testing.assert_close(few.log_probs, exact.gather(1, few.items), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", [{}, OURS])
@torch.no_grad()
def test_a_code_that_leads_nowhere_is_never_taken(form: dict):
    """However much the network wants it: the suffix is one more level, masked by who has one."""
    model, trie = tiny.tiny_intrr(SUFFIXED, **form), trie_of(SUFFIXED)
    model.assign.codebooks[0][0] *= 50.0
    found = beam_search(model, *prompts(), trie, 24)
    assert all(sorted(row) == list(range(24)) for row in found.items.tolist())
    restricted = beam_search(
        model, *prompts(), trie, 24, restriction=trie.without(torch.tensor([[3, 1, 4], [7, -1, -1], [2, 23, 0]]))
    )
    for row, banned in zip(restricted.items.tolist(), ([3, 1, 4], [7], [2, 23, 0]), strict=True):
        assert not set(row) & set(banned) and len({item for item in row if item >= 0}) == 24 - len(banned)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_paths_in_one_pass_are_paths_step_by_step(form: dict):
    """`run_tree` (scores of GRPO) against `feed` (search and rollouts)."""
    model, trie = tiny.tiny_intrr(SUFFIXED, **form), trie_of(SUFFIXED)
    drawn = sample_groups(model, *prompts(), trie, 7, generator=torch.Generator().manual_seed(1))
    again = score(model, *prompts(), trie, drawn.items)
    torch.testing.assert_close(again, drawn.log_probs, atol=1e-5, rtol=1e-5)
    exact = torch.stack(
        [slow_log_probs(model, history, SUFFIXED)[items] for history, items in zip(HISTORIES, drawn.items, strict=True)]
    )
    torch.testing.assert_close(again, exact, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_remembered_is_what_is_computed_and_training_forgets_it():
    model, trie = tiny.tiny_intrr(SUFFIXED, **OURS), trie_of(SUFFIXED)
    before = score_catalogue(model, *prompts(), trie)
    model.remember()
    for _ in range(2):
        torch.testing.assert_close(score_catalogue(model, *prompts(), trie), before, atol=1e-6, rtol=1e-6)
    assert model.remembered is not None and model.tables
    assert not any("remembered" in name for name in model.state_dict())
    model.train()
    assert model.remembered is None and not model.tables
    model.eval().remember()
    model.assign.codebooks[1].neg_()
    model.remember()
    changed = score_catalogue(model, *prompts(), trie)
    model.forget()
    torch.testing.assert_close(score_catalogue(model, *prompts(), trie), changed, atol=1e-6, rtol=1e-6)
    assert (changed - before).abs().max() > 0.1


@torch.no_grad()
def test_no_history_is_guided_by_nothing():
    model, trie = tiny.tiny_intrr(SUFFIXED), trie_of(SUFFIXED)
    hidden = model.last_states(torch.tensor([[-1, -1], [3, 4]]))
    assert not hidden[0].any() and hidden[1].any()
    found = score_catalogue(model, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2), trie)
    torch.testing.assert_close(found.exp().sum(), torch.tensor(1.0))


def test_what_it_cannot_read_is_refused():
    model, trie = tiny.tiny_intrr(SUFFIXED), trie_of(SUFFIXED)
    long = torch.ones(1, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match="a history of 9 items is more than the 8 that the model reads"):
        beam_search(model, long, long, trie)
    foreign = CatalogueTrie(torch.tensor([[0, 99], [1, 98]]))
    with pytest.raises(ValueError, match="the catalogue has the token 99, the model only 1"):
        beam_search(model, *prompts(), foreign)
    with pytest.raises(PathModelError, match="IntRR is not a causal language model"):
        causal_paths(model)
    with pytest.raises(ValueError, match="only normalise=trie"):
        beam_search(tiny.tiny_intrr(SUFFIXED, **OURS), *prompts(), trie, normalise="vocabulary")


@torch.no_grad()
def test_the_plain_softmax_is_over_the_codes_of_all_levels():
    model, trie = tiny.tiny_intrr(SUFFIXED), trie_of(SUFFIXED)
    found = beam_search(model, *prompts(), trie, 24, normalise="vocabulary")
    view = IntRRPathModel(model)
    logits = view.logits(model.last_states(torch.tensor([HISTORIES[0]])))
    assert logits.shape == (1, sum(SUFFIXED.sizes))
    item = int(found.items[0, 0])
    tokens = trie.token_sequences(torch.tensor([item]))
    steps = view.after(model.last_states(torch.tensor([HISTORIES[0]])), tokens[:, :-1].clamp(min=0))
    states = [model.last_states(torch.tensor([HISTORIES[0]]))[0], *steps[0]]
    expected = sum(
        view.logits(state).log_softmax(dim=-1)[token]
        for state, token in zip(states, tokens[0].tolist(), strict=True)
        if token >= 0
    )
    torch.testing.assert_close(found.log_probs[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path):
    model, trie = tiny.tiny_intrr(SUFFIXED, **OURS), trie_of(SUFFIXED)
    IntRRBackbone(model).save(tmp_path)
    stamp_config(tmp_path, Catalogue.of(SUFFIXED.item_ids))
    again = load_backbone(tmp_path, SUFFIXED.sizes)
    assert isinstance(again, IntRRBackbone) and again.from_scratch
    assert again.vocabulary == intrr_vocabulary(SUFFIXED.sizes)
    found = [score_catalogue(each, *prompts(), trie) for each in (model, again.model)]
    assert torch.equal(found[0], found[1])
    with pytest.raises(UserError, match="it belongs to other Semantic IDs"):
        load_backbone(tmp_path, [9, 9, 9])


@torch.no_grad()
def test_a_task_is_a_vector_before_what_it_asks_about():
    model = tiny.tiny_intrr(SUFFIXED, tasks=2, **OURS)
    items = len(SUFFIXED)
    model.tasks.weight[1] = model.assigned(torch.tensor([9])).vectors[0]
    found, assigned = model.states(torch.tensor([[items + 1, 3, 1], [-1, 7, 2]]))
    expected, _ = model.states(torch.tensor([[9, 3, 1], [-1, 7, 2]]))
    torch.testing.assert_close(found, expected)
    assert assigned is not None and len(assigned.codes) == 4, "a task has no codes"
    other, _ = model.states(torch.tensor([[items, 3, 1], [-1, 7, 2]]))
    assert not torch.allclose(other[1:3], expected[1:3]) and torch.allclose(other[3:], expected[3:])
