"""MLIM and RLDI: deep interests of items, mined or imported, merged, labelled by behaviour, a judge or by hand.

The names here are loaded when they are first used: labelling needs scikit-learn, telling interests does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.interests.features import InterestVectors
    from dig.interests.interest import (
        INTEREST_SCHEMA,
        Interest,
        distinct_phrases,
        fold_column,
        from_frame,
        item_quality,
        mined_frame,
        to_frame,
        without_duplicates,
    )
    from dig.interests.lexical import mine_lexical
    from dig.interests.merging import Merged, merge_interests
    from dig.interests.reading import (
        USER_INTEREST_SCHEMA,
        HandLabels,
        ImportedCaptions,
        ImportedInterests,
        ReadingLog,
        UserInterests,
        read_captions,
        read_interests,
        read_labels,
        read_user_interests,
    )
    from dig.interests.rldi import label_interests

__all__ = [
    "HandLabels",
    "INTEREST_SCHEMA",
    "ImportedCaptions",
    "ImportedInterests",
    "Interest",
    "InterestVectors",
    "Merged",
    "ReadingLog",
    "USER_INTEREST_SCHEMA",
    "UserInterests",
    "distinct_phrases",
    "fold_column",
    "from_frame",
    "item_quality",
    "label_interests",
    "merge_interests",
    "mine_lexical",
    "mined_frame",
    "read_captions",
    "read_interests",
    "read_labels",
    "read_user_interests",
    "to_frame",
    "without_duplicates",
]

_lazy_name = lazy_names(
    __name__,
    {
        "InterestVectors": "features",
        "HandLabels": "reading",
        "read_labels": "reading",
        "ImportedCaptions": "reading",
        "ImportedInterests": "reading",
        "read_captions": "reading",
        "read_interests": "reading",
        "INTEREST_SCHEMA": "interest",
        "Interest": "interest",
        "distinct_phrases": "interest",
        "fold_column": "interest",
        "from_frame": "interest",
        "mined_frame": "interest",
        "to_frame": "interest",
        "without_duplicates": "interest",
        "mine_lexical": "lexical",
        "Merged": "merging",
        "merge_interests": "merging",
        "item_quality": "interest",
        "ReadingLog": "reading",
        "label_interests": "rldi",
        "USER_INTEREST_SCHEMA": "reading",
        "UserInterests": "reading",
        "read_user_interests": "reading",
    },
)


def __getattr__(name: str) -> Any:
    """Names the new name of an earlier one."""
    if name == "without_twins":
        raise ImportError("dig.interests.without_twins is called without_duplicates now")
    return _lazy_name(name)
