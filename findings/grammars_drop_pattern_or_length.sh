#!/usr/bin/env bash
# A mined interest as a string with a pattern and a bound on its length, held by three grammar libraries.
# Guess:    both are held, and a keyword that a library cannot hold is refused.
# Happens:  llguidance holds both and refuses what it cannot (uniqueItems, contains). xgrammar holds the pattern and
#           ignores the length (a warning of its C++ part). outlines-core holds the length and drops the *pattern*; it
#           ignores the bounds of a number, too. A schema is no promise: check answers after they were generated.
# Follows:  bound a text inside its pattern ("^[a-z ]{2,40}$"), which all three hold; dig judges every answer anew.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "xgrammar==0.2.8" "llguidance==1.9.1" "outlines-core==0.2.14" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import json
import re

import llguidance
import xgrammar
from outlines_core.json_schema import build_regex_from_schema

SCHEMAS = {
    "pattern, by length": ({"type": "string", "pattern": "^[a-z ]+$", "maxLength": 5}, '"abcdefgh"'),
    "length, by pattern": ({"type": "string", "pattern": "^[a-z ]+$", "maxLength": 5}, '"A1!"'),
    "bound in the pattern": ({"type": "string", "pattern": "^[a-z ]{1,5}$"}, '"abcdefgh"'),
    "maximum": ({"type": "number", "minimum": 0, "maximum": 1}, "2.5"),
    "contains": ({"type": "array", "items": {"type": "string"}, "contains": {"const": "x"}}, '["a"]'),
}
EXPECTED = {
    "pattern, by length": {"llguidance": "held", "xgrammar": "let through", "outlines-core": "held"},
    "length, by pattern": {"llguidance": "held", "xgrammar": "held", "outlines-core": "let through"},
    "bound in the pattern": {"llguidance": "held", "xgrammar": "held", "outlines-core": "held"},
    "maximum": {"llguidance": "held", "xgrammar": "held", "outlines-core": "let through"},
    "contains": {"llguidance": "refused", "xgrammar": "let through", "outlines-core": "let through"},
}
VOCABULARY = [bytes([byte]) for byte in range(256)] + [b"<eos>"]


class Bytes:
    eos_token_id, bos_token_id, tokens, special_token_ids = 256, None, VOCABULARY, [256]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


def by_llguidance(schema, text):
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))
    matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_json_schema(schema), log_level=0)
    if matcher.is_error():
        return None
    return all(matcher.consume_token(byte) for byte in text.encode()) and matcher.is_accepting()


def by_xgrammar(schema, text):
    info = xgrammar.TokenizerInfo(VOCABULARY, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[256])
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info).compile_json_schema(schema, any_whitespace=False))
    return matcher.accept_string(text) and matcher.accept_token(256)


def by_outlines(schema, text):
    return re.fullmatch(build_regex_from_schema(schema), text) is not None


LIBRARIES = {"llguidance": by_llguidance, "xgrammar": by_xgrammar, "outlines-core": by_outlines}
seen = {}
for name, (schema, forbidden) in SCHEMAS.items():
    seen[name] = {}
    for library, accepts in LIBRARIES.items():
        verdict = accepts(json.dumps(schema), forbidden)
        seen[name][library] = "refused" if verdict is None else "let through" if verdict else "held"
    print(f"{name:22} {forbidden:12}", seen[name])
assert seen == EXPECTED, "changed"
PYTHON_CODE
