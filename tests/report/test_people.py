"""Which people are shown: the rules find who they name, tell the truth about them, and show nobody twice."""

from __future__ import annotations

import polars as pl
import torch

from dig.interests.interest import INTEREST_SCHEMA
from dig.interests.profiles import InterestProfiles
from dig.quantization import SemanticIds
from dig.report.people import choose_people, places_of

ITEMS = [f"i{number}" for number in range(30)]


def ranked_by(**ranked: list[list[str]]) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame(
            {
                "example": range(len(lists)),
                "items": lists,
                "scores": [[0.5] * len(each) for each in lists],
                "stage": [stage] * len(lists),
            },
            schema_overrides={"items": pl.List(pl.String)},
        )
        for stage, lists in ranked.items()
    )


def examples_of(*targets: str, **columns: list) -> pl.DataFrame:
    users = [f"u{number}" for number in range(len(targets))]
    columns = {"history": [["i20", "i21"]] * len(targets)} | columns
    return pl.DataFrame({"example": range(len(targets)), "user": users, "target": targets, **columns})


def interests_of(**texts: str) -> InterestProfiles:
    rows = [(item, text, "text", None, "lexical", 1, None, 1, None, None) for item, text in texts.items()]
    return InterestProfiles(pl.DataFrame(rows, schema=INTEREST_SCHEMA, orient="row"))


def test_places_count_from_one_and_say_what_is_not_there():
    examples = examples_of("i1", "i2", "i9")
    found = places_of(ranked_by(popularity=[["i1"], [], ["i9"]], sft=[["i0", "i1"], ["i2"], ["i3"]]), examples)
    assert {name: places.tolist() for name, places in found.items()} == {"popularity": [1, 0, 1], "sft": [2, 1, 0]}
    assert list(found) == ["popularity", "sft"]


def test_hits_and_misses_are_told_by_their_rules():
    recommendations = ranked_by(
        item_knn=[["i9"], ["i9"], ["i9", "i5"], ["i9"]],
        sft=[["i9"], ["i3", "i9"], ["i9"], ["i9"]],
        grpo=[["i1", "i9"], ["i9", "i8"], ["i9"], ["i4"]],
    )
    examples = examples_of("i1", "i3", "i5", "i7", one_hop=[["i9"], [], [], ["i8", "i7"]])
    chosen = {each.title: each for each in choose_people(recommendations, examples, 2)}
    assert {title: each.person.user for title, each in chosen.items()} == {
        "A hit that no baseline had": "u0",
        "Missed though memory held it": "u3",
        "Missed, and a baseline had it": "u2",
        "What GRPO lost": "u1",
    }
    assert [each.hit for each in chosen.values()] == [True, False, False, False]
    assert "number 2 of the one-hop set" in chosen["Missed though memory held it"].why
    assert chosen["Missed, and a baseline had it"].why.startswith(
        "item-kNN has what came next at place 2, GRPO does not"
    )
    assert chosen["What GRPO lost"].why == "SFT: place 1; GRPO: not among the first 2."
    assert chosen["What GRPO lost"].person.places == {"item_knn": None, "sft": 1, "grpo": None}


def test_a_hit_outside_the_one_hop_set_is_beyond_memory():
    recommendations = ranked_by(item_knn=[["i1"], ["i2"]], sft=[["i1"], ["i2"]])
    examples = examples_of("i1", "i2", one_hop=[["i1"], ["i5"]])
    (first,) = [each for each in choose_people(recommendations, examples, 2) if "memory" in each.title]
    assert first.person.user == "u1" and first.title == "A hit beyond memory"


def test_a_miss_with_the_most_in_common_is_shown_with_the_interests():
    profiles = interests_of(i20="quiet", i21="loud", i5="quiet", i6="loud", i7="other")
    recommendations = ranked_by(sft=[["i0"], ["i0"], ["i0"]])
    chosen = choose_people(recommendations, examples_of("i7", "i5", "i6"), 1, profiles=profiles)
    (person,) = [each for each in chosen if each.title == "Missed in spite of shared interests"]
    assert person.person.user == "u2"  # the latest purchase weighs most
    assert "an interest in common with the history (“loud”; 53% of what this history is about)" in person.why
    assert not any(each.person.user == "u0" and "interests" in each.title for each in chosen)


def test_the_right_shelf_is_where_the_first_codes_agree():
    codes = torch.tensor([[row // 10, row // 5 % 2, row % 5] for row in range(30)])
    ids = SemanticIds.from_codes(ITEMS, codes, [3, 2, 5])
    recommendations = ranked_by(sft=[["i10", "i11", "i29"], ["i25", "i26", "i27"]])
    chosen = choose_people(recommendations, examples_of("i0", "i28"), 3, ids=ids)
    assert [(each.title, each.person.user) for each in chosen] == [("The right shelf, the wrong item", "u1")]
    assert chosen[0].why.startswith("3 of the recommended items") and chosen[0].person.sid == "2 1 3"


def test_what_was_never_bought_is_out_of_reach():
    examples = examples_of("i1", "i2", target_slice=["warm", "cold"])
    chosen = choose_people(ranked_by(sft=[["i0"], ["i0"]]), examples, 1)
    assert [(each.title, each.person.user) for each in chosen] == [("Out of reach: never bought before", "u1")]


def test_nobody_is_shown_twice_and_the_choice_is_always_the_same():
    from support.report_sample import sample

    data = sample(200)
    profiles = InterestProfiles(data.interests)
    runs = [choose_people(data.recommendations, data.examples, 10, data.ids, profiles) for _ in range(2)]
    assert runs[0] == runs[1] and len(runs[0]) >= 8
    users = [each.person.user for each in runs[0]]
    assert len(set(users)) == len(users)
    assert all(
        (each.person.target in [item.item for item in each.person.recommendations[:10]]) == each.hit for each in runs[0]
    )


def test_examples_that_were_not_ranked_are_not_shown():
    recommendations = ranked_by(sft=[["i1"]])
    chosen = choose_people(recommendations, examples_of("i9", "i1", target_slice=["warm", "cold"]), 1)
    assert chosen == []
    assert choose_people(recommendations.clear(), examples_of("i9"), 1) == []
