"""How tasks are worded for a backbone that knows text; each wording has one slot."""

from __future__ import annotations

__all__ = ["PHRASINGS", "SLOT"]

SLOT = "{}"

PHRASINGS: dict[str, tuple[str, ...]] = {
    # One wording: what is asked in evaluation, in rollouts and in serving is what was trained, to the token.
    "next_item": ("A customer bought these items, oldest first: {}\nThe next item is: ",),
    "title_to_sid": (
        "Title: {}\nThe item of this title is: ",
        "Name the item that is sold as: {}\nItem: ",
        "Which item of the catalogue has this title? {}\nAnswer: ",
    ),
    "sid_to_title": (
        "Item: {}\nIts title is: ",
        "Under which title is {} sold?\nTitle: ",
        "What does the catalogue call the item {}?\nAnswer: ",
    ),
    "description_to_sid": (
        "Description: {}\nThe item described is: ",
        "An item is described in these words: {}\nItem: ",
        "Find the item that fits this description: {}\nAnswer: ",
    ),
    "interest_to_sid": (
        "Interests: {}\nAn item that serves them is: ",
        "Somebody cares about: {}\nItem for them: ",
        "Which item answers these interests? {}\nAnswer: ",
    ),
    "sid_to_interests": (
        "Item: {}\nThe interests it serves: ",
        "Why would somebody want {}?\nInterests: ",
        "What do the buyers of {} care about?\nAnswer: ",
    ),
    "title_history": (
        "A customer bought, oldest first: {}\nThe next item is: ",
        "Purchases by title, in order: {}\nItem bought next: ",
        "Having bought {}, which item does the customer take next?\nAnswer: ",
    ),
    "next_title": (
        "A customer bought these items, oldest first: {}\nThe title of the next item is: ",
        "Purchases in order: {}\nTitle bought next: ",
        "Having bought {}, what does the customer take next, by title?\nAnswer: ",
    ),
    "next_interests": (
        "A customer bought these items, oldest first: {}\nThe interests behind the next purchase: ",
        "Purchases in order: {}\nWhat the customer cares about next: ",
        "Having bought {}, which interests lead the customer on?\nAnswer: ",
    ),
    "collaborative": (
        "Item: {}\nFive items that customers buy near it: ",
        "Who buys {} also buys these five: ",
        "Name five items often found in one history with {}.\nAnswer: ",
    ),
    "semantic": (
        "Item: {}\nFive items most like it: ",
        "Items much like {}, five of them: ",
        "Name five items of similar kind and use to {}.\nAnswer: ",
    ),
}
"""Wordings of each task; which one a sample gets follows from the seed."""
