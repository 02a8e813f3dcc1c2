"""Why people buy in the quickstart shop: a dozen interests, and the wordings in which a description shows them.

Every phrase continues a sentence whose subject is the product, and is general enough for all product types, so that
an interest cuts across the categories. Nothing of this reaches a title, a brand or a category.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FRAMES", "INTERESTS", "Interest"]


@dataclass(frozen=True)
class Interest:
    """A reason to buy: its name (known to the planted truth alone) and the ways a description can say it."""

    name: str
    phrases: tuple[str, ...]


INTERESTS = (
    Interest(
        "gentle on sensitive skin",
        (
            "is gentle on sensitive skin",
            "contains no latex, nickel or harsh dyes",
            "never leaves allergy-prone people itching",
            "was patch-tested with volunteers who have eczema",
            "suits those whose skin reacts to almost everything",
            "is free of perfume and known irritants",
        ),
    ),
    Interest(
        "gift-ready",
        (
            "arrives in a ribboned presentation box",
            "makes an easy birthday present",
            "can be given away without any wrapping",
            "comes with a blank greeting card and an envelope",
            "is a favourite on wedding wish lists",
            "is a safe choice for thanking a host",
        ),
    ),
    Interest(
        "studio-grade",
        (
            "is built to a professional standard",
            "was developed with people who do this for a living",
            "is a fixture in working studios",
            "meets the strict demands of experts",
            "is what specialists reach for first",
            "gives the exact, repeatable results that paid work demands",
        ),
    ),
    Interest(
        "travel-sized",
        (
            "slips easily into a carry-on",
            "is small enough for a weekend bag",
            "weighs next to nothing on a long trip",
            "packs neatly for the train or the plane",
            "takes hardly any room in a suitcase",
            "goes along on every business trip",
        ),
    ),
    Interest(
        "low-waste",
        (
            "is made with reclaimed materials",
            "ships without a scrap of plastic",
            "comes with a take-back promise for recycling",
            "is fully compostable or recyclable in the end",
            "leaves a third of the usual carbon footprint",
            "comes from a factory that runs on wind power",
        ),
    ),
    Interest(
        "slow evenings",
        (
            "helps you wind down after a long day",
            "belongs to slow, unhurried evenings",
            "brings a little calm to a noisy week",
            "turns ten spare minutes into a quiet ritual",
            "sets a soft and restful mood",
            "is a good companion for early nights",
        ),
    ),
    Interest(
        "beginner-friendly",
        (
            "needs no experience at all",
            "comes with a picture guide to the first steps",
            "forgives the mistakes that newcomers make",
            "makes sense from the very first try",
            "is what teachers suggest to new starters",
            "includes a free lesson for learners",
        ),
    ),
    Interest(
        "child-proof",
        (
            "survives toddlers and rough play",
            "has nothing about it that could hurt small fingers",
            "cleans up quickly after sticky little hands",
            "is sturdy enough for a busy family",
            "passes the nursery safety test",
            "can be dropped by a five-year-old without harm",
        ),
    ),
    Interest(
        "artisan-made",
        (
            "is finished by hand in a small workshop",
            "carries the signature of its maker",
            "is made in batches of fifty by one craftsperson",
            "follows a method passed down through four generations",
            "shows the small irregularities of true craft",
            "supports a cooperative of village artisans",
        ),
    ),
    Interest(
        "retro charm",
        (
            "looks as if it came from a 1960s catalogue",
            "wears the cheerful colours of the seventies",
            "has the nostalgic look of a corner diner",
            "reminds visitors of their grandparents' house",
            "borrows its lettering from old cinema posters",
            "would fit right into a black-and-white film",
        ),
    ),
    Interest(
        "outdoor-proof",
        (
            "shrugs off rain and mud",
            "is just as happy at a campsite",
            "keeps going in frost and strong wind",
            "was tried out on a week-long mountain hike",
            "does not mind sand, salt water or sun",
            "earns its place beside the campfire",
        ),
    ),
    Interest(
        "easy to handle",
        (
            "can be used with stiff or painful joints",
            "has large markings that are readable without glasses",
            "opens with very little strength",
            "works equally well for left-handers",
            "asks for no bending, twisting or heavy lifting",
            "was designed together with older users",
        ),
    ),
)

FRAMES = (
    "It {phrase}.",
    "This {noun} {phrase}.",
    "Best of all, it {phrase}.",
    "Customers often mention that it {phrase}.",
    "We chose it because it {phrase}.",
    "Unlike many others, it {phrase}.",
    "One more thing: it {phrase}.",
    "You will also notice that it {phrase}.",
)
"""Sentences that carry an interest's phrase."""
