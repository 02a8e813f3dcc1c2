""""""

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from dig.interests import Interest, InterestVectors, mined_frame, to_frame
from dig.interests.features import (
    COMPONENTS,
    FEATURES,
    VECTOR_FEATURES,
    agreement,
    cohesion,
    interest_features,
    read_items,
    unit,
    vector_features,
    word_rarity,
)
from dig.interests.lexical import plain_words
from dig.interests.supervision import weigh_phrases


@pytest.fixture
def catalogue(make_catalogue):
    return make_catalogue(
        {
            "item_id": "A",
            "title": "Acme Nail Polish",
            "brand": "Acme",
            "categories": ["Beauty", "Nails"],
            "description": "Dries fast. Lasting colors",
        },
        {"item_id": "B"},
    )


def rows(frame, catalogue, captions=None):
    values = interest_features(frame, read_items(catalogue, captions or {}))
    assert values.shape == (frame.height, len(FEATURES)) and np.isfinite(values).all()
    return [dict(zip(FEATURES, row, strict=True)) for row in values]


def test_values_written_out(catalogue):
    frame = to_frame(
        [
            Interest("A", "nail-polish", "text", None, "m"),
            Interest("A", "Acme 24", "text", 0.5, "m"),
            Interest("A", "red box", "visual", None, "m"),
            Interest("B", "Nail-Polish", "text", None, "m"),
        ]
    )
    polish, acme, box, elsewhere = rows(frame, catalogue, {"A": "A red box."})
    assert polish == pytest.approx(
        {
            "log_items": math.log(3),
            "words": 2,
            "characters": 11,
            "has_digit": 0,
            "confidence": 0,
            "no_confidence": 1,
            "rank": 0,
            "in_title": 1,
            "in_description": 0,
            "in_categories": 0,
            "in_caption": 0,
            "grounded_share": 1,
            "brand_word": 0,
            "category_word": 1,  # "nails" without its plural
            "visual": 0,
            "log_text_words": math.log(1 + 3 + 2 + 4 + 3),
            "log_interests": math.log(4),
        }
    )
    expected = {
        "has_digit": 1,
        "confidence": 0.5,
        "no_confidence": 0,
        "rank": 1,
        "brand_word": 1,
        "grounded_share": 0.5,
    }
    assert {name: acme[name] for name in expected} == expected
    assert (box["in_caption"], box["visual"], box["rank"]) == (1, 1, 0)  # rank starts anew for each kind
    grounding = ("in_title", "grounded_share", "log_text_words", "category_word")
    assert [elsewhere[name] for name in grounding] == [0, 0, 0, 0]


def test_a_phrase_is_found_as_whole_words_in_one_field(catalogue):
    frame = to_frame([Interest("A", text, "text", None, "m") for text in ("lish", "fast lasting", "beauty nails", "★")])
    part, across_sentences, across_names, sign = rows(frame, catalogue)
    assert part["in_title"] == part["grounded_share"] == 0
    assert across_sentences["in_description"] == 1
    assert across_names["in_categories"] == 0 and across_names["grounded_share"] == 1
    assert sign["grounded_share"] == sign["words"] == 0


def test_an_item_outside_the_catalogue_is_refused(catalogue):
    with pytest.raises(ValueError, match="'Z'"):
        interest_features(to_frame([Interest("Z", "x", "text", None, "m")]), read_items(catalogue, {}))


WORDS = st.sampled_from(["nail", "nails", "polish", "acme", "fast", "★", "red", "a|b", "24"])
TEXT = st.lists(WORDS, max_size=4).map(" ".join)


