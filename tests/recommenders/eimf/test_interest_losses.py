"""Alignment and semantic prediction against computations by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from dig.recommenders.eimf.explicit import Texts, alignment_loss, nearest_behaviour, semantic_loss


def unit(*rows: tuple[float, float]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows), dim=-1)


# Two customers with two interests from behaviour each; the first has two texts, the second one.
BEHAVIOUR = torch.stack([unit((1.0, 0.0), (0.0, 1.0)), unit((1.0, 1.0), (-1.0, 0.0))])
TEXTS = Texts(
    torch.tensor([0, 0, 1]),
    torch.tensor([7, 3, 9]),
    unit((1.0, 0.0), (3.0, 4.0), (0.0, 1.0)),
    torch.tensor([0.5, 0.25, 1.0]),
)


def test_a_text_meets_the_nearest_interest_of_its_own_customer():
    found = nearest_behaviour(BEHAVIOUR, TEXTS.vectors, TEXTS.users)
    torch.testing.assert_close(found, unit((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)))


def test_alignment_by_hand():
    """Cosines of matched behaviour (rows) and texts (columns): the pairs of one customer are not negatives."""
    root = math.sqrt(0.5)
    cosines = [[1.0, 0.6, 0.0], [0.0, 0.8, 1.0], [root, (0.6 + 0.8) * root, root]]
    allowed = [[0, 2], [1, 2], [0, 1, 2]]
    total = 0.0
    for place, share in enumerate((0.5, 0.25, 1.0)):
        own = math.exp(cosines[place][place] / 0.5)
        to_text = own / sum(math.exp(cosines[place][other] / 0.5) for other in allowed[place])
        to_behaviour = own / sum(math.exp(cosines[other][place] / 0.5) for other in allowed[place])
        total += share * (-math.log(to_text) - math.log(to_behaviour)) / 2
    assert float(alignment_loss(BEHAVIOUR, TEXTS, 0.5)) == pytest.approx(total / 1.75, rel=1e-5)


def test_the_same_phrase_of_another_customer_is_no_negative():
    texts = Texts(torch.tensor([0, 1]), torch.tensor([4, 4]), unit((1.0, 0.0), (1.0, 0.0)), torch.ones(2))
    assert float(alignment_loss(BEHAVIOUR, texts, 0.1)) == 0.0
    other = Texts(texts.users, torch.tensor([4, 5]), texts.vectors, texts.shares)
    assert float(alignment_loss(BEHAVIOUR, other, 0.1)) > 0.0


def test_semantic_prediction_by_hand():
    expected = (0.5 * (1 - 1.0) + 0.25 * (1 - 0.8) + 1.0 * (1 - math.sqrt(0.5))) / 1.75
    assert float(semantic_loss(BEHAVIOUR, TEXTS)) == pytest.approx(expected, rel=1e-5)
    assert float(
        semantic_loss(
            -BEHAVIOUR[:1, :1], Texts(*(each[:1] for each in (TEXTS.users, TEXTS.phrases, TEXTS.vectors, TEXTS.shares)))
        )
    ) == pytest.approx(2.0)


@pytest.mark.parametrize("loss", [partial(alignment_loss, temperature=0.3), semantic_loss])
def test_gradients_are_those_of_finite_differences(loss: Callable[..., torch.Tensor]):
    given = BEHAVIOUR.double().requires_grad_()
    texts = Texts(TEXTS.users, TEXTS.phrases, TEXTS.vectors.double(), TEXTS.shares.double())
    assert torch.autograd.gradcheck(lambda behaviour: loss(behaviour, texts), given)
    loss(given, texts).backward()
    assert (given.grad[1, 1] == 0).all()  # nearest to no text: it learns nothing
