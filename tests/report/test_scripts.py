"""Scripts and data of the page: JSON that cannot end its element, a bundle that cannot either."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.report.scripts import _shown, content_policy, json_block, vega_bundle


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_comes_back_and_nothing_in_it_is_markup(value):
    text = str(json_block(value))
    assert json.loads(text) == _shown(value)
    assert text.isascii() and not set("<>&") & set(text)


def test_lone_surrogates_and_line_separators_are_escaped():
    assert str(json_block("\ud800\u2028</script><!--")) == ('"\\ud800\\u2028\\u003c/script\\u003e\\u003c!--"')


def test_what_json_cannot_say_is_refused():
    with pytest.raises(ValueError):
        json_block({"x": float("nan")})


def test_the_bundle_holds_the_interpreter_and_nothing_that_ends_a_script():
    bundle = vega_bundle()
    assert "window.vegaEmbed" in bundle and "expressionInterpreter" in bundle
    assert "</script" not in bundle.lower() and "<!--" not in bundle and "\r" not in bundle
    assert len(bundle) < 1_500_000


def test_the_policy_names_hashes():
    policy = content_policy(["alert(1)"], [""])
    assert "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in policy
    assert "style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='" in policy
