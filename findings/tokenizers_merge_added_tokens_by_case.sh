#!/usr/bin/env bash
# Tokens of Semantic IDs added to a tokenizer that lower-cases, as those of uncased models do.
# Guess:    an added token is matched as it is written: "<A_1>" and "<a_1>" are two tokens.
# Happens:  added tokens are normalised as the text is, unless they are special or say normalized=False. Both get an id
#           of their own, both spellings encode to the first, and no text ever encodes to the second: its row is never
#           trained. add_tokens reports two new tokens.
# Follows:  add AddedToken(..., normalized=False), or lower-case names only. dig's are "<a_1>", and a run's export is
#           proven token by token before it is kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "tokenizers==0.23.3"
"$work/venv/bin/python" - <<'PYTHON_CODE'
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel


def uncased(tokens):
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "next": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, tokenizer.add_tokens(tokens)


plain, added = uncased(["<A_1>", "<a_1>"])
ids = [plain.token_to_id(token) for token in ("<A_1>", "<a_1>")]
encoded = [plain.encode(text).ids for text in ("<A_1>", "<a_1>")]
print(f"{added} tokens added, ids {ids}, both texts encoded: {encoded}")
exact, _ = uncased([AddedToken(token, normalized=False) for token in ("<A_1>", "<a_1>")])
kept = [exact.encode(text).ids for text in ("<A_1>", "<a_1>")]
print("with normalized=False:", kept)
assert added == 2 and ids == [2, 3] and encoded == [[2], [2]], "changed: the second token can be reached"
assert kept == [[2], [3]], "changed: normalized=False"
PYTHON_CODE
