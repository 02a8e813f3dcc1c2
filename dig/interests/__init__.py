"""MLIM and RLDI: deep interests of items, mined or imported, labelled by what behaviour says of them."""

from dig.interests.imported import ImportedCaptions, ImportedInterests, read_captions, read_interests
from dig.interests.interest import INTEREST_SCHEMA, Interest, fold_column, from_frame, to_frame, without_twins
from dig.interests.lexical import mine_lexical
from dig.interests.quality import item_quality
from dig.interests.reading import ReadingLog
from dig.interests.rldi import label_interests
from dig.interests.users import USER_INTEREST_SCHEMA, UserInterests, read_user_interests

__all__ = [
    "INTEREST_SCHEMA",
    "ImportedCaptions",
    "ImportedInterests",
    "Interest",
    "ReadingLog",
    "USER_INTEREST_SCHEMA",
    "UserInterests",
    "fold_column",
    "from_frame",
    "item_quality",
    "label_interests",
    "mine_lexical",
    "read_captions",
    "read_interests",
    "read_user_interests",
    "to_frame",
    "without_twins",
]
