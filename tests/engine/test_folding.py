"""When two phrases count as the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.engine.folding import fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Gift Ready", "gift ready"),
        ("  gift\t ready\n", "gift ready"),
        ("gift\u00a0ready", "gift ready"),  # NFKC turns the no-break space into a blank
        ("Straße", "strasse"),  # casefold, not lower
        ("ﬁne", "fine"),  # ligature
        ("ＡＢＣ１２", "abc12"),  # full width
        ("cafe\u0301", "café"),  # composed
        ("\t \n", ""),
        ("", ""),
    ],
)
def test_fold(text, folded):
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_changes_nothing(text):
    assert fold(fold(text)) == fold(text)
