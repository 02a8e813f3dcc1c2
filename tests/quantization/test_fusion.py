"""Fusion of text and pictures: the formula, the mask, the moments, and features that must be refused."""

import pytest
import torch

from dig.config.errors import UserError
from dig.quantization import ItemFeatures, check_features
from dig.quantization.features import ItemFusion

IDS = ["a", "b", "c", "d", "e"]


def features(items: int = 5) -> ItemFeatures:
    generator = torch.Generator().manual_seed(0)
    has_image = torch.ones(items, dtype=torch.bool)
    has_image[1] = has_image[4] = False
    image = 3 + torch.randn(items, 3, generator=generator)
    image[~has_image] = float("nan")  # whatever stands there must not matter
    return ItemFeatures(torch.randn(items, 4, generator=generator), image, has_image)


def test_fused_vector_is_the_papers_formula():
    fusion = ItemFusion(4, 3, visual_dim=2)
    fusion.fit(features())
    standard = fusion.standardise(features())
    found = fusion(standard)
    text, image = standard[:, :4], standard[:, 4:]
    expected = torch.cat([text, image @ fusion.project.weight.T], dim=1) @ fusion.fuse.weight.T
    torch.testing.assert_close(found, expected)
    assert found.shape == (5, fusion.width)


def test_moments_come_from_the_pictures_that_are_there():
    fusion = ItemFusion(4, 3)
    fusion.fit(features())
    standard = fusion.standardise(features())
    there = standard[features().has_image]
    torch.testing.assert_close(there[:, 4:].mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(there[:, 4:].std(dim=0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard[:, :4].std(dim=0, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert standard[1, 4:].tolist() == [0, 0, 0]


def test_missing_pictures_are_no_target_and_get_no_gradient():
    fusion = ItemFusion(4, 3, image_weight=2.0)
    fusion.fit(features())
    standard = fusion.standardise(features())
    guess = torch.zeros_like(standard).requires_grad_()
    error = fusion.error(guess, standard, features().has_image)
    there = features().has_image
    expected = standard[:, :4].square().mean() + 2 * standard[there, 4:].square().mean()
    torch.testing.assert_close(error, expected)
    error.backward()
    assert guess.grad[1, 4:].abs().max() == 0 and guess.grad[0, 4:].abs().max() > 0


def test_error_of_halves_is_the_error_of_the_whole():
    fusion = ItemFusion(4, 3)
    fusion.fit(features(6))
    standard, there = fusion.standardise(features(6)), features(6).has_image
    guess = torch.zeros_like(standard)
    halves = [fusion.error(guess[part], standard[part], there[part]) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(halves) / 2, fusion.error(guess, standard, there))


@pytest.mark.parametrize(("text", "image"), [(4, 0), (0, 3)])
def test_one_kind_alone_passes_as_it_is(text: int, image: int):
    every = features()
    alone = ItemFeatures(every.text if text else None, *((every.image, every.has_image) if image else (None, None)))
    fusion = ItemFusion(text, image)
    fusion.fit(alone)
    standard = fusion.standardise(alone)
    assert fusion(standard) is standard
    assert list(fusion.parameters()) == []


def test_blocks_weigh_text_and_pictures_alike():
    fusion = ItemFusion(4, 3, image_weight=1.0)
    fusion.fit(features(60))
    standard = fusion.standardise(features(60))
    text, image = fusion.blocks(standard).split([4, 3], dim=1)
    assert float(text.square().sum(dim=1).mean()) == pytest.approx(1.0, rel=1e-3)
    assert float(image[features(60).has_image].square().sum(dim=1).mean()) == pytest.approx(1.0, rel=1e-3)


def test_features_that_are_not_finite_are_named():
    bad = features()
    check_features(bad, IDS)  # a picture that is not there may hold anything
    bad.text[2, 0], bad.text[3, 1] = float("nan"), float("inf")
    with pytest.raises(UserError, match=r"text vectors of 2 of 5 items are not finite: c, d"):
        check_features(bad, IDS)
    bad = features()
    bad.image[0, 0] = float("inf")
    with pytest.raises(UserError, match="image vectors of 1 of 5 items are not finite: a"):
        check_features(bad, IDS)


def test_parts_that_do_not_fit_are_refused():
    every = features()
    with pytest.raises(UserError, match="text vectors of 5 items do not fit a catalogue of 4"):
        check_features(every, IDS[:4])
    with pytest.raises(UserError, match="mask"):
        check_features(ItemFeatures(every.text, every.image), IDS)
    with pytest.raises(ValueError, match="text vectors, picture vectors or both"):
        ItemFusion(0, 0)
