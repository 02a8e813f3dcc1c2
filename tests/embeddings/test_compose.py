import polars as pl
import pytest

from dig.config import UserError
from dig.config.schema import EmbeddingConfig
from dig.embeddings import compose_texts, count_empty
from dig.embeddings.compose import clean

CATALOGUE = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["Nail  Lacquer &amp; Top Coat", None, ""],
        "brand": ["OPI", "  ", None],
        "categories": [["Beauty", "Nails"], None, []],
        "description": ["<p>Dries in <b>60</b> seconds.<br/>5 < 6</p>", "Soft\nbrush", None],
    },
    schema_overrides={"categories": pl.List(pl.String)},
)
INTERESTS = pl.DataFrame(
    {
        "item_id": ["a", "b", "a", "a", "a", "a", "z"],
        "text": ["salon look", "gentle", "Quick  dry", "quick dry", "ｑuick dry", "glossy", "nobody's"],
        "label": [1, 0, 0, 1, 1, 1, 1],
        "confidence": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
    }
)
CAPTIONS = {"a": "A red bottle", "b": " "}


def compose(**settings):
    return compose_texts(CATALOGUE, CAPTIONS, INTERESTS, EmbeddingConfig(**settings))


def test_fields_then_interests_in_rank_order():
    assert compose() == [
        "Nail Lacquer & Top Coat\nOPI\nBeauty, Nails\nDries in 60 seconds. 5 < 6\nA red bottle\n"
        "salon look\nQuick dry\nglossy",
        "Soft brush\ngentle",
        "",
    ]
    assert count_empty(compose()) == 1


def test_the_papers_recipe_is_title_description_caption():
    texts = compose(fields=["title", "description", "caption"], interests="none")
    assert texts[0] == "Nail Lacquer & Top Coat\nDries in 60 seconds. 5 < 6\nA red bottle"


def test_fields_keep_the_order_of_the_configuration():
    assert compose(fields=["caption", "brand", "title"], interests="none")[0] == (
        "A red bottle\nOPI\nNail Lacquer & Top Coat"
    )


def test_positive_interests_alone_are_told_apart_before_duplicates_go():
    assert compose(fields=[], interests="positive") == ["salon look\nquick dry\nglossy", "", ""]


def test_a_catalogue_without_a_column_and_no_interests_at_all():
    texts = compose_texts(CATALOGUE.drop("description"), {}, INTERESTS.clear(), EmbeddingConfig(interests="positive"))
    assert texts == ["Nail Lacquer & Top Coat\nOPI\nBeauty, Nails", "", ""]


def test_no_text_anywhere_is_refused():
    with pytest.raises(UserError, match=r"none of the 2 items .*embedding\.fields"):
        compose_texts(CATALOGUE[1:], {}, INTERESTS, EmbeddingConfig(fields=["title"], interests="none"))


@pytest.mark.parametrize(
    ("dirty", "plain"),
    [
        (None, ""),
        ("&lt;b&gt;Bold&lt;/b&gt; move", "Bold move"),
        ("<!-- hidden > -->Seen<script>alert('x')</script>", "Seen"),
        ("I <3 this, 2 > 1", "I <3 this, 2 > 1"),
        ("<a href='x\ny'>link</a>\t\u00a0end", "link end"),
        ("unclosed <b", "unclosed <b"),
    ],
)
def test_clean(dirty, plain):
    assert clean(dirty) == plain
