"""Every causal language model of transformers: ranked by its own scores, or refused in a line; never a wrong score."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from support import decoders, tiny

from dig.config import UserError
from dig.config.schema import BackboneConfig
from dig.generation import CatalogueTrie, beam_search, sample_groups, score, score_catalogue
from dig.generation.backbone import Backbone, IntRRBackbone, build_backbone, load_backbone
from dig.generation.causal_paths import CausalPathModel, ReplicatedPathModel, next_token_loss, without_cache
from dig.generation.factory import PathModelError, as_path_model, choose_paths
from dig.generation.intrr_paths import IntRRPathModel
from dig.generation.t5_paths import T5PathModel

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")
HEADINGS = {
    "tree": "Paths share a row",
    "alone": "Each path is a sequence of its own",
    "refused": "Refused",
    "untried": "Not built small here",
}
LISTED = {
    kind: set(re.findall(r"`([^`]+)`", re.search(rf"\*\*{text}\*\* \(\d+\): (.*?)\n\n", PAGE, re.DOTALL)[1]))
    for kind, text in HEADINGS.items()
}
SIZES = [4, 4, 4]
CODES = torch.tensor([[a, b, (a + b) % 4] for a in range(4) for b in range(3)])


def small(model_type: str, noise: float = 0.1) -> Backbone:
    """A backbone from scratch with noise on its weights, which come after the check, so that scores are far apart."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(config=decoders.small_config(model_type)), SIZES, 64)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter += noise * torch.randn_like(parameter)
    backbone.model.eval()
    return backbone


def own_log_probs(backbone: Backbone, prompt: torch.Tensor) -> torch.Tensor:
    """(items,) by the model's own forward pass over the prompt and each item, without padding, mask and cache."""
    spelled = backbone.vocabulary.encode(CODES)
    rows = torch.cat([prompt.expand(len(spelled), -1), spelled], dim=1)
    logits = backbone.model(input_ids=rows, **without_cache(backbone.model)).logits[:, len(prompt) - 1 : -1].float()
    return logits.log_softmax(dim=-1).gather(2, spelled.unsqueeze(2)).sum(dim=(1, 2))


@pytest.mark.parametrize("model_type", decoders.small_types())
def test_scores_are_the_models_own_or_it_is_refused(model_type: str, capsys: pytest.CaptureFixture[str]):
    """Entry 14: no architecture is scored wrongly or stops in a traceback, and the page says which is which."""
    try:
        backbone = small(model_type)
    except UserError as error:
        message = str(error)
        assert message.startswith("backbone.config") and model_type in message and "\n" not in message
        assert len(message.split()) > 8 and error.exit_code == 2
        assert model_type in LISTED["refused"], message
        return
    kind = "tree" if choose_paths(backbone.model).because is None else "alone"
    assert model_type in LISTED[kind], choose_paths(backbone.model).because
    said = [line for line in capsys.readouterr().out.splitlines() if "slower, exact" in line]
    assert len(said) == (kind == "alone")
    trie = CatalogueTrie(backbone.vocabulary.encode(CODES))
    prompts = [torch.randint(6, 18, (length,), generator=torch.Generator().manual_seed(length)) for length in (9, 5)]
    # the short one is padded on either side
    sides = [tiny.padded(prompts, side) for side in ("left", "right")]
    ids, mask = (torch.cat([left, right[1:]]) for left, right in zip(*sides, strict=True))
    found = beam_search(backbone.model, ids, mask, trie, len(CODES), normalise="vocabulary")
    with torch.no_grad():
        own = [own_log_probs(backbone, prompt) for prompt in prompts]
    for row, expected in enumerate((own[0], own[1], own[1])):
        torch.testing.assert_close(found.log_probs[row], expected[found.items[row]], atol=2e-4, rtol=1e-4)


def test_the_page_lists_every_type_once():
    names = [name for group in LISTED.values() for name in group]
    assert sorted(names) == sorted(decoders.small_types() + list(decoders.NOT_SMALL))
    counts = {kind: int(re.search(rf"\*\*{text}\*\* \((\d+)\)", PAGE)[1]) for kind, text in HEADINGS.items()}
    assert counts == {kind: len(group) for kind, group in LISTED.items()}
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{counts['tree'] + counts['alone']} of transformers' {len(names)}" in readme


