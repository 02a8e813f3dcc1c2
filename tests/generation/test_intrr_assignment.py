"""The Recursive-Assignment Network: what it is without recursion, and straight-through gradients by differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from dig.generation.intrr import RecursiveAssignment, straight_through

SIZES, WIDTH = [5, 4, 3], 6


def network(**settings: object) -> RecursiveAssignment:
    torch.manual_seed(0)
    found = RecursiveAssignment(SIZES, WIDTH, inner=7, **settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return found


def silence(assign: RecursiveAssignment, condition: bool, guidance: bool) -> None:
    """Cuts what the steps read of the codes so far, or of the guidance."""
    with torch.no_grad():
        for step in assign.steps:
            if condition:
                step[0].weight[:, :WIDTH] = 0.0
            if guidance:
                step[0].weight[:, WIDTH:] = 0.0


def by_hand(assign: RecursiveAssignment, guidance: torch.Tensor, condition: str = "previous") -> list[torch.Tensor]:
    """Logits of each level as the paper writes them, hard codes all the way."""
    state, before, found = guidance, torch.zeros_like(guidance), []
    for level, codebook in enumerate(assign.codebooks):
        if level:
            inner = torch.cat([before, guidance], dim=-1) @ assign.steps[level - 1][0].weight.T
            inner = F.gelu(inner + assign.steps[level - 1][0].bias)
            state = inner @ assign.steps[level - 1][2].weight.T + assign.steps[level - 1][2].bias
            state = state + guidance if assign.residual else state
        if assign.scale is None:
            found.append(state @ codebook.T)
        else:
            lengths = state.norm(dim=-1, keepdim=True) * codebook.norm(dim=-1)
            found.append(assign.scale * state @ codebook.T / lengths)
        chosen = codebook[found[-1].argmax(dim=-1)]
        before = before + chosen if condition == "sum" else chosen
    return found


@pytest.mark.parametrize("condition", ["previous", "sum"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("scale", [None, 3.0])
def test_it_is_the_recursion_of_the_paper(condition: str, residual: bool, scale: float | None):
    assign, guidance = network(condition=condition, residual=residual, scale=scale), torch.randn(9, WIDTH).double()
    found, expected = assign(guidance), by_hand(assign, guidance, condition)
    for log_probs, wanted in zip(found.log_probs, expected, strict=True):
        torch.testing.assert_close(log_probs, wanted.log_softmax(dim=-1))
    assert torch.equal(found.codes, torch.stack([logits.argmax(dim=-1) for logits in expected], dim=1))


def test_the_vector_is_the_sum_of_the_chosen_codes_to_the_last_bit():
    assign = network()
    found = assign(torch.randn(9, WIDTH).double())
    first, second, third = (book[codes] for book, codes in zip(assign.codebooks, found.codes.T, strict=True))
    assert torch.equal(found.vectors, first + second + third)
    there = torch.tensor([[True, True, False]] * 9)
    found = assign(torch.ones(9, WIDTH).double(), there)
    first, second = (book[codes] for book, codes in zip(assign.codebooks, found.codes.T[:2], strict=False))
    assert torch.equal(found.vectors, first + second), "a level that is not there adds nothing"


def test_without_guidance_and_recursion_every_level_is_a_lookup_of_its_own():
    """Guidance of zeros and steps that read no code: the same code for everybody, each level by itself."""
    assign = network()
    silence(assign, condition=True, guidance=False)
    found = assign(torch.zeros(4, WIDTH).double())
    torch.testing.assert_close(found.log_probs[0].exp(), torch.full((4, 5), 0.2).double())
    for level in (1, 2):
        constant = assign.steps[level - 1][2](F.gelu(assign.steps[level - 1][0].bias))
        expected = (assign.codebooks[level] @ constant).log_softmax(dim=0)
        torch.testing.assert_close(found.log_probs[level], expected.expand(4, -1))
    before = [each.clone() for each in found.log_probs]
    with torch.no_grad():
        assign.codebooks[0].neg_()
        assign.codebooks[1].mul_(2.0)
    again = assign(torch.zeros(4, WIDTH).double())
    torch.testing.assert_close(again.log_probs[1], (2.0 * before[1]).log_softmax(dim=-1))
    assert torch.equal(again.log_probs[2], before[2]), "no level knows of another"
    assert torch.equal(
        again.vectors, sum(book[codes] for book, codes in zip(assign.codebooks, again.codes.T, strict=True))
    )


def test_without_recursion_levels_see_the_guidance_alone():
    assign, guidance = network(), torch.randn(9, WIDTH).double()
    whole = assign(guidance).log_probs
    silence(assign, condition=True, guidance=False)
    found = assign(guidance)
    before = [each.clone() for each in found.log_probs]
    assert (whole[1] - before[1]).abs().max() > 0.1, "with recursion they see more"
    with torch.no_grad():
        assign.codebooks[0].neg_()
    again = assign(guidance).log_probs
    torch.testing.assert_close(again[0], (-before[0]).log_softmax(dim=-1))
    assert torch.equal(again[1], before[1]) and torch.equal(again[2], before[2])


def test_straight_through_is_hard_forward_and_the_soft_mixture_backward():
    torch.manual_seed(1)
    logits, book, weights = torch.randn(3, 5).double(), torch.randn(5, 4).double(), torch.randn(3, 4).double()
    codes = logits.argmax(dim=-1)
    logits.requires_grad_()
    book.requires_grad_()
    found = straight_through(logits.log_softmax(dim=-1), book, codes)
    assert torch.equal(found, book[codes])
    of_logits, of_book = torch.autograd.grad((weights * found).sum(), [logits, book])

    def soft() -> float:
        return float((weights * (logits.softmax(dim=-1) @ book)).sum())

    for tensor, gradient in ((logits, of_logits), (book, of_book)):
        torch.testing.assert_close(differences(soft, tensor), gradient, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"residual": True}, {"condition": "sum"}])
def test_gradients_of_the_whole_network_are_those_of_the_relaxation(settings: dict):
    """Forward the hard codes; what moves with the parameters is the mixture around them."""
    assign, guidance = network(**settings), torch.randn(3, WIDTH).double()
    weights = torch.randn(3, WIDTH).double()
    with torch.no_grad():
        base = assign(guidance)
        hard = [book[codes].clone() for book, codes in zip(assign.codebooks, base.codes.T, strict=True)]
        mixtures = [each.exp() @ book for each, book in zip(base.log_probs, assign.codebooks, strict=True)]

    def relaxed() -> float:
        total, before = torch.zeros_like(guidance), None
        for level, book in enumerate(assign.codebooks):
            state = guidance if before is None else assign.step(level, before, guidance)
            chosen = hard[level] + assign.logits(level, state).softmax(dim=-1) @ book - mixtures[level]
            before = assign.conditioned(before, chosen)
            total = total + chosen
        return float((weights * total).sum())

    guidance.requires_grad_()
    parameters = [guidance, *assign.codebooks, assign.steps[0][0].weight, assign.steps[1][2].weight]
    loss = (weights * assign(guidance).vectors).sum()
    assert math.isclose(float(loss), relaxed())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(differences(relaxed, parameter), gradient, atol=1e-7, rtol=1e-5)


@torch.no_grad()
def differences(function, tensor: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """The gradient of a function of a tensor that it reads, by central differences."""
    flat, found = tensor.detach().view(-1), []
    for place in range(len(flat)):
        here = flat[place].item()
        flat[place] = here + step
        above = function()
        flat[place] = here - step
        found.append((above - function()) / (2 * step))
        flat[place] = here
    return torch.tensor(found, dtype=tensor.dtype).view_as(tensor)
