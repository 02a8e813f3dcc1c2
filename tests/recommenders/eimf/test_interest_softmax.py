"""The softmax of several interests against the plain computation: values, gradients, the sample's weight."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from dig.recommenders.eimf.explicit import interest_cross_entropy, shared_cross_entropy

ITEMS, WIDTH = 37, 6


def given(targets: int = 300, others: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    best, rest, items = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((targets, WIDTH), (targets, others, WIDTH), (ITEMS, WIDTH))
    )
    return best, rest, items, torch.randint(0, ITEMS, (targets,), generator=generator)


def plain(
    best: torch.Tensor, others: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    logits, rivals = best @ items.T, (others @ items[sample].T).flatten(1)
    mass = logits.exp().sum(dim=1) + len(items) / len(sample) * rivals.exp().sum(dim=1)
    return (mass.log() - logits[torch.arange(len(best)), targets]).mean()


@pytest.mark.parametrize("sample", [list(range(ITEMS)), [3, 30, 8, 0, 12]])
def test_it_is_the_plain_computation_with_its_gradients(sample: list[int]):
    """More targets than are computed at once."""
    tensors, rows = given(), torch.tensor(sample)
    found = shared_cross_entropy(*tensors, rows)
    expected = plain(*tensors, rows)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad(3 * found, tensors[:3])
    for one, other in zip(ours, torch.autograd.grad(3 * expected, tensors[:3]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_over_the_whole_catalogue_it_is_one_softmax_over_interests_and_items():
    best, others, items, targets = given(9)
    logits = torch.cat([best.unsqueeze(1), others], dim=1) @ items.T  # (targets, K, items), the best first
    expected = F.cross_entropy(logits.flatten(1), targets)
    found = shared_cross_entropy(best, others, items, targets, torch.randperm(ITEMS))
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


def test_a_sample_stands_for_all():
    """The mean of the sampled mass over all samples of one item is the whole mass."""
    best, others, items, targets = (each.detach() for each in given(4))
    masses = []
    for item in range(ITEMS):
        loss = shared_cross_entropy(best[:1], others[:1], items, targets[:1], torch.tensor([item]))
        masses.append(math.exp(float(loss) + float(best[0] @ items[targets[0]])))
    whole = shared_cross_entropy(best[:1], others[:1], items, targets[:1], torch.arange(ITEMS))
    assert sum(masses) / ITEMS == pytest.approx(math.exp(float(whole) + float(best[0] @ items[targets[0]])), rel=1e-4)


def test_one_interest_has_no_rivals():
    best, _, items, targets = given(20)
    none = best.new_zeros(20, 0, WIDTH)
    expected = F.cross_entropy(best @ items.T, targets)
    for readout in ("hard", "shared"):
        found = interest_cross_entropy(best, none, items, targets, readout)
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


def test_read_out_hard_the_others_learn_nothing_and_shared_they_learn_to_yield():
    best, others, items, targets = given(20)
    hard = interest_cross_entropy(best, others, items, targets, "hard")
    assert torch.autograd.grad(hard, others, allow_unused=True)[0] is None
    shared = interest_cross_entropy(best, others, items, targets, "shared")
    slopes = torch.autograd.grad(shared, others)[0]
    assert ((slopes * others.detach()).sum() > 0) and (slopes.abs().sum(dim=-1) > 0).all()
    assert shared > hard


def test_no_targets_no_loss():
    best, others, items, targets = given(0)
    found = shared_cross_entropy(best, others, items, targets, torch.arange(5))
    assert found == 0 and all((each == 0).all() for each in torch.autograd.grad(found, (best, others, items)))


def test_in_bfloat16_it_is_near():
    best, others, items, targets = (each.detach().float() if each.is_floating_point() else each for each in given(40))
    exact = shared_cross_entropy(best, others, items, targets, torch.arange(ITEMS))
    with torch.autocast("cpu", torch.bfloat16):
        found = shared_cross_entropy(best, others, items, targets, torch.arange(ITEMS))
    assert found.dtype == torch.float32 and float(found) == pytest.approx(float(exact), rel=0.02)
