#!/usr/bin/env bash
# transformers' beam search under prefix_allowed_tokens_fn, with more beams than the trie has items.
# Guess:    three items and five beams give three results, or two more that are no items and sort below.
# Happens:  `generate` fills the list up with legal items that it has returned already, at a score of -1e9. Whoever
#           maps the sequences to items and takes the first five gets an item twice and no warning.
# Follows:  drop what scores below about -1e8, or what came before. dig's search returns fewer (dig/generation/search.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "transformers==5.23.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

torch.manual_seed(0)
model = Qwen2ForCausalLM(Qwen2Config(
    vocab_size=30, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()
items = [(3, 10), (3, 11), (4, 12)]


def allowed(batch, ids):
    path = tuple(ids.tolist()[5:])
    return sorted({item[len(path)] for item in items if item[: len(path)] == path and len(path) < 2}) or [2]


prompt = torch.randint(13, 29, (1, 5))
out = model.generate(prompt, attention_mask=torch.ones_like(prompt), num_beams=8, num_return_sequences=8,
                     max_new_tokens=2, prefix_allowed_tokens_fn=allowed, do_sample=False, length_penalty=0.0,
                     return_dict_in_generate=True, output_scores=True)
rows = [tuple(row) for row in out.sequences[:, 5:].tolist()]
for row, score in zip(rows, out.sequences_scores.tolist()):
    print(row, "an item" if row in items else "not an item", f"{score:.4g}")
scores = out.sequences_scores.tolist()
again = [row for row, score in zip(rows, scores) if row in items and score < -1e8]
assert sorted(rows[:3]) == items and min(scores[:3]) > -100, "changed: the first three"
assert len(again) >= 3 and max(scores[3:]) == -1e9, "changed: items are no longer returned twice"
PYTHON_CODE
