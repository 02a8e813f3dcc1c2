"""Policies as rankers: histories left out inside the search, the same in any batch; answers in ids, with reasons."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from support import tiny

from datamodules.rollout_prompts import TrainingPrompts
from datamodules.sequences import HeldOutPrompts
from datamodules.splits import Sequences
from dig.config import UserError
from dig.config.schema import PromptConfig
from dig.evaluation import beams, evaluate
from dig.evaluation.harness import Harness, NotANumberError, Protocol
from dig.generation import NotFiniteError, beam_search, score_catalogue
from dig.interests import Interest, to_frame
from dig.recommender import PolicyRanker, Recommender

IDS = tiny.ragged_catalogue()
HISTORIES = [np.array([3, 5]), np.array([0, 1, 2, 7, 9, 11, 14]), np.array([8]), np.array([4, 4, 6])]


def ranker(batch_size: int = 8, num_beams: int = 24) -> PolicyRanker:
    backbone = tiny.scratch_backbone(IDS)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return PolicyRanker(backbone, IDS, PromptConfig(), num_beams, batch_size, "cpu")


def recommender(interests: pl.DataFrame | None = None) -> Recommender:
    return Recommender(ranker(), IDS.item_ids, interests)


def test_logits_that_are_no_numbers_are_said(monkeypatch: pytest.MonkeyPatch):
    broken = ranker(batch_size=2)
    with torch.no_grad():
        next(broken.model.parameters()).fill_(float("nan"))
    harness = Harness(broken, [Protocol("test", unseen=False)], [1], 4)
    with pytest.raises(NotANumberError, match="example 31 has a NaN score"):
        harness.step(np.array([31, 32, 33, 34]), HISTORIES, np.zeros(4, np.int64))
    with pytest.raises(UserError, match="sft gives scores that are not numbers; its stage has to be trained again"):
        Recommender(broken, IDS.item_ids, stage="sft").recommend([[IDS.item_ids[0]]], 3)

    batches = iter([None, [1]])  # the second of the second batch of two
    search = beams.beam_search

    def fails(*arguments, **named):
        rows = next(batches)
        if rows:
            raise NotFiniteError(rows)
        return search(*arguments, **named)

    monkeypatch.setattr(beams, "beam_search", fails)
    with pytest.raises(NotANumberError, match="example 34 has"):
        Harness(ranker(batch_size=2), [Protocol("test", unseen=False)], [1], 4).step(
            np.array([31, 32, 33, 34]), HISTORIES, np.zeros(4, np.int64)
        )


def test_unseen_items_are_ranked_by_their_renormalised_probabilities():
    found = ranker()
    items, scores = found.rank_unseen(HISTORIES, 24)
    for row, history in enumerate(HISTORIES):
        prompts = found.builder.prompts([history])
        left = found.trie.without(torch.from_numpy(np.unique(history))[None])
        exact = score_catalogue(found.model, prompts.input_ids, prompts.attention_mask, found.trie, restriction=left)[0]
        kept = 24 - len(np.unique(history))
        torch.testing.assert_close(scores[row, :kept], exact[items[row, :kept]], atol=1e-4, rtol=1e-5)
        assert sorted(items[row, :kept].tolist()) == sorted(set(range(24)) - set(history.tolist()))
        assert (items[row, kept:] == -1).all()


def test_a_ranking_does_not_depend_on_its_batch():
    together, alone = ranker(num_beams=6), ranker(batch_size=1, num_beams=6)
    for way in ("rank", "rank_unseen"):
        assert torch.equal(getattr(together, way)(HISTORIES, 5)[0], getattr(alone, way)(HISTORIES, 5)[0])


def test_more_items_than_the_catalogue_has_end_in_minus_one():
    items, scores = ranker().rank(HISTORIES, 30)
    assert items.shape == scores.shape == (4, 30)
    assert (items[:, 24:] == -1).all() and torch.isneginf(scores[:, 24:]).all()


def test_the_harness_asks_for_unseen_items():
    found = evaluate(ranker(), HISTORIES, np.array([1, 3, 2, 9]), [5], 5, 2, mask_history=True)
    for row, history in enumerate(HISTORIES):
        assert not set(found.ranked[row].tolist()) & set(history.tolist())


def test_serving_spells_a_history_as_training_rollouts_and_evaluation_do(monkeypatch: pytest.MonkeyPatch):
    """Token ids of all four: SFT up to a target, GRPO, held-out users, the recommender."""
    served: list[list[int]] = []

    def note(model, input_ids, attention_mask, *rest, **named):
        served.extend(ids[mask > 0].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True))
        return beam_search(model, input_ids, attention_mask, *rest, **named)

    monkeypatch.setattr("dig.evaluation.beams.beam_search", note)
    found = ranker()
    sequences = Sequences.from_lists(["u", "v"], [[3, 5, 8, 1, 2], [9, 4, 7, 0]])
    held_out = HeldOutPrompts(sequences.held_out("valid"), found.builder)
    rollouts = TrainingPrompts(sequences, found.builder, per_user=99)
    samples = tiny.next_items(sequences, found.builder)
    for prompts in (held_out, rollouts):
        for index in range(len(prompts)):
            batch = prompts[[index]]
            history = prompts.examples.histories[index] if prompts is held_out else prompts.sources[0].asked[index]
            found.rank([np.asarray(history)], 3)
            assert served[-1] == batch.input_ids[0].tolist()
    windows = [samples[[index]].input_ids[0].tolist() for index in range(len(samples))]
    for ids in served[len(held_out) :]:  # every rollout prompt is the beginning of a training window
        assert any(window[: len(ids)] == ids for window in windows)


def test_a_recommendation_is_explained_by_what_it_shares_with_the_history():
    names = IDS.item_ids
    told = [(3, "slow mornings", 1), (5, "garden", 1), (8, "Slow Mornings", 1), (8, "garden", 0)]
    confidence = {"slow mornings": 0.5}
    interests = to_frame(
        [Interest(names[row], text, "text", confidence.get(text, 0.9), "m", label, 0.9) for row, text, label in told]
    )
    found = recommender(interests=interests)
    assert [entry.text for entry in found.interests([names[3], names[5]])] == ["garden", "slow mornings"]
    (reasons, nothing) = found.explain([names[3], names[5]], [names[8], names[0]])
    assert [(reason.interest, reason.because) for reason in reasons] == [("Slow Mornings", (names[3],))]
    assert nothing == [] and found.explain([names[3]], []) == []
    with pytest.raises(UserError, match="no item 'nothing'"):
        found.explain([names[3]], ["nothing"])
    with pytest.raises(UserError, match="without interests"):
        recommender().interests([names[3]])
