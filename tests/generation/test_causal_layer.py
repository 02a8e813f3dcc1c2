"""Histories grouped by length: nothing is computed but what a padded batch gives, and little is padded."""

from __future__ import annotations

import torch

from dig.generation.causal_layer import CausalLayer, Slots, by_length

LENGTHS = torch.tensor([3, 1, 0, 9, 2, 4, 1, 16, 5])


def test_every_item_has_one_place_and_few_are_padding():
    order, slots = by_length(LENGTHS)
    assert sorted(order.tolist()) == list(range(int(LENGTHS.sum())))
    assert sum(group.items for group in slots) == LENGTHS.sum()
    assert [group.filled.shape[1] for group in slots] == [1, 2, 4, 5, 16]
    for group in slots:
        lengths = group.filled.sum(dim=1)
        assert group.items == lengths.sum()
        assert (2 * lengths[lengths > 0] > group.filled.shape[1]).all()
        assert torch.equal(group.filled, torch.arange(group.filled.shape[1]) < lengths.unsqueeze(1))


def test_states_are_those_of_one_padded_batch():
    torch.manual_seed(0)
    layer, states = CausalLayer(8, 2, 12, 0.0), torch.randn(int(LENGTHS.sum()), 8)
    one = layer(states, [Slots(torch.arange(16) < LENGTHS.unsqueeze(1), len(states))])
    order, slots = by_length(LENGTHS)
    torch.testing.assert_close(layer(states[order], slots)[order.argsort()], one, atol=1e-5, rtol=1e-5)


def test_what_is_computed_again_is_the_same_dropout_included():
    found = []
    for frugal in (False, True):
        torch.manual_seed(0)
        layer, states = CausalLayer(8, 2, 12, 0.4, frugal), torch.randn(int(LENGTHS.sum()), 8).requires_grad_()
        order, slots = by_length(LENGTHS)
        (layer(states[order], slots) ** 2).sum().backward()
        found.append([states.grad, *(weight.grad for weight in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_no_items_at_all():
    order, slots = by_length(torch.tensor([0, 0]))
    assert len(order) == 0 and slots == []
    assert CausalLayer(8, 2, 12, 0.0)(torch.zeros(0, 8), slots).shape == (0, 8)