@pytest.mark.parametrize("model_type", ["mpt", "modernbert-decoder", "qwen3_5_text", "mamba", "bloom"])
def test_paths_alone_sample_score_rank_and_train_as_the_model(model_type: str):
    """Entry 14: GRPO's rollouts and scores, exact ranking and the training loss, with gradients."""
    backbone = small(model_type)
    model, tokens = backbone.model, backbone.vocabulary.encode(CODES)
    trie, prompts = CatalogueTrie(tokens), [torch.tensor([1, 7, 12, 17]), torch.tensor([1, 8])]
    ids, mask = tiny.padded(prompts, "right")
    assert isinstance(as_path_model(model), ReplicatedPathModel)
    slow = torch.stack([tiny.replicated_log_probs(model, prompt, tokens) for prompt in prompts])
    exact = slow.sum(dim=-1).detach()
    torch.testing.assert_close(score_catalogue(model, ids, mask, trie, chunk=5), exact, atol=1e-4, rtol=1e-4)
    drawn = sample_groups(model, ids, mask, trie, 6, generator=torch.Generator().manual_seed(0))
    of_drawn = exact.gather(1, drawn.items)
    torch.testing.assert_close(drawn.log_probs.sum(dim=-1), of_drawn, atol=1e-4, rtol=1e-4)

    items = torch.tensor([[3, 0], [11, 5]])
    slow[torch.arange(2).unsqueeze(1), items].sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    score(model, ids, mask, trie, items).sum().backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-3, rtol=1e-3, msg=name)

    # two samples packed in one row, and padding behind them: the loss of each alone
    samples = [torch.tensor([1, 7, 12, 17, 2]), torch.tensor([1, 8, 13, 2])]
    packed = torch.cat([*samples, torch.tensor([0])]).unsqueeze(0)
    sample = torch.tensor([[1] * 5 + [2] * 4 + [0]])
    labels = packed.masked_fill((sample == 0) | (packed == 1), -100)
    with torch.no_grad():
        loss = next_token_loss(as_path_model(model), tiny.training_tokens(packed, sample, labels))
        logits = [model(input_ids=row.unsqueeze(0)).logits[0, :-1].float() for row in samples]
        losses = [
            torch.nn.functional.cross_entropy(each, row[1:], reduction="sum")
            for each, row in zip(logits, samples, strict=True)
        ]
    torch.testing.assert_close(loss, sum(losses) / 7, atol=1e-4, rtol=1e-4)


def test_a_tree_made_by_hand_is_confirmed():
    model = small("mpt").model
    trie = CatalogueTrie(torch.tensor([[6, 10], [7, 11]]))
    with pytest.raises(PathModelError, match=r"paths of a mpt cannot share a row .*off by .*; pass the model itself"):
        beam_search(CausalPathModel(model), torch.tensor([[1, 7]]), torch.ones(1, 2), trie, 2)


def test_weights_that_are_not_numbers_are_left_to_those_who_use_them():
    model = tiny.tiny_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    assert choose_paths(model).because is None


def test_a_model_in_training_goes_back_to_it_and_is_asked_once():
    model = tiny.tiny_model("llama").train()
    model.model.norm.eval()
    assert choose_paths(model) is choose_paths(model)
    assert model.training and model.lm_head.training and not model.model.norm.training


def test_a_window_by_another_name_is_not_taken_for_none():
    """Entry 14: GPT-Neo bounds attention by places, which a short prompt does not show."""
    backbone = small("gpt_neo")
    assert choose_paths(backbone.model).because == "attention is bound by its window_size"
    long = torch.randint(6, 18, (40,), generator=torch.Generator().manual_seed(0))
    found = beam_search(
        backbone.model,
        long.unsqueeze(0),
        torch.ones(1, 40),
        CatalogueTrie(backbone.vocabulary.encode(CODES)),
        12,
        normalise="vocabulary",
    )
    with torch.no_grad():
        torch.testing.assert_close(found.log_probs[0], own_log_probs(backbone, long)[found.items[0]], atol=2e-4, rtol=0)


def test_a_view_that_is_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    """Fault injection: a T5 without its correction of biases, and a decoder whose logits are not rescaled."""
    assert choose_paths(tiny.tiny_encoder_decoder("t5")).because is None
    monkeypatch.setattr(T5PathModel, "_bias", lambda self, distance: torch.zeros(1, 1, *distance.shape))
    with pytest.raises(PathModelError, match="a t5 cannot be scored: log-probabilities are off by"):
        choose_paths(tiny.tiny_encoder_decoder("t5"))
    monkeypatch.setattr(CausalPathModel, "_finish", lambda self, logits: logits)
    model = tiny.tiny_model("cohere", logit_scale=0.3)
    view = as_path_model(model)
    assert isinstance(view, ReplicatedPathModel) and view.whole
    tokens = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(view.logits(view.hidden(tokens, torch.ones_like(tokens))), model(tokens).logits)


def test_an_intrr_is_checked_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ids = tiny.ragged_catalogue()
    IntRRBackbone(tiny.tiny_intrr(ids)).save(tmp_path)
    load_backbone(tmp_path, ids.sizes)
    monkeypatch.setattr(IntRRPathModel, "after_codes", lambda self, condition, guidance, depth: condition + depth)
    # the walk code by code goes astray; the pass over whole paths does not
    monkeypatch.setattr(
        IntRRPathModel,
        "after",
        lambda self, guidance, tokens: guidance.unsqueeze(2).expand(-1, 2, tokens.shape[-1], -1),
    )
    with pytest.raises(UserError, match="an IntRR cannot be scored: states are off by"):
        load_backbone(tmp_path, ids.sizes)
