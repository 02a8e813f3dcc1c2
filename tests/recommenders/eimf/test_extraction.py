"""Extraction of interests against slow loops in numpy: after every item, at the end, with padding, briefest too."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.extraction import (
    DynamicRouting,
    SelfAttentive,
    ages_after_every_item,
    ages_at_the_end,
    build_extraction,
    squash,
)

WIDTH, K, LONGEST = 6, 3, 7
LENGTHS = [7, 1, 2, 5]  # two of them shorter than K


def noisy(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module.eval()


def states() -> torch.Tensor:
    found = torch.randn(len(LENGTHS), LONGEST, WIDTH, generator=torch.Generator().manual_seed(0))
    for row, length in enumerate(LENGTHS):
        found[row, length:] = 0
    return found


def attentive() -> SelfAttentive:
    return noisy(SelfAttentive(WIDTH, 5, K, LONGEST))  # type: ignore[return-value]


def routing(iterations: int = 3) -> DynamicRouting:
    return noisy(DynamicRouting(WIDTH, K, iterations))  # type: ignore[return-value]


def slow_attention(module: SelfAttentive, history: np.ndarray) -> np.ndarray:
    """(K, width), item by item."""
    inner, outer, recency = (
        each.detach().numpy() for each in (module.inner.weight, module.outer.weight, module.recency)
    )
    interests = []
    for k in range(K):
        scores = [
            float(outer[k] @ np.tanh(inner @ state)) + float(recency[k, len(history) - 1 - place])
            for place, state in enumerate(history)
        ]
        weights = [math.exp(score) for score in scores]
        interests.append(sum(w * state for w, state in zip(weights, history, strict=True)) / sum(weights))
    return np.array(interests)


def slow_squash(vector: np.ndarray) -> np.ndarray:
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    return vector if length == 0 else length**2 / (1 + length**2) * vector / length


def slow_routing(module: DynamicRouting, history: np.ndarray) -> np.ndarray:
    """(K, width) by MIND's algorithm 1, with a matrix per interest and logits from 0."""
    matrices = module.votes.weight.detach().numpy().reshape(K, WIDTH, WIDTH)
    logits = np.zeros((K, len(history)))
    interests = np.zeros((K, WIDTH))
    for turn in range(module.iterations):
        for k in range(K):
            total = np.zeros(WIDTH)
            for place, state in enumerate(history):
                share = math.exp(logits[k, place]) / sum(math.exp(logits[other, place]) for other in range(K))
                total += share * (matrices[k] @ state)
            interests[k] = slow_squash(total)
        if turn + 1 < module.iterations:
            for k in range(K):
                for place, state in enumerate(history):
                    logits[k, place] += interests[k] @ (matrices[k] @ state)
    return interests


CASES = [(attentive, slow_attention), (routing, slow_routing), (lambda: routing(1), slow_routing)]


@pytest.mark.parametrize(("build", "slow"), CASES)
def test_after_every_item_it_is_the_slow_computation(build, slow):
    module, given = build(), states()
    with torch.no_grad():
        found = module(given, ages_after_every_item(LONGEST))
    for row, length in enumerate(LENGTHS):
        for place in range(length):
            expected = torch.from_numpy(slow(module, given[row, : place + 1].numpy())).float()
            torch.testing.assert_close(found[row, place], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("build", "slow"), CASES)
def test_at_the_end_it_is_the_same_without_padding(build, slow):
    module, given = build(), states()
    ages = ages_at_the_end(torch.tensor(LENGTHS), LONGEST)
    with torch.no_grad():
        found = module(given, ages).squeeze(1)
        alone = [
            module(given[row : row + 1, :length], ages[row : row + 1, :, :length])[0, 0]
            for row, length in enumerate(LENGTHS)
        ]
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-6, rtol=1e-5)
    for row, length in enumerate(LENGTHS):
        expected = torch.from_numpy(slow(module, given[row, :length].numpy())).float()
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("build", [attentive, routing])
def test_what_is_not_seen_has_no_gradient(build):
    module, given = build(), states().requires_grad_()
    module(given, ages_after_every_item(LONGEST))[0, 3].square().sum().backward()
    assert (given.grad[0, :4].abs().sum(dim=-1) > 0).all()
    assert (given.grad[0, 4:] == 0).all() and (given.grad[1:] == 0).all()


def test_gradients_of_routing_flow_through_the_last_round_alone():
    """With the shares of the last round held fixed, an interest is a squashed weighted sum."""
    module, given = routing(), states()[:1].requires_grad_()
    ages = ages_at_the_end(torch.tensor([LONGEST]), LONGEST)
    module(given, ages).sum().backward()
    found = given.grad.clone()
    given.grad = None
    votes = module.votes(given).view(1, LONGEST, K, WIDTH).transpose(1, 2)
    with torch.no_grad():
        shares = module._route(votes, (ages >= 0).unsqueeze(1))
    squash(shares @ votes).sum().backward()
    torch.testing.assert_close(given.grad, found)


@pytest.mark.parametrize("build", [attentive, routing])
def test_a_single_item_has_all_its_interests(build):
    module, given = build(), states()[1:2]
    with torch.no_grad():
        found = module(given[:, :1], ages_after_every_item(1))
    assert found.shape == (1, 1, K, WIDTH) and found.isfinite().all()


@pytest.mark.parametrize("build", [attentive, routing])
def test_nothing_seen_is_nothing(build):
    with torch.no_grad():
        found = build()(torch.zeros(2, 3, WIDTH), ages_at_the_end(torch.zeros(2, dtype=torch.int64), 3))
    assert (found == 0).all()


def test_ages_by_hand():
    assert ages_after_every_item(3).tolist() == [[[0, -1, -1], [1, 0, -1], [2, 1, 0]]]
    assert ages_at_the_end(torch.tensor([3, 1, 0]), 3).tolist() == [[[2, 1, 0]], [[0, -1, -1]], [[-1, -1, -1]]]


def test_squash_keeps_the_direction():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(squash(vectors), torch.tensor([[25 / 26 * 0.6, 25 / 26 * 0.8], [0.0, 0.0]]))


def test_the_configuration_chooses():
    assert isinstance(build_extraction(EIMFConfig()), SelfAttentive)
    found = build_extraction(EIMFConfig(extraction="dynamic_routing", routing_iterations=2, interests=5))
    assert isinstance(found, DynamicRouting) and (found.interests, found.iterations) == (5, 2)
