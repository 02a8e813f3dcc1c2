"""When two phrases count as the same."""

from __future__ import annotations

import unicodedata

__all__ = ["fold"]


def fold(text: str) -> str:
    """The form under which two phrases are the same: NFKC, casefold, white space folded to single blanks.

    NFKC comes again after the case folding, which may undo it, so that folding twice changes nothing.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())