def slowly(phrase: str, fields: dict[str, list[str]]) -> dict[str, float]:
    """Grounding, word by word."""
    words, runs = plain_words(phrase), {name: [plain_words(text) for text in texts] for name, texts in fields.items()}
    size = len(words)
    held = {
        name: any(run[at : at + size] == words for run in runs[name] for at in range(len(run) - size + 1)) and size > 0
        for name in runs
    }
    everything = {word for name in ("title", "description", "categories") for run in runs[name] for word in run}
    return {
        **{f"in_{name}": float(held[name]) for name in ("title", "description", "categories")},
        "grounded_share": sum(word in everything for word in words) / max(size, 1),
        "brand_word": float(any(word in run for word in words for run in runs["brand"])),
        "category_word": float(any(word in run for word in words for run in runs["categories"])),
    }


@settings(max_examples=150)
@given(TEXT.filter(str.strip), TEXT, TEXT, TEXT, st.lists(TEXT, max_size=3))
def test_grounding_is_that_of_a_search_word_by_word(phrase, title, description, brand, categories):
    fields = {"title": [title], "description": [description], "brand": [brand], "categories": categories}
    catalogue = pl.DataFrame(
        {
            "item_id": ["A"],
            "title": [title],
            "description": [description],
            "brand": [brand],
            "categories": [categories],
        },
        schema_overrides={"categories": pl.List(pl.String)},
    )
    (found,) = rows(to_frame([Interest("A", phrase, "text", None, "m")]), catalogue)
    expected = slowly(phrase, fields)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_rarity_of_words_written_out(catalogue):
    rarity = word_rarity(read_items(catalogue, {"B": "polish"}), ["nail polish", "unheard", "★"])
    nail, polish, unheard = math.log(3 / 2), math.log(3 / 3), math.log(3 / 1)  # of two items 1, 2 and 0 hold them
    np.testing.assert_allclose(rarity, [[(nail + polish) / 2, nail], [unheard, unheard], [0, 0]])
    assert word_rarity(read_items(catalogue, {}), []).shape == (0, 2)


ITEMS, DIM = 60, 24


@pytest.fixture
def shop():
    rng = np.random.default_rng(0)
    ids = [f"I{number}" for number in range(ITEMS)]
    texts = [f"phrase {number}" for number in range(12)]
    rows = [(ids[item], text, "text", None, "m") for text in texts for item in rng.choice(ITEMS, 5, replace=False)]
    rng.shuffle(rows)
    catalogue = pl.DataFrame(
        {
            "item_id": ids,
            "brand": rng.choice(["Acme", "Zeta", ""], ITEMS),
            "categories": [["Shop", str(leaf)] for leaf in rng.integers(4, size=ITEMS)],
        }
    )
    vectors = InterestVectors(texts[::-1], rng.normal(size=(12, DIM)), rng.normal(size=(ITEMS, DIM)))
    evidence = weigh_phrases(mined_frame(map(tuple, rows)), catalogue["item_id"], [])
    return evidence, catalogue, vectors


def columns(evidence, catalogue, vectors) -> dict[str, np.ndarray]:
    values = vector_features(evidence, catalogue, vectors, seed=0)
    assert values.shape == (len(evidence.of_interest), len(VECTOR_FEATURES)) and np.isfinite(values).all()
    return dict(zip(VECTOR_FEATURES, values.T, strict=True))


def test_nearness_is_that_of_a_loop(shop):
    evidence, _, vectors = shop
    found = columns(*shop)
    for row in range(len(evidence.of_interest)):
        text = evidence.phrases[evidence.of_interest[row]]
        phrase = vectors.of_phrases[vectors.phrases.index(text)]
        cosines = [phrase @ item / np.linalg.norm(phrase) / np.linalg.norm(item) for item in vectors.of_items]
        own = cosines[evidence.item_rows[row]]
        assert found["item_cosine"][row] == pytest.approx(own, abs=1e-5)
        assert found["item_cosine_rank"][row] == pytest.approx(np.mean([c < own for c in cosines]), abs=1.01 / ITEMS)
        assert found["usual_cosine"][row] == pytest.approx(np.mean(cosines), abs=1e-5)


