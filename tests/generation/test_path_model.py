"""The interface of models that spell paths: every implementation answers all of it, and alike."""

from __future__ import annotations

import inspect

import pytest
import torch
from support import tiny
from support.slow_intrr import SUFFIXED, trie_of

from dig.generation import CatalogueTrie, PathModel, as_path_model
from dig.generation.causal_paths import CausalPathModel, ReplicatedPathModel
from dig.generation.decoder_paths import DecoderPathModel
from dig.generation.factory import PathModelError, causal_paths
from dig.generation.intrr_paths import IntRRPathModel
from dig.generation.t5_paths import T5PathModel

TRIE = CatalogueTrie(tiny.token_sequences(tiny.ragged_catalogue()))
KINDS = {
    CausalPathModel: (lambda: CausalPathModel(tiny.tiny_model("qwen2")), TRIE),
    DecoderPathModel: (lambda: DecoderPathModel(tiny.tiny_model("qwen2")), TRIE),
    ReplicatedPathModel: (lambda: ReplicatedPathModel(tiny.tiny_model("qwen2")), TRIE),
    T5PathModel: (lambda: T5PathModel(tiny.tiny_encoder_decoder("t5")), TRIE),
    IntRRPathModel: (lambda: IntRRPathModel(tiny.tiny_intrr(SUFFIXED)), trie_of(SUFFIXED)),
}
PROMPTS = [torch.tensor([5, 1, 9, 7]), torch.tensor([6, 2])]


def test_every_implementation_is_listed_here():
    kinds, open_ones = set(), [PathModel]
    while open_ones:
        below = open_ones.pop().__subclasses__()
        open_ones += below
        kinds |= {kind for kind in below if not inspect.isabstract(kind)}
    assert kinds == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@torch.no_grad()
def test_step_by_step_and_in_one_pass_states_and_scores_are_the_same(kind: type[PathModel]):
    make, trie = KINDS[kind]
    paths = make()
    assert isinstance(paths, kind) and isinstance(paths.model, torch.nn.Module)
    assert paths.context is None or paths.context > 0
    ids, mask = tiny.padded(PROMPTS, "left")
    nodes = trie.paths(torch.tensor([[3, 0, 7], [11, 5, 2]]))[..., :2]  # (batch, paths, levels)
    tokens = torch.stack([trie.tokens_at(nodes[..., depth], depth) for depth in range(2)], dim=-1)
    paths.check(trie.largest_token, mask, tokens.shape[-1])
    with pytest.raises(ValueError, match="the catalogue has the token 9999, the model only"):
        paths.check(9999, mask, tokens.shape[-1])

    after_prompt, after_tokens = paths.run_tree(ids, mask, tokens)
    state = paths.encode(ids, mask, spare=6)
    torch.testing.assert_close(state.hidden, after_prompt, atol=1e-4, rtol=1e-4)
    own = torch.arange(3).expand(2, -1)
    for _ in range(2):
        for depth in range(2):
            states = paths.feed(state, tokens[..., depth], own if depth else None, depth)
            torch.testing.assert_close(states, after_tokens[:, :, depth], atol=1e-4, rtol=1e-4)
        state.rewind()

    children, exists = trie.allowed(nodes[..., 0], 1)
    scores = paths.child_logits(after_tokens[:, :, 0], trie, nodes[..., 0], children, 1)
    every = paths.logits(after_tokens[:, :, 0])
    expected = every.gather(-1, trie.tokens_at(children.clamp(min=0), 1))
    torch.testing.assert_close(scores[exists], expected[exists], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@torch.no_grad()
def test_a_state_of_another_implementation_is_refused(kind: type[PathModel]):
    paths = KINDS[kind][0]()
    foreign = CausalPathModel if kind in (ReplicatedPathModel, IntRRPathModel) else IntRRPathModel
    state = KINDS[foreign][0]().encode(*tiny.padded(PROMPTS, "right"))
    with pytest.raises(TypeError, match="a state of another path model"):
        paths.feed(state, torch.tensor([[5], [6]]), None, 0)


def test_the_factory_gives_each_model_its_own():
    for model, kind in (
        (tiny.tiny_model("qwen2"), CausalPathModel),
        (tiny.tiny_encoder_decoder("t5"), T5PathModel),
        (tiny.tiny_intrr(SUFFIXED), IntRRPathModel),
    ):
        paths = as_path_model(model)
        assert type(paths) is kind and paths.model is model
        assert as_path_model(paths) is paths
    for other in (tiny.tiny_encoder_decoder("t5"), tiny.tiny_intrr(SUFFIXED)):
        with pytest.raises(PathModelError, match="is not a causal language model"):
            causal_paths(other)
