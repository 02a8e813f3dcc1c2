"""Advantages (by group, by batch, unscaled, term by term) and objectives by hand; a bandit whose optimum is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.rollouts import group_advantages, policy_objective, term_advantages
from dig.rollouts.objectives import has_variance

GROUPS = torch.tensor([[1.0, 3.0], [0.0, 0.0], [5.0, 1.0]])


def test_advantages_by_hand():
    found = group_advantages(torch.tensor([[1.0, 3.0], [0.0, 0.0], [5.0, 1.0]]), epsilon=0.5)
    torch.testing.assert_close(found, torch.tensor([[-1 / 1.5, 1 / 1.5], [0.0, 0.0], [2 / 2.5, -2 / 2.5]]))


def test_the_standard_deviation_is_the_populations():
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    expected = (rewards - 3.0) / (math.sqrt((4 + 1 + 9) / 3) + 1e-6)
    torch.testing.assert_close(group_advantages(rewards), expected)


@settings(max_examples=200, deadline=None)
@given(st.floats(-10, 10, width=32), st.integers(2, 33))
def test_a_group_of_equal_rewards_has_no_advantage_whatever_rounding_does(reward: float, group: int):
    rewards = torch.full((1, group), reward)
    assert not group_advantages(rewards).any()


def test_without_a_scale_rewards_are_centred_alone():
    assert group_advantages(GROUPS, scale="none").tolist() == [[-1, 1], [0, 0], [2, -2]]


def test_over_the_deviation_of_the_batch():
    deviation = math.sqrt((1 + 1 + 0 + 0 + 4 + 4) / 6)
    expected = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [2.0, -2.0]]) / (deviation + 0.5)
    torch.testing.assert_close(group_advantages(GROUPS, 0.5, "batch"), expected)


def test_the_deviation_of_the_batch_is_that_over_all_ranks():
    parts = GROUPS[:2], GROUPS[1:]  # two ranks with a group in common
    square = sum(group_advantages(part, scale="none").square().mean() for part in parts) / 2
    together = group_advantages(torch.cat(parts), scale="batch")
    apart = [group_advantages(part, scale="batch", over_ranks=lambda _: square) for part in parts]
    torch.testing.assert_close(torch.cat(apart), together)


def test_terms_apart_weigh_alike_however_much_each_varies():
    terms = {"hit": torch.tensor([[0.0, 100.0]]), "prefix": torch.tensor([[0.02, 0.01]])}
    found = term_advantages(terms, {"hit": 1.0, "prefix": 0.5})
    torch.testing.assert_close(found, torch.tensor([[-1.0 + 0.5, 1.0 - 0.5]]), atol=1e-3, rtol=0)
    together = group_advantages(torch.stack(list(terms.values())).sum(dim=0))
    torch.testing.assert_close(together, torch.tensor([[-1.0, 1.0]]), atol=1e-3, rtol=0)


def test_a_group_teaches_as_soon_as_any_term_varies():
    terms = {"hit": torch.zeros(1, 3), "prefix": torch.tensor([[0.0, 0.1, 0.1]])}
    assert has_variance(term_advantages(terms, {"hit": 1.0, "prefix": 0.2})).tolist() == [True]
    assert has_variance(GROUPS).tolist() == [True, False, True]


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="not by 'std'"):
        group_advantages(GROUPS, scale="std")


def test_a_dead_group_gives_no_policy_gradient():
    log_probs = torch.randn(2, 5, 3).requires_grad_()
    advantages = group_advantages(torch.full((2, 5), 0.2 / 3))
    result = policy_objective(log_probs, log_probs.detach(), log_probs.detach(), advantages, kl_weight=0.0)
    result.loss.backward()
    assert result.loss.item() == 0.0 and not log_probs.grad.any()


def objective(ratio: float, advantage: float, reference_ratio: float = 1.0, kl_weight: float = 0.0):
    """One rollout of two levels whose sequence ratio is ``ratio``, the reference ``reference_ratio`` above it."""
    log_probs = torch.tensor([[[-1.0, -2.0]]])
    old = log_probs - torch.tensor([0.25, 0.75]) * math.log(ratio)
    reference = log_probs + torch.tensor([0.0, math.log(reference_ratio)])
    return policy_objective(log_probs, old, reference, torch.tensor([[advantage]]), 0.2, kl_weight)


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "clipped"),
    [
        (1.0, 2.0, 2.0, 0),
        (1.1, 2.0, 2.2, 0),
        (1.5, 2.0, 2.4, 1),  # no more than 1.2
        (0.5, 2.0, 1.0, 0),  # a good rollout that became unlikely is not clipped
        (0.5, -2.0, -1.6, 1),  # no less than 0.8
        (1.5, -2.0, -3.0, 0),  # a bad rollout that became likely is not clipped
    ],
)
def test_the_clipped_ratio_of_the_sequence(ratio: float, advantage: float, surrogate: float, clipped: int):
    found = objective(ratio, advantage)
    assert found.loss.item() == pytest.approx(-surrogate, rel=1e-5)
    assert found.ratio.item() == pytest.approx(ratio, rel=1e-5)
    assert found.clip_ratio.item() == clipped and found.kl.item() == 0.0


@pytest.mark.parametrize("reference_ratio", [0.3, 1.0, 4.0])
def test_the_k3_estimate_by_hand(reference_ratio: float):
    kl = reference_ratio - math.log(reference_ratio) - 1.0
    found = objective(1.0, 2.0, reference_ratio, kl_weight=0.25)
    assert found.kl.item() == pytest.approx(kl, abs=1e-6)
    assert found.loss.item() == pytest.approx(-(2.0 - 0.25 * kl), abs=1e-6)
    assert not found.kl.requires_grad


def test_the_loss_is_the_mean_over_all_rollouts():
    log_probs = torch.zeros(2, 2, 1)
    old = -torch.tensor([[1.0, 1.1], [1.5, 0.5]]).log().unsqueeze(-1)
    advantages = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    found = policy_objective(log_probs, old, log_probs, advantages, 0.2, 0.0)
    assert found.loss.item() == pytest.approx(-(1.0 - 1.1 + 1.2 - 0.8) / 4, rel=1e-5)
    assert found.clip_ratio.item() == 0.5


def test_a_missing_level_counts_nothing():
    generator = torch.Generator().manual_seed(0)
    log_probs, old, reference = torch.randn(3, 2, 4, 2, generator=generator)
    advantages = torch.randn(2, 4, generator=generator)
    longer = [torch.cat([value, torch.zeros(2, 4, 1)], dim=2) for value in (log_probs, old, reference)]
    short, long = policy_objective(log_probs, old, reference, advantages), policy_objective(*longer, advantages)
    assert short.loss == long.loss and short.kl == long.kl


REWARDS = torch.tensor([0.1, 0.9, 0.4, 0.2])


def test_the_gradient_is_that_of_a_softmax_bandit():
    """With every arm drawn once under a uniform policy: dL/dlogits = −mean_a A_a (1[a] − π)."""
    logits = torch.zeros(4, requires_grad=True)
    advantages = group_advantages(REWARDS.unsqueeze(0))
    log_probs = logits.log_softmax(dim=0).view(1, 4, 1)
    policy_objective(log_probs, log_probs.detach(), log_probs.detach(), advantages, kl_weight=0.3).loss.backward()
    eye, policy = torch.eye(4), torch.full((4,), 0.25)
    expected = -(advantages[0].unsqueeze(1) * (eye - policy)).mean(dim=0)  # at the reference the KL's gradient is 0
    torch.testing.assert_close(logits.grad, expected, atol=1e-6, rtol=1e-5)


def test_the_kl_term_pulls_back_to_the_reference():
    logits = torch.tensor([2.0, 0.0, -1.0], requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    reference = torch.tensor([0.2, 0.5, 0.3]).log()
    for _ in range(400):
        log_probs = logits.log_softmax(dim=0).view(1, 3, 1)
        result = policy_objective(log_probs, log_probs.detach(), reference.view(1, 3, 1), torch.zeros(1, 3), 0.2, 1.0)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
    torch.testing.assert_close(logits.softmax(dim=0), reference.exp(), atol=1e-3, rtol=0)


def test_a_bandit_converges_to_its_best_arm():
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    reference = torch.full((4,), 0.25).log()
    for _ in range(150):
        with torch.no_grad():
            policy = logits.softmax(dim=0)
            arms = policy.multinomial(8, replacement=True, generator=generator).view(1, 8)
            old = policy.log()[arms].unsqueeze(-1)
        advantages = group_advantages(REWARDS[arms])
        for _ in range(2):
            log_probs = logits.log_softmax(dim=0)[arms].unsqueeze(-1)
            result = policy_objective(log_probs, old, reference[arms].unsqueeze(-1), advantages)
            optimizer.zero_grad()
            result.loss.backward()
            optimizer.step()
    assert logits.softmax(dim=0)[1] > 0.95


# Two rollouts: the first has two tokens, the second all three.
RATIOS = torch.tensor([[[1.1, 0.7, 1.0], [1.5, 0.9, 1.3]]])
PRESENT = torch.tensor([[[True, True, False], [True, True, True]]])
GIVEN = torch.tensor([[2.0, -1.0]])


def of(objective: str, reference: torch.Tensor | None = None, high: float | None = None, low: float | None = 0.2):
    log_probs = torch.full((1, 2, 3), -1.0).masked_fill(~PRESENT, 0.0)
    old = log_probs - RATIOS.log().masked_fill(~PRESENT, 0.0)
    return policy_objective(log_probs, old, reference, GIVEN, low, 0.5, objective, high, PRESENT)


def surrogate(ratio: float, advantage: float, low: float = 0.8, high: float = 1.2) -> float:
    return min(ratio * advantage, min(max(ratio, low), high) * advantage)


BY_TOKEN = [[surrogate(ratio, 2.0) for ratio in (1.1, 0.7)], [surrogate(ratio, -1.0) for ratio in (1.5, 0.9, 1.3)]]


@pytest.mark.parametrize(
    ("objective", "gains"),
    [
        ("sequence", [surrogate(1.1 * 0.7, 2.0), surrogate(1.5 * 0.9 * 1.3, -1.0)]),
        ("gspo", [surrogate((1.1 * 0.7) ** (1 / 2), 2.0), surrogate((1.5 * 0.9 * 1.3) ** (1 / 3), -1.0)]),
        ("grpo", [sum(BY_TOKEN[0]) / 2, sum(BY_TOKEN[1]) / 3]),
        ("dr_grpo", [sum(BY_TOKEN[0]) / 3, sum(BY_TOKEN[1]) / 3]),
        ("dapo", [2 * sum(BY_TOKEN[0]) / 5, 2 * sum(BY_TOKEN[1]) / 5]),  # twice: the mean over two rollouts follows
    ],
)
def test_every_objective_by_hand(objective: str, gains: list[float]):
    assert of(objective).loss.item() == pytest.approx(-sum(gains) / 2, rel=1e-5)


def test_clip_higher_and_no_clip():
    loose = [surrogate(1.1, 2.0), surrogate(0.7, 2.0)], [surrogate(x, -1.0, high=1.4) for x in (1.5, 0.9, 1.3)]
    assert of("dapo", high=0.4).loss.item() == pytest.approx(-(sum(loose[0]) + sum(loose[1])) / 5, rel=1e-5)
    plain = (1.1 + 0.7) * 2.0 - (1.5 + 0.9 + 1.3)
    found = of("dapo", low=None)
    assert found.loss.item() == pytest.approx(-plain / 5, rel=1e-5) and found.clip_ratio.item() == 0.0


@pytest.mark.parametrize(
    ("objective", "expected"), [("sequence", 2.5), ("gspo", 1.0), ("grpo", 1.0), ("dr_grpo", 5 / 6), ("dapo", 1.0)]
)
def test_the_divergence_is_averaged_as_the_surrogate_is(objective: str, expected: float):
    """Each token's k3 is the same number, so an average over tokens is that number and a sum is a multiple."""
    reference = torch.full((1, 2, 3), -1.0 + math.log(2.0))
    one = 2.0 - math.log(2.0) - 1.0
    with_kl, without = of(objective, reference).loss.item(), of(objective).loss.item()
    assert with_kl - without == pytest.approx(0.5 * one * expected, rel=1e-4)
    assert of(objective, reference).kl.item() == pytest.approx(2.5 * one, rel=1e-5)
    assert of(objective).kl.item() == 0.0


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="not 'ppo'"):
        of("ppo")