def slow_mean(evidence, phrase: int, value) -> tuple[float, int]:
    holders = np.flatnonzero(evidence.membership[phrase].toarray()[0])
    found = [each for a, b in combinations(holders, 2) if (each := value(a, b)) is not None]
    return sum(found), len(found)


def test_what_items_have_in_common_is_that_of_all_pairs(shop):
    evidence, catalogue, vectors = shop
    found = columns(*shop)
    items = unit(vectors.of_items).astype(float)
    brands, leaves = catalogue["brand"].to_list(), [path[-1] for path in catalogue["categories"]]
    measures = {
        "cohesion": lambda a, b: items[a] @ items[b],
        "category_agreement": lambda a, b: float(leaves[a] == leaves[b]),
        "brand_agreement": lambda a, b: float(brands[a] == brands[b]) if brands[a] and brands[b] else None,
    }
    for name, value in measures.items():
        sums = [slow_mean(evidence, phrase, value) for phrase in range(len(evidence.phrases))]
        usual = np.mean([total / pairs for total, pairs in sums if pairs >= 3])
        expected = np.array([(total + 3 * usual) / (pairs + 3) for total, pairs in sums])
        np.testing.assert_allclose(found[name], expected[evidence.of_interest], atol=1e-6)


def test_components_carry_the_variance_of_the_vectors(shop):
    evidence, _, vectors = shop
    found = columns(*shop)
    centred = unit(vectors.of_items) - unit(vectors.of_items).mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    for number in range(COMPONENTS):
        expected = (left[:, number] * spread[number])[evidence.item_rows]
        ours = found[f"item_{number + 1}"]
        np.testing.assert_allclose(ours * np.sign(ours @ expected), expected, atol=1e-4)


def test_few_narrow_and_zero_vectors_are_no_error(shop):
    evidence, catalogue, vectors = shop
    narrow = InterestVectors(vectors.phrases, vectors.of_phrases[:, :2], np.zeros((ITEMS, 2)))
    found = columns(evidence, catalogue.drop("brand", "categories"), narrow)
    for name in ("item_cosine", "cohesion", "category_agreement", "brand_agreement", "phrase_3", "item_1"):
        assert (found[name] == 0).all(), name


def test_planted_structure_shows():
    """A phrase of one kind of item, and one of all kinds; a phrase near its items, and one that is near all."""
    rng = np.random.default_rng(1)
    kinds = np.arange(ITEMS) % 3
    centres = np.eye(3, DIM)
    items = centres[kinds] + 0.05 * rng.normal(size=(ITEMS, DIM))
    narrow, broad = np.flatnonzero(kinds == 0)[:8], np.arange(8)
    rows = [(f"I{item}", "narrow", "text", None, "m") for item in narrow]
    rows += [(f"I{item}", "broad", "text", None, "m") for item in broad]
    catalogue = pl.DataFrame({"item_id": [f"I{n}" for n in range(ITEMS)], "categories": [[f"k{k}"] for k in kinds]})
    evidence = weigh_phrases(mined_frame(rows), catalogue["item_id"], [])
    vectors = InterestVectors(["narrow", "broad"], np.stack([centres[0], centres.sum(axis=0)]), items)
    found = columns(evidence, catalogue, vectors)
    for name in ("cohesion", "category_agreement", "item_cosine", "item_cosine_rank"):
        assert found[name][:8].min() > found[name][8:].mean() + 0.1, name


def test_a_phrase_without_a_vector_is_refused(shop):
    evidence, catalogue, vectors = shop
    with pytest.raises(ValueError, match="1 phrases have no vector, for one 'phrase 0'"):
        vector_features(evidence, catalogue, vectors._replace(phrases=[*vectors.phrases[:-1], "other"]), 0)


def test_no_items_in_common_at_all():
    empty = sparse.csr_matrix((2, 3))
    assert cohesion(empty, np.eye(3)).tolist() == [0, 0]
    assert agreement(empty, ["a", "a", None]).tolist() == [0, 0] == agreement(empty, []).tolist()
